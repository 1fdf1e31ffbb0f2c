//! `Idempotency-Key`: a client that did not hear the answer sends its request again, and what was asked is
//! done once.
//!
//! ```text
//! key unknown ──► claimed ──► done: a success is remembered for 24 hours, and told again
//!                        └──► a refusal changed nothing: the key is free again
//! ```
//!
//! A control plane that stops in between leaves the key claimed. What came of the request is not known
//! then, and the answer says so.

use aws_lc_rs::digest;
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts as _, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{MAX_BODY, extract::Caller, problem::Problem};
use crate::{
    app::{App, Shared},
    store::{
        self,
        idempotency::{Claim, Known},
    },
};

pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells that nothing was done, since it was done before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// How long a key is remembered: 24 hours.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest key, in bytes.
pub(super) const MAX_KEY: usize = 128;
/// Keys of one tenant that are remembered.
const MAX_KEYS: u64 = 10_000;
/// Longest answer that is remembered, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Answers that hold no secret begin here. The database must hold no secret, so others are not remembered.
const HARMLESS: &[&str] =
    &["/api/v1/teams", "/api/v1/users", "/api/v1/workflows", "/api/v1/tenants"];

/// Does what a request with a key asks for once.
pub(super) async fn once(State(app): State<Shared>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    match try_once(app, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn try_once(app: Shared, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &app).await?;
    let key = parts.headers.get(HEADER).and_then(|key| key.to_str().ok());
    let key = key.filter(|key| !key.is_empty() && key.len() <= MAX_KEY).ok_or_else(|| {
        Problem::invalid(format!("Idempotency-Key has 1 to {MAX_KEY} visible characters"))
    })?;
    let too_large = |_| Problem::too_large("a request's body has at most 1 MiB");
    let body = to_bytes(body, MAX_BODY).await.map_err(too_large)?;
    let claim = Claim {
        tenant: caller.tenant(),
        user: caller.user.id,
        key: key.to_owned(),
        digest: digest(&parts.uri.to_string(), &body),
    };
    if let Some(known) = claimed(&app, &claim).await? {
        return replay(&claim, known);
    }
    let is_harmless = HARMLESS.iter().any(|path| parts.uri.path().starts_with(path));
    let request = Request::from_parts(parts, Body::from(body));
    // A client that goes away must not leave the key claimed.
    let requests = app.requests.clone();
    let settled = requests.finish(async move {
        let response = next.run(request).await;
        settle(&app, &claim, response, is_harmless).await
    });
    settled.await.unwrap_or_else(|| Err(Problem::timeout()))
}

/// Claims the key for this request, unless it is known already.
async fn claimed(app: &App, claim: &Claim) -> Result<Option<Known>, Problem> {
    let now_ms = app.clock.now_ms();
    let mut db = app.store.write().await?;
    store::idempotency::trim(&mut db, now_ms.saturating_sub(REMEMBERED_MS)).await?;
    let known = store::idempotency::find(&mut db, claim).await?;
    if known.is_none() {
        if store::idempotency::count(&mut db, claim.tenant).await? >= MAX_KEYS {
            return Err(Problem::too_many_keys());
        }
        store::idempotency::insert(&mut db, claim, now_ms).await?;
    }
    db.commit().await?;
    Ok(known)
}

fn replay(claim: &Claim, known: Known) -> Result<Response, Problem> {
    if known.digest != claim.digest {
        return Err(Problem::key_reused());
    }
    let Some(status) = known.status else { return Err(Problem::key_in_use()) };
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let (Some(status), Some(body)) = (status, known.body) else {
        return Err(Problem::done_before());
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Remembers a success; frees the key after a refusal.
async fn settle(
    app: &App,
    claim: &Claim,
    response: Response,
    is_harmless: bool,
) -> Result<Response, Problem> {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut db = app.store.write().await?;
    if parts.status.is_success() {
        let text = std::str::from_utf8(&body).ok();
        let text = text.filter(|text| is_harmless && text.len() <= MAX_ANSWER);
        store::idempotency::answered(&mut db, claim, parts.status.as_u16(), text).await?;
    } else {
        store::idempotency::release(&mut db, claim).await?;
    }
    db.commit().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Of all but passwords: whoever steals the database must not be able to try passwords on it.
fn digest(uri: &str, body: &[u8]) -> String {
    let mut body = body.to_vec();
    if let Ok(mut fields) = serde_json::from_slice::<serde_json::Map<_, _>>(&body) {
        fields.retain(|name, _: &mut serde_json::Value| !name.contains("password"));
        body = serde_json::to_vec(&fields).expect("JSON stays JSON");
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(uri.as_bytes());
    context.update(&[0]);
    context.update(&body);
    URL_SAFE_NO_PAD.encode(context.finish())
}
