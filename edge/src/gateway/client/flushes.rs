//! When all that hyper had for a connection was handed to its socket. hyper flushes once its own buffer is
//! empty, and tells nobody above.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// The flushes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    count: AtomicU64,
    is_awaited: AtomicBool,
    /// Those who await the next one.
    tasks: Mutex<Vec<Waker>>,
}

/// A point in the order of flushes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flushed(u64);

impl Flushes {
    pub(crate) fn now(&self) -> Flushed {
        Flushed(self.count.load(Ordering::Relaxed))
    }

    /// Ready once there has been a flush since then.
    pub(crate) fn poll_since(&self, since: Flushed, cx: &Context<'_>) -> Poll<()> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.count.load(Ordering::Relaxed) != since.0 {
            return Poll::Ready(());
        }
        if !tasks.iter().any(|task| task.will_wake(cx.waker())) {
            tasks.push(cx.waker().clone());
        }
        self.is_awaited.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    /// Counts a flush. A connection and its streams share one worker, so a look at who waits is enough.
    pub(crate) fn tell(&self) {
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        if !self.is_awaited.load(Ordering::Relaxed) {
            return;
        }
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_awaited.store(false, Ordering::Relaxed);
        tasks.drain(..).for_each(Waker::wake);
    }
}
