//! The status server: `/metrics`, `/ready`, `/healthz` and `/status`, the only port that a connector
//! listens on. It shows nothing secret, and no client can hold it up. It changes one thing, and for
//! whoever is on the same host alone: how much is logged (`/loglevel`).

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::{SLOTS, id::TunnelId};
use room::{Place, Room, Timely};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use tracing::warn;

use crate::{
    files::InForce,
    log::{Level, LevelSwitch},
    supervisor::{SlotView, View},
};

/// Connections at once: a scraper, a health check, a person, and some to spare. Nobody proves anything here, so
/// sources share them.
const MAX_CONNECTIONS: usize = 32;
/// A request's head must be there by then.
const HEAD: Duration = Duration::from_secs(5);
/// A client that takes nothing of its answer for that long is let go.
const WRITE: Duration = Duration::from_secs(10);
/// A connection ends by then, whatever it does.
const CONNECTION: Duration = Duration::from_secs(60);
/// Longest name of a log level, in bytes, with white space around it.
const MAX_LEVEL: usize = 64;
/// After a failed accept, such as for want of file descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// What the server shows.
pub(crate) struct Status {
    pub(crate) tunnel: TunnelId,
    pub(crate) view: watch::Receiver<View>,
    /// The moment from which the view counts.
    pub(crate) started: Instant,
    /// Shown, with what stands in the way of a newer text.
    pub(crate) files: InForce,
    pub(crate) prometheus: Option<PrometheusHandle>,
    pub(crate) level_switch: Option<LevelSwitch>,
}

/// Listens on `port` on all addresses, over IPv6 and IPv4 where the host has both.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        bound => bound,
    }
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, status: Status) {
    let status = Arc::new(status);
    let room = Room::of_strangers("status", MAX_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = room.try_enter(peer.ip()) {
                        connections.spawn(connection(stream, peer, place, status.clone()));
                    }
                }
                Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, place: Place, status: Arc<Status>) {
    let is_local = peer.ip().to_canonical().is_loopback();
    let service = service_fn(|request: Request<Incoming>| async {
        let is_change = request.method() == Method::PUT && request.uri().path() == "/loglevel";
        Ok::<_, Infallible>(match is_change {
            true => status.change_level(request.into_body(), is_local).await,
            false => status.answer(&request),
        })
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // Whoever asks again and again needs a place for each time.
        .keep_alive(false)
        .serve_connection(TokioIo::new(Timely::new(stream, WRITE)), service);
    // Neither a broken connection nor one cut off is anybody's concern.
    let _ = place.hold(CONNECTION, served).await;
}

impl Status {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/ready" => self.ready(),
            "/status" => json_response(StatusCode::OK, &self.status()),
            "/loglevel" => text(StatusCode::OK, self.level() + "\n"),
            "/metrics" => match &self.prometheus {
                Some(prometheus) => {
                    prometheus.run_upkeep();
                    text(StatusCode::OK, prometheus.render())
                }
                None => text(StatusCode::NOT_FOUND, "no metrics recorder is installed\n"),
            },
            _ => text(StatusCode::NOT_FOUND, "/metrics, /ready, /healthz, /status, /loglevel\n"),
        }
    }

    fn level(&self) -> String {
        let level = self.level_switch.as_ref().and_then(LevelSwitch::level);
        level.map_or_else(|| "unknown".into(), |level| level.to_string())
    }

    async fn change_level(&self, body: Incoming, is_local: bool) -> Response<Full<Bytes>> {
        if !is_local {
            return text(StatusCode::FORBIDDEN, "only from this host itself, by 127.0.0.1\n");
        }
        let Some(switch) = &self.level_switch else {
            return text(StatusCode::NOT_FOUND, "the log is not the connector's own\n");
        };
        let body = Limited::new(body, MAX_LEVEL).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        match String::from_utf8_lossy(&body).trim().parse::<Level>() {
            Ok(level) => {
                switch.set(level);
                warn!(%level, "log level was changed");
                text(StatusCode::OK, format!("{level}\n"))
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let view = self.view.borrow();
        let links = view.serving();
        let is_ready = links > 0 && !view.is_leaving;
        let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let reason = view.slots.iter().find_map(|slot| slot.reason.clone());
        let reason = reason.filter(|_| !is_ready);
        let body = json!({ "ready": is_ready, "links": links, "wanted": SLOTS, "reason": reason });
        json_response(code, &body)
    }

    fn status(&self) -> Value {
        let view = self.view.borrow();
        let now = self.started.elapsed();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "tunnel": self.tunnel,
            "uptime_seconds": now.as_secs(),
            "loglevel": self.level(),
            "leaving": view.is_leaving,
            "files": self.files.show(),
            "links": view.serving(),
            "slots": view.slots.iter().map(|slot| show(slot, now)).collect::<Vec<_>>(),
        })
    }
}

fn show(slot: &SlotView, now: Duration) -> Value {
    let link = slot.link.as_ref().map(|link| {
        json!({
            "region": link.region,
            "edge": link.edge,
            "address": link.address,
            "transport": link.transport.as_str(),
            "proxy": link.proxy,
            "rtt_ms": link.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            "age_seconds": now.saturating_sub(link.up_at).as_secs(),
        })
    });
    json!({
        "slot": slot.slot,
        "state": slot.state.as_str(),
        "reason": slot.reason,
        "dialling": slot.dialling,
        "link": link,
    })
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, "text/plain; version=0.0.4; charset=utf-8", body.into())
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    response(status, "application/json", format!("{body}\n").into())
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
