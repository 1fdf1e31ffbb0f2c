//! HTTP/2 with origins: one connection for each, shared by its requests. Spoken where gRPC is, which knows
//! nothing else, and where a file says so; over TLS only if the origin chooses it.

mod first;

use std::{
    error::Error as _,
    net::IpAddr,
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};

use http::{HeaderValue, Request, Uri, Version, header, uri};
use http_body::Body as _;
use hyper::{client::conn::http2, rt::Executor};
use protocol::{
    fields,
    refusal::{Code, Refusal},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::Instant};

pub(super) use self::first::FirstCalls;
use super::{
    MAX_RESPONSE_HEAD, RequestBody, Sent,
    connect::{ByDestination, Connected, Destination},
    failure, name_te,
    pool::{Inner, Pool},
    settings::{Settings, Terms},
};

/// A connection that nobody has asked for anything for so long is closed.
const REST: Duration = Duration::from_secs(60);
/// Most connections that are kept; one more is used and not kept.
const MAX: usize = 128;
/// What an origin may send ahead of a reader that stalls, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
/// More than all streams together, so that stalled readers cannot stop the others.
const CONNECTION_WINDOW: u32 = 256 * 1024 * 1024;

/// An origin that has acknowledged nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// Sends requests on one connection.
#[derive(Clone)]
pub(super) struct Sender {
    requests: http2::SendRequest<RequestBody>,
    /// The same one is of the same connection.
    made: Arc<Made>,
}

/// What a connection was made to and with.
struct Made {
    peer: IpAddr,
    settings: Option<Arc<Settings>>,
}

impl Sender {
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Sent> + use<> {
        self.requests.try_send_request(request)
    }

    /// May it be used under these terms?
    fn suits(&self, terms: &Terms) -> bool {
        terms.admit(self.made.peer, self.made.settings.as_ref())
    }
}

/// A connection that may be used by the next request, too.
pub(super) struct Shared {
    sender: Sender,
    used: Instant,
}

impl Shared {
    fn is(&self, made: &Arc<Made>) -> bool {
        Arc::ptr_eq(&self.sender.made, made)
    }
}

impl Pool {
    /// The connection to this destination, if it seems to be alive and the terms admit it.
    pub(super) fn share_of(&self, destination: &Destination, terms: &Terms) -> Option<Sender> {
        let mut shared = self.shared();
        let connection = shared.get_mut(destination)?;
        if connection.sender.requests.is_closed() || !connection.sender.suits(terms) {
            // What is under way on it goes on.
            shared.remove(destination);
            return None;
        }
        connection.used = Instant::now();
        Some(connection.sender.clone())
    }

    /// Begins HTTP/2 on a connection, and shares it.
    pub(super) async fn speak_http2(
        &self,
        destination: &Destination,
        connected: Connected,
        settings: Option<Arc<Settings>>,
    ) -> Result<Sender, Refusal> {
        let (requests, connection) = http2::Builder::new(Tasks(Arc::downgrade(&self.0)))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_RESPONSE_HEAD as u32)
            .handshake(connected.stream)
            .await
            .map_err(|error| failure::http(destination, &error, &[]))?;
        self.spawn(async move {
            // Whoever waits for an answer on it hears of the error.
            let _ = connection.await;
        });
        let sender = Sender { requests, made: Arc::new(Made { peer: connected.peer, settings }) };
        let mut shared = self.shared();
        shared.retain(|_, connection| !connection.sender.requests.is_closed());
        if shared.len() < MAX || shared.contains_key(destination) {
            let connection = Shared { sender: sender.clone(), used: Instant::now() };
            shared.insert(destination.clone(), connection);
            drop(shared);
            self.close_at_rest(destination.clone(), sender.made.clone());
        }
        Ok(sender)
    }

    /// Lets nobody else use a connection that has failed; another one may have taken its place already.
    pub(super) fn abandon(&self, destination: &Destination, failed: &Sender) {
        let mut shared = self.shared();
        if shared.get(destination).is_some_and(|connection| connection.is(&failed.made)) {
            shared.remove(destination);
        }
    }

    fn close_at_rest(&self, destination: Destination, made: Arc<Made>) {
        let pool = Arc::downgrade(&self.0);
        self.spawn(async move {
            let mut rested_at = Instant::now() + REST;
            loop {
                tokio::time::sleep_until(rested_at).await;
                let Some(pool) = pool.upgrade().map(Pool) else { return };
                let mut shared = pool.shared();
                let connection = shared.get(&destination);
                let Some(connection) = connection.filter(|c| c.is(&made)) else { return };
                rested_at = connection.used + REST;
                if rested_at <= Instant::now() || connection.sender.requests.is_closed() {
                    shared.remove(&destination);
                    return;
                }
            }
        });
    }

    fn shared(&self) -> MutexGuard<'_, ByDestination<Shared>> {
        self.0.shared.lock().expect("no panic while locked")
    }
}

/// A connection that lives long must notice that the other end is gone. By TCP's own means: servers of
/// gRPC count HTTP/2 pings as abuse.
pub(super) fn notice_silence(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 3);
    // Where a platform lacks them, requests still have their deadlines.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(SILENCE));
}

/// Where hyper's tasks for a connection run: among the pool's own, and no longer than it.
#[derive(Clone)]
struct Tasks(Weak<Inner>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        if let Some(pool) = self.0.upgrade().map(Pool) {
            pool.spawn(task);
        }
    }
}

/// True if the origin says that it has not begun with the request: it may be sent again, whatever it is
/// (RFC 9113 §8.7).
pub(super) fn is_untouched(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        return false;
    };
    // A GOAWAY fails exactly the requests that the origin has not begun with.
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// True if the answer's head is larger than this end takes: h2 then resets the stream itself.
pub(super) fn is_oversize(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_reset() && !error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// Makes an HTTP/1.1 request one of HTTP/2: the target is whole, and nothing speaks of the connection.
pub(super) fn fit(
    request: &mut Request<RequestBody>,
    destination: &Destination,
) -> Result<(), Refusal> {
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(if destination.is_tls { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    let authority = destination.authority().parse();
    target.authority = Some(authority.map_err(|_| Code::BadTarget)?);
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| Code::BadTarget)?;
    request.headers_mut().remove(header::HOST);
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    request.headers_mut().remove(header::CONNECTION);
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// The other way round.
pub(super) fn unfit(
    request: &mut Request<RequestBody>,
    destination: &Destination,
) -> Result<(), Refusal> {
    let path = std::mem::take(request.uri_mut()).into_parts().path_and_query;
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let is_without_length = !request.headers().contains_key(header::CONTENT_LENGTH);
    if is_without_length && !request.body().is_end_stream() {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
    }
    let host = destination.authority();
    fields::set_host(request.headers_mut(), &host).map_err(|_| Code::BadTarget)?;
    name_te(request.headers_mut());
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}
