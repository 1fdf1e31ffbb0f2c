//! Connections to origins that are at rest between two requests. Each worker has a pool of its own.
//!
//! A connection is given back when its answer's body has been read to its end; if it is not, the
//! connection ends with it. What rests too long is closed, before the origin can close it: a request that
//! meets a closing connection cannot always be sent again.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use hyper::client::conn::http1::SendRequest;
use tokio::{task::JoinSet, time::Instant};

use super::{
    RequestBody,
    connect::{ByDestination, Destination},
    http2::{FirstCalls, Shared},
    settings::{Settings, Terms},
};

/// Rest of a connection. Common servers close after 5 s; this is sooner.
const REST: Duration = Duration::from_secs(4);
/// How often what has rested too long is looked for. It may be closed this much later.
const SWEEP: Duration = Duration::from_millis(500);
/// Most connections at rest for one destination: a crowd that calls one server must not dial anew for
/// each request.
const MAX_PER_DESTINATION: usize = 256;
/// Most connections at rest altogether.
const MAX: usize = 512;

/// A connection that carries one request at a time.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) peer: IpAddr,
    pub(super) settings: Option<Arc<Settings>>,
}

/// A connection whose answer is being read.
pub(super) struct Lent {
    pub(super) destination: Destination,
    pub(super) connection: Connection,
}

#[derive(Clone, Default)]
pub(super) struct Pool(pub(super) Arc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    resting: Mutex<Resting>,
    /// Connections that carry many requests at a time.
    pub(super) shared: Mutex<ByDestination<Shared>>,
    pub(super) first_calls: FirstCalls,
    /// Drives connections and returns them here; whatever still runs ends with the pool.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Resting {
    /// Where something is in here, it is being swept.
    connections: ByDestination<Vec<(Instant, Connection)>>,
    count: usize,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A connection that seems to be alive, the one used last first; one that the terms do not admit is
    /// closed.
    pub(super) fn take(&self, destination: &Destination, terms: &Terms) -> Option<Connection> {
        let mut resting = self.resting();
        let Resting { connections, count } = &mut *resting;
        let connections = connections.get_mut(destination)?;
        while let Some((since, connection)) = connections.pop() {
            *count -= 1;
            if connection.sender.is_ready()
                && since.elapsed() < REST
                && terms.admit(connection.peer, connection.settings.as_ref())
            {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, as soon as it is ready for it.
    pub(super) async fn give_back(&self, lent: Lent) {
        let Lent { destination, mut connection } = lent;
        if connection.sender.ready().await.is_err() {
            return;
        }
        let mut resting = self.resting();
        let Resting { connections, count } = &mut *resting;
        if *count >= MAX {
            return;
        }
        let is_first = connections.is_empty();
        let connections = connections.entry(destination).or_default();
        if connections.len() >= MAX_PER_DESTINATION {
            return;
        }
        connections.push((Instant::now(), connection));
        *count += 1;
        drop(resting);
        if is_first {
            self.keep_sweeping();
        }
    }

    /// Closes what has rested too long, until nothing is left.
    fn keep_sweeping(&self) {
        let pool = Arc::downgrade(&self.0);
        self.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(pool) = pool.upgrade().map(Self) else { return };
                if pool.resting().sweep() {
                    return;
                }
            }
        });
    }

    /// Moves a connection's bytes until it ends.
    pub(super) fn drive<E>(
        &self,
        connection: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.spawn(async move {
            // Whoever waits for an answer on it hears of the error.
            let _ = connection.await;
        });
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().expect("no panic while locked");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.0.resting.lock().expect("no panic while locked")
    }
}

impl Resting {
    /// True if nothing is left.
    fn sweep(&mut self) -> bool {
        self.connections.retain(|_, connections| {
            connections.retain(|(since, connection)| {
                since.elapsed() < REST && !connection.sender.is_closed()
            });
            !connections.is_empty()
        });
        self.count = self.connections.values().map(Vec::len).sum();
        self.count == 0
    }
}
