//! What an upgrade says on a link beside its head, over both carriers alike.
//!
//! An upgrade has a method, which may be any, and may have a body, which is short and comes before all bytes
//! of the tunnel. A 101 tells which of the offered protocols the origin has chosen. All three travel as
//! fields of Postern's own, which both ends take off again. An older peer knows none but [`CHOICE`], and
//! that only over HTTP/2; [`Abilities`](protocol::abilities::Abilities) tell what it understands.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use protocol::head::Protocol;

use crate::error::LinkError;

/// Longest body of a request that asks for an upgrade, in bytes: both ends hold it whole.
pub const MAX_UPGRADE_BODY: usize = 64 * 1024;

/// The request's method, where the carrier has none for it. None means GET.
const METHOD: HeaderName = HeaderName::from_static("postern-method");
/// The length of the request's body, in bytes. None means 0.
const BODY: HeaderName = HeaderName::from_static("postern-body");
/// On the answer: it stands for the origin's 101, and this is the protocol that the origin chose. `1` says
/// the same without the protocol.
const CHOICE: HeaderName = HeaderName::from_static("postern-upgraded");
const NO_CHOICE: HeaderValue = HeaderValue::from_static("1");

/// Edge: tells the method over HTTP/2, where it is always CONNECT.
pub(crate) fn put_method(method: &Method, fields: &mut HeaderMap) {
    if method != Method::GET {
        let method = HeaderValue::from_str(method.as_str()).expect("a method is a token");
        fields.insert(METHOD, method);
    }
}

/// Edge: tells how much of what follows the head is the request's body.
pub(crate) fn put_body(body: &Bytes, fields: &mut HeaderMap) {
    if !body.is_empty() {
        fields.insert(BODY, HeaderValue::from(body.len()));
    }
}

/// Connector: the method of a request that came as CONNECT.
pub(crate) fn take_method(fields: &mut HeaderMap) -> Result<Method, LinkError> {
    let Some(method) = fields.remove(METHOD) else { return Ok(Method::GET) };
    Method::from_bytes(method.as_bytes()).map_err(|_| LinkError::Unexpected("an odd method"))
}

/// Connector: the length of the request's body.
pub(crate) fn take_body_length(fields: &mut HeaderMap) -> Result<usize, LinkError> {
    let Some(length) = fields.remove(BODY) else { return Ok(0) };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length
        .filter(|length| *length <= MAX_UPGRADE_BODY)
        .ok_or(LinkError::Unexpected("an upgrade's body of an odd length"))
}

/// Connector: tells that the origin agreed, and to what.
pub(crate) fn put_choice(response: &mut Response<()>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let choice = response.extensions_mut().remove::<Protocol>();
        response.headers_mut().insert(CHOICE, choice.map_or(NO_CHOICE, |Protocol(choice)| choice));
    }
}

/// Edge: did the origin agree? Its choice is then an extension of the response.
pub(crate) fn take_choice<B>(response: &mut Response<B>) -> bool {
    let Some(choice) = response.headers_mut().remove(CHOICE) else { return false };
    if choice != NO_CHOICE {
        response.extensions_mut().insert(Protocol(choice));
    }
    true
}

/// The bytes of a body of this length: those that are there already, then what `poll_next` reads; `None` is the
/// stream's end.
pub(crate) async fn read_body(
    length: usize,
    ahead: Bytes,
    mut poll_next: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>, LinkError>>,
) -> Result<Bytes, LinkError> {
    let mut body = ahead;
    while body.len() < length {
        let piece = std::future::poll_fn(&mut poll_next).await?.ok_or(LinkError::Incomplete)?;
        body = if body.is_empty() { piece } else { [body, piece].concat().into() };
    }
    // Bytes of the tunnel come only after the answer.
    if body.len() == length { Ok(body) } else { Err(LinkError::Unexpected("an upgrade's body")) }
}
