//! Every "no" of the API: problem+json (RFC 9457) with a documented code and what to do.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{auth::password, store};

/// A "no".
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    fix: &'static str,
    retry_after_s: Option<u64>,
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
}

impl Problem {
    pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

    fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), fix, retry_after_s: None }
    }

    pub(crate) fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Nobody is logged in",
            detail,
            "Log in at POST /api/v1/session, or send an API key: Authorization: Bearer ptk1_….",
        )
    }

    pub(crate) fn bad_login() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "bad_login",
            "The login failed",
            "e-mail address or password is wrong",
            "Check both; an owner can set a new password.",
        )
    }

    pub(crate) fn too_many_logins(wait_ms: u64) -> Self {
        let wait_s = wait_ms.div_ceil(1000);
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_logins",
            "Too many failed logins",
            format!("the account can be tried again in {wait_s} s"),
            "Wait; each failure doubles the time, up to 15 minutes.",
        )
        .retry_after(wait_s)
    }

    pub(crate) fn bad_csrf() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "bad_csrf",
            "The CSRF token is missing or wrong",
            "a session must prove that its own page sent the request",
            "Send the csrf_token of GET /api/v1/me in the header Postern-CSRF.",
        )
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "You may not do this",
            detail,
            "Ask an owner of your tenant to do it, or for the permission.",
        )
    }

    /// What does not exist, or belongs to another tenant, which is the same to the one who asks.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is no such thing",
            format!("there is no such {what}"),
            "Check the address; the list above it shows what there is.",
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "The path has no such method",
            "the path exists, but not with this method",
            "See the OpenAPI document for what there is.",
        )
    }

    pub(crate) fn conflict(detail: impl Into<String>, fix: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "It does not fit what there is", detail, fix)
    }

    pub(crate) fn no_edge() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "no_edge",
            "No edge has joined yet",
            "a tunnel's secret names edges, and there is none",
            "Start an edge with a join token (POST /api/v1/edges/join-tokens), then try again.",
        )
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "The request is not valid",
            detail,
            "Mend what the detail names; the OpenAPI document shows the form.",
        )
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "The request is too large",
            detail,
            "Send less.",
        )
    }

    pub(crate) fn too_many_runs(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_runs",
            "Too many runs at once",
            detail,
            "Wait for some to finish, and start fewer at a time.",
        )
        .retry_after(1)
    }

    pub(crate) fn timeout() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "The request took too long",
            "the control plane did not finish in time",
            "Try again; if it stays, the operator must look at the control plane's log.",
        )
    }

    fn storage_full() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "storage_full",
            "The control plane's disk is full",
            "nothing was changed",
            "The operator must make room on the disk of the data directory.",
        )
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The control plane failed",
            "nothing was changed; the control plane's log says more",
            "Try again; if it stays, the operator must look at the control plane's log.",
        )
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let body = ProblemBody {
            kind: format!("urn:postern:error:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            fix: self.fix,
        };
        serde_json::to_vec(&body).expect("a problem is plain data")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, Self::MEDIA_TYPE);
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
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
        if error.is_disk_full() { Self::storage_full() } else { Self::internal() }
    }
}

impl From<password::Error> for Problem {
    fn from(error: password::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a password was not hashed");
        Self::internal()
    }
}
