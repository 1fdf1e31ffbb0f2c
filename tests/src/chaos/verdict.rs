//! What became of the exchanges of one round: how many failed, whether they may have, and how long people
//! waited.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    client::Failure,
    events::{Bounds, Death, Marks, Whose},
    load::{Exchange, Kind},
    origin::Ledger,
};

/// Refusals which promise that the origin saw nothing.
const NOT_BEGUN: [&str; 7] = [
    "not_delivered",
    "no_link",
    "edge_unavailable",
    "too_many_requests",
    "origin_busy",
    "tunnel_full",
    "feed_stale",
];
/// How many failures are told one by one.
const TOLD: usize = 8;

/// Failures, by what was asked for and why it failed.
pub type Failures = BTreeMap<(Kind, String), usize>;

/// One round, counted.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Exchanges in all.
    pub exchanges: usize,
    /// Failed, and were under way at a death.
    pub excused: Failures,
    /// Failed, and must not have.
    pub lost: Failures,
    /// POSTs that reached the origin more than once.
    pub doubled: usize,
    /// POSTs of which the origin knows something else than their client was told.
    pub misreported: usize,
    /// Longest time in which no small request was answered.
    pub gap: Duration,
    /// The slowest small answer.
    pub slowest: Duration,
    /// From the end of the cause until all links were there.
    pub back: Duration,
    /// The first failures that must not be, in words.
    pub told: Vec<String>,
}

impl Verdict {
    /// Judges a round that ended, as far as new requests go, at `stopped`; a link was last missing at
    /// `last_missing`.
    pub fn of(
        exchanges: &[Exchange],
        marks: &Marks,
        ledger: &Ledger,
        stopped: Instant,
        last_missing: Instant,
    ) -> Self {
        let mut verdict = Self { exchanges: exchanges.len(), ..Self::default() };
        for exchange in exchanges {
            verdict.count(exchange, marks);
            if let Some(id) = exchange.id {
                verdict.check(exchange, ledger.arrivals(id));
            }
        }
        let is_small = |exchange: &&Exchange| matches!(exchange.kind, Kind::Get | Kind::Post);
        let small = || exchanges.iter().filter(is_small);
        let took = |exchange: &Exchange| exchange.ended - exchange.begun;
        verdict.slowest = small().map(took).max().unwrap_or_default();
        verdict.gap = gap(small(), stopped);
        if let Some(healed) = marks.healed {
            verdict.back = last_missing.saturating_duration_since(healed);
        }
        verdict
    }

    fn count(&mut self, exchange: &Exchange, marks: &Marks) {
        let Err(failure) = &exchange.outcome else { return };
        let key = (exchange.kind, failure.to_string());
        if marks.deaths.iter().any(|death| may_fail(exchange, failure, death)) {
            *self.excused.entry(key).or_default() += 1;
            return;
        }
        *self.lost.entry(key).or_default() += 1;
        if self.told.len() < TOLD {
            let at = |instant: Instant| match instant.checked_duration_since(marks.begun) {
                Some(after) => format!("{:+.3}", after.as_secs_f64()),
                None => format!("-{:.3}", (marks.begun - instant).as_secs_f64()),
            };
            self.told.push(format!(
                "{} at gateway {}, from {} s to {} s: {failure}",
                exchange.kind.as_str(),
                exchange.gateway,
                at(exchange.begun),
                at(exchange.ended)
            ));
        }
    }

    fn check(&mut self, exchange: &Exchange, arrivals: u32) {
        if arrivals > 1 {
            self.doubled += 1;
        }
        let is_misreported = match &exchange.outcome {
            Ok(()) => arrivals == 0,
            Err(Failure::Refused(code)) => arrivals > 0 && NOT_BEGUN.contains(&code.as_str()),
            Err(_) => false,
        };
        if is_misreported {
            self.misreported += 1;
            self.told.push(format!("{:?} arrived {arrivals} times", exchange.outcome));
        }
    }

    /// Are all the counts as they must be?
    pub fn counts_hold(&self) -> bool {
        self.lost.is_empty() && self.doubled == 0 && self.misreported == 0
    }

    /// Are they, and nobody waited for longer than the bounds say?
    pub fn holds(&self, bounds: &Bounds) -> bool {
        self.counts_hold()
            && self.gap <= bounds.gap
            && self.slowest <= bounds.slowest
            && self.back <= bounds.back
    }

    /// The worst of both.
    pub fn worst(mut self, other: &Self) -> Self {
        self.exchanges += other.exchanges;
        for (mine, others) in [(&mut self.excused, &other.excused), (&mut self.lost, &other.lost)] {
            for (key, count) in others {
                *mine.entry(key.clone()).or_default() += count;
            }
        }
        self.doubled += other.doubled;
        self.misreported += other.misreported;
        self.gap = self.gap.max(other.gap);
        self.slowest = self.slowest.max(other.slowest);
        self.back = self.back.max(other.back);
        self.told.extend(other.told.iter().cloned());
        self
    }
}

/// May it have failed like this, because of this death?
fn may_fail(exchange: &Exchange, failure: &Failure, death: &Death) -> bool {
    let was_under_way =
        exchange.begun <= death.at + death.unknown_for && exchange.ended >= death.at;
    if !was_under_way {
        return false;
    }
    match (death.whose, failure) {
        // Its clients have no other end.
        (Whose::Edge(region), Failure::Reset | Failure::BrokenOff) => exchange.gateway == region,
        // What may be asked for again is, before the answer has begun.
        (Whose::Links, Failure::Refused(code)) => code == "link_lost" && !is_repeatable(exchange),
        (Whose::Links, Failure::BrokenOff) => true,
        _ => false,
    }
}

fn is_repeatable(exchange: &Exchange) -> bool {
    match exchange.kind {
        Kind::Get | Kind::Download | Kind::Events => true,
        // An upgrade may be the beginning of anything.
        Kind::Post | Kind::Upload | Kind::WebSocket => false,
    }
}

/// The longest time between two answers, from the first request to the last.
fn gap<'a>(small: impl Iterator<Item = &'a Exchange> + Clone, stopped: Instant) -> Duration {
    let Some(first) = small.clone().map(|exchange| exchange.begun).min() else {
        return Duration::ZERO;
    };
    let answered = small.filter(|exchange| exchange.outcome.is_ok());
    let mut answers: Vec<Instant> = answered.map(|exchange| exchange.ended).collect();
    answers.retain(|ended| *ended < stopped);
    answers.extend([first, stopped]);
    answers.sort_unstable();
    answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
