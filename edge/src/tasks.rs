//! Who owns the tasks: everything that the edge spawns is counted here, and ends at the latest when
//! the edge does. Shutdown is soft first (each part finishes what it has begun), then hard.

use std::{future::Future, time::Duration};

use tokio::{runtime::Handle, time::Instant};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::aside::Aside;

/// How long what is dropped may take to be gone: it is scheduled once more, no longer. A task of hyper's that
/// does not end with its connection is left to the end of its runtime.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Spawns tasks that never outlive the edge; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    hard_stop: CancellationToken,
}

impl Tasks {
    /// Starts `work`; a hard stop drops it where it stands.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), work);
    }

    /// The same, on another runtime.
    pub(crate) fn spawn_on(
        &self,
        runtime: &Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let hard_stop = Aside::new(self.hard_stop.clone().cancelled_owned());
        let work = async move {
            tokio::select! {
                biased;
                () = hard_stop => {}
                () = work => {}
            }
        };
        self.tracker.spawn_on(work, runtime);
    }

    /// Drops every task when the guard is dropped: for an owner that may itself be dropped.
    pub(crate) fn stop_on_drop(&self) -> DropGuard {
        self.hard_stop.clone().drop_guard()
    }

    /// Waits until every task has ended, no longer than `deadline`; then drops what is left.
    pub(crate) async fn finish(&self, deadline: Instant) {
        self.tracker.close();
        if tokio::time::timeout_at(deadline, self.tracker.wait()).await.is_err() {
            self.stop().await;
        }
    }

    /// Drops every task, and waits until all are gone, two seconds at most.
    pub(crate) async fn stop(&self) {
        self.tracker.close();
        self.hard_stop.cancel();
        if tokio::time::timeout(GONE_WITHIN, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "some tasks have outlived what they served");
        }
    }
}

/// For the tasks of one of hyper's connections. They end with the connection, which is itself a task
/// that can be dropped, so none of them pays for a way of its own.
impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.tracker.spawn(work);
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_keeps_nobody_from_ending() {
        let tasks = Tasks::default();
        tasks.spawn(std::future::pending());
        tasks.execute(std::future::pending::<()>());
        tokio::time::timeout(Duration::from_secs(60), tasks.stop()).await.expect("it ends");
        assert_eq!(tasks.tracker.len(), 1, "what could be dropped is gone");
    }
}
