//! A message's body as it comes off a link: pieces as they arrive, then trailers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{error::LinkError, http2, quic, sender::Sender};

/// A request's body at the connector, a response's body at the edge. Only what is read makes room for
/// more; dropping it before its end cancels the stream.
#[derive(Debug, Default)]
pub struct Body {
    source: Source,
    /// Sends the request's own body while this response is read; stops with it.
    _sender: Option<Sender>,
}

#[derive(Debug, Default)]
pub(crate) enum Source {
    #[default]
    Empty,
    /// All of it.
    Whole(Bytes),
    Quic(Box<quic::Receiving>),
    Http2(http2::Receiving),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::new(Source::Empty)
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::new(Source::Whole(bytes))
    }

    pub(crate) fn new(source: Source) -> Self {
        Self { source, _sender: None }
    }

    pub(crate) fn with_sender(self, sender: Option<Sender>) -> Self {
        Self { _sender: sender, ..self }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = LinkError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LinkError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Source::Quic(receiving) => receiving.poll_body(cx),
            Source::Http2(receiving) => receiving.poll_body(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Quic(receiving) => receiving.is_ended(),
            Source::Http2(receiving) => receiving.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
