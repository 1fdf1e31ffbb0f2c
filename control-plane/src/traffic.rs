//! What edges report of the traffic through tunnels, gathered until it is stored.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use protocol::{
    id::TunnelId,
    traffic::{Counts, Failure, MAX_FAILURES, TunnelTraffic},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{self, Store, traffic::Step},
};

/// How often what was gathered is stored.
const STORE_EVERY: Duration = Duration::from_secs(10);
/// So many tunnels are stored in one transaction, so that other writers wait no longer than a moment.
const AT_ONCE: usize = 50;
/// Names of outcomes that are kept of one report; there are some 40 codes.
const MAX_OUTCOMES: usize = 100;
/// While the disk fails, minutes are kept of each tunnel; older ones are given up.
const MAX_MINUTES: usize = 15;
/// Longest text of a failure, in characters; the longest host name has 253.
const MAX_TEXT: usize = 300;

/// Traffic that is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<HashMap<TunnelId, Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    /// By the minute's start, in seconds since 1970.
    minutes: BTreeMap<u64, Counts>,
    failures: VecDeque<Failure>,
}

impl Gathered {
    fn add(&mut self, minute_s: u64, counts: &Counts) {
        self.minutes.entry(minute_s).or_default().add(counts);
        while self.minutes.len() > MAX_MINUTES {
            self.minutes.pop_first();
        }
    }

    /// Takes failures that are newer than those that are here.
    fn fail(&mut self, failures: impl IntoIterator<Item = Failure>) {
        self.failures.extend(failures);
        let excess = self.failures.len().saturating_sub(MAX_FAILURES);
        self.failures.drain(..excess);
    }
}

impl Traffic {
    /// Takes what an edge reports. It counts for the minute in which it arrives.
    pub(crate) fn take(&self, reported: Vec<TunnelTraffic>, now_ms: u64) {
        if reported.is_empty() {
            return;
        }
        let minute_s = Step::Minute.start(now_ms / 1_000);
        let mut tunnels = self.lock();
        for TunnelTraffic { tunnel, mut counts, failures } in reported {
            while counts.outcomes.len() > MAX_OUTCOMES {
                counts.outcomes.pop_last();
            }
            let gathered = tunnels.entry(tunnel).or_default();
            gathered.add(minute_s, &counts);
            gathered.fail(failures.into_iter().map(shortened));
        }
    }

    /// What is not stored yet of a tunnel's minutes, by their start.
    pub(crate) fn unstored(&self, tunnel: TunnelId) -> Vec<(u64, Counts)> {
        let tunnels = self.lock();
        let minutes = tunnels.get(&tunnel).map(|gathered| &gathered.minutes);
        minutes.into_iter().flatten().map(|(start, counts)| (*start, counts.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TunnelId, Gathered>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Stores what is gathered and deletes what is old, until told to stop; then stores the rest.
    pub(crate) async fn work(&self, store: &Store, clock: &Clock, stop: CancellationToken) {
        let mut tick = tokio::time::interval(STORE_EVERY);
        loop {
            let is_last = stop.run_until_cancelled(tick.tick()).await.is_none();
            if let Err(error) = self.save(store, clock.now_ms() / 1_000).await {
                tracing::warn!(error = error.as_source(), "traffic was not stored");
            }
            if is_last {
                return;
            }
        }
    }

    async fn save(&self, store: &Store, now_s: u64) -> store::Result<()> {
        loop {
            let some: HashMap<TunnelId, Gathered> = {
                let mut tunnels = self.lock();
                let ids: Vec<_> = tunnels.keys().take(AT_ONCE).copied().collect();
                ids.iter().filter_map(|id| tunnels.remove_entry(id)).collect()
            };
            if some.is_empty() {
                return Ok(());
            }
            if let Err(error) = save_some(store, &some, now_s).await {
                self.put_back(some);
                return Err(error);
            }
        }
    }

    fn put_back(&self, some: HashMap<TunnelId, Gathered>) {
        let mut tunnels = self.lock();
        for (tunnel, mut gathered) in some {
            let newer = tunnels.remove(&tunnel).unwrap_or_default();
            for (minute_s, counts) in &newer.minutes {
                gathered.add(*minute_s, counts);
            }
            gathered.fail(newer.failures);
            tunnels.insert(tunnel, gathered);
        }
    }
}

async fn save_some(
    store: &Store,
    some: &HashMap<TunnelId, Gathered>,
    now_s: u64,
) -> store::Result<()> {
    let mut db = store.write().await?;
    for (tunnel, gathered) in some {
        for (minute_s, counts) in &gathered.minutes {
            // A tunnel that was deleted meanwhile has no traffic.
            store::traffic::add(&mut db, *tunnel, *minute_s, counts).await?;
        }
        if !gathered.failures.is_empty() {
            store::traffic::remember(&mut db, *tunnel, &gathered.failures).await?;
        }
    }
    store::traffic::delete_old(&mut db, now_s).await?;
    db.commit().await
}

fn shortened(mut failure: Failure) -> Failure {
    for text in
        [&mut failure.code, &mut failure.detail, &mut failure.destination, &mut failure.phases]
    {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(end);
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use protocol::id::TeamId;

    use super::*;

    const TUNNEL: TunnelId = TunnelId::from_bytes([1; 16]);

    fn traffic(up: u64, failures: u64) -> Vec<TunnelTraffic> {
        let failure = |at_ms| Failure {
            at_ms,
            code: "no_link".into(),
            detail: "ä".repeat(1_000),
            destination: "db.internal:5432".into(),
            team: TeamId::from_bytes([2; 16]),
            workflow: None,
            token: None,
            phases: String::new(),
        };
        let counts = Counts { bytes_up: up, ..Counts::default() };
        vec![TunnelTraffic {
            tunnel: TUNNEL,
            counts,
            failures: (0..failures).map(failure).collect(),
        }]
    }

    #[test]
    fn what_is_gathered_is_bounded() {
        let gathered = Traffic::default();
        for minute in 0..2 * MAX_MINUTES as u64 {
            gathered.take(traffic(1, 70), minute * 60_000);
        }
        let unstored = gathered.unstored(TUNNEL);
        assert_eq!(unstored.len(), MAX_MINUTES);
        assert_eq!(unstored.last().map(|(start, _)| *start), Some(29 * 60));
        let tunnels = gathered.lock();
        assert_eq!(tunnels[&TUNNEL].failures.len(), MAX_FAILURES);
        assert_eq!(tunnels[&TUNNEL].failures[0].detail.chars().count(), MAX_TEXT);
    }

    #[test]
    fn what_could_not_be_stored_comes_before_what_is_newer() {
        let gathered = Traffic::default();
        gathered.take(traffic(1, 1), 0);
        let taken = std::mem::take(&mut *gathered.lock());
        gathered.take(traffic(2, 99), 0);
        gathered.take(traffic(4, 0), 60_000);
        gathered.put_back(taken);
        let bytes: Vec<_> =
            gathered.unstored(TUNNEL).into_iter().map(|(start, c)| (start, c.bytes_up)).collect();
        assert_eq!(bytes, [(0, 3), (60, 4)]);
        assert_eq!(gathered.lock()[&TUNNEL].failures.len(), 100);
    }
}
