//! The receiving direction of a QUIC stream: bytes, frames, messages, bodies.

use std::{
    pin::pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame as BodyFrame;
use protocol::{
    frame::{Decoder, Frame, Role},
    head::{self, Follows},
};

use super::{code, stream_error};
use crate::{
    body::{Body, Source},
    error::LinkError,
    upgrade,
};

/// Most bytes taken off the stream at once.
const CHUNK: usize = 64 * 1024;

/// A message's head.
pub(crate) enum Message {
    Request(Request<()>, Follows),
    Informational(Response<()>),
    Response(Response<()>, Follows),
}

/// Reads one direction of a stream. Dropped before its end, it tells the peer to stop.
#[derive(Debug)]
pub(crate) struct Receiving {
    stream: quinn::RecvStream,
    role: Role,
    decoder: Decoder,
    /// The stream's end was seen, or does not matter any more.
    is_ended: bool,
    /// How the stream has failed, for whoever reads next.
    failure: Option<LinkError>,
    /// What came before a failure must never look whole.
    has_failed: bool,
    /// Tell a peer that sends on that nothing was begun.
    stop_code: quinn::VarInt,
}

impl Receiving {
    pub(crate) fn new(stream: quinn::RecvStream, role: Role) -> Self {
        let decoder = Decoder::new(role);
        let stop_code = code::CANCELLED;
        Self { stream, role, decoder, is_ended: false, failure: None, has_failed: false, stop_code }
    }

    /// The next bytes as they are; `None` at the stream's end.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, LinkError>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if self.has_failed {
            return Poll::Ready(Err(LinkError::Cancelled));
        }
        if self.is_ended {
            return Poll::Ready(Ok(None));
        }
        // The future holds nothing but the borrow, so it may be made anew for each poll.
        match ready!(pin!(self.stream.read_chunk(CHUNK, true)).poll(cx)) {
            Ok(Some(chunk)) => Poll::Ready(Ok(Some(chunk.bytes))),
            Ok(None) => {
                self.is_ended = true;
                Poll::Ready(Ok(None))
            }
            Err(error) => {
                self.has_failed = true;
                Poll::Ready(Err(match error {
                    quinn::ReadError::Reset(code) => {
                        self.is_ended = true;
                        stream_error(code)
                    }
                    quinn::ReadError::ConnectionLost(error) => error.into(),
                    error => LinkError::Broken(error.into()),
                }))
            }
        }
    }

    /// Ready if the peer has broken this direction off, although nobody reads it.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        if self.is_ended {
            return Poll::Pending;
        }
        match ready!(pin!(self.stream.received_reset()).poll(cx)) {
            Ok(Some(code)) => Poll::Ready(stream_error(code)),
            // It has ended, and whoever reads it will see.
            Ok(None) => Poll::Pending,
            Err(_) => Poll::Ready(LinkError::Cancelled),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, LinkError>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            match ready!(self.poll_bytes(cx))? {
                Some(bytes) => self.decoder.push(bytes),
                None => {
                    // A peer whose source of the message breaks off ends like this on purpose.
                    self.decoder.finish().map_err(|_| LinkError::Incomplete)?;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    /// The next head.
    pub(crate) async fn message(&mut self) -> Result<Message, LinkError> {
        let frame = std::future::poll_fn(|cx| self.poll_frame(cx)).await?;
        match (frame, self.role) {
            (Some(Frame::Head(head)), Role::Request) => {
                let (request, follows) = head::decode_request(head)?;
                Ok(Message::Request(request, follows))
            }
            (Some(Frame::Head(head)), Role::Response) => {
                let (response, follows) = head::decode_response(head)?;
                Ok(Message::Response(response, follows))
            }
            (Some(Frame::Informational(head)), Role::Response) => {
                let (response, _) = head::decode_response(head)?;
                Ok(Message::Informational(response))
            }
            _ => Err(LinkError::Unexpected("no head")),
        }
    }

    /// Looks whether the end is there already. Whoever knows a message's length reads no further, and a
    /// stream that is dropped with its end unread costs a packet each way to say that nobody minds.
    fn see_end(&mut self) {
        if !self.decoder.is_drained() || self.has_failed {
            return;
        }
        // Whoever reads on registers a waker of its own.
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_bytes(&mut cx) {
            Poll::Ready(Ok(Some(bytes))) => self.decoder.push(bytes),
            Poll::Ready(Err(failure)) => self.failure = Some(failure),
            Poll::Ready(Ok(None)) | Poll::Pending => {}
        }
    }

    /// The next piece of the body, or the trailers.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, LinkError>>> {
        let frame = match ready!(self.poll_frame(cx)) {
            Ok(None) => return Poll::Ready(None),
            Ok(Some(Frame::Data(data))) => {
                self.see_end();
                Ok(BodyFrame::data(data))
            }
            Ok(Some(Frame::Trailers(trailers))) => {
                head::decode_trailers(trailers).map(BodyFrame::trailers).map_err(LinkError::from)
            }
            Ok(Some(_)) => Err(LinkError::Unexpected("no body")),
            Err(error) => Err(error),
        };
        if frame.is_err() {
            self.is_ended = true;
            self.has_failed = true;
        }
        Poll::Ready(Some(frame))
    }

    /// What is behind the head, as a body.
    pub(crate) fn into_body(mut self: Box<Self>, follows: Follows) -> Body {
        match follows {
            Follows::Nothing => {
                self.see_end();
                self.is_ended = true;
                Body::empty()
            }
            Follows::More => Body::new(Source::Quic(self)),
        }
    }

    /// This many bytes behind the head, which are the body of a request that asks to leave HTTP.
    pub(crate) async fn read_raw(&mut self, length: usize) -> Result<Bytes, LinkError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let ahead = self.take_raw();
        upgrade::read_body(length, ahead, |cx| self.poll_bytes(cx)).await
    }

    /// Bytes that came behind the head, for a stream that leaves HTTP.
    pub(crate) fn take_raw(&mut self) -> Bytes {
        std::mem::replace(&mut self.decoder, Decoder::new(self.role)).into_raw()
    }

    /// True if there is nothing more to read, and the message is whole.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended && !self.has_failed && self.decoder.finish().is_ok()
    }

    /// Tells the peer that the request was not begun.
    pub(crate) fn reject(mut self) {
        self.stop_code = code::NOT_DELIVERED;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.is_ended {
            self.see_end();
        }
        if !self.is_ended {
            // Fails only if the stream has ended meanwhile, which is as good.
            let _ = self.stream.stop(self.stop_code);
        }
    }
}
