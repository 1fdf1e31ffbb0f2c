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

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
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
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{accept::AcceptTrouble, aside::Aside, core::Core, tasks::Tasks};
use answer::{Account, Answer};
use caller::Callers;
use client::{Client, ClientStream, Connection, UnderWay};
use exchange::Exchange;

mod admission;
mod answer;
mod caller;
mod capability;
mod client;
mod exchange;
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
/// Streams that one HTTP/2 client may have open.
const STREAMS: u32 = 128;
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

/// What all the gateway's connections share.
#[derive(Debug)]
pub(crate) struct Gateway {
    core: Arc<Core>,
    tasks: Tasks,
    callers: Callers,
    clients: Arc<Semaphore>,
    max_request_body: u64,
    idle: Duration,
    closing: CancellationToken,
}

impl Gateway {
    pub(crate) fn new(
        core: Arc<Core>,
        tasks: Tasks,
        max_clients: usize,
        max_request_body: Option<u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            core,
            tasks,
            callers: Callers::default(),
            clients: Arc::new(Semaphore::new(max_clients.min(Semaphore::MAX_PERMITS))),
            max_request_body: max_request_body.unwrap_or(u64::MAX),
            idle: IDLE,
            closing: CancellationToken::new(),
        })
    }

    /// Lets requests under way finish, and takes no others.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Serves clients until [`close`](Self::close).
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, worker: WorkerId) {
        let mut trouble = AcceptTrouble::default();
        loop {
            let accepted = self.closing.run_until_cancelled(listener.accept()).await;
            let Some(accepted) = accepted else { return };
            let Some((stream, remote)) = trouble.pass(accepted).await else { continue };
            // Not before: a worker to which nobody comes must not keep a place from the others.
            let permit = self.clients.clone().acquire_owned();
            let Some(permit) = self.closing.run_until_cancelled(permit).await else { return };
            let gateway = self.clone();
            self.tasks.spawn(async move {
                gateway.serve_client(stream, remote, worker).await;
                drop(permit);
            });
        }
    }

    async fn serve_client(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        worker: WorkerId,
    ) {
        let _counted = self.core.metrics.client(worker);
        let shared = Arc::new(Connection::new(worker));
        let stream = ClientStream::new(stream, shared.broken.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let client = Client::new(shared.clone(), request.version());
            self.respond(request, client)
        });
        let builder = self.builder();
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            biased;
            () = Aside::new(self.is_over(&shared.under_way)) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            ended = connection.as_mut() => ended,
        };
        if let Err(reason) = ended {
            tracing::debug!(%remote, reason, "a client's connection ended");
        }
    }

    /// Resolves when a connection should finish what is under way on it, and end.
    async fn is_over(&self, under_way: &UnderWay) {
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = under_way.idle(self.idle) => {}
        }
    }

    fn builder(&self) -> auto::Builder<Tasks> {
        let mut builder = auto::Builder::new(self.tasks.clone());
        builder
            .http1()
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
        let begun = Exchange::begin(self, request, client, account);
        let gateway = self.clone();
        boxed(|| async move {
            let answered = match begun {
                Ok(exchange) => exchange.run(&gateway).await,
                // Until its refusal is there, hyper takes what has come of the body, and keeps the connection.
                Err((refused, _body)) => Err(refused),
            };
            Ok(answered.unwrap_or_else(|(refusal, account)| answer::refuse(&refusal, account)))
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
