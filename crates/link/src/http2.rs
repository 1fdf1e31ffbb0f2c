//! The HTTP/2 carrier: TLS on TCP, and on it HTTP/2 with the roles turned round. The connector, which
//! dialled, is the HTTP/2 server; the edge is the client.
//!
//! Requests and responses are what they are in HTTP/2. Only an upgrade needs a word: it travels as an
//! extended CONNECT (RFC 8441), whose success is a 200; a field on it ([`crate::upgrade`]) tells that the
//! origin said 101, since an origin may also answer an upgrade with a plain 200.

mod connection;
mod corked;
mod pace;
mod receiving;
mod sending;
mod watched;

use std::task::Poll;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request::Parts,
};
use http_body::Body as HttpBody;
use protocol::{
    frame::Role,
    head::{self, Protocol},
};

pub(crate) use self::{
    connection::{
        CONNECTION_WINDOW, CONTROL_PATH, Stream, TLS_BUFFER, buffered, client_builder,
        server_builder,
    },
    corked::Corked,
    pace::Pace,
    receiving::Receiving,
    sending::Sending,
    watched::Watched,
};
use crate::{
    body::{Body, Source},
    error::{BoxError, LinkError},
    sender::Sender,
    session::Opened,
    upgrade,
    upgraded::Upgraded,
};

/// What an HTTP/2 error means for a stream.
pub(crate) fn stream_error(error: h2::Error) -> LinkError {
    // A GOAWAY from the peer fails exactly the streams that it has not begun.
    let is_untouched = error.is_go_away() && error.is_remote();
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => LinkError::NotDelivered,
        _ if is_untouched => LinkError::NotDelivered,
        Some(reason) if error.is_reset() => reset_error(reason),
        _ => LinkError::Broken(error.into()),
    }
}

pub(crate) fn reset_error(reason: h2::Reason) -> LinkError {
    match reason {
        h2::Reason::REFUSED_STREAM => LinkError::NotDelivered,
        h2::Reason::INTERNAL_ERROR => LinkError::Incomplete,
        _ => LinkError::Cancelled,
    }
}

/// Edge: sends a request, streams its body, returns the answer's head with its body behind it.
pub(crate) async fn send<B>(
    requests: h2::client::SendRequest<Bytes>,
    pace: &Pace,
    head: &Parts,
    body: B,
    mut informational: impl FnMut(Response<()>),
) -> Result<Response<Body>, LinkError>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let is_complete = body.is_end_stream();
    let (response, stream) = begin(requests, copy(head), is_complete).await?;
    let mut sender = (!is_complete).then(|| {
        let mut sending = Sending::new(stream, pace.clone());
        Sender::spawn(async move { sending.body(Role::Request, body).await })
    });
    let answer = answer(response, &mut informational);
    let answer = match &mut sender {
        None => answer.await,
        Some(sender) => tokio::select! {
            biased;
            failed = sender.body_failure() => return Err(failed),
            answer = answer => match answer {
                // The reset is our own: the body's sender has made it, and knows why.
                Err(error) if error.is_reset() && !error.is_remote() => {
                    return Err(sender.failure().await);
                }
                answer => answer,
            },
        },
    };
    let response = answer.map_err(stream_error)?;
    limit(response.headers())?;
    Ok(response.map(|stream| into_body(stream).with_sender(sender)))
}

/// Edge: sends a CONNECT or an upgrade, which leaves HTTP if the answer agrees.
pub(crate) async fn open(
    requests: h2::client::SendRequest<Bytes>,
    pace: &Pace,
    head: &Parts,
    body: Bytes,
) -> Result<Opened, LinkError> {
    let mut request = copy(head);
    let is_connect = head.method == Method::CONNECT;
    if let Some(Protocol(protocol)) = head.extensions.get() {
        let protocol = protocol.to_str().map_err(|_| LinkError::Unexpected("an odd protocol"))?;
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        upgrade::put_method(&head.method, request.headers_mut());
        upgrade::put_body(&body, request.headers_mut());
    }
    let (response, stream) = begin(requests, request, false).await?;
    let mut sending = Sending::new(stream, pace.clone());
    // Where this fails, the answer tells why.
    let _ = sending.write(body).await;
    let mut response = answer(response, &mut |_| {}).await.map_err(stream_error)?;
    limit(response.headers())?;
    let was_upgraded = upgrade::take_choice(&mut response);
    if was_upgraded {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    if was_upgraded || (is_connect && response.status().is_success()) {
        let (parts, stream) = response.into_parts();
        let upgraded = Upgraded::http2(sending, Receiving::new(stream));
        return Ok(Opened::Tunnel(Response::from_parts(parts, ()), upgraded));
    }
    sending.finish();
    Ok(Opened::Response(response.map(into_body)))
}

/// Connector: a request as it came, turned back into what the edge was asked to send; and whether it
/// asks to leave HTTP.
pub(crate) fn restore(
    request: Request<h2::RecvStream>,
) -> Result<(Request<h2::RecvStream>, bool), LinkError> {
    let mut request = request;
    limit(request.headers())?;
    if request.method() != Method::CONNECT {
        return Ok((request, false));
    }
    if let Some(protocol) = request.extensions_mut().remove::<h2::ext::Protocol>() {
        let protocol = HeaderValue::from_str(protocol.as_str())
            .map_err(|_| LinkError::Unexpected("an odd protocol"))?;
        *request.method_mut() = upgrade::take_method(request.headers_mut())?;
        request.extensions_mut().insert(Protocol(protocol));
    }
    Ok((request, true))
}

/// Connector: the head that lets a stream leave HTTP.
pub(crate) fn leave_http(mut response: Response<()>) -> Response<()> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        upgrade::put_choice(&mut response);
        *response.status_mut() = StatusCode::OK;
    }
    response
}

pub(crate) fn into_body(stream: h2::RecvStream) -> Body {
    if stream.is_end_stream() {
        return Body::empty();
    }
    Body::new(Source::Http2(Receiving::new(stream)))
}

/// h2 limits the size of heads and trailers, and not how many fields they have.
fn limit(fields: &HeaderMap) -> Result<(), LinkError> {
    let fits = fields.len() as u64 <= head::MAX_FIELDS;
    if fits { Ok(()) } else { Err(LinkError::Unexpected("too many fields")) }
}

/// h2 keeps what it sends.
fn copy(head: &Parts) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    request
}

async fn begin(
    mut requests: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    is_complete: bool,
) -> Result<(h2::client::ResponseFuture, h2::SendStream<Bytes>), LinkError> {
    // Until the request is accepted here, nothing has left for the connector. h2 takes any number, queues what
    // is beyond the peer's limit, and cannot give it back: so the edge counts (`Session::capacity`), and this never waits.
    std::future::poll_fn(|cx| requests.poll_ready(cx))
        .await
        .map_err(|_| LinkError::NotDelivered)?;
    requests.send_request(request, is_complete).map_err(|_| LinkError::NotDelivered)
}

async fn answer(
    mut response: h2::client::ResponseFuture,
    informational: &mut impl FnMut(Response<()>),
) -> Result<Response<h2::RecvStream>, h2::Error> {
    std::future::poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(early))) = response.poll_informational(cx) {
            informational(early);
        }
        std::pin::Pin::new(&mut response).poll(cx)
    })
    .await
}
