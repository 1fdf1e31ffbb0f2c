//! An answer's body that ends only where the origin has ended it.
//!
//! hyper takes an HTTP/2 reset with NO_ERROR for an end. After a whole answer it says that the rest of the
//! request is not wanted (RFC 9113 §8.1); before, it breaks the answer off.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use protocol::fields;

pub(super) struct Whole {
    inner: Incoming,
    is_http2: bool,
    /// Most trailers that the edge takes.
    most_trailers: usize,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the origin reset the stream before the answer's end")]
    Reset,
    #[error("the answer has {count} trailers; {most} pass")]
    Trailers { count: usize, most: usize },
}

impl Whole {
    pub(super) fn of(response: Response<Incoming>, most_trailers: usize) -> Response<Self> {
        let is_http2 = response.version() == Version::HTTP_2;
        response.map(|inner| Self { inner, is_http2, most_trailers })
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    fields::strip_trailers(trailers);
                }
                let count = frame.trailers_ref().map_or(0, HeaderMap::len);
                let most = self.most_trailers;
                let fits = count <= most;
                Poll::Ready(Some(if fits {
                    Ok(frame)
                } else {
                    Err(BrokenOff::Trailers { count, most })
                }))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            // Only over HTTP/2 does this always tell whether the end has come.
            None if self.is_http2 && !self.inner.is_end_stream() => {
                Poll::Ready(Some(Err(BrokenOff::Reset)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
