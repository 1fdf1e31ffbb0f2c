//! The gateway: the edge's way in, an ordinary HTTP proxy. Absolute-form requests and CONNECT, over
//! HTTP/1.1 and over HTTP/2 with prior knowledge; the tunnel's name and a token are the proxy
//! credentials.
//!
//! ```text
//! admission ─ is this a request that a proxy can serve?     431, 414, 400
//! caller    ─ whose is it, and may it use the tunnel?       407, 404, 403
//! exchange  ─ over which link, and what came of it?         503, 502, 429, 413
//! answer    ─ the refusal, or the origin's response
//! ```

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, header};
use http_body::Body as _;
use https::Port;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use link::{boxed, workers::WorkerId};
use protocol::{
    head::MESSAGE_FIELDS,
    refusal::{Code, Refusal},
};
use room::Room;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::{self, AcceptTrouble},
    aside::Aside,
    core::Core,
    options::Options,
    tasks::Tasks,
};
use answer::{Account, Answer};
use caller::Callers;
use client::{Client, ClientStream, Connection, Standing};
use exchange::Exchange;
use plain::Plain;

mod admission;
mod answer;
mod caller;
mod capability;
mod client;
mod exchange;
mod max_forwards;
mod plain;
mod request_line;
mod tunnel;
mod upload;

/// Time for a request's head to arrive over HTTP/1.1, and for an idle connection to be used again.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// A connection on which no request has been under way for so long is shut down, whatever it speaks.
const IDLE: Duration = Duration::from_secs(120);
/// What hyper reads of a head before it gives up on its own, with a bare 431, and how many fields. Above our own
/// limits, so that theirs is the answer which tells what is wrong.
const HEAD_BUFFER: usize = 128 * 1024;
const HEAD_FIELDS: usize = MESSAGE_FIELDS + 32;
/// A client has shown a credential by then, or is let go: nothing that it may do without takes longer.
const STRANGER: Duration = Duration::from_secs(60);
/// Strangers at once that send more than an ordinary head; each takes as much as [`HEAD_BUFFER`].
const LONG_HEADS: usize = 256;
/// Streams that one HTTP/2 client may have open.
const STREAMS: u32 = 128;
/// How long clients are heard after the gateway was told to close: a request that was sent by then arrives.
const LISTENS_ON: Duration = Duration::from_secs(1);
/// How long a connection that had begun by then may take to be there: as long as the way to the client and back.
const CONNECTED_WITHIN: Duration = Duration::from_millis(500);
/// Between two requests on one connection lies some time in which none is under way.
const QUIET: Duration = Duration::from_millis(100);
/// What a stream's client may send ahead of the link, in bytes.
const STREAM_WINDOW: u32 = 128 * 1024;
/// All streams' windows together: a stalled one takes nothing from the others.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// What waits for a client that does not read, per stream, in bytes.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that a client has reset before their handler began, at one time (rapid reset). A client may give up all
/// that it has asked for at once; only one that asks on while it does meets this, and loses its connection.
const PENDING_RESETS: usize = STREAMS as usize;
/// Resets that h2 itself had to send, in a connection's whole life: for what a client sent before it heard that its
/// stream had ended, and for malformed messages. A busy client of good faith causes some, now and then, for
/// months. Each takes 0.5 KiB until it has left: 4 MiB at most.
const LOCAL_RESETS: usize = 8 * 1024;
const PING_EVERY: Duration = Duration::from_secs(10);

/// What an operator has set for the gateway.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) max_clients: usize,
    pub(crate) max_request_body: u64,
    /// Longest time without a byte in a tunnel.
    pub(crate) tunnel_idle: Duration,
    /// The same, once its client has closed its end behind bytes that the link does not take.
    pub(crate) tunnel_unread_end: Duration,
    /// A client that has closed its end still waits for its answer.
    pub(crate) may_half_close: bool,
}

impl Terms {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            max_clients: options.max_clients,
            max_request_body: options.max_request_body.unwrap_or(u64::MAX),
            tunnel_idle: options.tunnel_idle,
            tunnel_unread_end: options.tunnel_unread_end,
            may_half_close: options.answer_half_closed,
        }
    }
}

/// What all the gateway's connections share.
#[derive(Debug)]
pub(crate) struct Gateway {
    core: Arc<Core>,
    tasks: Tasks,
    callers: Callers,
    /// Half of it is for clients with a credential alone.
    clients: Arc<Room>,
    long_heads: Arc<Room>,
    pub(crate) terms: Terms,
    /// `None` where plain HTTP is spoken.
    https: Option<Arc<Port>>,
    idle: Duration,
    closing: CancellationToken,
    /// The same, where every request asks.
    is_closing: AtomicBool,
}

impl Gateway {
    pub(crate) fn new(
        core: Arc<Core>,
        tasks: Tasks,
        terms: Terms,
        https: Option<Arc<Port>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            core,
            tasks,
            callers: Callers::default(),
            clients: Room::new("gateway", terms.max_clients, terms.max_clients / 2),
            long_heads: Room::of_strangers("gateway, long heads", LONG_HEADS),
            terms,
            https,
            idle: IDLE,
            closing: CancellationToken::new(),
            is_closing: AtomicBool::new(false),
        })
    }

    /// Lets requests under way finish, and refuses others.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.closing.cancel();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Serves clients until [`close`](Self::close), and those who are connected by then.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, worker: WorkerId) {
        self.closing.run_until_cancelled(self.accept(&listener, worker)).await;
        // Another process accepts those who come now.
        if self.core.superseded.is_cancelled() {
            return;
        }
        accept::take_no_more(&listener);
        let last = self.core.superseded.run_until_cancelled(self.accept(&listener, worker));
        if let Ok(None) = timeout(CONNECTED_WITHIN, last).await {
            // It has got the socket meanwhile.
            accept::take_again(&listener);
        }
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener, worker: WorkerId) {
        let mut trouble = AcceptTrouble::default();
        loop {
            let accepted = listener.accept().await;
            let Some((stream, remote)) = trouble.pass(accepted).await else { continue };
            // Not before: a worker to which nobody comes must not keep a place from the others.
            let Some(place) = self.clients.enter(remote.ip()).await else { continue };
            let (gateway, place) = (self.clone(), Arc::new(place));
            self.tasks.spawn(async move {
                let standing = Standing::new(&place, gateway.long_heads.clone());
                let lost = Aside::new(async move { place.lost(STRANGER).await });
                tokio::select! {
                    biased;
                    () = lost => tracing::debug!(%remote, "a client without a credential is let go"),
                    () = gateway.serve_client(stream, remote, worker, standing) => {}
                }
            });
        }
    }

    async fn serve_client(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        worker: WorkerId,
        standing: Standing,
    ) {
        let _counted = self.core.metrics.client(worker);
        let socket = Arc::new(stream);
        let shared = Arc::new(Connection::new(worker, &socket, standing));
        let stream = ClientStream::new(socket.clone(), shared.clone());
        match &self.https {
            None => self.serve_stream(stream, &socket, shared, remote).await,
            // In a box: connections without TLS need not hold its room.
            Some(https) => {
                Box::pin(self.clone().serve_tls(https, stream, &socket, shared, remote)).await;
            }
        }
    }

    async fn serve_tls(
        self: Arc<Self>,
        https: &Port,
        mut stream: ClientStream,
        socket: &TcpStream,
        shared: Arc<Connection>,
        remote: SocketAddr,
    ) {
        let handshake = match https.begin(socket).await {
            Ok(Some(handshake)) => handshake.finish(stream).await,
            Ok(None) => {
                let refusal = Refusal::new(
                    Code::BadRequest,
                    "this gateway speaks HTTPS: begin the proxy's URL with https://, and trust its certificate",
                );
                let told = answer::to_bytes(&refusal, self.core.clone());
                return stream.tell(&told).await;
            }
            Err(error) => Err(error),
        };
        match handshake {
            Ok(stream) => self.serve_stream(stream, socket, shared, remote).await,
            Err(error) => tracing::debug!(%remote, %error, "a client's TLS handshake failed"),
        }
    }

    async fn serve_stream<S>(
        self: &Arc<Self>,
        stream: S,
        socket: &TcpStream,
        shared: Arc<Connection>,
        remote: SocketAddr,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let has_body = !request.body().is_end_stream();
            let client = Client::new(shared.clone(), request.version(), has_body);
            self.respond(request, client)
        });
        let stream = TokioIo::new(Plain::new(stream, shared.clone(), self.core.clone()));
        let builder = self.builder();
        let connection = builder.serve_connection_with_upgrades(stream, service);
        tokio::pin!(connection);
        let served = async {
            tokio::select! {
                biased;
                () = Aside::new(self.is_over(&shared)) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                ended = connection.as_mut() => ended,
            }
        };
        let ended = tokio::select! {
            biased;
            () = Aside::new(shared.gone(socket, self.terms.may_half_close)) => {
                Err("the client has gone".into())
            }
            ended = served => ended,
        };
        if let Err(reason) = ended {
            tracing::debug!(%remote, reason, "a client's connection ended");
        }
    }

    /// Resolves when a connection should finish what is under way on it, and end.
    async fn is_over(&self, shared: &Connection) {
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = shared.under_way.idle(self.idle) => return,
        }
        // Over HTTP/2 a client is told which of its requests count. Over HTTP/1.1 one may have sent another
        // that is not read yet, so the connection ends with an answer that says so, or after a while.
        if !shared.is_http2() {
            tokio::time::sleep(LISTENS_ON).await;
            shared.under_way.idle(QUIET).await;
        }
    }

    fn builder(&self) -> auto::Builder<Tasks> {
        let mut builder = auto::Builder::new(self.tasks.clone());
        builder
            .http1()
            .half_close(self.terms.may_half_close)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_headers(HEAD_FIELDS)
            .max_buf_size(HEAD_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_BUFFER as u32)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(LOCAL_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .enable_connect_protocol();
        builder
    }

    /// Judges a request at once, so that the future begins with little of it. It has a box of its own, which
    /// the next request finds warm.
    fn respond(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: Client,
    ) -> Pin<Box<impl Future<Output = Result<Response<Answer>, Infallible>> + use<>>> {
        let account = Account::open(self.core.clone());
        let uploading = (!request.body().is_end_stream() && !client.is_http2())
            .then(|| (client.connection().clone(), request.headers().contains_key(header::EXPECT)));
        let is_http2 = client.is_http2();
        let begun = Exchange::begin(self, request, client, account);
        let gateway = self.clone();
        boxed(|| async move {
            let refused = match begun {
                Ok(exchange) => match exchange.run(&gateway).await {
                    Ok(mut answer) => {
                        if gateway.is_closing() && !is_http2 {
                            answer::announce_close(&mut answer);
                        }
                        return Ok(answer);
                    }
                    Err(refused) => refused,
                },
                Err((refused, mut body)) => {
                    if uploading.as_ref().is_some_and(|(_, waits)| !waits) {
                        body.forget().await;
                    }
                    refused
                }
            };
            let mut answer = answer::refuse(&refused.0, refused.1);
            // hyper does not wait for the rest of the body, and ends the connection.
            let was_left = uploading.is_some_and(|(connection, _)| connection.upload.was_left());
            if was_left || (gateway.is_closing() && !is_http2) {
                answer::announce_close(&mut answer);
            }
            Ok(answer)
        })
    }
}

/// A refusal of a request that is not under way yet, or no longer.
type Refused = (Refusal, Account);

fn no_link() -> Refusal {
    Refusal::from(Code::NoLink)
}

#[cfg(test)]
mod tests;
