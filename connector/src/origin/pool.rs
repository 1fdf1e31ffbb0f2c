//! Connections to origins that are at rest between two requests.
//!
//! A connection is given back as soon as its answer's head is there, and becomes available when the
//! body has been read to its end; if it is not, the connection ends with it. What rests too long is
//! closed, before the origin can close it: a request that meets a closing connection cannot always be
//! sent again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::client::conn::http1::SendRequest;
use tokio::{task::JoinSet, time::Instant};

use super::{
    RequestBody,
    connect::Destination,
    http2::Shared,
    settings::{Settings, Terms},
};

/// Rest of a connection. Common servers close after 5 s; this is sooner.
const REST: Duration = Duration::from_secs(4);
/// Most connections at rest for one destination.
const MAX_PER_DESTINATION: usize = 16;
/// Most connections at rest altogether.
const MAX: usize = 256;

/// A connection that carries one request at a time.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) peer: IpAddr,
    pub(super) settings: Option<Arc<Settings>>,
}

#[derive(Clone, Default)]
pub(super) struct Pool(pub(super) Arc<Inner>);

#[derive(Default)]
pub(super) struct Inner {
    resting: Mutex<HashMap<Destination, Vec<(Instant, Connection)>>>,
    /// Connections that carry many requests at a time.
    pub(super) shared: Mutex<HashMap<Destination, Shared>>,
    /// Drives connections and returns them here; whatever still runs ends with the pool.
    tasks: Mutex<JoinSet<()>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A connection that seems to be alive, the one used last first; one that the terms do not admit is
    /// closed.
    pub(super) fn take(&self, destination: &Destination, terms: &Terms) -> Option<Connection> {
        let mut resting = self.resting();
        let connections = resting.get_mut(destination)?;
        while let Some((since, connection)) = connections.pop() {
            if connection.sender.is_ready()
                && since.elapsed() < REST
                && terms.admit(connection.peer, connection.settings.as_ref())
            {
                return Some(connection);
            }
        }
        resting.remove(destination);
        None
    }

    /// Keeps a connection for the next request, once the answer under way has been read.
    pub(super) fn give_back(&self, destination: Destination, mut connection: Connection) {
        let pool = Arc::downgrade(&self.0);
        self.spawn(async move {
            if connection.sender.ready().await.is_err() {
                return;
            }
            let Some(pool) = pool.upgrade().map(Self) else { return };
            if !pool.put(destination.clone(), connection) {
                return;
            }
            let pool = Arc::downgrade(&pool.0);
            tokio::time::sleep(REST).await;
            if let Some(pool) = pool.upgrade().map(Self) {
                pool.sweep(&destination);
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

    fn put(&self, destination: Destination, connection: Connection) -> bool {
        let mut resting = self.resting();
        if resting.values().map(Vec::len).sum::<usize>() >= MAX {
            return false;
        }
        let connections = resting.entry(destination).or_default();
        if connections.len() >= MAX_PER_DESTINATION {
            return false;
        }
        connections.push((Instant::now(), connection));
        true
    }

    /// Closes what has rested too long.
    fn sweep(&self, destination: &Destination) {
        let mut resting = self.resting();
        let Some(connections) = resting.get_mut(destination) else { return };
        connections
            .retain(|(since, connection)| since.elapsed() < REST && !connection.sender.is_closed());
        if connections.is_empty() {
            resting.remove(destination);
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().expect("no panic while locked");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn resting(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<Destination, Vec<(Instant, Connection)>>> {
        self.0.resting.lock().expect("no panic while locked")
    }
}
