//! A body on its way through: counted, its trailers cleaned, its end noticed.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use metrics::Counter;
use protocol::fields;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::Instant,
};

use crate::metrics::Mark;

pub(crate) struct Metered<B> {
    inner: B,
    bytes: Counter,
    mark: Mark,
    /// Until its end has been told.
    told: Option<Told>,
}

/// What is told of a body to whoever waits for the answer.
struct Told {
    ended: oneshot::Sender<Instant>,
    progress: Arc<Progress>,
}

/// How far a body has come.
#[derive(Default)]
pub(super) struct Progress {
    pieces: AtomicU64,
    /// Its sender is asked for more, and nobody else is waited for.
    is_asked: AtomicBool,
}

impl<B: Body> Metered<B> {
    /// Counts into `bytes`, and marks what moves.
    pub(super) fn new(inner: B, bytes: Counter, mark: Mark) -> Self {
        Self { inner, bytes, mark, told: None }
    }

    /// The same, and tells when there is nothing more to come.
    pub(super) fn with_end(inner: B, bytes: Counter, mark: Mark) -> (Self, RequestEnd) {
        if inner.is_end_stream() {
            return (Self::new(inner, bytes, mark), RequestEnd::At(Instant::now()));
        }
        let (ended, end) = oneshot::channel();
        let progress = Arc::<Progress>::default();
        let told = Some(Told { ended, progress: progress.clone() });
        (Self { inner, bytes, mark, told }, RequestEnd::Ahead(end, progress))
    }

    fn end(&mut self) {
        if let Some(told) = self.told.take() {
            // Nobody waits any more: the answer came first.
            let _ = told.ended.send(Instant::now());
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
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Some(told) = &self.told {
            told.progress.pieces.fetch_add(u64::from(polled.is_ready()), Ordering::Relaxed);
            told.progress.is_asked.store(polled.is_pending(), Ordering::Relaxed);
        }
        let mut frame = std::task::ready!(polled);
        self.mark.moves();
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
    Ahead(oneshot::Receiver<Instant>, Arc<Progress>),
}

/// What has taken too long.
pub(super) enum Late {
    Response,
    Upload,
}

impl RequestEnd {
    /// Resolves once the request has been over for `response`, or when the origin has taken nothing of it for
    /// `upload`. How long its sender takes does not count.
    pub(super) async fn late(&mut self, response: Duration, upload: Duration) -> Late {
        let at = match self {
            Self::At(at) => *at,
            Self::Ahead(end, progress) => tokio::select! {
                biased;
                // A body that was dropped has ended, too.
                at = end => at.unwrap_or_else(|_| Instant::now()),
                () = progress.stands_still(upload) => return Late::Upload,
            },
        };
        *self = Self::At(at);
        tokio::time::sleep_until(at + response).await;
        Late::Response
    }

    /// True if nothing of the request is on its way any more.
    pub(super) fn is_over(&mut self) -> bool {
        match self {
            Self::At(_) => true,
            Self::Ahead(end, _) => !matches!(end.try_recv(), Err(TryRecvError::Empty)),
        }
    }

    /// When it was, if it has been.
    pub(super) fn at(&mut self) -> Option<Instant> {
        match self {
            Self::At(at) => Some(*at),
            Self::Ahead(end, _) => end.try_recv().ok(),
        }
    }
}

impl Progress {
    async fn stands_still(&self, limit: Duration) {
        loop {
            let before = self.pieces.load(Ordering::Relaxed);
            tokio::time::sleep(limit).await;
            let has_moved = self.pieces.load(Ordering::Relaxed) != before;
            if !has_moved && !self.is_asked.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}
