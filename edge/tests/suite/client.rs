//! Clients of the gateway.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use link::BoxError;
use tokio::net::TcpStream;

use crate::world::{NAME, World, capability, patiently, proxy_token};

pub type Body = UnsyncBoxBody<Bytes, BoxError>;

pub fn basic(tunnel: &str, token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{tunnel}:{token}")))
}

/// A request with good credentials: the proxy token's.
pub fn get(url: &str) -> http::request::Builder {
    Request::get(url).header("proxy-authorization", basic(NAME, &proxy_token()))
}

/// A request with a capability.
pub fn get_as_runner(url: &str) -> http::request::Builder {
    let token = capability(crate::world::TUNNEL, crate::world::TENANT);
    Request::get(url).header("proxy-authorization", basic(NAME, &token))
}

pub fn body(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

pub fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// An answer, whole.
#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: Bytes,
}

impl Whole {
    pub async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = patiently(body.collect()).await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Self { status: head.status, headers: head.headers, trailers, body: body.to_bytes() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The code in the header, if body and header say the same.
    pub fn code(&self) -> &str {
        let problem = self.json();
        assert_eq!(problem["code"], self.header("postern-error"));
        assert_eq!(problem["source"], self.header("postern-error-source"));
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(self.header("content-type"), "application/problem+json");
        self.header("postern-error")
    }
}

/// Sends one request over a connection of its own, in HTTP/1.1.
pub async fn send(world: &World, request: Request<Body>) -> Response<Incoming> {
    try_send(world, request).await.unwrap()
}

pub async fn try_send(
    world: &World,
    request: Request<Body>,
) -> Result<Response<Incoming>, hyper::Error> {
    patiently(h1(world).await.send_request(request)).await
}

/// A connection in HTTP/1.1.
pub async fn h1(world: &World) -> conn::http1::SendRequest<Body> {
    let stream = TokioIo::new(connect(world.gateway).await);
    let (sender, connection) = conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// Sends one request over a connection of its own, in HTTP/2.
pub async fn send_h2(world: &World, request: Request<Body>) -> Response<Incoming> {
    patiently(h2(world).await.send_request(request)).await.unwrap()
}

/// A connection in HTTP/2.
pub async fn h2(world: &World) -> conn::http2::SendRequest<Body> {
    let stream = TokioIo::new(connect(world.gateway).await);
    let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub async fn fetch(world: &World, request: http::request::Builder) -> Whole {
    Whole::of(send(world, request.body(empty()).unwrap()).await).await
}

pub async fn connect(address: SocketAddr) -> TcpStream {
    patiently(TcpStream::connect(address)).await.unwrap()
}
