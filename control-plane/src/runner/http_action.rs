//! The HTTP action: builds the request, sends it directly or through a tunnel, and writes down what
//! came of it.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use protocol::{
    access::Caller,
    fields,
    phases::Phases,
    refusal::{Code, Refusal, Source},
};

use super::{direct, exchange::Exchanged, gateway};
use crate::{
    action::{ActionResult, Answer, HttpAction, PhaseLength, RefusalView},
    api::timestamp::Timestamp,
    app::App,
};

/// What is learnt on the way, however it ends.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) phases: Phases,
    pub(super) gateways: Vec<String>,
}

/// An action's request, ready to be sent more than once.
pub(super) struct Prepared {
    pub(super) uri: Uri,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) response_limit: u64,
    pub(super) ca_certificates: Option<String>,
}

/// Why an action got no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody on the way said no.
    Refused(Refusal),
    /// TLS between here and the origin failed.
    Tls(String),
    /// The host of an action without a tunnel is in a private network.
    PrivateDestination(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for RefusalView {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Tls(detail) => Self {
                fix: "Check the server's certificate; a private authority's certificate goes into \
                      the action's ca_certificates."
                    .to_owned(),
                ..Refusal::new(Code::OriginTls, detail).into()
            },
            Failure::PrivateDestination(host) => Self {
                source: Source::Client.as_str().to_owned(),
                title: "The control plane refuses this destination".to_owned(),
                fix: "Reach private systems through a tunnel; an operator can allow private \
                      destinations with --allow-private-destinations."
                    .to_owned(),
                ..Refusal::new(
                    Code::DestinationRefused,
                    format!("{host} is not on the public internet"),
                )
                .into()
            },
        }
    }
}

/// Takes the action; whatever happens is in the result.
pub(super) async fn take(app: &App, caller: &Caller, action: &HttpAction) -> ActionResult {
    let (started_at, started) = (Timestamp(app.clock.now_ms()), Instant::now());
    let mut trace = Trace::default();
    let patience = Duration::from_secs(action.timeout);
    let outcome = match tokio::time::timeout(patience, send(app, caller, action, &mut trace)).await
    {
        Ok(outcome) => outcome,
        Err(_) => Err(Refusal::new(
            Code::OriginTimeout,
            format!("there was no complete answer within {} s", action.timeout),
        )
        .into()),
    };
    let (response, refusal) = match outcome {
        Ok(exchanged) => {
            let refusal = exchanged.broken.map(RefusalView::from);
            (Some(answer(exchanged.head, &exchanged.body, exchanged.truncated)), refusal)
        }
        Err(failure) => (None, Some(failure.into())),
    };
    ActionResult {
        name: action.name.clone(),
        started_at,
        duration_us: microseconds(started),
        gateways: trace.gateways,
        phases: PhaseLength::list(&trace.phases),
        response,
        refusal,
    }
}

async fn send(
    app: &App,
    caller: &Caller,
    action: &HttpAction,
    trace: &mut Trace,
) -> Result<Exchanged, Failure> {
    let prepared = prepare(action)?;
    match &action.use_tunnel {
        None => direct::send(&prepared, app.allow_private_destinations, trace).await,
        Some(tunnel) => gateway::send(app, caller, tunnel, &prepared, trace).await,
    }
}

fn prepare(action: &HttpAction) -> Result<Prepared, Refusal> {
    let bad = |detail: &str| Refusal::new(Code::BadTarget, detail);
    let uri = action.uri().map_err(bad)?;
    let authority = uri.authority().ok_or_else(|| bad("the URL has no host"))?.clone();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_https = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let invalid = |_| bad("a header field is not valid");
    let mut headers = HeaderMap::new();
    for (name, value) in &action.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| bad("a header field is not valid"))?;
        headers.insert(name, HeaderValue::from_str(value).map_err(invalid)?);
    }
    fields::strip(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).map_err(invalid)?);
    let agent = HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(agent);
    if let Some(media_type) = action.media_type() {
        let value = HeaderValue::from_str(media_type).map_err(invalid)?;
        headers.entry(header::CONTENT_TYPE).or_insert(value);
    }
    let method = Method::from_bytes(action.method.as_bytes())
        .map_err(|_| Refusal::new(Code::BadRequest, "the method is not valid"))?;
    Ok(Prepared {
        uri,
        host,
        port,
        method,
        headers,
        body: action.body().into(),
        response_limit: action.response_limit,
        ca_certificates: action.ca_certificates.clone(),
    })
}

impl Prepared {
    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The request with the target that a proxy expects (absolute-form) or an origin (origin-form).
    pub(super) fn request(&self, is_absolute: bool) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        *request.uri_mut() = if is_absolute {
            self.uri.clone()
        } else {
            self.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
        };
        request
    }
}

fn answer(head: http::response::Parts, body: &[u8], truncated: bool) -> Answer {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let text = match std::str::from_utf8(body) {
        Ok(text) => Some(text),
        // A cut may fall inside a character.
        Err(error) if truncated && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    Answer {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(field).collect(),
        text: text.map(str::to_owned),
        base64: text.is_none().then(|| STANDARD.encode(body)),
        truncated,
    }
}

pub(super) fn microseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
