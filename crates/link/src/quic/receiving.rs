//! The receiving direction of a QUIC stream: bytes, frames, messages, bodies.

use std::{
    pin::pin,
    task::{Context, Poll, ready},
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
    /// Tell a peer that sends on that nothing was begun.
    stop_code: quinn::VarInt,
}

impl Receiving {
    pub(crate) fn new(stream: quinn::RecvStream, role: Role) -> Self {
        let decoder = Decoder::new(role);
        Self { stream, role, decoder, is_ended: false, stop_code: code::CANCELLED }
    }

    /// The next bytes as they are; `None` at the stream's end.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, LinkError>> {
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
            Err(quinn::ReadError::Reset(code)) => {
                self.is_ended = true;
                Poll::Ready(Err(stream_error(code)))
            }
            Err(quinn::ReadError::ConnectionLost(error)) => Poll::Ready(Err(error.into())),
            Err(error) => Poll::Ready(Err(LinkError::Broken(error.into()))),
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
                    self.decoder.finish()?;
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

    /// The next piece of the body, or the trailers.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, LinkError>>> {
        let frame = match ready!(self.poll_frame(cx)) {
            Ok(None) => return Poll::Ready(None),
            Ok(Some(Frame::Data(data))) => Ok(BodyFrame::data(data)),
            Ok(Some(Frame::Trailers(trailers))) => {
                head::decode_trailers(trailers).map(BodyFrame::trailers).map_err(LinkError::from)
            }
            Ok(Some(_)) => Err(LinkError::Unexpected("no body")),
            Err(error) => Err(error),
        };
        if frame.is_err() {
            self.is_ended = true;
        }
        Poll::Ready(Some(frame))
    }

    /// What is behind the head, as a body.
    pub(crate) fn into_body(mut self, follows: Follows) -> Body {
        match follows {
            Follows::Nothing => {
                self.is_ended = true;
                Body::empty()
            }
            Follows::More => Body::new(Source::Quic(self)),
        }
    }

    /// Bytes that came behind the head, for a stream that leaves HTTP.
    pub(crate) fn take_raw(&mut self) -> Bytes {
        std::mem::replace(&mut self.decoder, Decoder::new(self.role)).into_raw()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Tells the peer that the request was not begun.
    pub(crate) fn reject(mut self) {
        self.stop_code = code::NOT_DELIVERED;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.is_ended {
            // Fails only if the stream has ended meanwhile, which is as good.
            let _ = self.stream.stop(self.stop_code);
        }
    }
}
