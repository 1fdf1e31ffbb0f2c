//! What has changed, for whoever watches: one channel for each tenant that somebody watches.
//!
//! ```text
//!  audit log ── entries behind the channel's head ─┐
//!  presence ─── tunnels whose links have changed ──┼─► worker ─► channel of the tenant ─► streams
//!  runs ─────── how far they have come ────────────┘
//! ```
//!
//! The audit log is the source of changes, so that a stream can go on where it broke off, and so that
//! changes made at another control plane are told here as well. Events say what to look up again; they
//! carry no state. Each stream picks what its viewer may see (`api::events`).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use protocol::{
    access::Access,
    id::{EdgeId, TenantId, UserId},
    name::TunnelName,
};
use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Shared},
    store::{self, audit::Recorded, run::RunNews},
};

/// Events that wait for a slow stream; one that falls further behind is told to look up everything.
const QUEUE: usize = 256;
/// Streams of one user: each window of the console has one.
const MAX_PER_USER: usize = 16;
/// Streams in all: a quarter of the connections that the API takes.
const MAX_STREAMS: usize = 256;
/// Whatever happens within this time is told together.
const GATHER: Duration = Duration::from_millis(100);
/// How often the worker looks for edges whose lease has run out.
const TICK: Duration = Duration::from_secs(1);
/// Audit entries that are told one by one; after a larger gap everything is looked up again.
pub(crate) const MAX_REPLAY: u32 = 200;

/// Something that a stream may have to tell.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// Something was changed.
    Changed(Arc<Recorded>),
    /// Links of these tunnels came or went, or their health changed.
    Presence(Arc<[TunnelNews]>),
    /// An edge came or went.
    Edges,
    /// A run has come further.
    Run(RunNews),
    /// More happened than is told.
    Resync,
}

/// A tunnel whose presence changed.
#[derive(Debug, Clone)]
pub(crate) struct TunnelNews {
    pub(crate) tenant: TenantId,
    pub(crate) name: TunnelName,
    pub(crate) access: Access,
}

/// The channels.
pub(crate) struct Events(Mutex<Channels>);

#[derive(Default)]
struct Channels {
    tenants: HashMap<TenantId, Channel>,
    streams: HashMap<UserId, usize>,
    is_closed: bool,
}

struct Channel {
    news: broadcast::Sender<News>,
    /// Number of the newest audit entry that was told.
    head: u64,
    /// Has the worker looked for entries behind the head since the channel was made?
    is_caught_up: bool,
}

/// No room for another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A place in a channel, given back when it is dropped.
pub(crate) struct Subscription {
    app: Shared,
    tenant: TenantId,
    user: UserId,
    pub(crate) news: broadcast::Receiver<News>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Watches a tenant, from the audit entry behind `head` on.
    pub(crate) fn subscribe(
        app: &Shared,
        tenant: TenantId,
        user: UserId,
        head: u64,
    ) -> Result<Subscription, Full> {
        let mut channels = app.events.channels();
        let all: usize = channels.streams.values().sum();
        let own = channels.streams.get(&user).copied().unwrap_or_default();
        if channels.is_closed || all >= MAX_STREAMS || own >= MAX_PER_USER {
            return Err(Full);
        }
        channels.streams.insert(user, own + 1);
        let channel = channels.tenants.entry(tenant).or_insert_with(|| Channel {
            news: broadcast::Sender::new(QUEUE),
            head,
            is_caught_up: false,
        });
        let news = channel.news.subscribe();
        drop(channels);
        Ok(Subscription { app: app.clone(), tenant, user, news })
    }

    /// Tells what happens until told to stop; then all streams end.
    pub(crate) async fn work(&self, app: &App, stop: CancellationToken) {
        let mut worker = Worker { generation: 0, edges: BTreeSet::new() };
        let mut generation = app.store.generation();
        let mut audited = app.store.audited();
        let mut reported = app.presence.reported();
        let mut runs = app.store.runs();
        let mut tick = tokio::time::interval(TICK);
        while !stop.is_cancelled() {
            let run = tokio::select! {
                _ = generation.changed() => None,
                _ = audited.changed() => {
                    // There are entries to be told, though the generation is the same.
                    worker.generation = 0;
                    None
                }
                _ = reported.changed() => None,
                run = runs.recv() => run.ok(),
                _ = tick.tick() => None,
                () = stop.cancelled() => break,
            };
            stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
            let runs = run.into_iter().chain(waiting(&mut runs)).collect();
            if let Err(error) = worker.tell(app, runs).await {
                tracing::warn!(error = error.as_source(), "what changed was not told to watchers");
                self.tell_all(&News::Resync);
            }
        }
        let mut channels = self.channels();
        channels.is_closed = true;
        channels.tenants.clear();
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Tenants that are watched, with their heads; `behind` picks those that were never looked up.
    fn watched(&self, is_all: bool) -> Vec<(TenantId, u64)> {
        let channels = self.channels();
        let due = channels.tenants.iter().filter(|(_, c)| is_all || !c.is_caught_up);
        due.map(|(&tenant, channel)| (tenant, channel.head)).collect()
    }

    fn tell(&self, tenant: TenantId, news: News) {
        if let Some(channel) = self.channels().tenants.get(&tenant) {
            // Its last stream may have just ended.
            let _ = channel.news.send(news);
        }
    }

    fn tell_all(&self, news: &News) {
        for channel in self.channels().tenants.values() {
            let _ = channel.news.send(news.clone());
        }
    }

    fn caught_up(&self, tenant: TenantId, head: u64) {
        if let Some(channel) = self.channels().tenants.get_mut(&tenant) {
            channel.head = channel.head.max(head);
            channel.is_caught_up = true;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut channels = self.app.events.channels();
        if let Some(streams) = channels.streams.get_mut(&self.user) {
            *streams -= 1;
            if *streams == 0 {
                channels.streams.remove(&self.user);
            }
        }
        // This stream's own receiver still counts.
        if channels.tenants.get(&self.tenant).is_some_and(|c| c.news.receiver_count() <= 1) {
            channels.tenants.remove(&self.tenant);
        }
    }
}

/// What the worker knows of before.
struct Worker {
    generation: u64,
    edges: BTreeSet<EdgeId>,
}

impl Worker {
    async fn tell(&mut self, app: &App, runs: Vec<RunNews>) -> store::Result<()> {
        let generation = *app.store.generation().borrow();
        let touched = app.presence.state().take_touched();
        let edges = app.presence.state().live_edges(app.clock.now_ms());
        if app.events.watched(true).is_empty() {
            (self.generation, self.edges) = (generation, edges);
            return Ok(());
        }
        if self.edges != edges {
            self.edges = edges;
            app.events.tell_all(&News::Edges);
        }
        for run in runs {
            app.events.tell(run.tenant, News::Run(run));
        }
        let mut db = app.store.read().await?;
        for (tenant, head) in app.events.watched(generation != self.generation) {
            let entries = store::audit::after(&mut db, tenant, head, MAX_REPLAY).await?;
            let mut newest = entries.last().map_or(head, |entry| entry.sequence);
            if entries.len() == MAX_REPLAY as usize {
                newest = store::audit::newest(&mut db, tenant).await?;
                app.events.tell(tenant, News::Resync);
            } else {
                for entry in entries {
                    app.events.tell(tenant, News::Changed(Arc::new(entry)));
                }
            }
            app.events.caught_up(tenant, newest);
        }
        self.generation = generation;
        let mut presence: HashMap<TenantId, Vec<TunnelNews>> = HashMap::new();
        for id in touched {
            let Some(tunnel) = store::tunnel::by_id(&mut db, id).await? else { continue };
            presence.entry(tunnel.tenant).or_default().push(TunnelNews {
                tenant: tunnel.tenant,
                name: tunnel.name,
                access: tunnel.access,
            });
        }
        for (tenant, tunnels) in presence {
            app.events.tell(tenant, News::Presence(tunnels.into()));
        }
        Ok(())
    }
}

fn waiting(runs: &mut broadcast::Receiver<RunNews>) -> Vec<RunNews> {
    let mut waiting = Vec::new();
    loop {
        match runs.try_recv() {
            Ok(run) => waiting.push(run),
            // Later news of the same runs follow.
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return waiting,
        }
    }
}
