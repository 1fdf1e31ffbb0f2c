//! A future beside another one in the same task, which is polled only when it was woken itself. A task that
//! wakes for each request should not ask each time for what happens once in its life.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

pub(crate) struct Aside<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Wakes the task, and notes for whom.
#[derive(Default)]
struct Bell {
    has_rung: AtomicBool,
    task: OnceLock<Waker>,
}

impl<F: Future> Aside<F> {
    /// To be polled by one task alone: the one that polls it first.
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: OnceLock::new() });
        Self { future: Box::pin(future), waker: Waker::from(bell.clone()), bell }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        // A look costs less than a write, and almost always nobody has rung.
        if !this.bell.has_rung.load(Ordering::Relaxed)
            || !this.bell.has_rung.swap(false, Ordering::Acquire)
        {
            return Poll::Pending;
        }
        this.bell.task.get_or_init(|| cx.waker().clone());
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_not_when_the_task_was() {
        let (told, news) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let polled = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let (told, news, polled) = (told.clone(), news.clone(), polled.clone());
            async move {
                let mut rare = Box::pin(async move { told.notified().await });
                let mut rare = Aside::new(poll_fn(move |cx| {
                    polled.fetch_add(1, Ordering::SeqCst);
                    rare.as_mut().poll(cx)
                }));
                for often in 0.. {
                    tokio::select! {
                        biased;
                        () = &mut rare => return often,
                        () = news.notified() => {}
                    }
                }
                unreachable!("it is told once")
            }
        });
        for _ in 0..10 {
            news.notify_one();
            tokio::task::yield_now().await;
        }
        told.notify_one();
        assert_eq!(task.await.unwrap(), 10);
        assert_eq!(polled.load(Ordering::SeqCst), 2);
    }
}
