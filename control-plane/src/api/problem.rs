//! Every "no" of the API: problem+json (RFC 9457) with a documented code and what to do.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{auth::password, store};

/// Everything that is fixed about a code.
struct Facts {
    text: &'static str,
    status: StatusCode,
    title: &'static str,
    fix: &'static str,
}

macro_rules! codes {
    ($($name:ident $text:literal $status:ident $title:literal $fix:literal;)*) => {
        /// What stands in the way of a request to the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            fn facts(self) -> Facts {
                match self {
                    $(Self::$name => Facts {
                        text: $text,
                        status: StatusCode::$status,
                        title: $title,
                        fix: $fix,
                    },)*
                }
            }
        }
    };
}

codes! {
    Unauthenticated "unauthenticated" UNAUTHORIZED
        "Nobody is logged in"
        "Log in at POST /api/v1/session, or send an API key: Authorization: Bearer ptk1_….";
    BadLogin "bad_login" UNAUTHORIZED
        "The login failed"
        "Check e-mail address and password; an owner can set a new password.";
    TooManyLogins "too_many_logins" TOO_MANY_REQUESTS
        "Too many failed logins"
        "Wait; each failure doubles the time, up to 15 minutes.";
    Busy "busy" SERVICE_UNAVAILABLE
        "Too many passwords are being checked"
        "Try again after the time in Retry-After.";
    BadLink "bad_link" GONE
        "The link does not work"
        "A link works once and expires. Each start of Postern prints a new set-up link until a password is chosen.";
    BadCsrf "bad_csrf" FORBIDDEN
        "The CSRF token is missing or wrong"
        "Send the csrf_token of GET /api/v1/me in the header Postern-CSRF.";
    Forbidden "forbidden" FORBIDDEN
        "You may not do this"
        "Ask an owner of your tenant to do it, or for the permission.";
    HttpsRequired "https_required" BAD_REQUEST
        "This port speaks HTTPS"
        "Begin the URL with https:// and trust the server's certificate: docs/operations.md tells how.";
    NotFound "not_found" NOT_FOUND
        "There is no such thing"
        "Check the address; the list above it shows what there is.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED
        "The path has no such method"
        "See the OpenAPI document for what there is.";
    Disabled "disabled" FORBIDDEN
        "The account is disabled"
        "Ask an owner of your tenant to let you in again.";
    Stale "stale" PRECONDITION_FAILED
        "Somebody else has changed it meanwhile"
        "Get it again, see what has changed, and send your change with the new ETag in If-Match.";
    BadQuery "bad_query" BAD_REQUEST
        "The address's query does not fit"
        "Leave out or correct the parameter that the detail names; the OpenAPI document shows them all.";
    Conflict "conflict" CONFLICT
        "It does not fit what there is"
        "Do as the problem's own fix says.";
    KeyReused "key_reused" UNPROCESSABLE_ENTITY
        "The Idempotency-Key belongs to another request"
        "Choose a new key for each request; keep it only to send the same request again.";
    KeyInUse "key_in_use" CONFLICT
        "A request with this Idempotency-Key is under way"
        "Wait, then send it again. If it stays, the control plane stopped in its middle: look whether it was done.";
    DoneBefore "done_before" CONFLICT
        "The request was done before"
        "It is done once. A secret is shown only in the first answer: if that was lost, revoke it and make another under a new key.";
    TooManyKeys "too_many_keys" TOO_MANY_REQUESTS
        "Too many Idempotency-Keys"
        "Send fewer requests with a key: each is remembered for 24 hours.";
    InUse "in_use" CONFLICT
        "Something still uses it"
        "Look at used_by. Change what uses it first, or send the request again with force=true.";
    NoEdge "no_edge" CONFLICT
        "No edge has joined yet"
        "Start an edge with a join token (POST /api/v1/edges/join-tokens), then try again.";
    Invalid "invalid" UNPROCESSABLE_ENTITY
        "The request is not valid"
        "Mend what the detail names; the OpenAPI document shows the form.";
    TooLarge "too_large" PAYLOAD_TOO_LARGE
        "The request is too large"
        "Send less.";
    TooManyStreams "too_many_streams" TOO_MANY_REQUESTS
        "Too many event streams"
        "Close some of the windows that show the console, or end programs that listen.";
    TooManyRuns "too_many_runs" TOO_MANY_REQUESTS
        "Too many runs at once"
        "Wait for some to finish, and start fewer at a time.";
    Timeout "timeout" SERVICE_UNAVAILABLE
        "The request took too long"
        "Try again; if it stays, the operator must look at the control plane's log.";
    StorageFull "storage_full" INSUFFICIENT_STORAGE
        "The control plane's disk is full"
        "The operator must make room on the disk of the data directory.";
    Internal "internal" INTERNAL_SERVER_ERROR
        "The control plane failed"
        "Try again; if it stays, the operator must look at the control plane's log.";
}

/// A "no", with what is particular about this one.
#[derive(Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    fix: &'static str,
    retry_after_s: Option<u64>,
    used_by: Vec<UsedBy>,
}

/// Something that uses what a request would remove.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsedBy {
    /// `workflow`, `proxy_token`, or `tunnel` for its access list.
    kind: &'static str,
    id: String,
    name: String,
}

impl UsedBy {
    pub(crate) fn new(kind: &'static str, id: impl ToString, name: String) -> Self {
        Self { kind, id: id.to_string(), name }
    }
}

/// As it is told.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// URN of the code.
    #[serde(rename = "type")]
    kind: String,
    /// One line for people, the same for every case of the code.
    title: &'a str,
    /// The HTTP status, once more.
    status: u16,
    /// Documented code.
    code: &'a str,
    /// What is particular about this case.
    detail: &'a str,
    /// What to do about it.
    fix: &'a str,
    /// With the code `in_use`: what uses it, at most 500 things of a kind.
    #[serde(skip_serializing_if = "<[UsedBy]>::is_empty")]
    #[schema(required = false)]
    used_by: &'a [UsedBy],
}

impl Problem {
    pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            fix: code.facts().fix,
            retry_after_s: None,
            used_by: Vec::new(),
        }
    }

    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, detail)
    }

    pub(crate) fn https_required() -> Self {
        Self::new(
            Code::HttpsRequired,
            "the request came over plain HTTP, and whatever it carried could be read on the way",
        )
    }

    /// The same for a wrong password and for an unknown user.
    pub(crate) fn bad_login() -> Self {
        Self::new(Code::BadLogin, "e-mail address or password is wrong")
    }

    pub(crate) fn too_many_logins(wait_ms: u64) -> Self {
        let wait_s = wait_ms.div_ceil(1000);
        let detail = format!("the account can be tried again from here in {wait_s} s");
        Self { retry_after_s: Some(wait_s), ..Self::new(Code::TooManyLogins, detail) }
    }

    pub(crate) fn bad_link() -> Self {
        Self::new(Code::BadLink, "the link was used, has expired, or is not complete")
    }

    pub(crate) fn bad_csrf() -> Self {
        Self::new(Code::BadCsrf, "a session must prove that its own page sent the request")
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Code::Forbidden, detail)
    }

    /// What does not exist, or belongs to another tenant, which is the same to the one who asks.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(Code::MethodNotAllowed, "the path exists, but not with this method")
    }

    pub(crate) fn conflict(detail: impl Into<String>, fix: &'static str) -> Self {
        Self { fix, ..Self::new(Code::Conflict, detail) }
    }

    pub(crate) fn key_reused() -> Self {
        Self::new(Code::KeyReused, "the key came with another address or body before")
    }

    pub(crate) fn key_in_use() -> Self {
        let detail = "the request came before and has no answer yet";
        Self { retry_after_s: Some(1), ..Self::new(Code::KeyInUse, detail) }
    }

    pub(crate) fn done_before() -> Self {
        Self::new(Code::DoneBefore, "its answer was told once and is not kept")
    }

    pub(crate) fn too_many_keys() -> Self {
        Self::new(Code::TooManyKeys, "the tenant has used as many keys as are remembered")
    }

    /// What uses it would break.
    pub(crate) fn in_use(detail: impl Into<String>, used_by: Vec<UsedBy>) -> Self {
        Self { used_by, ..Self::new(Code::InUse, detail) }
    }

    /// The same where nothing can be forced.
    pub(crate) fn must_move(
        detail: impl Into<String>,
        fix: &'static str,
        used_by: Vec<UsedBy>,
    ) -> Self {
        Self { fix, used_by, ..Self::new(Code::InUse, detail) }
    }

    pub(crate) fn no_edge() -> Self {
        Self::new(Code::NoEdge, "a tunnel's secret names edges, and there is none")
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::Invalid, detail)
    }

    pub(crate) fn disabled() -> Self {
        Self::new(Code::Disabled, "an owner has disabled this account")
    }

    /// `by` is who made the change, if that is known.
    pub(crate) fn stale(by: Option<&str>) -> Self {
        let by = by.unwrap_or("somebody");
        Self::new(Code::Stale, format!("{by} has changed it since; nothing was changed"))
    }

    pub(crate) fn bad_query(detail: impl Into<String>) -> Self {
        Self::new(Code::BadQuery, detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(Code::TooLarge, detail)
    }

    pub(crate) fn too_many_runs(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(Code::TooManyRuns, detail) }
    }

    pub(crate) fn too_many_streams() -> Self {
        let detail = "this user, or the control plane, has as many event streams as it may have";
        Self { retry_after_s: Some(10), ..Self::new(Code::TooManyStreams, detail) }
    }

    pub(crate) fn timeout() -> Self {
        Self::new(Code::Timeout, "the control plane did not finish in time")
    }

    fn internal() -> Self {
        Self::new(Code::Internal, "nothing was changed; the control plane's log says more")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.facts().status
    }

    /// The body.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let Facts { text, status, title, .. } = self.code.facts();
        let body = ProblemBody {
            kind: format!("urn:postern:error:{text}"),
            title,
            status: status.as_u16(),
            code: text,
            detail: &self.detail,
            fix: self.fix,
            used_by: &self.used_by,
        };
        serde_json::to_vec(&body).expect("a problem is plain data")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, Self::MEDIA_TYPE);
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        if error.is_conflict() {
            return Self::conflict("there is one of that name already", "Choose another name.");
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the database failed a request");
        if error.is_disk_full() {
            return Self::new(Code::StorageFull, "nothing was changed");
        }
        Self::internal()
    }
}

impl From<password::Error> for Problem {
    fn from(error: password::Error) -> Self {
        if matches!(error, password::Error::Busy) {
            let detail = "each of them takes a while, and as many wait as may wait";
            return Self { retry_after_s: Some(2), ..Self::new(Code::Busy, detail) };
        }
        tracing::error!(error = &error as &dyn std::error::Error, "a password was not hashed");
        Self::internal()
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs, path::Path};

    use super::*;

    const HEAD: &str = "\
# Every problem of the API, and what to do about it

<!-- Generated from control-plane/src/api/problem.rs: POSTERN_UPDATE=1 cargo test -p postern-control-plane -->

A request that the control plane does not grant is answered with problem+json (RFC 9457): `type`, `title`,
`status`, `code`, `detail`, which says what is particular about the case, and `fix`.

| code | status | what it means | what to do |
|---|---|---|---|
";

    #[test]
    fn the_page_of_codes_is_current() {
        let mut current = HEAD.to_owned();
        for code in Code::ALL {
            let Facts { text, status, title, fix } = code.facts();
            writeln!(current, "| `{text}` | {} | {title}. | {fix} |", status.as_u16()).unwrap();
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api-errors.md");
        if std::env::var_os("POSTERN_UPDATE").is_some() {
            fs::write(&file, &current).unwrap();
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == current,
            "docs/api-errors.md is out of date: POSTERN_UPDATE=1 cargo test -p postern-control-plane"
        );
    }
}
