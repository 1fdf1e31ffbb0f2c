//! The bytes of a client's connection, and how it ends: an answer that broke off ends with a reset, so that
//! nobody takes it for a whole one; a connection on which a request's body was left unread ends in stages
//! (RFC 9112 §9.6), so that the client hears the answer.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::Connection;

/// A client that has vanished without a word is noticed after a minute.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// What the system may hold for a client beyond what is on its way there, in bytes; it would take 4 MiB, for each
/// client that does not read.
const UNSENT: u32 = 128 * 1024;
/// How long the rest of a refused upload may take: a client that sends it whole before it reads the answer
/// must be heard out. These are the times that common servers give.
const REST_WITHIN: Duration = Duration::from_secs(30);
/// Longest silence within that time.
const REST_SILENCE: Duration = Duration::from_secs(5);
/// How much of the rest is read at once, in bytes.
const REST_BUFFER: usize = 16 * 1024;

/// A client's TCP connection.
#[derive(Debug)]
pub(crate) struct ClientStream {
    socket: Arc<TcpStream>,
    connection: Arc<Connection>,
    rest: Option<Rest>,
}

/// What a client still sends although it has got its answer.
#[derive(Debug)]
struct Rest {
    until: Instant,
    heard_at: Instant,
    next_look: Pin<Box<Sleep>>,
}

impl ClientStream {
    pub(crate) fn new(socket: Arc<TcpStream>, connection: Arc<Connection>) -> Self {
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
        // A socket that cannot be told so still works.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&*socket).set_tcp_notsent_lowat(UNSENT);
        let _ = SockRef::from(&*socket).set_tcp_keepalive(&probes.with_retries(PROBES));
        Self { socket, connection, rest: None }
    }

    /// Says something to a client that is not served, and hears it out.
    pub(crate) async fn tell(&mut self, bytes: &[u8]) {
        // A client that goes meanwhile does not want to know.
        if self.write_all(bytes).await.is_ok() {
            self.connection.upload.end(false);
            let _ = self.shutdown().await;
        }
    }

    /// Reads and forgets what the client sends until it closes its end.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let rest = self.rest.get_or_insert_with(|| Rest {
            until: now + REST_WITHIN,
            heard_at: now,
            next_look: Box::pin(sleep_until(now + REST_SILENCE)),
        });
        loop {
            let mut bytes = [std::mem::MaybeUninit::uninit(); REST_BUFFER];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match poll_read(&self.socket, cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => rest.heard_at = now,
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        loop {
            let until = rest.until.min(rest.heard_at + REST_SILENCE);
            if until <= now {
                return Poll::Ready(());
            }
            ready!(rest.next_look.as_mut().poll(cx));
            rest.next_look.as_mut().reset(until);
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.connection.is_broken() {
            // If it fails the connection is gone already.
            let _ = self.socket.set_zero_linger();
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        poll_read(&self.socket, cx, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        poll_write(&self.socket, cx, bytes.len(), || self.socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        poll_write(&self.socket, cx, length, || self.socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.flushes.tell();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            match SockRef::from(&*self.socket).shutdown(Shutdown::Write) {
                // The client was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                done => done?,
            }
        }
        if self.connection.upload.was_left() {
            ready!(self.poll_rest(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads like [`TcpStream`] itself, through a shared handle.
fn poll_read(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let room = buffer.remaining();
    let read = poll_io(
        socket,
        |cx| socket.poll_read_ready(cx),
        cx,
        Interest::READABLE,
        room,
        || socket.try_read_buf(buffer),
    );
    read.map_ok(|_| ())
}

fn poll_write(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    length: usize,
    write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    poll_io(socket, |cx| socket.poll_write_ready(cx), cx, Interest::WRITABLE, length, write)
}

/// Does `io` once the socket is ready. If it moves less than it could, the socket has no more to give or to
/// take: to say so saves the next call, which could only find that out.
fn poll_io(
    socket: &TcpStream,
    poll_ready: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
    cx: &mut Context<'_>,
    interest: Interest,
    most: usize,
    mut io: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(poll_ready(cx))?;
        let mut moved = None;
        let tried = socket.try_io(interest, || {
            let length = io()?;
            moved = Some(length);
            if (1..most).contains(&length) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (moved, tried) {
            (Some(length), _) => return Poll::Ready(Ok(length)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            (None, _) => {}
        }
    }
}
