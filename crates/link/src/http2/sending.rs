//! The sending direction of an HTTP/2 stream.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame as BodyFrame};

use protocol::frame::Role;

use super::{Pace, reset_error, stream_error};
use crate::error::{BoxError, LinkError};

/// Writes one direction of a stream. Dropped before it was finished, it is reset: the peer must never
/// take half a message for a whole one.
#[derive(Debug)]
pub(crate) struct Sending {
    stream: h2::SendStream<Bytes>,
    pace: Pace,
    is_over: bool,
}

impl Sending {
    pub(crate) fn new(stream: h2::SendStream<Bytes>, pace: Pace) -> Self {
        Self { stream, pace, is_over: false }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), LinkError> {
        self.write_data(bytes, false).await
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, LinkError>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let granted = ready!(self.poll_capacity(cx, bytes.len().min(self.pace.piece())))?;
        let data = Bytes::copy_from_slice(&bytes[..granted]);
        self.stream.send_data(data, false).map_err(stream_error)?;
        Poll::Ready(Ok(granted))
    }

    /// Ready if the peer has reset the stream, or if the link is gone.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        Poll::Ready(match ready!(self.stream.poll_reset(cx)) {
            Ok(reason) => reset_error(reason),
            Err(error) => stream_error(error),
        })
    }

    /// Ends this direction properly.
    pub(crate) fn finish(&mut self) {
        if !self.is_over {
            self.is_over = true;
            // Fails only if the stream was reset meanwhile, which is as good.
            let _ = self.stream.send_data(Bytes::new(), true);
        }
    }

    /// Sends all of `body`, then the end. A body that fails leaves a reset, not an end. Of a response, what
    /// came before the failure arrives all the same.
    pub(crate) async fn body<B>(&mut self, role: Role, body: B) -> Result<(), LinkError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body);
        while let Some(frame) = self.next_frame(body.as_mut()).await? {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    match role {
                        Role::Request | Role::Control => self.reset(h2::Reason::INTERNAL_ERROR),
                        // When it is told to reset a stream, h2 forgets all that it has not sent yet. When
                        // a stream is dropped, it still sends the head; the body needs the connection's turn.
                        Role::Response => {
                            tokio::task::yield_now().await;
                            tokio::task::yield_now().await;
                            self.is_over = true;
                        }
                    }
                    return Err(LinkError::Body(error));
                }
            };
            let is_last = body.is_end_stream();
            match frame.into_data() {
                Ok(data) => {
                    self.write_data(data, is_last).await?;
                    if is_last {
                        self.is_over = true;
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.is_over = true;
                        return self.stream.send_trailers(trailers).map_err(stream_error);
                    }
                }
            }
        }
        self.finish();
        Ok(())
    }

    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        if !self.is_over {
            self.is_over = true;
            self.stream.send_reset(reason);
        }
    }

    async fn next_frame<B>(
        &mut self,
        mut body: Pin<&mut B>,
    ) -> Result<Option<Result<BodyFrame<Bytes>, BoxError>>, LinkError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
                return Poll::Ready(Ok(frame.map(|frame| frame.map_err(Into::into))));
            }
            self.poll_gone(cx).map(Err)
        })
        .await
    }

    async fn write_data(&mut self, mut data: Bytes, is_last: bool) -> Result<(), LinkError> {
        if data.is_empty() {
            if is_last {
                self.stream.send_data(data, true).map_err(stream_error)?;
            }
            return Ok(());
        }
        while !data.is_empty() {
            let wanted = data.len().min(self.pace.piece());
            let granted = std::future::poll_fn(|cx| self.poll_capacity(cx, wanted)).await?;
            let piece = data.split_to(granted);
            self.stream.send_data(piece, is_last && data.is_empty()).map_err(stream_error)?;
        }
        Ok(())
    }

    /// Room for 1 to `wanted` bytes.
    fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, LinkError>> {
        self.stream.reserve_capacity(wanted);
        loop {
            let capacity = self.stream.capacity();
            if capacity > 0 {
                return Poll::Ready(Ok(capacity.min(wanted)));
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(stream_error(error))),
                None => return Poll::Ready(Err(LinkError::Cancelled)),
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.reset(h2::Reason::CANCEL);
    }
}
