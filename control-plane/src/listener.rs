//! Accepts connections: bounded in number, which strangers share by their source, each in a task that ends with the
//! listener, softly first and then for good.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use room::{Place, Room};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// When accepting fails, as it does without free file descriptors, the next try waits that long.
const BREATH: Duration = Duration::from_millis(100);
/// Connections that are told to stop, and what goes on without one, have that long; with the runs' grace it is less
/// than the ten seconds after which container engines kill.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

/// Serves until told to stop. `serve` gets each connection with its place, where it notes that its client has proven
/// something, and with a token that asks it to finish. A stranger is let go after `stranger_within`.
pub(crate) async fn run<F>(
    listener: TcpListener,
    room: Arc<Room>,
    stranger_within: Duration,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr, Arc<Place>, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    let kill = CancellationToken::new();
    loop {
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { break };
        match accepted {
            Ok((stream, peer)) => {
                let place = stop.run_until_cancelled(room.enter(peer.ip())).await;
                let Some(place) = place else { break };
                let Some(place) = place.map(Arc::new) else { continue };
                // Without Nagle small messages leave at once; a socket that cannot still works.
                let _ = stream.set_nodelay(true);
                let connection = serve(stream, peer, place.clone(), stop.clone());
                let kill = kill.clone();
                tasks.spawn(async move {
                    kill.run_until_cancelled(place.hold(stranger_within, connection)).await;
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        kill.cancel();
        tasks.wait().await;
    }
}

/// Tasks with one owner, who ends them: hyper's streams of one connection, and what must go on without it.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Streams {
    /// Runs a future to its end, even if whoever waits for it here goes away; `None` if it was ended before.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let kill = self.kill.clone();
        let task = self.tasks.spawn(async move { kill.run_until_cancelled(work).await });
        task.await.ok().flatten()
    }

    /// Waits until all have ended; ends those that take longer than `grace`.
    pub(crate) async fn close(&self, grace: Duration) {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.kill.cancel();
            self.tasks.wait().await;
        }
    }

    pub(crate) fn end_on_drop(&self) -> DropGuard {
        self.kill.clone().drop_guard()
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let kill = self.kill.clone();
        self.tasks.spawn(async move {
            kill.run_until_cancelled(future).await;
        });
    }
}
