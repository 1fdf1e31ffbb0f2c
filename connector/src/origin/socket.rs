//! A TCP connection to an origin, below TLS.
//!
//! A server may answer before it has read a request's body, and close with the rest of it unread: its reset
//! then fails our write, while the answer waits here to be read. So for as long as HTTP is spoken, a write that
//! fails is not told: it waits, and whoever reads finds the answer, or the connection's end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use link::relay;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// An origin that has vanished without a word is noticed after a minute.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

pub(super) struct Socket {
    stream: TcpStream,
    /// No more can be written, and whoever reads is going to notice.
    has_failed: bool,
    /// A write waits for the origin to read.
    is_blocked: bool,
    is_raw: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
        // Where a platform lacks them, the limits of requests and tunnels still hold.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes.with_retries(PROBES));
        Self { stream, has_failed: false, is_blocked: false, is_raw: false }
    }

    /// From here on a write that fails is told at once: nobody waits for an answer any more.
    pub(super) fn leave_http(&mut self) {
        self.is_raw = true;
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Lets the origin see that the other end broke off: without this, it would be a clean end.
    pub(super) fn reset(&self) {
        // A socket that is gone already needs no reset.
        let _ = self.stream.set_zero_linger();
    }

    fn hold_back<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_blocked = written.is_pending();
        match written {
            Poll::Ready(Err(error)) if !self.is_raw && is_lost(&error) => {
                self.has_failed = true;
                Poll::Pending
            }
            written => written,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What was to be written will never be whole, and what was written may never be read. An end behind
        // all that would not be seen.
        if self.is_blocked && !self.is_raw {
            self.reset();
        }
    }
}

/// True if the error tells of the connection's end.
fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected)
}

impl relay::End for Socket {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        relay::End::poll_gone(&mut self.stream, cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_failed {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.hold_back(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.has_failed {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.hold_back(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
