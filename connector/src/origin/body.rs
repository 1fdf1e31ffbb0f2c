//! A body on its way through: counted, its trailers cleaned, its end noticed.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use metrics::Counter;
use protocol::fields;
use tokio::{sync::oneshot, time::Instant};

pub(crate) struct Metered<B> {
    inner: B,
    bytes: Counter,
    ended: Option<oneshot::Sender<Instant>>,
}

impl<B: Body> Metered<B> {
    /// Counts into `bytes`.
    pub(super) fn new(inner: B, bytes: Counter) -> Self {
        Self { inner, bytes, ended: None }
    }

    /// Counts into `bytes`, and tells when there is nothing more to come.
    pub(super) fn with_end(inner: B, bytes: Counter) -> (Self, RequestEnd) {
        if inner.is_end_stream() {
            return (Self::new(inner, bytes), RequestEnd::At(Instant::now()));
        }
        let (ended, end) = oneshot::channel();
        (Self { inner, bytes, ended: Some(ended) }, RequestEnd::Ahead(end))
    }

    fn end(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Nobody waits any more: the answer came first.
            let _ = ended.send(Instant::now());
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes.increment(data.len() as u64);
                } else if let Some(trailers) = frame.trailers_mut() {
                    fields::strip_trailers(trailers);
                }
                if self.inner.is_end_stream() {
                    self.end();
                }
            }
            Some(Err(_)) | None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// When a request's last byte was handed over.
pub(super) enum RequestEnd {
    At(Instant),
    Ahead(oneshot::Receiver<Instant>),
}

impl RequestEnd {
    /// Resolves once the request has been over for `limit`.
    pub(super) async fn silence(&mut self, limit: Duration) {
        let at = match self {
            Self::At(at) => *at,
            // A body that was dropped has ended, too.
            Self::Ahead(end) => end.await.unwrap_or_else(|_| Instant::now()),
        };
        *self = Self::At(at);
        tokio::time::sleep_until(at + limit).await;
    }

    /// When it was, if it has been.
    pub(super) fn at(&mut self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(*at),
            Self::Ahead(end) => end.try_recv().ok(),
        }
    }
}
