//! A stream whose reader has gone ends at its writer, too, also while that writer waits for room.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use link::{BoxError, Exchange, LinkError, Opened};
use protocol::presence::Transport;
use tokio::{
    io::AsyncWriteExt as _,
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    over_both_carriers,
    world::{World, empty, ignore, open_whole, patiently, send_whole},
};

over_both_carriers!(readers_that_go_in_the_middle_leave_nothing_behind);

/// Eight of them fill the connection's send window, each up to its own window; the others find it full.
const WRITERS: usize = 12;
const PIECE: usize = 64 * 1024;

/// What a connector's handlers wait for, and tell.
#[derive(Clone)]
struct Stage {
    may_write: watch::Receiver<bool>,
    /// How many writers have begun.
    begun: Arc<AtomicUsize>,
    ended: mpsc::Sender<Event>,
}

#[derive(Debug, PartialEq)]
enum Event {
    /// A HEAD has begun, or ended.
    Head,
    /// The writer of a GET or a CONNECT was told that nobody reads, and has ended.
    Stopped,
}

impl Stage {
    fn new() -> (Self, watch::Sender<bool>, mpsc::Receiver<Event>) {
        let (go, may_write) = watch::channel(false);
        let (ended, ends) = mpsc::channel(1024);
        (Self { may_write, begun: Arc::default(), ended }, go, ends)
    }

    /// Serves one exchange, and tells when it has ended. A HEAD is only held until the edge gives it up, which
    /// tells when it has begun, too.
    async fn serve(mut self, mut exchange: Exchange) {
        match *exchange.request.method() {
            Method::HEAD => {
                self.ended.send(Event::Head).await.unwrap();
                exchange.reply.cancelled().await;
                self.ended.send(Event::Head).await.unwrap();
            }
            Method::CONNECT => {
                let mut tunnel = exchange.reply.tunnel(Response::new(())).await.unwrap();
                self.may_write.wait_for(|may| *may).await.unwrap();
                self.begun.fetch_add(1, Ordering::SeqCst);
                let error = loop {
                    let Err(error) = tunnel.write_all(&[0; PIECE]).await else { continue };
                    break error;
                };
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                self.ended.send(Event::Stopped).await.unwrap();
            }
            _ => {
                let ended = self.ended.clone();
                let body =
                    futures_util::stream::unfold((self, true), async |(mut at, is_first)| {
                        at.may_write.wait_for(|may| *may).await.ok()?;
                        at.begun.fetch_add(usize::from(is_first), Ordering::SeqCst);
                        let piece = Frame::data(Bytes::from_static(&[0; PIECE]));
                        Some((Ok::<_, BoxError>(piece), (at, false)))
                    });
                let sent = exchange.reply.send(Response::new(StreamBody::new(body))).await;
                assert!(matches!(sent, Err(LinkError::Cancelled)), "{sent:?}");
                ended.send(Event::Stopped).await.unwrap();
            }
        }
    }
}

fn get() -> Request<crate::world::TestBody> {
    Request::get("http://wiki.corp/").body(empty()).unwrap()
}

async fn readers_that_go_in_the_middle_leave_nothing_behind(transport: Transport) {
    const READERS: usize = 100;
    let (stage, go, mut ends) = Stage::new();
    let (session, _serving) =
        World::serving(transport, move |exchange| stage.clone().serve(exchange)).await;
    go.send(true).unwrap();
    for _ in 0..3 {
        let mut readers = JoinSet::new();
        for n in 0..READERS {
            let session = session.clone();
            readers.spawn(async move {
                let response = send_whole(&session, get(), ignore).await.unwrap();
                let mut body = response.into_body();
                for _ in 0..n % 10 {
                    http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
                }
            });
        }
        patiently(readers.join_all()).await;
    }
    for _ in 0..3 * READERS {
        assert_eq!(patiently(ends.recv()).await, Some(Event::Stopped));
    }
}

/// The way from a connector to its edge, which the test can close in this one direction.
struct Way {
    is_open: watch::Sender<bool>,
    _relay: AbortOnDropHandle<()>,
}

impl Way {
    async fn to(edge: SocketAddr) -> (Self, SocketAddr) {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(edge).await.unwrap();
        let address = near.local_addr().unwrap();
        let (is_open, mut gate) = watch::channel(true);
        let relay = async move {
            let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
            let mut connector = None;
            loop {
                let is_open = *gate.borrow_and_update();
                tokio::select! {
                    biased;
                    Ok(()) = gate.changed() => {}
                    Ok((length, from)) = near.recv_from(&mut up), if is_open => {
                        connector = Some(from);
                        far.send(&up[..length]).await.unwrap();
                    }
                    Ok(length) = far.recv(&mut down) => {
                        near.send_to(&down[..length], connector.unwrap()).await.unwrap();
                    }
                    else => return,
                }
            }
        };
        (Self { is_open, _relay: AbortOnDropHandle::new(tokio::spawn(relay)) }, address)
    }
}

/// Lets [`WRITERS`] of `method` fill the connector's send window, of which the edge acknowledges nothing;
/// then their readers go, and only then does the way open again.
async fn writers_that_are_stopped_while_the_send_window_is_full(method: Method) {
    let (stage, go, mut ends) = Stage::new();
    let mut way = None;
    let world = World::by(Transport::Quic, async |edge| {
        let (relay, address) = Way::to(edge).await;
        way = Some(relay);
        address
    });
    let world = world.await;
    let way = way.unwrap();
    let begun = stage.begun.clone();
    let (session, _serving) = world.serve(move |exchange| stage.clone().serve(exchange));

    let mut answers = Vec::new();
    let mut tunnels = Vec::new();
    for _ in 0..WRITERS {
        if method == Method::CONNECT {
            let request = Request::connect("wiki.corp:22").body(()).unwrap();
            tunnels.push(patiently(open_whole(&session, request)).await.unwrap());
        } else {
            answers.push(patiently(send_whole(&session, get(), ignore)).await.unwrap());
        }
    }
    assert!(tunnels.iter().all(|opened| matches!(opened, Opened::Tunnel(..))));
    // Its beginning brings along what acknowledges the heads; its end tells that the connector has heard of
    // all ends.
    let head = Request::head("http://wiki.corp/").body(empty()).unwrap();
    let last = session.clone();
    let last = tokio::spawn(async move { send_whole(&last, head, ignore).await.map(drop) });
    assert_eq!(patiently(ends.recv()).await, Some(Event::Head));

    way.is_open.send(false).unwrap();
    go.send(true).unwrap();
    patiently(async {
        // A writer that has begun gives way only when it waits for room.
        while begun.load(Ordering::SeqCst) < WRITERS {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((answers, tunnels));
    last.abort();
    let mut ended = 0;
    while patiently(ends.recv()).await != Some(Event::Head) {
        ended += 1;
    }
    way.is_open.send(true).unwrap();
    while ended < WRITERS {
        assert_eq!(patiently(ends.recv()).await, Some(Event::Stopped));
        ended += 1;
    }
}

#[tokio::test]
async fn answers_that_are_stopped_while_the_send_window_is_full_end() {
    writers_that_are_stopped_while_the_send_window_is_full(Method::GET).await;
}

#[tokio::test]
async fn tunnels_that_are_stopped_while_the_send_window_is_full_end() {
    writers_that_are_stopped_while_the_send_window_is_full(Method::CONNECT).await;
}
