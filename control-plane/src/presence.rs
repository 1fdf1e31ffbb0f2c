//! Which links there are, as the edges report them, and how well each tunnel therefore is.
//!
//! [`state`] holds the rules, without IO and with the time as an argument. This file shares it
//! between the edge port, which reports, the API, which asks, and the worker, which lets leases run
//! out and stores what must outlive the process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use protocol::{
    id::{EdgeId, TunnelId},
    presence::Report,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(crate) mod state;

use state::{Refused, State};

use crate::{
    clock::Clock,
    peers::Peers,
    store::{
        self, Store,
        connector_order::{self, Forgotten},
        edge_presence,
        presence::TunnelPresence,
    },
};

/// How often leases are looked at; they hold for ten seconds.
const TICK: Duration = Duration::from_millis(500);
/// After a failed write, presence waits this long for the disk.
const RETRY: Duration = Duration::from_secs(2);

/// Presence, shared.
pub(crate) struct Presence {
    state: Mutex<State>,
    /// Moves whenever an edge has reported.
    reported: watch::Sender<()>,
    dirty: Notify,
}

impl Presence {
    /// Takes up where the last process stopped.
    pub(crate) async fn load(store: &Store, now_ms: u64) -> store::Result<Self> {
        let mut db = store.read().await?;
        let tunnels = store::presence::ever_connected(&mut db).await?;
        let connectors = store::presence::connectors(&mut db).await?;
        Ok(Self {
            state: Mutex::new(State::load(tunnels, connectors, now_ms)),
            reported: watch::Sender::new(()),
            dirty: Notify::new(),
        })
    }

    /// The state, for questions.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Moves whenever presence may have changed.
    pub(crate) fn reported(&self) -> watch::Receiver<()> {
        self.reported.subscribe()
    }

    /// Takes a report of an edge.
    pub(crate) fn report(
        &self,
        edge: EdgeId,
        session: u64,
        report: Report,
        now_ms: u64,
    ) -> Result<(), Refused> {
        self.state().report(edge, session, report, now_ms)?;
        self.reported.send_replace(());
        self.dirty.notify_one();
        Ok(())
    }

    /// Waits until every edge with a live lease obeys a generation, or the time is over. Returns the
    /// edges that do and those that do not yet.
    pub(crate) async fn applied(
        &self,
        generation: u64,
        patience: Duration,
        clock: &Clock,
    ) -> (Vec<EdgeId>, Vec<EdgeId>) {
        let mut reported = self.reported.subscribe();
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            let (applied, pending) = self.state().applied(generation, clock.now_ms());
            if pending.is_empty() {
                return (applied, pending);
            }
            tokio::select! {
                _ = reported.changed() => {}
                () = &mut deadline => return (applied, pending),
            }
        }
    }

    /// Forgets a tunnel that was deleted.
    pub(crate) fn forget(&self, tunnel: TunnelId) {
        self.state().forget(tunnel);
    }

    /// Forgets a connector that has vanished.
    pub(crate) fn forget_connector(&self, forgotten: Forgotten, now_ms: u64) {
        self.state().forget_connector(forgotten, now_ms);
        self.reported.send_replace(());
        self.dirty.notify_one();
    }

    /// Lets leases run out, stores what changed and hears what the other control planes have stored,
    /// until told to stop; then stores the rest.
    pub(crate) async fn work(
        &self,
        store: &Store,
        peers: &Peers,
        clock: &Clock,
        stop: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(TICK);
        let mut news = store.presence();
        let mut has_led = peers.leads();
        while !stop.is_cancelled() {
            let has_news = tokio::select! {
                _ = tick.tick() => {
                    self.state().expire(clock.now_ms());
                    false
                }
                () = self.dirty.notified() => false,
                _ = news.changed() => true,
                () = stop.cancelled() => false,
            };
            let done = async {
                if store.is_shared() {
                    self.tell(store, peers, clock.now_ms()).await?;
                }
                if has_news {
                    self.hear(store, peers, clock.now_ms()).await?;
                }
                let leads = peers.leads();
                if leads && !has_led {
                    let stored = store::presence::ever_connected(&mut store.read().await?).await?;
                    self.state().take_over(stored);
                }
                has_led = leads;
                self.save(store, leads).await
            };
            if let Err(error) = done.await {
                tracing::warn!(error = error.as_source(), "presence was not stored");
                stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
    }

    /// Tells the other control planes what edges report here.
    async fn tell(&self, store: &Store, peers: &Peers, now_ms: u64) -> store::Result<()> {
        let unshared = self.state().unshared(peers.me(), now_ms);
        if !unshared.told.is_empty() {
            let lost = edge_presence::tell(store, &unshared.told).await?;
            self.state().shared(unshared, &lost);
        }
        Ok(())
    }

    /// Hears what edges report to other control planes.
    async fn hear(&self, store: &Store, peers: &Peers, now_ms: u64) -> store::Result<()> {
        let me = peers.me();
        let mut db = store.read().await?;
        let mut rows = edge_presence::list(&mut db).await?;
        rows.retain(|row| row.is_live && row.links.control_plane != me);
        let unknown = self.state().unknown_links(&rows);
        let mut reports = HashMap::new();
        for edge in unknown {
            reports.insert(edge, edge_presence::report(&mut db, edge).await?);
        }
        let forgotten = connector_order::forgotten(&mut db).await?;
        self.state().adopt(rows, reports, |id| peers.is_at_work(id), now_ms);
        for forgotten in forgotten {
            self.state().forget_connector(forgotten, now_ms);
        }
        self.reported.send_replace(());
        Ok(())
    }

    /// Stores what is new of tunnels, if this control plane does so for all.
    async fn save(&self, store: &Store, leads: bool) -> store::Result<()> {
        let dirty = self.state().take_dirty();
        if dirty.is_empty() || !leads {
            return Ok(());
        }
        match save(store, &dirty).await {
            Ok(unknown) => unknown.into_iter().for_each(|tunnel| self.forget(tunnel)),
            Err(error) => {
                self.state().put_back(dirty);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Returns tunnels that are not, or no more, in the database.
async fn save(store: &Store, dirty: &[TunnelPresence]) -> store::Result<Vec<TunnelId>> {
    let mut unknown = Vec::new();
    let mut db = store.write().await?;
    for presence in dirty {
        if !store::presence::store(&mut db, presence).await? {
            unknown.push(presence.tunnel);
        }
    }
    db.commit().await?;
    Ok(unknown)
}
