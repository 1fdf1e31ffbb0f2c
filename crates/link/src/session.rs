//! The edge's end of a link: it sends requests.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body::Body as HttpBody;
use protocol::{abilities::Abilities, presence::Transport};
use tokio::sync::{Notify, watch};
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    body::Body,
    error::{BoxError, CloseReason, LinkError, SendError},
    http2, quic,
    upgraded::Upgraded,
    vitals::{Traffic, Vitals},
};

/// Requests that one link takes at once. A connector serves 4,096 in all (`connector/src/shell.rs`), so that its
/// four links can be full together.
const CAPACITY: usize = 1_000;
/// Streams that a connector lets its edge open. Above [`CAPACITY`]: the control stream takes one, QUIC tells
/// only once an eighth has become free again, and a stream that was given up takes its place until its end
/// has crossed the link.
pub(crate) const STREAMS: u32 = 1_280;

/// One live link, at the edge. A clone is another handle on the same link; the link ends when it is
/// closed, when the connector leaves, or when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Session {
    remote: SocketAddr,
    /// Of the connector.
    abilities: Abilities,
    carrier: Carrier,
}

#[derive(Debug, Clone)]
enum Carrier {
    Quic(quinn::Connection),
    Http2(Arc<Http2>),
}

#[derive(Debug)]
struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
    traffic: Arc<Traffic>,
    pace: http2::Pace,
    probes: Mutex<Probes>,
    /// Told once the connector has proven itself.
    proven: Arc<Notify>,
    /// Holds why this end closed the link, once it did.
    closing: watch::Sender<Option<CloseReason>>,
    /// Turns true when the connection is over.
    is_over: watch::Receiver<bool>,
    /// Moves the connection's bytes.
    _driver: AbortOnDropHandle<()>,
}

/// HTTP/2 PINGs, one under way at a time.
#[derive(Debug)]
struct Probes {
    pings: h2::PingPong,
    sent: u64,
    answered: u64,
}

impl Probes {
    /// Takes an answer, if one has come.
    fn settle(&mut self) {
        let answer = self.pings.poll_pong(&mut Context::from_waker(Waker::noop()));
        if matches!(answer, Poll::Ready(Ok(_))) {
            self.answered = self.sent;
        }
    }
}

/// The answer to a CONNECT or an upgrade.
#[derive(Debug)]
pub enum Opened {
    /// The stream has left HTTP: a 2xx to CONNECT, a 101 to an upgrade. The 101 carries
    /// [`Protocol`](protocol::head::Protocol), the origin's choice, unless the connector is older.
    Tunnel(Response<()>, Upgraded),
    /// It has not: an ordinary answer.
    Response(Response<Body>),
}

impl Session {
    pub(crate) fn quic(connection: quinn::Connection) -> Self {
        let remote = connection.remote_address();
        Self { remote, abilities: Abilities::default(), carrier: Carrier::Quic(connection) }
    }

    /// Takes over a connection whose driver runs already.
    pub(crate) fn http2(
        remote: SocketAddr,
        requests: h2::client::SendRequest<Bytes>,
        driver: Http2Driver,
        traffic: Arc<Traffic>,
        pace: http2::Pace,
    ) -> Self {
        let Http2Driver { closing, proven, is_over, pings, task } = driver;
        let http2 = Http2 {
            requests,
            traffic,
            pace,
            probes: Mutex::new(Probes { pings, sent: 0, answered: 0 }),
            proven,
            closing,
            is_over,
            _driver: task,
        };
        let abilities = Abilities::default();
        Self { remote, abilities, carrier: Carrier::Http2(Arc::new(http2)) }
    }

    /// The same link, once the connector has announced what it understands.
    pub(crate) fn with_abilities(self, abilities: Abilities) -> Self {
        Self { abilities, ..self }
    }

    /// What the connector understands. Nothing else may be sent to it.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Lets a connector that has proven itself send as much as its streams' windows allow.
    pub(crate) fn open_window(&self) {
        match &self.carrier {
            Carrier::Quic(connection) => connection.set_receive_window(quinn::VarInt::MAX),
            Carrier::Http2(link) => link.proven.notify_one(),
        }
    }

    /// How the link is carried.
    pub fn transport(&self) -> Transport {
        match &self.carrier {
            Carrier::Quic(_) => Transport::Quic,
            Carrier::Http2(_) => Transport::Http2,
        }
    }

    /// The connector's address, as this edge sees it.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Requests that may be under way at once. Whoever begins more may have to wait for one's end.
    pub fn capacity(&self) -> usize {
        match &self.carrier {
            Carrier::Quic(_) => CAPACITY,
            // Its own limit is known; the control stream takes one.
            Carrier::Http2(link) => {
                CAPACITY.min(link.requests.current_max_send_streams().saturating_sub(1))
            }
        }
    }

    /// Sends a request with an absolute URI, streams its body and trailers, and returns the response
    /// with its body behind it. 1xx responses go to `informational`. Dropping the future, or the
    /// returned body, cancels the stream. The head is borrowed, so that it can be sent again.
    ///
    /// # Errors
    /// [`SendError::is_not_delivered`] tells whether the origin can have seen anything.
    pub async fn send<B>(
        &self,
        head: &Parts,
        body: B,
        informational: impl FnMut(Response<()>),
    ) -> Result<Response<Body>, SendError>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let response = match &self.carrier {
            Carrier::Quic(connection) => quic::send(connection, head, body, informational).await,
            Carrier::Http2(link) => {
                http2::send(link.requests.clone(), &link.pace, head, body, informational).await
            }
        };
        Ok(response?)
    }

    /// Sends a CONNECT (its URI is an authority), or a request that carries
    /// [`Protocol`](protocol::head::Protocol) and so asks for an upgrade; `body` is the latter's, of at most
    /// [`MAX_UPGRADE_BODY`](crate::MAX_UPGRADE_BODY). The head tells of no content. A method other than
    /// GET, or a body, needs [`Abilities::any_upgrade`].
    ///
    /// # Errors
    /// [`SendError::is_not_delivered`] tells whether the origin can have seen anything.
    pub async fn open(&self, head: &Parts, body: Bytes) -> Result<Opened, SendError> {
        let opened = match &self.carrier {
            Carrier::Quic(connection) => quic::open(connection, head, body).await,
            Carrier::Http2(link) => {
                http2::open(link.requests.clone(), &link.pace, head, body).await
            }
        };
        Ok(opened?)
    }

    /// Ends the link at once, with all that is under way on it.
    pub fn close(&self, reason: CloseReason) {
        match &self.carrier {
            Carrier::Quic(connection) => quic::close(connection, reason),
            Carrier::Http2(link) => {
                link.closing.send_if_modified(|closing| {
                    let is_first = closing.is_none();
                    closing.get_or_insert(reason);
                    is_first
                });
            }
        }
    }

    /// The connector's signs of life.
    pub fn vitals(&self) -> Vitals {
        match &self.carrier {
            Carrier::Quic(connection) => Vitals::quic(connection.clone()),
            Carrier::Http2(link) => Vitals::http2(link.traffic.clone()),
        }
    }

    /// Asks the process at the other end for a sign of life over HTTP/2, where the system answers for a
    /// process that has stopped: any connector answers an HTTP/2 PING. Over QUIC the process itself
    /// acknowledges all that it is sent, so any message is a probe, and this does nothing.
    pub fn probe(&self) {
        let Carrier::Http2(link) = &self.carrier else { return };
        let mut probes = link.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.settle();
        // Fails if the last one has not been answered yet. TCP sends it again.
        if probes.pings.send_ping(h2::Ping::opaque()).is_ok() {
            probes.sent += 1;
        }
    }

    /// The number of the next [`probe`](Self::probe); `None` over QUIC.
    pub fn next_probe(&self) -> Option<u64> {
        let Carrier::Http2(link) = &self.carrier else { return None };
        Some(link.probes.lock().unwrap_or_else(PoisonError::into_inner).sent + 1)
    }

    /// Has the other end answered that probe, or a later one?
    pub fn has_answered(&self, probe: u64) -> bool {
        let Carrier::Http2(link) = &self.carrier else { return false };
        let mut probes = link.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.settle();
        probes.answered >= probe
    }

    /// Resolves when the link is gone, and tells why.
    pub async fn closed(&self) -> LinkError {
        match &self.carrier {
            Carrier::Quic(connection) => connection.closed().await.into(),
            Carrier::Http2(link) => {
                let mut is_over = link.is_over.clone();
                // An error means that the driver is gone, which is the same.
                let _ = is_over.wait_for(|is_over| *is_over).await;
                match *link.closing.borrow() {
                    Some(reason) => LinkError::Closed(reason),
                    None => LinkError::ClosedByPeer,
                }
            }
        }
    }
}

/// The task behind an HTTP/2 link at the edge.
#[derive(Debug)]
pub(crate) struct Http2Driver {
    closing: watch::Sender<Option<CloseReason>>,
    proven: Arc<Notify>,
    is_over: watch::Receiver<bool>,
    pings: h2::PingPong,
    task: AbortOnDropHandle<()>,
}

impl Http2Driver {
    /// Drives `connection` until it ends or is told to. Until the connector has proven itself, it may
    /// send no more than HTTP/2's first window, 64 KiB in all.
    pub(crate) fn spawn(
        mut connection: h2::client::Connection<http2::Corked<TlsStream<http2::Stream>>, Bytes>,
    ) -> Self {
        let (closing, mut told) = watch::channel(None);
        let (over, is_over) = watch::channel(false);
        let pings = connection.ping_pong().expect("it is taken once");
        let proven = Arc::new(Notify::new());
        let is_proven = proven.clone();
        let task = tokio::spawn(async move {
            let mut is_told = pin!(told.wait_for(|reason: &Option<CloseReason>| reason.is_some()));
            let goes_on = tokio::select! {
                biased;
                _ = &mut connection => false,
                _ = &mut is_told => false,
                () = is_proven.notified() => true,
            };
            if goes_on {
                connection.set_target_window_size(http2::CONNECTION_WINDOW);
                tokio::select! {
                    biased;
                    _ = connection => {}
                    _ = is_told => {}
                }
            }
            // Nobody listening is fine.
            let _ = over.send(true);
        });
        Self { closing, proven, is_over, pings, task: AbortOnDropHandle::new(task) }
    }
}
