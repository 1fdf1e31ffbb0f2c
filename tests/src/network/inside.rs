//! A thread of this process that lives inside a private network, so that what it runs stands where the
//! connector stands: private servers, and whoever asks the connector's status port.

use std::{fs::File, future::Future, thread};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{AbortHandle, JoinHandle},
};

use super::Network;

/// The thread with its runtime; it ends when this is dropped.
pub struct Inside {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

/// A task that is aborted when this is dropped.
pub struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inside {
    /// Starts the thread.
    ///
    /// # Errors
    /// If this is not root.
    pub fn enter(network: &Network) -> anyhow::Result<Self> {
        let path = format!("/run/netns/{}", network.namespace());
        let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let (end, ended) = oneshot::channel::<()>();
        let (started, handle) = std::sync::mpsc::channel();
        let run = move || {
            // The namespace is one of the thread's; the rest of the process stays where it is.
            let entered = setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter");
            let runtime = entered.and_then(|()| {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_all().build().context("no runtime")
            });
            match runtime {
                Ok(runtime) => {
                    // Whoever waits for it is there.
                    let _ = started.send(Ok(runtime.handle().clone()));
                    let _ = runtime.block_on(ended);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        thread::Builder::new().name("inside".into()).spawn(run)?;
        let handle = handle.recv().context("the thread has ended")??;
        Ok(Self { handle, _end: end })
    }

    /// Runs a future inside.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs a future inside until the returned value is dropped.
    pub fn keep(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(self.handle.spawn(future).abort_handle())
    }
}
