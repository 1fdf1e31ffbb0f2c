//! A request's body that can be sent once more: an HTTP/2 origin may say of a request that it has not begun
//! with it (RFC 9113 §8.7), and by then some of the body has left.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, request::Parts};
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::oneshot, time::timeout};

/// Most that is kept of a body, in bytes: what leaves before the origin can have refused it, at least. A
/// request of which more has left is not sent again.
const KEEP: usize = 64 * 1024;
/// Whoever was sending the body drops it as soon as it hears of the refusal.
const GIVEN_BACK: Duration = Duration::from_secs(1);

pub(crate) struct Again<B> {
    /// What has left before, and must leave again.
    ahead: VecDeque<Bytes>,
    inner: Option<B>,
    /// In a box, because most bodies have none.
    keeper: Option<Box<Keeper<B>>>,
}

struct Keeper<B> {
    left: VecDeque<Bytes>,
    length: usize,
    give_back: oneshot::Sender<Again<B>>,
}

/// Where a body comes back to when it is dropped.
pub(super) struct Back<B>(oneshot::Receiver<Again<B>>);

/// A request's head once more, and the way back for its body.
pub(super) struct Spare<B> {
    head: Parts,
    back: Back<B>,
}

impl<B> Spare<B> {
    pub(super) fn new<T>(request: &Request<T>, back: Back<B>) -> Self {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = request.method().clone();
        head.uri = request.uri().clone();
        head.version = request.version();
        head.headers = request.headers().clone();
        head.extensions = request.extensions().clone();
        Self { head, back }
    }

    /// The whole request, from its start; `None` if too much of it has left.
    pub(super) async fn request(self) -> Option<Request<Again<B>>> {
        let body = timeout(GIVEN_BACK, self.back.0).await.ok()?.ok()?;
        Some(Request::from_parts(self.head, body))
    }
}

impl<B> Again<B> {
    /// A body that is sent once.
    pub(super) fn never(inner: B) -> Self {
        Self { ahead: VecDeque::new(), inner: Some(inner), keeper: None }
    }

    /// A body that comes back.
    pub(super) fn once(inner: B) -> (Self, Back<B>) {
        let (give_back, back) = oneshot::channel();
        let keeper = Keeper { left: VecDeque::new(), length: 0, give_back };
        let mut body = Self::never(inner);
        body.keeper = Some(Box::new(keeper));
        (body, Back(back))
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(keeper) = &mut self.keeper else { return };
        match frame.data_ref() {
            Some(data) if keeper.length + data.len() <= KEEP && !keeper.give_back.is_closed() => {
                keeper.length += data.len();
                keeper.left.push_back(data.clone());
            }
            Some(_) | None => self.keeper = None,
        }
    }
}

impl<B> Drop for Again<B> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let Keeper { left, give_back, .. } = *keeper;
            // Nobody waits for it if the origin has answered.
            let _ = give_back.send(Self { ahead: left, inner: self.inner.take(), keeper: None });
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Again<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(data) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.keep(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) if self.ahead.is_empty() => inner.size_hint(),
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
