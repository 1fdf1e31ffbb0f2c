//! A stream that has left HTTP: bytes both ways, each direction closed on its own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{http2, quic, relay::End};

/// What a CONNECT or an upgrade leaves behind. Shutting it down ends this direction alone; dropping it
/// before both directions have ended cancels the stream.
#[derive(Debug)]
pub struct Upgraded {
    /// Bytes that came with the head.
    ahead: Bytes,
    carrier: Carrier,
}

#[derive(Debug)]
enum Carrier {
    Quic { sending: quic::Sending, receiving: Box<quic::Receiving> },
    Http2 { sending: http2::Sending, receiving: http2::Receiving },
}

impl Upgraded {
    pub(crate) fn quic(sending: quic::Sending, mut receiving: Box<quic::Receiving>) -> Self {
        let ahead = receiving.take_raw();
        Self { ahead, carrier: Carrier::Quic { sending, receiving } }
    }

    pub(crate) fn http2(sending: http2::Sending, receiving: http2::Receiving) -> Self {
        Self { ahead: Bytes::new(), carrier: Carrier::Http2 { sending, receiving } }
    }
}

impl End for Upgraded {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.carrier {
            Carrier::Quic { sending, receiving } => {
                if let Poll::Ready(error) = receiving.poll_reset(cx) {
                    return Poll::Ready(error.into());
                }
                sending.poll_gone(cx)
            }
            Carrier::Http2 { sending, .. } => sending.poll_gone(cx),
        }
        .map(io::Error::from)
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.ahead.is_empty() {
            let bytes = match &mut this.carrier {
                Carrier::Quic { receiving, .. } => receiving.poll_bytes(cx),
                Carrier::Http2 { receiving, .. } => receiving.poll_bytes(cx),
            };
            match std::task::ready!(bytes)? {
                Some(bytes) => this.ahead = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..take]);
        this.ahead.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Quic { sending, .. } => sending.poll_write(cx, bytes),
            Carrier::Http2 { sending, .. } => sending.poll_write(cx, bytes),
        }
        .map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Quic { sending, .. } => sending.finish(),
            Carrier::Http2 { sending, .. } => sending.finish(),
        }
        Poll::Ready(Ok(()))
    }
}
