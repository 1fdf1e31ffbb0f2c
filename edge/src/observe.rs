//! What the edge tells about itself on its metrics port: `/metrics`, `/healthz` (the process lives) and
//! `/ready` (it can serve, and after a restart the tunnels that it served have links again). Nothing here is
//! secret.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use room::{Room, Timely};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{accept::AcceptTrouble, core::Core, tasks::Tasks};

/// Connections at once: a few scrapers and probes. Nobody proves anything here, so sources share them.
const CLIENTS: usize = 32;
/// A request's head must be there by then.
const HEAD: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for that long is let go.
const WRITE: Duration = Duration::from_secs(10);
/// A connection ends by then, whatever it does.
const CONNECTION: Duration = Duration::from_secs(60);

/// Serves until another process does; `stopping` makes the edge not ready.
pub(crate) async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    tasks: Tasks,
    stopping: CancellationToken,
) {
    let clients = Room::of_strangers("metrics", CLIENTS);
    let mut trouble = AcceptTrouble::default();
    loop {
        let accepted = core.superseded.run_until_cancelled(listener.accept()).await;
        let Some(accepted) = accepted else { return };
        let Some((stream, remote)) = trouble.pass(accepted).await else { continue };
        let Some(place) = clients.try_enter(remote.ip()) else { continue };
        let (core, stopping) = (core.clone(), stopping.clone());
        tasks.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = respond(&core, &request, stopping.is_cancelled());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                // A stranger that asks again and again needs a place for each time.
                .keep_alive(false)
                .serve_connection(TokioIo::new(Timely::new(stream, WRITE)), service);
            // A scraper that goes away is nobody's concern.
            let _ = place.hold(CONNECTION, connection).await;
        });
    }
}

fn respond(core: &Core, request: &Request<Incoming>, is_stopping: bool) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "");
    }
    let now = SystemTime::now();
    match request.uri().path() {
        "/healthz" => answer(StatusCode::OK, "text/plain", "ok\n"),
        "/metrics" => {
            let generation = core.knowledge.read().feed().generation;
            let links = core.registry.links();
            let links = links.iter().map(|link| (link.transport, link.worker, link.strain()));
            let now_exactly = Instant::now();
            core.metrics.ages(core.registry.ages(now_exactly), now_exactly);
            let text = core.metrics.render(links, generation, core.knowledge.age(now));
            answer(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        "/ready" => {
            let awaited = core.awaited();
            let is_ready = !is_stopping && !core.knowledge.is_stale(now) && awaited == 0;
            let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = serde_json::json!({
                "ready": is_ready,
                "edge": core.edge,
                "region": core.region,
                "links": core.registry.count(),
                "serving_links": core.registry.serving(),
                "awaited_tunnels": awaited,
                "feed_generation": core.knowledge.read().feed().generation,
                "feed_age_s": core.knowledge.age(now).as_secs(),
                "stopping": is_stopping,
            });
            answer(status, "application/json", body.to_string())
        }
        _ => answer(StatusCode::NOT_FOUND, "text/plain", "not found\n"),
    }
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
        .expect("the header is a constant")
}
