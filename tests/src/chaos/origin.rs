//! The private server of `make chaos`, beside the connectors, with a ledger: how often each numbered POST
//! has reached it.
//!
//! | path | answer |
//! |---|---|
//! | `/hello` | a line |
//! | `/ledger/ID` | the ID, once it is in the ledger |
//! | `/bytes/N` | N bytes of [`pattern`] |
//! | `/sum` | length and CRC-32 of the request's body |
//! | `/events` | [`EVENTS`] server-sent events, one each [`PACE`] |
//! | `/echo` | a WebSocket that sends back what comes |
//! | `/silent` | none, ever |

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use crate::{
    bench::websocket,
    network::{Inside, Task},
    origin::{HELLO, Sum, pattern},
};

/// Events of a stream, and messages of a WebSocket.
pub const EVENTS: usize = 12;
/// Between two of them.
pub const PACE: Duration = Duration::from_millis(250);
/// One event.
pub const EVENT: &str = "data: something has happened\n\n";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How often each POST has arrived.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<u64, u32>>>);

impl Ledger {
    /// How often this one has arrived.
    pub fn arrivals(&self, id: u64) -> u32 {
        self.lock().get(&id).copied().unwrap_or(0)
    }

    pub(super) fn enter(&self, id: u64) {
        *self.lock().entry(id).or_default() += 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u32>> {
        self.0.lock().expect("nobody panics while holding this lock")
    }
}

/// The server; gone when dropped.
pub struct Origin {
    /// Where it is reached; any other loopback address does as well. The line does not concern it.
    pub address: SocketAddr,
    /// What has arrived.
    pub ledger: Ledger,
    _serving: Task,
}

impl Origin {
    /// Starts one.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(inside: &Inside) -> anyhow::Result<Self> {
        let listener = inside.spawn(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).await??;
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr()?.port()).into();
        let ledger = Ledger::default();
        let serving = inside.keep(serve(listener, ledger.clone()));
        Ok(Self { address, ledger, _serving: serving })
    }
}

async fn serve(listener: TcpListener, ledger: Ledger) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Failing to set this only makes it slower.
        let _ = stream.set_nodelay(true);
        let ledger = ledger.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let ledger = ledger.clone();
                async move { Ok::<_, Infallible>(answer(request, &ledger).await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connector that goes away is what this is about.
            let _ = connection.with_upgrades().await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut request: Request<Incoming>, ledger: &Ledger) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let number = |prefix| path.strip_prefix(prefix).and_then(|n: &str| n.parse::<u64>().ok());
    if let Some(length) = number("/bytes/") {
        let pieces = pattern(length).map(|piece| Ok(Frame::data(piece)));
        let body: StreamBody<_> = StreamBody::new(stream::iter(pieces));
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        return response;
    }
    if let Some(id) = number("/ledger/") {
        ledger.enter(id);
        // What is left unread would have the connection closed, which is another story.
        while request.body_mut().frame().await.is_some() {}
        return Response::new(full(id.to_string()));
    }
    match path.as_str() {
        "/hello" => Response::new(full(HELLO)),
        "/sum" => {
            let mut sum = Sum::default();
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                frame.data_ref().into_iter().for_each(|data| sum.add(data));
            }
            Response::new(full(sum.finish()))
        }
        "/events" => {
            let events = stream::unfold(0, async |n| {
                tokio::time::sleep(if n == 0 { Duration::ZERO } else { PACE }).await;
                (n < EVENTS).then(|| (Ok(Frame::data(Bytes::from(EVENT))), n + 1))
            });
            let body: StreamBody<_> = StreamBody::new(events);
            let mut response = Response::new(body.boxed_unsync());
            let kind = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/echo" => {
            // It ends with the connection to the connector.
            tokio::spawn(echo(hyper::upgrade::on(&mut request)));
            let response = Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_ACCEPT, websocket::ACCEPT);
            response.body(full("")).expect("the headers are constants")
        }
        "/silent" => std::future::pending().await,
        _ => {
            let mut response = Response::new(full("no such page\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

async fn echo(upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut upgraded = TokioIo::new(upgraded);
    let mut frame = [0; websocket::QUESTION.len()];
    while upgraded.read_exact(&mut frame).await.is_ok() {
        let Some(echo) = websocket::echo(&frame) else { return };
        if upgraded.write_all(&echo).await.is_err() {
            return;
        }
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}
