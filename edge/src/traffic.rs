//! What goes through each tunnel: counted until the edge's next report, with the latest refusals. On a
//! request's way it costs additions; only a refusal takes a lock of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use protocol::{
    id::TunnelId,
    refusal::Code,
    traffic::{Counts, Failure, LATENCY_CLASSES, MAX_FAILURES, TunnelTraffic, latency_class},
};

use crate::metrics::Outcome;

/// Every tunnel's counters.
#[derive(Debug, Default)]
pub(crate) struct Traffic(RwLock<HashMap<TunnelId, Arc<Counters>>>);

/// One tunnel's counters.
#[derive(Debug)]
pub(crate) struct Counters {
    outcomes: [AtomicU64; Outcome::COUNT],
    latency: [AtomicU64; LATENCY_CLASSES],
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    failures: Mutex<VecDeque<Failure>>,
    refused_for_room: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| AtomicU64::new(0)),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            failures: Mutex::default(),
            refused_for_room: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// The counters of a tunnel.
    pub(crate) fn of(&self, tunnel: TunnelId) -> Arc<Counters> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&tunnel) {
            return known.clone();
        }
        let mut tunnels = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tunnels.entry(tunnel).or_default().clone()
    }

    /// What was counted since the last time. Counters that nobody uses any more are forgotten.
    pub(crate) fn take(&self) -> Vec<TunnelTraffic> {
        let mut taken = Vec::new();
        let mut tunnels = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tunnels.retain(|tunnel, counters| {
            let is_used = Arc::strong_count(counters) > 1;
            let traffic = counters.take(*tunnel);
            if !traffic.counts.is_empty() || !traffic.failures.is_empty() {
                taken.push(traffic);
            }
            is_used
        });
        taken
    }
}

impl Counters {
    /// Counts a request that has ended.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.outcomes[outcome.index()].fetch_add(1, Relaxed);
        if let Outcome::Refused(Code::TunnelFull | Code::OriginBusy | Code::TooManyRequests) =
            outcome
        {
            self.refused_for_room.fetch_add(1, Relaxed);
        }
    }

    /// Requests that were refused because too many were under way; never counted down.
    pub(crate) fn refused_for_room(&self) -> u64 {
        self.refused_for_room.load(Relaxed)
    }

    /// Counts an answer that began after so many microseconds.
    pub(crate) fn answered(&self, microseconds: u64) {
        self.latency[latency_class(microseconds)].fetch_add(1, Relaxed);
    }

    /// Counts bytes on their way to an origin.
    pub(crate) fn up(&self, bytes: u64) {
        self.bytes_up.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes on their way to a client.
    pub(crate) fn down(&self, bytes: u64) {
        self.bytes_down.fetch_add(bytes, Relaxed);
    }

    /// Remembers a refusal, among the latest ones.
    pub(crate) fn failed(&self, failure: Failure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() == MAX_FAILURES {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    fn take(&self, tunnel: TunnelId) -> TunnelTraffic {
        let swap = |counter: &AtomicU64| match counter.load(Relaxed) {
            0 => 0,
            _ => counter.swap(0, Relaxed),
        };
        let outcomes = Outcome::all().map(|(outcome, text)| (outcome.index(), text));
        let outcomes = outcomes
            .map(|(index, text)| (text.to_owned(), swap(&self.outcomes[index])))
            .filter(|(_, count)| *count > 0);
        let counts = Counts {
            outcomes: outcomes.collect(),
            bytes_up: swap(&self.bytes_up),
            bytes_down: swap(&self.bytes_down),
            latency: self.latency.iter().map(swap).collect(),
        };
        let failures =
            std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner));
        TunnelTraffic { tunnel, counts, failures: failures.into() }
    }
}

#[cfg(test)]
mod tests {
    use protocol::id::TeamId;

    use super::*;

    const TUNNEL: TunnelId = TunnelId::from_bytes([1; 16]);

    fn failure(at_ms: u64) -> Failure {
        Failure {
            at_ms,
            code: Code::NoLink.as_str().into(),
            detail: String::new(),
            destination: "db.internal:5432".into(),
            team: TeamId::from_bytes([2; 16]),
            workflow: None,
            token: None,
            phases: String::new(),
        }
    }

    #[test]
    fn what_was_counted_is_told_once() {
        let traffic = Traffic::default();
        let counters = traffic.of(TUNNEL);
        counters.ended(Outcome::Ok);
        counters.ended(Outcome::Refused(Code::NoLink));
        counters.answered(1_500);
        counters.up(10);
        counters.down(20);
        let taken = traffic.take().remove(0);
        let outcomes: Vec<_> =
            taken.counts.outcomes.iter().map(|(o, n)| (o.as_str(), *n)).collect();
        assert_eq!(outcomes, [("no_link", 1), ("ok", 1)]);
        assert_eq!((taken.counts.bytes_up, taken.counts.bytes_down), (10, 20));
        assert_eq!(taken.counts.latency.iter().position(|n| *n == 1), Some(1));
        assert_eq!(traffic.take(), []);
    }

    #[test]
    fn the_latest_refusals_are_kept_and_no_more() {
        let traffic = Traffic::default();
        let counters = traffic.of(TUNNEL);
        for at_ms in 0..2 * MAX_FAILURES as u64 {
            counters.failed(failure(at_ms));
        }
        let failures = traffic.take().remove(0).failures;
        assert_eq!(failures.len(), MAX_FAILURES);
        assert_eq!(failures.last().map(|failure| failure.at_ms), Some(199));
    }

    #[test]
    fn counters_that_nobody_uses_are_forgotten() {
        let traffic = Traffic::default();
        traffic.of(TUNNEL).failed(failure(1));
        assert_eq!(traffic.take().len(), 1);
        assert!(traffic.0.read().unwrap().is_empty());
    }
}
