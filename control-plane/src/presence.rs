//! Which links there are, as the edges report them, and how well each tunnel therefore is.
//!
//! [`state`] holds the rules, without IO and with the time as an argument. This file shares it
//! between the edge port, which reports, the API, which asks, and the worker, which lets leases run
//! out and stores what must outlive the process.

use std::{
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
    store::{self, Store, presence::TunnelPresence},
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

    /// Takes a report of an edge.
    pub(crate) fn report(
        &self,
        edge: EdgeId,
        session: u64,
        report: Report,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let is_dirty = {
            let mut state = self.state();
            state.report(edge, session, report, now_ms)?;
            state.is_dirty()
        };
        self.reported.send_replace(());
        if is_dirty {
            self.dirty.notify_one();
        }
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

    /// Lets leases run out and stores what changed, until told to stop; then stores the rest.
    pub(crate) async fn work(&self, store: &Store, clock: &Clock, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        while !stop.is_cancelled() {
            tokio::select! {
                _ = tick.tick() => self.state().expire(clock.now_ms()),
                () = self.dirty.notified() => {}
                () = stop.cancelled() => {}
            }
            let dirty = self.state().take_dirty();
            if dirty.is_empty() {
                continue;
            }
            match save(store, &dirty).await {
                Ok(unknown) => unknown.into_iter().for_each(|tunnel| self.forget(tunnel)),
                Err(error) => {
                    tracing::warn!(%error, "presence was not stored");
                    self.state().put_back(dirty);
                    stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                }
            }
        }
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
