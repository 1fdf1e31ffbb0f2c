//! The control planes that share the database. Each counts beats there; one whose count stands still
//! has stopped. Clocks of different machines are never compared.
//!
//! What one of them must do for all, the one with the lowest id does: it *leads*. For a moment two may
//! believe that they do, so that what a leader does must bear being done twice.

use std::{collections::HashMap, path::Path, sync::Mutex, time::Duration};

use anyhow::Context as _;
use protocol::id::ControlPlaneId;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    files, random,
    store::{self, Store, control_plane, run},
};

/// Holds the id of the data directory's last process, so that the next one knows that it has stopped.
const FILE: &str = "control-plane.id";
/// How often a beat is counted; also how long a lost notification delays a change at most.
const BEAT: Duration = Duration::from_secs(2);
/// A control plane whose beats have stood still for that long has stopped.
const SILENT_MS: u64 = 10_000;

/// After so long without a beat of its own, a control plane draws no conclusion from others' silence.
const CUT_OFF_MS: u64 = 5_000;

/// The control planes at work, this one among them.
pub(crate) struct Peers {
    me: ControlPlaneId,
    seen: Mutex<HashMap<ControlPlaneId, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    beats: u64,
    at_ms: u64,
}

impl Peers {
    /// Makes this process known, and ends what earlier ones have left behind.
    pub(crate) async fn join(store: &Store, dir: &Path, now_ms: u64) -> anyhow::Result<Self> {
        let me: ControlPlaneId = random::id();
        let file = dir.join(FILE);
        let previous = files::read(&file).with_context(|| format!("cannot read {FILE}"))?;
        let previous = previous.and_then(|id| std::str::from_utf8(&id).ok()?.trim().parse().ok());
        let mut db = store.write().await?;
        match previous {
            _ if !store.is_shared() => control_plane::delete_all(&mut db).await?,
            Some(previous) => control_plane::delete(&mut db, previous).await?,
            None => {}
        }
        control_plane::beat(&mut db, me).await?;
        run::interrupt_unfinished(&mut db, now_ms).await?;
        let known = control_plane::list(&mut db).await?;
        db.commit().await?;
        files::write(&file, format!("{me}\n").as_bytes())
            .with_context(|| format!("cannot write {FILE}"))?;
        let peers = Self { me, seen: Mutex::default() };
        peers.hear(&known, now_ms);
        Ok(peers)
    }

    /// This process.
    pub(crate) fn me(&self) -> ControlPlaneId {
        self.me
    }

    /// Is that one at work?
    pub(crate) fn is_at_work(&self, id: ControlPlaneId) -> bool {
        self.seen.lock().expect("no holder of this lock panics").contains_key(&id)
    }

    /// Does this one do what one must do for all?
    pub(crate) fn leads(&self) -> bool {
        self.seen.lock().expect("no holder of this lock panics").keys().min() == Some(&self.me)
    }

    /// Watches for a moment whether any other is at work.
    pub(crate) async fn has_company(&self, store: &Store) -> store::Result<bool> {
        let others = async || {
            let known = control_plane::list(&mut store.read().await?).await?;
            let others = known.into_iter().filter(|(id, _)| *id != self.me);
            Ok::<HashMap<_, _>, store::Error>(others.collect())
        };
        let before = others().await?;
        if before.is_empty() {
            return Ok(false);
        }
        tokio::time::sleep(2 * BEAT).await;
        Ok(others().await?.iter().any(|(id, beats)| before.get(id) != Some(beats)))
    }

    /// Counts beats, hears those of the others and sees to what the stopped ones have left behind,
    /// until told to stop; then says goodbye. Each time it looks for changes, too: the guarantee
    /// behind the notifications.
    pub(crate) async fn work(&self, store: &Store, clock: &Clock, stop: CancellationToken) {
        let mut tick = tokio::time::interval(BEAT);
        while store.is_shared() && stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.beat(store, clock.now_ms()).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the database has not heard of this control plane");
            }
        }
        stop.cancelled().await;
        let goodbye = async {
            let mut db = store.write().await?;
            control_plane::delete(&mut db, self.me).await?;
            db.commit().await
        };
        if let Err(error) = goodbye.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the others will miss this control plane for a while");
        }
    }

    async fn beat(&self, store: &Store, now_ms: u64) -> store::Result<()> {
        let mut db = store.write().await?;
        control_plane::beat(&mut db, self.me).await?;
        let known = control_plane::list(&mut db).await?;
        let stopped = self.hear(&known, now_ms);
        for id in &stopped {
            control_plane::delete(&mut db, *id).await?;
        }
        if !stopped.is_empty() {
            run::interrupt_unfinished(&mut db, now_ms).await?;
        }
        db.commit().await?;
        store.reconcile().await?;
        store.expect_presence();
        Ok(())
    }

    /// Returns those whose beats have stood still for too long.
    fn hear(&self, known: &[(ControlPlaneId, u64)], now_ms: u64) -> Vec<ControlPlaneId> {
        let mut seen = self.seen.lock().expect("no holder of this lock panics");
        let heard_ms = seen.get(&self.me).map_or(now_ms, |me| me.at_ms);
        if now_ms.saturating_sub(heard_ms) >= CUT_OFF_MS {
            // The database was away: nobody could count.
            seen.values_mut().for_each(|seen| seen.at_ms = now_ms);
        }
        let fresh = known.iter().map(|&(id, beats)| {
            let before = seen.get(&id).filter(|before| before.beats == beats);
            (id, before.copied().unwrap_or(Seen { beats, at_ms: now_ms }))
        });
        let fresh: HashMap<_, _> = fresh.collect();
        let is_silent = |seen: &Seen| now_ms.saturating_sub(seen.at_ms) >= SILENT_MS;
        let (stopped, at_work): (HashMap<_, _>, _) =
            fresh.into_iter().partition(|(id, seen)| *id != self.me && is_silent(seen));
        for id in at_work.keys().filter(|id| !seen.contains_key(id) && **id != self.me) {
            tracing::info!(control_plane = %id, "another control plane is at work");
        }
        for id in seen.keys().filter(|id| !at_work.contains_key(id)) {
            tracing::info!(control_plane = %id, "another control plane has stopped");
        }
        *seen = at_work;
        stopped.into_keys().collect()
    }
}
