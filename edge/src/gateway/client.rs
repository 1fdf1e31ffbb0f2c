//! A client's connection: its bytes, and whether it must end in a way that nobody takes for a clean end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::Version;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A client's TCP connection. Once marked as broken it ends with a reset, not with an end of stream
/// that would look like the end of a message.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: TcpStream,
    broken: Arc<AtomicBool>,
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, broken: Arc<AtomicBool>) -> Self {
        Self { stream, broken }
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
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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

/// The client behind one request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    broken: Arc<AtomicBool>,
    version: Version,
}

impl Client {
    pub(crate) fn new(broken: Arc<AtomicBool>, version: Version) -> Self {
        Self { broken, version }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// The answer broke off. Over HTTP/2 a reset of the stream says so; over HTTP/1 only the
    /// connection can.
    pub(crate) fn break_off(&self) {
        if !self.is_http2() {
            self.broken.store(true, Ordering::Relaxed);
        }
    }
}
