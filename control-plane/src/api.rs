//! The HTTP API. One file for each group of operations holds the documents and the handlers; the
//! OpenAPI document is made from them ([`openapi`]).

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use https::Port;
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use room::{Room, Timely};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

mod about;
mod access;
mod api_keys;
mod audit;
mod connectors;
mod document;
mod edges;
mod edit;
mod events;
mod extract;
mod health;
mod idempotency;
mod join_tokens;
mod list;
mod picker;
pub(crate) mod problem;
mod proxy_tokens;
mod rollout;
mod runs;
mod secrets;
mod session;
mod setup;
mod teams;
mod tenants;
pub(crate) mod timestamp;
mod traffic;
mod tunnels;
mod usage;
mod users;
mod workflows;

use crate::{app::Shared, console, https::instead_of_plain, listener::Streams};
use extract::Peer;
use problem::Problem;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// The same of logins and the like, which strangers send.
const MAX_LOGIN: usize = 16 * 1024;
/// A request must be answered by then; waiting for a run takes at most a minute.
const TIMEOUT: Duration = Duration::from_secs(75);
/// A request's head must be there by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Names a request in the log, so that who asks for help can say which one.
const REQUEST_ID: HeaderName = HeaderName::from_static("postern-request-id");
/// Connections at a time.
const MAX_CONNECTIONS: usize = 1_024;
/// Those of them on which nobody has shown a session or an API key.
const MAX_STRANGERS: usize = 768;
/// Without either, a connection has that long.
const STRANGER: Duration = Duration::from_secs(60);
/// A client that takes nothing of its answer for that long is let go.
const WRITE: Duration = Duration::from_secs(30);
/// Requests at a time on one HTTP/2 connection: a console with many pages open has some ten.
const MAX_STREAMS: u32 = 64;
/// A connection on which nothing has been asked for so long is closed: a browser opens another one when it needs it.
const IDLE: Duration = Duration::from_secs(120);
/// An HTTP/2 connection that does not answer pings is closed.
const PING_EVERY: Duration = Duration::from_secs(20);

/// The OpenAPI document of the API.
pub fn openapi() -> OpenApi {
    document::finish(routes().into_openapi())
}

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(document::base())
        .merge(about::routes())
        .merge(session::routes().layer(DefaultBodyLimit::max(MAX_LOGIN)))
        .merge(setup::routes().layer(DefaultBodyLimit::max(MAX_LOGIN)))
        .merge(events::routes())
        .merge(api_keys::routes())
        .merge(tenants::routes())
        .merge(users::routes())
        .merge(teams::routes())
        .merge(tunnels::routes())
        .merge(access::routes())
        .merge(connectors::routes())
        .merge(usage::routes())
        .merge(secrets::routes())
        .merge(health::routes())
        .merge(traffic::routes())
        .merge(picker::routes())
        .merge(workflows::routes())
        .merge(runs::routes())
        .merge(proxy_tokens::routes())
        .merge(edges::routes())
        .merge(join_tokens::routes())
        .merge(audit::routes())
}

fn router(app: Shared) -> Router {
    let (routes, document) = routes().split_for_parts();
    let known = list::parameters(&document);
    routes
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::once))
        .layer(middleware::from_fn(move |request, next| {
            list::only_known(known.clone(), request, next)
        }))
        .route("/healthz", axum::routing::get(|| async { "ok\n" }))
        .fallback(fallback)
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(bounded))
        .with_state(app)
}

/// Whatever is no path of the API is one of the console.
async fn fallback(request: Request) -> Response {
    let path = request.uri().path();
    if path == "/api" || path.starts_with("/api/") {
        return Problem::not_found("path").into_response();
    }
    console::serve(&request)
}

/// Answers in time, and keeps answers out of caches unless they say otherwise. The time is for the
/// answer's head: a stream of events goes on.
async fn bounded(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().simple().to_string();
    let span = tracing::info_span!("request", id);
    let answer = tokio::time::timeout(TIMEOUT, next.run(request)).instrument(span);
    let mut response = match answer.await {
        Ok(response) => response,
        Err(_) => Problem::timeout().into_response(),
    };
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&id).expect("hexadecimal digits");
    headers.insert(REQUEST_ID, id);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Serves the API until told to stop.
pub(crate) async fn serve(
    app: Shared,
    listener: TcpListener,
    https: Option<Arc<Port>>,
    stop: CancellationToken,
) {
    let router = router(app);
    let insecure =
        Router::new().fallback(|request: Request| async move { instead_of_plain(&request) });
    let room = Room::new("API", MAX_CONNECTIONS, MAX_STRANGERS);
    let serve = |stream, peer, place, stop| {
        let (router, insecure, https) = (router.clone(), insecure.clone(), https.clone());
        let peer = Peer::new(peer, place);
        async move {
            match https {
                None => speak(router, stream, false, peer, stop).await,
                Some(https) => secure(router, insecure, &https, stream, peer, stop).await,
            }
        }
    };
    crate::listener::run(listener, room, STRANGER, stop, serve).await;
}

/// Serves the API to whoever speaks TLS. Others are told that they should.
async fn secure(
    router: Router,
    insecure: Router,
    https: &Port,
    stream: TcpStream,
    peer: Peer,
    stop: CancellationToken,
) {
    let handshake = async {
        match https.begin(&stream).await? {
            None => Ok(Err(stream)),
            Some(handshake) => handshake.finish(stream).await.map(Ok),
        }
    };
    match stop.run_until_cancelled(handshake).await {
        None => {}
        Some(Ok(Ok(stream))) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(https::HTTP2);
            speak(router, stream, is_http2, peer, stop).await;
        }
        Some(Ok(Err(stream))) => speak(insecure, stream, false, peer, stop).await,
        Some(Err(error)) => {
            let error: std::io::Error = error;
            tracing::debug!(peer = %peer.address, %error, "a TLS handshake with the API failed");
        }
    }
}

async fn speak<S>(router: Router, stream: S, is_http2: bool, peer: Peer, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Streams::default();
    let _end = streams.end_on_drop();
    let builder = auto::Builder::new(streams);
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let service = TowerToHyperService::new(router);
    let address = peer.address;
    let requests = watch::Sender::new(0usize);
    let mut under_way = requests.subscribe();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let counted = Counted::new(&requests);
        let answer = service.call(request);
        async move {
            // Until the last byte of the answer, which a stream of events may keep waiting.
            let hold = move |frame| {
                let _ = &counted;
                frame
            };
            answer.await.map(|response| response.map(|body| Body::new(body.map_frame(hold))))
        }
    });
    let stream = TokioIo::new(Timely::new(stream, WRITE));
    let connection = builder.serve_connection(stream, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.run_until_cancelled(idle(&mut under_way)) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, error, "a connection to the API broke");
    }
}

/// A request under way on a connection.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(requests: &watch::Sender<usize>) -> Self {
        requests.send_modify(|count| *count += 1);
        Self(requests.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Resolves when no request has been under way for [`IDLE`].
async fn idle(under_way: &mut watch::Receiver<usize>) {
    loop {
        let is_busy = *under_way.borrow_and_update() > 0;
        // A request that has come and gone is a change as well.
        let changed = under_way.changed();
        let changed = match is_busy {
            true => changed.await,
            false => match tokio::time::timeout(IDLE, changed).await {
                Ok(changed) => changed,
                Err(_) => return,
            },
        };
        if changed.is_err() {
            // The connection ends by itself.
            return std::future::pending().await;
        }
    }
}

/// A status without a body.
fn no_content() -> Result<StatusCode, Problem> {
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_once_nothing_was_asked_for_long_enough() {
        let requests = watch::Sender::new(0);
        let mut under_way = requests.subscribe();
        let stream = Counted::new(&requests);
        let began = tokio::time::Instant::now();
        let ends = async {
            tokio::time::sleep(10 * IDLE).await;
            drop(stream);
            tokio::time::sleep(IDLE / 2).await;
            drop(Counted::new(&requests));
        };
        tokio::join!(idle(&mut under_way), ends);
        assert_eq!(began.elapsed(), 10 * IDLE + IDLE / 2 + IDLE);
    }
}
