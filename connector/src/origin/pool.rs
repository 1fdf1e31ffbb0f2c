//! Connections to origins that are at rest between two requests. Each worker has a pool of its own.
//!
//! A connection is given back when its answer's body has been read to its end; if it is not, the
//! connection ends with it. What rests too long is closed, before the origin can close it: a request that
//! meets a closing connection cannot always be sent again. How long an origin waits it may say itself, in
//! `Keep-Alive: timeout=`.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use hyper::client::conn::http1::SendRequest;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    RequestBody,
    body::RequestEnd,
    connect::{ByDestination, Destination},
    http2::{FirstCalls, Shared},
    recorder::Recorder,
    settings::{Settings, Terms},
};

/// Rest of a connection whose origin does not say how long it waits. Of common servers, gunicorn is the
/// first to close, after 2 s; this is sooner.
const REST: Duration = Duration::from_millis(1_500);
/// Longest rest, whatever the origin says.
const MAX_REST: Duration = Duration::from_secs(60);
/// A connection is closed so long before its origin would close it, so that no request crosses the close.
const MARGIN: Duration = Duration::from_secs(1);
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How often what has rested too long is looked for. It may be closed this much later.
const SWEEP: Duration = Duration::from_millis(500);
/// Most connections at rest for one destination: a crowd that calls one server must not dial anew for
/// each request.
const MAX_PER_DESTINATION: usize = 256;
/// Most connections at rest altogether.
const MAX: usize = 512;

/// A connection that carries one request at a time. It ends at once when this is dropped: hyper would first
/// hand over what an origin that reads nothing never takes.
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) _driver: Driver,
    pub(super) peer: IpAddr,
    pub(super) settings: Option<Arc<Settings>>,
    /// What comes from the origin.
    pub(super) recorder: Recorder,
    /// How long it may rest, as the last answer tells.
    pub(super) rest: Duration,
}

/// How long a connection may rest after an answer with these fields.
pub(super) fn rest(fields: &HeaderMap) -> Duration {
    let Some(said) = fields.get(KEEP_ALIVE) else { return REST };
    let mut said = said.to_str().unwrap_or_default().split(',');
    let seconds = said.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| value.trim().parse::<u32>().ok()).flatten()
    });
    let Some(seconds) = seconds else { return REST };
    let timeout = Duration::from_secs(seconds.into());
    // Half of it, where there is not much.
    timeout.saturating_sub(MARGIN).max(timeout.min(MARGIN) / 2).min(MAX_REST)
}

/// The task that moves a connection's bytes, for as long as this is held.
pub(super) struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection whose answer is being read.
pub(super) struct Lent {
    pub(super) destination: Destination,
    pub(super) connection: Connection,
    /// Of the request that is being answered: its body may still be on its way.
    pub(super) request_end: RequestEnd,
    /// It has not been used to prove who is at its end.
    pub(super) may_return: bool,
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
                && since.elapsed() < connection.rest
                && terms.admit(connection.peer, connection.settings.as_ref())
            {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, as soon as it is ready for it.
    pub(super) async fn give_back(&self, lent: Lent) {
        let Lent { destination, mut connection, mut request_end, may_return } = lent;
        // An origin that has answered may never take the rest of the request.
        if !may_return || !request_end.is_over() {
            return;
        }
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
    ) -> Driver {
        Driver(self.spawn(async move {
            // Whoever waits for an answer on it hears of the error.
            let _ = connection.await;
        }))
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.0.tasks.lock().expect("no panic while locked");
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
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
                since.elapsed() < connection.rest && !connection.sender.is_closed()
            });
            !connections.is_empty()
        });
        self.count = self.connections.values().map(Vec::len).sum();
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_connection_rests_for_less_than_its_origin_waits() {
        let rest_of = |said: Option<&'static str>| {
            let said = said.map(|said| (KEEP_ALIVE, HeaderValue::from_static(said)));
            rest(&said.into_iter().collect()).as_millis()
        };
        for (said, expected) in [
            (None, 1_500),
            (Some("timeout=5"), 4_000),
            (Some("max=100, Timeout = 5"), 4_000),
            (Some("timeout=2"), 1_000),
            (Some("timeout=1"), 500),
            (Some("timeout=0"), 0),
            (Some("timeout=4000000000"), 60_000),
            (Some("max=100"), 1_500),
            (Some("timeout=soon"), 1_500),
        ] {
            assert_eq!(rest_of(said), expected, "{said:?}");
        }
    }
}
