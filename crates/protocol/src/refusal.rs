//! Every "no" that a client of the gateway can hear: its code, whose fault it is, whether asking
//! again can help, and what to do. Pages under `docs/errors/` say more about each.

use std::{fmt, str::FromStr};

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// Whose fault a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The one who sent the request.
    Client,
    /// The edge, or the deployment it belongs to.
    Edge,
    /// The connection between edge and connector.
    Link,
    /// The connector, or its owner's settings.
    Connector,
    /// The private server.
    Origin,
}

impl Source {
    /// As it stands in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Edge => "edge",
            Self::Link => "link",
            Self::Connector => "connector",
            Self::Origin => "origin",
        }
    }
}

/// Everything that is fixed about a code.
struct Facts {
    text: &'static str,
    status: StatusCode,
    source: Source,
    is_retryable: bool,
    title: &'static str,
    fix: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:ident $source:ident $retry:literal
        $title:literal $fix:literal;)*) => {
        /// What stands in the way of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            fn facts(self) -> Facts {
                match self {
                    $(Self::$name => Facts {
                        text: $text,
                        status: StatusCode::$status,
                        source: Source::$source,
                        is_retryable: $retry,
                        title: $title,
                        fix: $fix,
                    },)*
                }
            }
        }
    };
}

codes! {
    /// The target has no host, or is otherwise no absolute `http` or `https` URL.
    BadTarget "bad_target" BAD_REQUEST Client false
        "The request does not name a host"
        "Send an absolute http:// or https:// URL with a host, or CONNECT host:port.";
    /// A request that HTTP does not allow.
    BadRequest "bad_request" BAD_REQUEST Client false
        "The request is not valid HTTP"
        "Fix the request; the detail says what is wrong with it.";
    /// No credentials were sent.
    NoCredentials "no_credentials" PROXY_AUTHENTICATION_REQUIRED Client false
        "The gateway needs credentials"
        "Send Proxy-Authorization: Basic with the tunnel's name as user and a token as password.";
    /// The credentials are not valid, have expired, or were revoked.
    BadCredentials "bad_credentials" PROXY_AUTHENTICATION_REQUIRED Client false
        "The token is not valid"
        "Check that the token is whole, has not expired and was not revoked; make a new one if in doubt.";
    /// The caller's team may not use this tunnel.
    AccessDenied "access_denied" FORBIDDEN Client false
        "This team may not use the tunnel"
        "Ask a tenant owner, or a user with TUNNEL_MANAGE, to add the team to the tunnel's access list.";
    /// The tenant has no tunnel of that name.
    UnknownTunnel "unknown_tunnel" NOT_FOUND Client false
        "There is no such tunnel"
        "Check the tunnel's name; it is the user name of the proxy credentials.";
    /// The header fields are too large or too many.
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE Client false
        "The header fields are too large"
        "Send at most 256 header fields, and as many trailers, with at most 64 KiB together.";
    /// The URL is too long.
    UriTooLong "uri_too_long" URI_TOO_LONG Client false
        "The URL is too long"
        "Send a URL of at most 16 KiB; move what is longer into the body.";
    /// The request's body is over its limit.
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE Client false
        "The request's body is too large"
        "Send less, or ask the operator to raise the edge's limit.";
    /// The client, or its team, has too many requests under way.
    TooManyRequests "too_many_requests" TOO_MANY_REQUESTS Client true
        "Too many requests at once"
        "Wait for requests under way to finish, and send fewer at a time; the detail says whose share is used up.";
    /// Too many requests to this origin are under way.
    OriginBusy "origin_busy" TOO_MANY_REQUESTS Client true
        "Too many requests to this origin are under way"
        "Check why the origin answers slowly or not at all; wait for requests under way to finish, or shorten its response_timeout.";
    /// All links of the tunnel have as many requests under way as they take.
    TunnelFull "tunnel_full" SERVICE_UNAVAILABLE Link true
        "The tunnel has no room for one more request"
        "Wait for requests under way to finish; start another connector if this happens often.";
    /// The edge has had no word from the control plane for too long.
    FeedStale "feed_stale" SERVICE_UNAVAILABLE Edge true
        "The edge has lost touch with its control plane"
        "The operator must bring the control plane back, or the edge's way to it.";
    /// The edge is leaving, or has no room.
    EdgeUnavailable "edge_unavailable" SERVICE_UNAVAILABLE Edge true
        "The edge cannot take the request now"
        "Send it again, to another edge if there is one.";
    /// No connector of the tunnel holds a link to this edge.
    NoLink "no_link" SERVICE_UNAVAILABLE Connector true
        "No connector is connected"
        "Start the tunnel's connector, or see its health page for what stands in its way.";
    /// The link broke before the request reached the origin.
    NotDelivered "not_delivered" SERVICE_UNAVAILABLE Link true
        "The link broke before the request was delivered"
        "Nothing reached the origin: send the request again.";
    /// The link broke afterwards; what the origin did is not known.
    LinkLost "link_lost" BAD_GATEWAY Link false
        "The link broke while the request was under way"
        "The origin may have acted on it: check before you send it again.";
    /// Access was taken away, or a secret was revoked, while the request was under way.
    AccessRevoked "access_revoked" FORBIDDEN Client false
        "Access was taken away while the request was under way"
        "Ask a tenant owner, or a user with TUNNEL_MANAGE, who may use this tunnel.";
    /// The connector does not let requests go to this destination.
    DestinationRefused "destination_refused" FORBIDDEN Connector false
        "The connector refuses this destination"
        "Ask for another destination: link-local and cloud metadata addresses are never dialled.";
    /// The connector's own policy does not let the request pass.
    PolicyRefused "policy_refused" FORBIDDEN Connector false
        "The connector's policy does not allow this request"
        "Ask whoever runs the connector; the detail says which rule of TUNNEL_POLICY_FILE decided.";
    /// The origin's name could not be resolved in the private network.
    OriginDns "origin_dns" BAD_GATEWAY Origin false
        "The origin's name does not resolve"
        "Check the name, and the DNS that the connector's host uses.";
    /// The origin's host refused the connection.
    OriginRefused "origin_refused" BAD_GATEWAY Origin true
        "The origin refused the connection"
        "Check that the server runs and listens on this port.";
    /// The origin's host could not be reached.
    OriginUnreachable "origin_unreachable" BAD_GATEWAY Origin true
        "The origin cannot be reached"
        "Check routes and firewalls between the connector and the server.";
    /// The origin did not answer in time.
    OriginTimeout "origin_timeout" GATEWAY_TIMEOUT Origin false
        "The origin did not answer in time"
        "Check the server's load, or give the request more time; it may have acted on the request.";
    /// TLS with the origin failed.
    OriginTls "origin_tls" BAD_GATEWAY Origin false
        "TLS with the origin failed"
        "Check the server's certificate; name its authority in TUNNEL_ORIGIN_CA_FILE.";
    /// The origin closed the connection too early.
    OriginReset "origin_reset" BAD_GATEWAY Origin false
        "The origin broke the connection"
        "See the server's log; it may have acted on the request.";
    /// The origin's answer is no HTTP.
    OriginGarbage "origin_garbage" BAD_GATEWAY Origin false
        "The origin's answer is not valid HTTP"
        "See the detail for what is wrong and where; check that the port speaks HTTP, and not TLS or another protocol.";
}

impl Code {
    /// As it stands in the `Postern-Error` header, bodies, metrics and documentation.
    pub fn as_str(self) -> &'static str {
        self.facts().text
    }

    /// The HTTP status that says it best.
    pub fn status(self) -> StatusCode {
        self.facts().status
    }

    /// Whose fault it is.
    pub fn source(self) -> Source {
        self.facts().source
    }

    /// Can the same request succeed later, without anybody changing anything, and is it safe to send
    /// it again?
    pub fn is_retryable(self) -> bool {
        self.facts().is_retryable
    }

    /// One line for people.
    pub fn title(self) -> &'static str {
        self.facts().title
    }

    /// What to do about it.
    pub fn fix(self) -> &'static str {
        self.facts().fix
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no code of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown refusal code")]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

/// A "no", with what is particular about this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Refusal {
    /// What stands in the way.
    pub code: Code,
    /// One sentence about this very case; no secret, no body, no header value.
    pub detail: String,
}

impl Refusal {
    /// A refusal with one sentence about this very case.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The body that tells it: problem+json (RFC 9457).
    pub fn to_problem(&self) -> serde_json::Value {
        let code = self.code;
        serde_json::json!({
            "type": format!("urn:postern:error:{code}"),
            "title": code.title(),
            "status": code.status().as_u16(),
            "detail": self.detail,
            "code": code.as_str(),
            "source": code.source().as_str(),
            "retryable": code.is_retryable(),
            "fix": code.fix(),
        })
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code, code.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_blames_fittingly() {
        for code in Code::ALL.iter().copied() {
            assert_eq!(code.as_str().parse::<Code>(), Ok(code));
            let is_client_status = code.status().is_client_error();
            let is_asker = matches!(code.source(), Source::Client);
            let is_customer_no = matches!(code, Code::DestinationRefused | Code::PolicyRefused);
            assert_eq!(is_client_status, is_asker || is_customer_no, "{code}");
            assert!(code.fix().ends_with('.'), "{code}");
        }
        assert_eq!("nonsense".parse::<Code>(), Err(UnknownCode));
    }

    #[test]
    fn a_refusal_tells_all_that_a_client_needs() {
        let problem = Refusal::new(Code::OriginRefused, "wiki.corp:80 refused").to_problem();
        assert_eq!(problem["status"], 502);
        assert_eq!(problem["source"], "origin");
        assert_eq!(problem["retryable"], true);
        assert_eq!(problem["detail"], "wiki.corp:80 refused");
    }
}
