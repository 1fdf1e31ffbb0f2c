//! Workers: runtimes of one thread each. An edge and a connector spread their links over them, and a task
//! stays with the worker that it began on.
//!
//! A task that stays costs less than one that any thread may take up: nothing is locked, moved or
//! woken on another core on its way.

mod spread;

use std::{
    io,
    panic::resume_unwind,
    thread::{self, JoinHandle},
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

pub use self::spread::{Place, Spread};

/// One worker, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerId(u8);

impl WorkerId {
    /// The worker whose runtime was there before: what belongs to no link is done on it.
    pub const FIRST: Self = Self(0);

    /// For an array with an item for each worker.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// A runtime that links can be given to.
#[derive(Debug)]
pub struct Worker {
    /// Which one it is.
    pub id: WorkerId,
    /// What is spawned on it stays on its thread.
    pub runtime: Handle,
    thread: Option<JoinHandle<()>>,
}

/// All workers. They end when this is dropped, with whatever is left on them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    stop: CancellationToken,
    /// Cancelled when a thread has ended.
    ended: CancellationToken,
}

impl Workers {
    /// Starts all but the first, which is the current runtime; `count` is 1 at least.
    ///
    /// # Errors
    /// When the system gives no thread, or no files for it.
    pub fn start(count: u8) -> io::Result<Self> {
        let first = Worker { id: WorkerId::FIRST, runtime: Handle::current(), thread: None };
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let mut workers = Self { workers: vec![first], stop, ended };
        for n in 1..count {
            let stop = workers.stop.clone();
            workers.add(WorkerId(n), async move { stop.cancelled().await })?;
        }
        Ok(workers)
    }

    /// Starts a worker that lasts as long as `life`.
    fn add(
        &mut self,
        id: WorkerId,
        life: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let ended = self.ended.clone();
        let thread = thread::Builder::new().name(format!("worker-{}", id.0)).spawn(move || {
            let _ended = ended.drop_guard();
            runtime.block_on(life);
            // A name that does not resolve holds nobody up.
            runtime.shutdown_background();
        })?;
        self.workers.push(Worker { id, runtime: handle, thread: Some(thread) });
        Ok(())
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter()
    }

    /// Resolves when a worker has ended before its time.
    pub async fn lost(&self) {
        self.ended.cancelled().await;
    }

    /// Ends all but the first, and waits for them: what is left on them is dropped.
    ///
    /// # Panics
    /// If one of them did.
    pub fn stop(mut self) {
        self.join().unwrap_or_else(|panic| resume_unwind(panic));
    }

    fn join(&mut self) -> thread::Result<()> {
        self.stop.cancel();
        let threads = self.workers.iter_mut().filter_map(|worker| worker.thread.take());
        threads.map(JoinHandle::join).fold(Ok(()), Result::and)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Only where nobody has asked: then there is nobody to tell of a panic either.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    /// Bounds every wait; no test relies on its length.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn work_stays_on_its_worker_and_ends_with_it() {
        let workers = Workers::start(3).unwrap();
        let mut left = Vec::new();
        let mut names = Vec::new();
        for worker in workers.iter() {
            let (held, dropped) = oneshot::channel::<()>();
            let work = worker.runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let name = thread::current().name().map(str::to_owned);
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                });
                name
            });
            names.push(timeout(PATIENCE, work).await.unwrap().unwrap());
            left.push(dropped);
        }
        assert_eq!(names[1..], [Some("worker-1".to_owned()), Some("worker-2".to_owned())]);
        workers.stop();
        for dropped in left.drain(1..) {
            assert!(timeout(PATIENCE, dropped).await.unwrap().is_err());
        }
    }

    #[tokio::test]
    async fn the_end_of_a_worker_is_noticed_and_its_panic_passed_on() {
        let mut workers = Workers::start(2).unwrap();
        workers.add(WorkerId(2), async { panic!("as a test") }).unwrap();
        timeout(PATIENCE, workers.lost()).await.unwrap();
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| workers.stop()));
        assert_eq!(stopped.unwrap_err().downcast_ref(), Some(&"as a test"));
    }
}
