//! The receiving direction of an HTTP/2 stream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame as BodyFrame;

use super::{limit, stream_error};
use crate::{error::LinkError, upgrade};

/// Reads one direction of a stream. What is handed on makes room in the window; nothing else does.
#[derive(Debug)]
pub(crate) struct Receiving {
    stream: h2::RecvStream,
    is_ended: bool,
}

impl Receiving {
    pub(crate) fn new(stream: h2::RecvStream) -> Self {
        Self { stream, is_ended: false }
    }

    /// The next bytes as they are; `None` at the end of the data.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, LinkError>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // Fails only on a stream that is closed, which needs no window.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Poll::Ready(Ok(Some(data)))
            }
            Some(Err(error)) => Poll::Ready(Err(stream_error(error))),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// This many bytes, which are the body of a request that asks to leave HTTP.
    pub(crate) async fn read_raw(&mut self, length: usize) -> Result<Bytes, LinkError> {
        upgrade::read_body(length, Bytes::new(), |cx| self.poll_bytes(cx)).await
    }

    /// The next piece of the body, or the trailers.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, LinkError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        loop {
            match ready!(self.poll_bytes(cx)) {
                // An empty frame only carries the end of the stream.
                Ok(Some(data)) if data.is_empty() => {}
                Ok(Some(data)) => return Poll::Ready(Some(Ok(BodyFrame::data(data)))),
                Ok(None) => break,
                Err(error) => {
                    self.is_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.is_ended = true;
        match trailers {
            Ok(None) => Poll::Ready(None),
            Ok(Some(trailers)) => {
                let fits = limit(&trailers);
                Poll::Ready(Some(fits.map(|()| BodyFrame::trailers(trailers))))
            }
            Err(error) => Poll::Ready(Some(Err(stream_error(error)))),
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended || self.stream.is_end_stream()
    }
}
