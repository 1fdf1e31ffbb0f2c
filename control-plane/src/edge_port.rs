//! The port for edges: HTTP/2 over TLS. An edge joins with a token; from then on its certificate says
//! who it is, it reads the feed and reports presence.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::{feed::FEED_PATH, id::EdgeId, join::JOIN_PATH, presence::PRESENCE_PATH};
use room::{Place, Room};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

mod feed;
mod join;
mod presence;

use crate::{api::problem::Problem, app::Shared, ca, listener::Streams, store};

/// Connections at a time; an edge needs one.
const MAX_CONNECTIONS: usize = 4_096;
/// A TLS handshake must be over by then.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections at a time without a certificate: of edges that shake hands, or join.
const MAX_STRANGERS: usize = 1_024;
/// Without a certificate a connection has that long, which is plenty for joining.
const STRANGER: Duration = Duration::from_secs(15);
/// Requests at a time on one connection: a join, a feed and presence, with room to spare.
const MAX_STREAMS: u32 = 16;
/// A connection that does not answer pings is closed, so that a dead edge leaves no feed behind.
const PING_EVERY: Duration = Duration::from_secs(10);

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves edges until told to stop.
pub(crate) async fn run(
    app: Shared,
    listener: TcpListener,
    tls: rustls::ServerConfig,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let room = Room::new("edge port", MAX_CONNECTIONS, MAX_STRANGERS);
    let serve = |stream, peer, place, stop| {
        connection(app.clone(), acceptor.clone(), stream, peer, place, stop)
    };
    crate::listener::run(listener, room, STRANGER, stop, serve).await;
}

async fn connection(
    app: Shared,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    stop: CancellationToken,
) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            return tracing::debug!(peer = %peer, error, "a TLS handshake of an edge failed");
        }
        Err(_) => return tracing::debug!(peer = %peer, "a TLS handshake of an edge took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let edge = certificates.and_then(|chain| ca::edge_of(chain.first()?));
    if edge.is_some() {
        place.prove();
    }
    let streams = Streams::default();
    let _kill = streams.end_on_drop();
    let service = service_fn(|request| {
        let (app, stop) = (app.clone(), stop.clone());
        async move { Ok::<_, Infallible>(route(app, edge, peer, request, stop).await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let error = &error as &dyn std::error::Error;
        tracing::debug!(peer = %peer, error, "an edge's connection broke");
    }
}

async fn route(
    app: Shared,
    edge: Option<EdgeId>,
    peer: SocketAddr,
    request: Request<Incoming>,
    stop: CancellationToken,
) -> Response<Body> {
    let path = request.uri().path();
    if (request.method(), path) == (&Method::POST, JOIN_PATH) {
        return answer(join::handle(&app, peer, request.into_body()).await);
    }
    let edge = match known(&app, edge).await {
        Ok(edge) => edge,
        Err(problem) => return answer(Err(problem)),
    };
    match (request.method(), path) {
        (&Method::GET, FEED_PATH) => answer(feed::handle(app, edge, request.uri(), stop)),
        (&Method::POST, PRESENCE_PATH) => {
            answer(presence::handle(&app, edge, request.into_body(), stop).await)
        }
        _ => answer(Err(Problem::not_found("path"))),
    }
}

/// The edge of the certificate, if it still is one of the deployment's.
async fn known(app: &Shared, edge: Option<EdgeId>) -> Result<EdgeId, Problem> {
    let edge = edge.ok_or_else(|| {
        Problem::unauthenticated("this path needs the certificate that an edge gets when it joins")
    })?;
    let mut db = app.store.read().await?;
    match store::edge::find(&mut db, edge).await? {
        Some(_) => Ok(edge),
        None => Err(Problem::unauthenticated("this edge was removed: let it join again")),
    }
}

fn answer(outcome: Result<Response<Body>, Problem>) -> Response<Body> {
    outcome.unwrap_or_else(|problem| {
        let mut response = Response::new(full(problem.to_json()));
        *response.status_mut() = problem.status();
        response.headers_mut().insert(http::header::CONTENT_TYPE, Problem::MEDIA_TYPE);
        response
    })
}

fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).boxed_unsync()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}
