//! The sending direction of a QUIC stream: heads, bodies, trailers, and its end.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame as BodyFrame};
use protocol::{
    frame::{self, Kind},
    head,
};

use super::{code, stream_error};
use crate::error::{BoxError, LinkError};

/// A piece of a body up to this length, in bytes, is copied next to its frame header; a longer one is
/// handed to QUIC as it is.
const COPY: usize = 4 * 1024;
/// Room for a usual head, in bytes.
const HEAD: usize = 512;
/// Copied pieces are written once they reach this length together.
const FLUSH: usize = 16 * 1024;

/// A buffer for a head, and for the body behind it if that is known to be short.
pub(crate) fn buffer(body: &impl Body) -> BytesMut {
    let body = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    BytesMut::with_capacity(if body <= COPY { HEAD + body } else { HEAD })
}

/// Writes one direction of a stream. Dropped before it was finished, it is reset: the peer must never
/// take half a message for a whole one.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: quinn::SendStream,
    is_over: bool,
}

impl Sending {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, is_over: false }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        self.stream.write_chunk(bytes).await.map_err(|error| self.write_error(error))
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, LinkError>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes).map_err(|error| self.write_error(error))
    }

    /// Ends this direction properly.
    pub(crate) fn finish(&mut self) {
        if !self.is_over {
            self.is_over = true;
            // Fails only if the stream was stopped meanwhile, which is as good.
            let _ = self.stream.finish();
        }
    }

    /// Sends what `head` holds, then all of `body`, then the end. Pieces that are there together leave
    /// together; a body that fails leaves a reset, not an end.
    pub(crate) async fn message<B>(&mut self, head: BytesMut, body: B) -> Result<(), LinkError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut buffer = head;
        let mut body = pin!(body);
        loop {
            let ready = std::future::poll_fn(|cx| Poll::Ready(poll_frame(body.as_mut(), cx)));
            let frame = match ready.await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.flush(&mut buffer).await?;
                    self.next_frame(body.as_mut()).await?
                }
            };
            match frame {
                None => break,
                Some(Ok(frame)) => self.frame(frame, &mut buffer).await?,
                Some(Err(error)) => {
                    self.reset(code::INCOMPLETE);
                    return Err(LinkError::Body(error));
                }
            }
            if body.is_end_stream() {
                break;
            }
        }
        self.flush(&mut buffer).await?;
        self.finish();
        Ok(())
    }

    /// Resolves when the peer no longer wants what is sent.
    pub(crate) async fn stopped(&self) -> LinkError {
        match self.stream.stopped().await {
            Ok(Some(code)) => stream_error(code),
            Ok(None) | Err(_) => LinkError::Cancelled,
        }
    }

    /// Tells the peer that the request was not begun.
    pub(crate) fn reject(mut self) {
        self.reset(code::NOT_DELIVERED);
    }

    async fn next_frame<B>(
        &mut self,
        mut body: Pin<&mut B>,
    ) -> Result<Option<Result<BodyFrame<Bytes>, BoxError>>, LinkError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        tokio::select! {
            biased;
            frame = std::future::poll_fn(|cx| poll_frame(body.as_mut(), cx)) => Ok(frame),
            error = self.stopped() => {
                self.is_over = true;
                Err(error)
            }
        }
    }

    async fn frame(
        &mut self,
        frame: BodyFrame<Bytes>,
        buffer: &mut BytesMut,
    ) -> Result<(), LinkError> {
        let frame = match frame.into_data() {
            Ok(data) if data.is_empty() => return Ok(()),
            Ok(data) if data.len() <= COPY => {
                frame::encode_header(Kind::Data, data.len(), buffer);
                buffer.put(data);
                return if buffer.len() < FLUSH { Ok(()) } else { self.flush(buffer).await };
            }
            Ok(data) => {
                frame::encode_header(Kind::Data, data.len(), buffer);
                let mut chunks = [buffer.split().freeze(), data];
                let written = self.stream.write_all_chunks(&mut chunks).await;
                return written.map_err(|error| self.write_error(error));
            }
            Err(frame) => frame,
        };
        if let Ok(trailers) = frame.into_trailers() {
            head::encode_trailers(&trailers, buffer);
        }
        Ok(())
    }

    async fn flush(&mut self, buffer: &mut BytesMut) -> Result<(), LinkError> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.write(buffer.split().freeze()).await
    }

    fn reset(&mut self, code: quinn::VarInt) {
        if !self.is_over {
            self.is_over = true;
            // Fails only if the stream has ended meanwhile, which is as good.
            let _ = self.stream.reset(code);
        }
    }

    fn write_error(&mut self, error: quinn::WriteError) -> LinkError {
        match error {
            quinn::WriteError::Stopped(code) => stream_error(code),
            quinn::WriteError::ConnectionLost(error) => error.into(),
            error => LinkError::Broken(error.into()),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.reset(code::CANCELLED);
    }
}

fn poll_frame<B>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<BodyFrame<Bytes>, BoxError>>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
}
