//! A connector that serves a few telling paths itself, with no origin behind it.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use link::{
    BoxError, DialError, Exchange, Inbound,
    control::{ControlReceiver, ControlSender},
    dial::{Dialer, Identity, Target},
    relay::End as _,
    tls::Trust,
};
use protocol::{
    control::{DirectoryEdge, Facts, FromConnector, FromEdge},
    head::Protocol,
    id::{ConnectorId, KeyId},
    key::Seed,
    presence::Transport,
};
use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::world::{KEY, TUNNEL, World, patiently, seed};

pub const CARRIERS: [Transport; 2] = [Transport::Quic, Transport::Http2];

/// Both carriers, at an edge with one worker and at one with several.
pub fn carriers_and_workers() -> impl Iterator<Item = (Transport, u8)> {
    CARRIERS.into_iter().flat_map(|carrier| [(carrier, 1), (carrier, 3)])
}

/// A connector's process.
pub struct Connector {
    dialer: Dialer,
    identity: Identity,
    address: SocketAddr,
}

/// One of its links.
pub struct Held {
    pub directory: Vec<DirectoryEdge>,
    pub sender: ControlSender<FromConnector>,
    pub receiver: ControlReceiver<FromEdge>,
    served: Arc<Served>,
    serving: JoinSet<()>,
}

/// What the connector has seen: one permit for each time.
struct Served {
    begun: Semaphore,
    cancelled: Semaphore,
    go_on: Semaphore,
    is_deaf: AtomicBool,
}

async fn one(seen: &Semaphore) {
    seen.acquire().await.expect("it is never closed").forget();
}

impl Connector {
    pub fn new(world: &World, id: u8) -> Self {
        Self::with_secret(world, id, KEY, seed())
    }

    pub fn with_secret(world: &World, id: u8, key: KeyId, seed: Seed) -> Self {
        let facts = Facts { version: "0.1.0".into(), host: "office".into(), ..Facts::default() };
        let connector = ConnectorId::from_bytes([id; 16]);
        let identity = Identity { tunnel: TUNNEL, key, seed, connector, facts };
        let dialer = Dialer::new(&Trust::Pinned(world.control_plane.pin)).unwrap();
        Self { dialer, identity, address: world.links }
    }

    pub fn identity(&mut self) -> &mut Identity {
        &mut self.identity
    }

    /// Where it dials instead of at the edge itself.
    pub fn dial_at(&mut self, address: SocketAddr) {
        self.address = address;
    }

    pub async fn dial(&self, transport: Transport, slot: u8) -> Result<Held, DialError> {
        let (address, server_name) = (self.address, "127.0.0.1".to_owned());
        let [lane, ..] = *self.identity.connector.as_bytes();
        let target = Target { transport, address, server_name, slot, lane };
        let mut dialled = patiently(self.dialer.dial(&target, &self.identity)).await?;
        // The link is up with its first message.
        let first = FromConnector::Facts(self.identity.facts.clone());
        dialled.control_sender.send(&first).await.unwrap();
        let served = Arc::new(Served {
            begun: Semaphore::new(0),
            cancelled: Semaphore::new(0),
            go_on: Semaphore::new(0),
            is_deaf: AtomicBool::new(false),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(dialled.inbound, served.clone()));
        Ok(Held {
            directory: dialled.directory,
            sender: dialled.control_sender,
            receiver: dialled.control_receiver,
            served,
            serving,
        })
    }

    /// Holds a link, and waits until the control plane has heard of it.
    pub async fn hold(&self, world: &World, transport: Transport, slot: u8) -> Held {
        let held = self.dial(transport, slot).await.unwrap();
        let key = (self.identity.tunnel, self.identity.connector, slot);
        world.control_plane.until(|heard| heard.links.contains_key(&key)).await;
        held
    }
}

impl Held {
    /// The connector has begun with a request that waits.
    pub async fn begun(&self) {
        patiently(one(&self.served.begun)).await;
    }

    /// The edge has given up on a request that waited.
    pub async fn cancelled(&self) {
        patiently(one(&self.served.cancelled)).await;
    }

    /// Lets a request that waits go on.
    pub fn go_on(&self) {
        self.served.go_on.add_permits(1);
    }

    /// Answers no request any more, or answers again; the link stays up.
    pub fn is_deaf(&self, is_deaf: bool) {
        self.served.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    /// Resolves when the link is gone.
    pub async fn gone(&mut self) {
        patiently(self.serving.join_next()).await;
    }

    /// The next message from the edge.
    pub async fn hear(&mut self) -> FromEdge {
        patiently(self.receiver.receive()).await.unwrap().expect("the link is up")
    }

    /// The link breaks.
    pub async fn break_down(mut self) {
        self.serving.shutdown().await;
    }
}

async fn serve(mut inbound: Inbound, served: Arc<Served>) {
    let mut exchanges = JoinSet::new();
    while let Some(arrival) = inbound.accept().await {
        let served = served.clone();
        exchanges.spawn(async move {
            if let Ok(exchange) = arrival.exchange().await {
                answer(*exchange, &served).await;
            }
        });
    }
}

async fn answer(exchange: Exchange, served: &Served) {
    let Exchange { request, mut reply } = exchange;
    if served.is_deaf.load(Ordering::SeqCst) {
        return reply.cancelled().await;
    }
    let upgrade = request.extensions().get::<Protocol>().cloned();
    if request.method() == Method::CONNECT || upgrade.is_some() {
        if request.uri().host() == Some("closed.corp") {
            let _ = reply.send(refusal()).await;
            return;
        }
        let mut response = Response::new(());
        if let Some(Protocol(offer)) = upgrade {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert("sec-websocket-accept", HeaderValue::from_static("x"));
            headers.insert("x-method", request.method().as_str().parse().unwrap());
            // The last one that is offered is the one that is liked.
            let choice = offer.to_str().unwrap().rsplit(", ").next().unwrap().parse().unwrap();
            headers.insert("x-offer", offer);
            response.extensions_mut().insert(Protocol(choice));
        }
        let is_stuck = request.uri().host() == Some("stuck.corp");
        let Ok(body) = request.into_body().collect().await else { return };
        let Ok(mut tunnel) = reply.tunnel(response).await else { return };
        if tunnel.write_all(&body.to_bytes()).await.is_err() {
            return;
        }
        // Reads nothing, and tells when the edge has given up.
        if is_stuck {
            served.begun.add_permits(1);
            while poll_fn(|cx| Poll::Ready(tunnel.poll_gone(cx).is_pending())).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            served.cancelled.add_permits(1);
            return;
        }
        let (mut reader, mut writer) = tokio::io::split(tunnel);
        if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
            let _ = writer.shutdown().await;
        }
        served.cancelled.add_permits(1);
        return;
    }
    match request.uri().path() {
        "/reject" => reply.reject(),
        // Begins only if it was told to go on; what came goes back.
        "/willing" => match served.go_on.try_acquire() {
            Ok(permit) => {
                permit.forget();
                let Ok(body) = request.into_body().collect().await else { return };
                let body = Full::new(body.to_bytes()).map_err(|never| match never {});
                drop(reply.send(Response::new(body.boxed_unsync())).await);
            }
            Err(_) => reply.reject(),
        },
        // Begins only if it was told to go on, and then never answers.
        "/doomed" => match served.go_on.try_acquire() {
            Ok(permit) => {
                permit.forget();
                served.begun.add_permits(1);
                reply.cancelled().await;
            }
            Err(_) => reply.reject(),
        },
        // Answers before the body has ended; tells of its first piece, and of how it ends.
        "/upload" => {
            let (_pieces, answer) = pieces();
            let mut upload = request.into_body();
            let read = async {
                drop(upload.frame().await);
                served.begun.add_permits(1);
                match upload.collect().await {
                    Ok(_) => served.begun.add_permits(1),
                    Err(_) => served.cancelled.add_permits(1),
                }
            };
            let _ = tokio::join!(reply.send(Response::new(answer)), read);
        }
        "/refused" => drop(reply.send(refusal()).await),
        "/wait" => {
            served.begun.add_permits(1);
            tokio::select! {
                () = reply.cancelled() => served.cancelled.add_permits(1),
                () = one(&served.go_on) => drop(reply.send(Response::new(full("waited"))).await),
            }
        }
        // Reads nothing of the body, and does not answer.
        "/stuck" => {
            served.begun.add_permits(1);
            reply.cancelled().await;
            served.cancelled.add_permits(1);
            drop(request);
        }
        // Sixty bytes of a longer answer, and at once its failure.
        "/cut-off" => {
            let (pieces, body) = pieces();
            pieces.send(Ok(Frame::data(Bytes::from_static(&[b'x'; 60])))).await.unwrap();
            pieces.send(Err("the origin has closed".into())).await.unwrap();
            let mut response = Response::new(body);
            if request.uri().query() == Some("length") {
                response.headers_mut().insert("content-length", HeaderValue::from_static("123"));
            }
            let _ = reply.send(response).await;
        }
        // Two pieces; the second one when told to, or never.
        "/stream" => {
            let (pieces, body) = pieces();
            pieces.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
            let more = async {
                served.begun.add_permits(1);
                one(&served.go_on).await;
                drop(pieces.send(Ok(Frame::data(Bytes::from_static(b"second")))).await);
                drop(pieces);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                sent = reply.send(Response::new(body)) => {
                    if sent.is_err() {
                        served.cancelled.add_permits(1);
                    }
                }
                () = more => {}
            }
        }
        // As much as anybody reads.
        "/endless" => {
            let (pieces, body) = pieces();
            let piece = Bytes::from(vec![b'x'; 16 * 1024]);
            let feed = async { while pieces.send(Ok(Frame::data(piece.clone()))).await.is_ok() {} };
            served.begun.add_permits(1);
            let (sent, ()) =
                tokio::join!(async move { reply.send(Response::new(body)).await }, feed);
            if sent.is_err() {
                served.cancelled.add_permits(1);
            }
        }
        "/broken" => {
            let (pieces, body) = pieces();
            pieces.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
            let more = async {
                one(&served.go_on).await;
                pieces.send(Err("the origin broke off".into())).await.unwrap();
            };
            let _ = tokio::join!(reply.send(Response::new(body)), more);
        }
        _ => {
            // What arrived, as JSON, with the body's digest of a kind: its length and its bytes.
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else {
                served.cancelled.add_permits(1);
                return;
            };
            let trailers = body.trailers().cloned().unwrap_or_default();
            let headers = |map: &HeaderMap| {
                let text = |(n, v): (&http::HeaderName, &HeaderValue)| {
                    (n.to_string(), v.to_str().unwrap().to_owned())
                };
                map.iter().map(text).collect::<std::collections::BTreeMap<_, _>>()
            };
            let bytes = body.to_bytes();
            let seen = serde_json::json!({
                "method": head.method.as_str(),
                "uri": head.uri.to_string(),
                "headers": headers(&head.headers),
                "trailers": headers(&trailers),
                "length": bytes.len(),
                "body": String::from_utf8_lossy(&bytes[..bytes.len().min(100)]),
            });
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("42"));
            let (pieces, body) = pieces();
            pieces.send(Ok(Frame::data(seen.to_string().into()))).await.unwrap();
            pieces.send(Ok(Frame::trailers(trailers))).await.unwrap();
            drop(pieces);
            let response = Response::builder()
                .header("trailer", "x-sum")
                .header("x-origin", "yes")
                .header("proxy-authenticate", "Basic realm=evil")
                .header("postern-forged", "1")
                .header("postern-phases", "dns=95, first_byte=10")
                .body(body)
                .unwrap();
            let _ = reply.send(response).await;
        }
    }
}

type Body = UnsyncBoxBody<Bytes, BoxError>;

fn full(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn pieces() -> (mpsc::Sender<Result<Frame<Bytes>, BoxError>>, Body) {
    let (sender, receiver) = mpsc::channel(2);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    (sender, StreamBody::new(stream).boxed_unsync())
}

/// A connector's own "no".
fn refusal() -> Response<Body> {
    Response::builder()
        .status(502)
        .header("postern-error", "origin_refused")
        .header("postern-error-source", "origin")
        .body(full("{}"))
        .unwrap()
}
