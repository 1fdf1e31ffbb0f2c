//! The streams under way through one tunnel: how many there may be and whose ([`shares`]), and how one is cut
//! when its caller loses the right to it.
//!
//! A client that reads slowly, or not at all, must not keep a forbidden stream alive. So what a stream
//! reads from the link is held here, and a cut takes it away whoever looks at it last.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use crate::knowledge::Grant;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use link::LinkError;
use protocol::refusal::Refusal;
use slab::Slab;

use self::shares::Shares;

mod shares;

pub(crate) use self::shares::Sharers;

/// All streams of one tunnel.
#[derive(Debug)]
pub(crate) struct Streams {
    all: Mutex<All>,
    max: usize,
}

#[derive(Debug, Default)]
struct All {
    live: Slab<Place>,
    shares: Shares,
}

#[derive(Debug)]
struct Place {
    stream: Arc<Stream>,
    began: Instant,
    moved_at: Instant,
}

/// One stream under way.
#[derive(Debug)]
pub(crate) struct Stream {
    grant: Grant,
    sharers: Sharers,
    /// Since somebody has looked. What moves a byte sets it, and reads no clock.
    has_moved: AtomicBool,
    state: Mutex<State>,
}

/// When, of some streams, the oldest one began, and the one that has stood still for longest moved last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ages {
    pub(crate) oldest: Instant,
    pub(crate) moved_at: Instant,
}

impl Ages {
    /// Those of more streams.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { oldest: self.oldest.min(other.oldest), moved_at: self.moved_at.min(other.moved_at) }
    }
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    /// The response's, once there is one.
    body: Option<link::Body>,
    /// The one task that serves the stream: it waits for a cut first, then for the body as well.
    task: Option<Waker>,
}

/// Why no more comes from a response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The link broke, or the origin did.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The caller lost the right to it.
    #[error("access was taken away")]
    Cut,
}

impl Streams {
    pub(crate) fn new(max: usize) -> Self {
        Self { all: Mutex::default(), max }
    }

    /// Counts in a new stream, which `began` a moment ago, where the tunnel's links take `room` streams; or tells
    /// why it has to wait.
    pub(crate) fn begin(
        self: &Arc<Self>,
        grant: Grant,
        sharers: Sharers,
        room: usize,
        began: Instant,
    ) -> Result<Live, Refusal> {
        let (has_moved, state) = (AtomicBool::new(false), Mutex::default());
        let stream = Arc::new(Stream { grant, sharers, has_moved, state });
        let mut all = lock(&self.all);
        let free = self.max.min(room).saturating_sub(all.live.len());
        all.shares.begin(sharers, free)?;
        let key = all.live.insert(Place { stream: stream.clone(), began, moved_at: began });
        drop(all);
        Ok(Live { stream, key, streams: self.clone() })
    }

    /// Are at least half of the streams under way that may be, where the tunnel's links take `room`?
    pub(crate) fn is_half_full(&self, room: usize) -> bool {
        lock(&self.all).live.len() >= self.max.min(room).div_ceil(2)
    }

    /// Looks at every stream. One that has moved since the last look has moved just now, so the lengths of
    /// stalls are as exact as this is called often.
    pub(crate) fn look(&self, now: Instant) -> Option<Ages> {
        let look = |(_, place): (usize, &mut Place)| {
            if place.stream.has_moved.swap(false, Relaxed) {
                place.moved_at = now;
            }
            Ages { oldest: place.began, moved_at: place.moved_at }
        };
        lock(&self.all).live.iter_mut().map(look).reduce(Ages::and)
    }

    /// Has the task of every stream look round: a link may be in question, or another one well.
    pub(crate) fn wake_all(&self) {
        let live: Vec<Arc<Stream>> =
            lock(&self.all).live.iter().map(|(_, place)| place.stream.clone()).collect();
        live.iter().for_each(|stream| stream.wake());
    }

    /// Cuts every stream that `is_allowed` denies.
    pub(crate) fn judge(&self, is_allowed: impl Fn(&Grant) -> bool) {
        let denied: Vec<Arc<Stream>> = {
            let all = lock(&self.all);
            let streams = all.live.iter().map(|(_, place)| &place.stream);
            streams.filter(|stream| !is_allowed(&stream.grant)).cloned().collect()
        };
        denied.iter().for_each(|stream| stream.cut());
    }
}

impl Stream {
    /// Something of the request, or of its answer, has moved.
    pub(crate) fn moves(&self) {
        self.has_moved.store(true, Relaxed);
    }

    fn wake(&self) {
        if let Some(task) = &lock(&self.state).task {
            task.wake_by_ref();
        }
    }

    fn cut(&self) {
        let cut = State { is_cut: true, ..State::default() };
        let state = std::mem::replace(&mut *lock(&self.state), cut);
        if let Some(task) = state.task {
            task.wake();
        }
    }
}

impl State {
    fn wake_later(&mut self, cx: &Context<'_>) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
    }
}

/// A stream's place among the live ones, for as long as it is under way.
#[derive(Debug)]
pub(crate) struct Live {
    stream: Arc<Stream>,
    key: usize,
    streams: Arc<Streams>,
}

impl Live {
    /// Resolves when the caller has lost the right to the stream.
    pub(crate) async fn cut(&self) {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.stream.state);
            if state.is_cut {
                return Poll::Ready(());
            }
            state.wake_later(cx);
            Poll::Pending
        })
        .await;
    }

    /// The same, at once; the stream's task is told later.
    pub(crate) fn is_cut(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.stream.state);
        state.wake_later(cx);
        state.is_cut
    }

    /// Notes what moves.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Holds the response's body from here on.
    pub(crate) fn hold(&self, body: link::Body) {
        self.stream.moves();
        let mut state = lock(&self.stream.state);
        if !state.is_cut {
            state.body = Some(body);
        }
    }

    pub(crate) fn poll_body(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = lock(&self.stream.state);
        let Some(body) = &mut state.body else {
            return Poll::Ready(state.is_cut.then_some(Err(Broken::Cut)));
        };
        let frame = std::pin::Pin::new(body).poll_frame(cx);
        match frame {
            Poll::Pending => state.wake_later(cx),
            Poll::Ready(_) => self.stream.moves(),
        }
        frame.map(|frame| frame.map(|frame| Ok(frame?)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = lock(&self.stream.state);
        match &state.body {
            Some(body) => body.is_end_stream(),
            None => !state.is_cut,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let state = lock(&self.stream.state);
        state.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut all = lock(&self.streams.all);
        all.live.remove(self.key);
        all.shares.end(self.stream.sharers);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
