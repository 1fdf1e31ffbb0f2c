//! A request's body on its way to a link: limited, counted, and given back untouched if the link never
//! asked for any of it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use link::BoxError;

use crate::core::Core;

/// A request's body, until it is known which link takes it.
#[derive(Debug)]
pub(crate) struct Source {
    body: Option<Arc<Lent>>,
    limit: u64,
    core: Arc<Core>,
}

/// What a link has borrowed.
#[derive(Debug)]
struct Lent {
    /// Here while nobody reads it, and again if nobody ever did.
    body: Mutex<Option<Incoming>>,
    is_too_large: AtomicBool,
}

/// The body is over the edge's limit.
#[derive(Debug, thiserror::Error)]
#[error("the request's body is too large")]
struct TooLarge;

impl Source {
    pub(crate) fn new(body: Incoming, limit: u64, core: Arc<Core>) -> Self {
        let lend = |body| {
            Arc::new(Lent { body: Mutex::new(Some(body)), is_too_large: AtomicBool::new(false) })
        };
        Self { body: (!body.is_end_stream()).then(|| lend(body)), limit, core }
    }

    /// True if no body follows the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_none()
    }

    /// True if an attempt can begin: nothing of the body is gone.
    pub(crate) fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(|lent| lent.lock().is_some())
    }

    /// True if the body turned out to be over the limit.
    pub(crate) fn is_too_large(&self) -> bool {
        self.body.as_ref().is_some_and(|lent| lent.is_too_large.load(Ordering::Relaxed))
    }

    /// The body for one attempt.
    pub(crate) fn lend(&self) -> Upload {
        let lent = self.body.clone();
        let body = lent.as_ref().and_then(|lent| lent.lock().take());
        Upload { body, lent, left: self.limit, was_read: false, core: self.core.clone() }
    }
}

impl Lent {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body that a link reads.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Option<Incoming>,
    lent: Option<Arc<Lent>>,
    left: u64,
    was_read: bool,
    core: Arc<Core>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let (Some(body), Some(lent)) = (&mut this.body, &this.lent) else {
            return Poll::Ready(None);
        };
        this.was_read = true;
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = this.left.checked_sub(length) else {
            lent.is_too_large.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(TooLarge.into())));
        };
        this.left = left;
        this.core.metrics.bytes_up.increment(length);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (false, Some(lent), Some(body)) = (self.was_read, &self.lent, self.body.take()) {
            *lent.lock() = Some(body);
        }
    }
}
