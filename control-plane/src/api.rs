//! The HTTP API. One file for each group of operations holds the documents and the handlers; the
//! OpenAPI document is made from them ([`openapi`]).

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::{
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

mod about;
mod access;
mod api_keys;
mod audit;
mod document;
mod edges;
mod events;
mod extract;
mod health;
mod join_tokens;
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
mod users;
mod workflows;

use crate::{app::Shared, console};
use extract::Peer;
use problem::Problem;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// A request must be answered by then; waiting for a run takes at most a minute.
const TIMEOUT: Duration = Duration::from_secs(75);
/// A request's head must be there by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Names a request in the log, so that who asks for help can say which one.
const REQUEST_ID: HeaderName = HeaderName::from_static("postern-request-id");
/// Connections at a time.
const MAX_CONNECTIONS: usize = 1_024;

/// The OpenAPI document of the API.
pub fn openapi() -> OpenApi {
    document::finish(routes().into_openapi())
}

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(document::base())
        .merge(about::routes())
        .merge(session::routes())
        .merge(setup::routes())
        .merge(events::routes())
        .merge(api_keys::routes())
        .merge(tenants::routes())
        .merge(users::routes())
        .merge(teams::routes())
        .merge(tunnels::routes())
        .merge(access::routes())
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
    Router::from(routes())
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
pub(crate) async fn serve(app: Shared, listener: TcpListener, stop: CancellationToken) {
    let router = router(app);
    let serve = |stream, peer, stop| connection(router.clone(), stream, peer, stop);
    crate::listener::run(listener, MAX_CONNECTIONS, stop, serve).await;
}

async fn connection(router: Router, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        service.call(request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer, error, "a connection to the API broke");
    }
}

/// A status without a body.
fn no_content() -> Result<StatusCode, Problem> {
    Ok(StatusCode::NO_CONTENT)
}
