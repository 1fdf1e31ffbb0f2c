//! A client's connection: its bytes, and whether it must end in a way that nobody takes for a clean end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Version;
use link::workers::WorkerId;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::gateway::caller::LastCaller;

/// Until it is clear which version of HTTP a client speaks, hyper waits without a deadline: these are
/// the bytes that tell, and how long they may take. No request that a proxy could serve is shorter.
const FIRST_BYTES: usize = 24;
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);
/// A client that has vanished without a word is noticed after a minute.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// What the system may hold for a client beyond what is on its way there, in bytes; it would take 4 MiB, for each
/// client that does not read.
const UNSENT: u32 = 128 * 1024;

/// A client's TCP connection. Once marked as broken it ends with a reset, not with an end of stream
/// that would look like the end of a message.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: TcpStream,
    broken: Arc<AtomicBool>,
    first: Option<FirstBytes>,
}

#[derive(Debug)]
struct FirstBytes {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, broken: Arc<AtomicBool>) -> Self {
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
        // A socket that cannot be told so still works.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes.with_retries(PROBES));
        let deadline = Box::pin(tokio::time::sleep(FIRST_BYTES_WITHIN));
        Self { stream, broken, first: Some(FirstBytes { missing: FIRST_BYTES, deadline }) }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.broken.load(Ordering::Relaxed) {
            // If it fails the connection is gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(first) = &mut self.first {
            first.missing = first.missing.saturating_sub(buffer.filled().len() - before);
            if first.missing == 0 {
                self.first = None;
            } else if read.is_pending() && first.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The requests that are under way on one client's connection.
#[derive(Debug)]
pub(crate) struct UnderWay(Mutex<Activity>);

#[derive(Debug)]
struct Activity {
    count: usize,
    /// When there was something under way last.
    last: Instant,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self(Mutex::new(Activity { count: 0, last: Instant::now() }))
    }
}

impl UnderWay {
    /// Resolves when there has been none for `time`.
    pub(crate) async fn idle(&self, time: Duration) {
        loop {
            // A look once in a while costs a request nothing.
            let (is_idle, last) = {
                let activity = self.activity();
                (activity.count == 0, activity.last)
            };
            let until = if is_idle { last + time } else { Instant::now() + time };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn begin(&self) {
        self.activity().count += 1;
    }

    fn end(&self) {
        let mut activity = self.activity();
        activity.count -= 1;
        activity.last = Instant::now();
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the requests of one client's connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    worker: WorkerId,
    pub(crate) broken: Arc<AtomicBool>,
    pub(crate) under_way: UnderWay,
    pub(crate) last_caller: LastCaller,
}

impl Connection {
    pub(crate) fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            broken: Arc::default(),
            under_way: UnderWay::default(),
            last_caller: LastCaller::default(),
        }
    }
}

/// The client behind one request, which is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Arc<Connection>,
    version: Version,
}

impl Drop for Client {
    fn drop(&mut self) {
        let under_way = &self.connection.under_way;
        under_way.end();
    }
}

impl Client {
    pub(crate) fn new(connection: Arc<Connection>, version: Version) -> Self {
        connection.under_way.begin();
        Self { connection, version }
    }

    /// Where the client is served.
    pub(crate) fn worker(&self) -> WorkerId {
        self.connection.worker
    }

    pub(crate) fn last_caller(&self) -> &LastCaller {
        &self.connection.last_caller
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// The answer broke off. Over HTTP/2 a reset of the stream says so; over HTTP/1 only the
    /// connection can.
    pub(crate) fn break_off(&self) {
        if !self.is_http2() {
            self.connection.broken.store(true, Ordering::Relaxed);
        }
    }
}
