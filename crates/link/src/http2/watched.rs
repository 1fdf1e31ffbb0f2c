//! The TCP connection below a link: how its socket is set up, and its signs of life as they pass by.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::pace::{Meter, Pace};
use crate::vitals::Traffic;

/// A socket that counts.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    meter: Meter,
}

impl Watched {
    /// Takes over a connection, and shapes its socket as a link needs it.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let watched = Self { stream, traffic: Arc::default(), meter: Meter::default() };
        watched.hold_back()?;
        Ok(watched)
    }

    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    pub(crate) fn pace(&self) -> Pace {
        self.meter.pace.clone()
    }

    /// Has the system take no more ahead than the pace allows.
    fn hold_back(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        SockRef::from(&self.stream).set_tcp_notsent_lowat(self.meter.pace.not_sent())?;
        Ok(())
    }

    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => {
                self.meter.is_full();
                self.traffic.fills();
            }
            Poll::Ready(Ok(bytes)) => {
                let shown = self.meter.takes(*bytes);
                if shown.was_full {
                    self.traffic.lives();
                }
                if shown.is_news {
                    // A socket that has broken meanwhile says so by itself.
                    let _ = self.hold_back();
                }
                self.traffic.asks();
            }
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.traffic.lives();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
