//! Notices that requests do not get through although links are up, for the control plane to tell.
//!
//! A tunnel is *crowded* while it refuses requests because too many are under way:
//!
//! ```text
//!         refuses one              goes on for 5 s
//!  calm ─────────────► refusing ────────────────────► crowded
//!   ▲                     │                              │
//!   └─────────────────────┴── 10 s without a refusal, ───┘
//!                             and less than half full
//! ```
//!
//! It goes on for as long as it refuses, or is half full: whoever is refused may not ask again soon, and what
//! fills the tunnel may hang for minutes.
//!
//! A link is *stuck* while the connector does not answer there. An origin may take minutes for an answer, so a
//! link on which nothing has been answered for a while is given a request that the connector itself answers.
//! What moves bytes takes part in none of this, but for one count for each answer.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, request::Parts};
use http_body_util::Empty;
use protocol::{head::PROBE_AUTHORITY, presence::Strain};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{Link, Tunnel};
use crate::core::Core;

/// How often tunnels are looked at.
const TICK: Duration = Duration::from_secs(1);
/// A burst of requests that comes and goes is nobody's concern.
const CROWDED_AFTER: Duration = Duration::from_secs(5);
/// Longer than clients wait that are told `Retry-After: 1`.
const CALM_AFTER: Duration = Duration::from_secs(10);
/// A busy link on which nothing has been answered for this long is probed.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// How long the connector has for its answer: far longer than a full queue of a slow line.
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Does a tunnel refuse requests because too many are under way?
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Crowd {
    #[default]
    Calm,
    Refusing {
        since: Instant,
        last: Instant,
    },
    Crowded {
        last: Instant,
    },
}

impl Crowd {
    /// Judges a tunnel that has perhaps refused requests since the last look. True if it is crowded.
    fn look(&mut self, has_refused: bool, is_half_full: bool, now: Instant) -> bool {
        let (since, last) = match *self {
            Self::Calm if !has_refused => return false,
            Self::Calm => (Some(now), now),
            Self::Refusing { since, last } => (Some(since), last),
            Self::Crowded { last } => (None, last),
        };
        let last = if has_refused { now } else { last };
        let until = if is_half_full { now } else { last };
        *self = match since {
            _ if now >= until + CALM_AFTER => Self::Calm,
            Some(since) if until < since + CROWDED_AFTER => Self::Refusing { since, last },
            Some(_) | None => Self::Crowded { last },
        };
        matches!(self, Self::Crowded { .. })
    }
}

/// Does a connector answer on a link?
#[derive(Debug)]
struct Passage {
    answers: u64,
    /// When that was seen, or the last probe ended, or nothing waited for an answer.
    since: Instant,
    is_probing: bool,
    is_stuck: bool,
}

impl Passage {
    fn new(now: Instant) -> Self {
        Self { answers: 0, since: now, is_probing: false, is_stuck: false }
    }

    /// Judges a link that has given so many answers since it came up; `waits` if requests are under way and there
    /// is room for one more. True if it is to be probed now.
    fn look(&mut self, answers: u64, waits: bool, now: Instant) -> bool {
        if answers != self.answers {
            self.answers = answers;
            self.is_stuck = false;
            self.since = now;
        }
        if !waits && !self.is_stuck {
            self.since = now;
        }
        let is_due = !self.is_probing && now >= self.since + PROBE_AFTER;
        self.is_probing |= is_due;
        is_due
    }

    fn probed(&mut self, is_answered: bool, now: Instant) {
        self.is_probing = false;
        self.is_stuck = !is_answered;
        self.since = now;
    }
}

/// What is known of a link's strain.
#[derive(Debug)]
pub(super) struct Strained {
    answers: AtomicU64,
    passage: Mutex<Passage>,
    is_stuck: AtomicBool,
    is_crowded: AtomicBool,
}

impl Strained {
    pub(super) fn new() -> Self {
        Self {
            answers: AtomicU64::new(0),
            passage: Mutex::new(Passage::new(Instant::now())),
            is_stuck: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
        }
    }

    pub(super) fn answers(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> Option<Strain> {
        if self.is_stuck.load(Relaxed) {
            return Some(Strain::Stuck);
        }
        self.is_crowded.load(Relaxed).then_some(Strain::Crowded)
    }
}

/// Looks at tunnels and their links until the future is dropped.
pub(crate) async fn run(core: Arc<Core>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut probes = JoinSet::new();
    loop {
        ticks.tick().await;
        while probes.try_join_next().is_some() {}
        for tunnel in core.registry.all() {
            for link in look_at(&core, &tunnel, Instant::now()) {
                probes.spawn(probe(link));
            }
        }
    }
}

/// Judges a tunnel and its links, and has the control plane hear what is new. Returns links to be probed.
fn look_at(core: &Core, tunnel: &Tunnel, now: Instant) -> Vec<Arc<Link>> {
    let crowded = tunnel.looks_crowded(now);
    let mut to_probe = Vec::new();
    for link in tunnel.links() {
        let strained = &link.strained;
        let before = strained.get();
        let mut passage = lock(&strained.passage);
        // One that leaves refuses whatever is new, and a full one may.
        let waits = link.is_busy() && !link.is_full() && !link.is_leaving();
        passage.is_stuck &= !link.is_leaving();
        if passage.look(strained.answers.load(Relaxed), waits, now) {
            to_probe.push(link.clone());
        }
        strained.is_stuck.store(passage.is_stuck, Relaxed);
        drop(passage);
        strained.is_crowded.store(crowded, Relaxed);
        let strain = strained.get();
        if strain != before {
            tracing::info!(
                tunnel.id = %link.key.tunnel,
                connector.id = %link.key.connector,
                link.slot = link.key.slot,
                strain = strain.map(Strain::as_str),
                was = before.map(Strain::as_str),
                "whether requests get through a link has changed"
            );
            core.registry.renew(&link, &core.unreported);
        }
    }
    to_probe
}

async fn probe(link: Arc<Link>) {
    let question = question();
    let answer = link.session.send(&question, Empty::<Bytes>::new(), |_| {});
    let is_answered = match timeout(PROBE_WITHIN, answer).await {
        Ok(Ok(_)) => true,
        // The connector has refused it, or the link is gone: both can be seen elsewhere.
        Ok(Err(error)) => error.is_not_delivered(),
        Err(_) => false,
    };
    lock(&link.strained.passage).probed(is_answered, Instant::now());
}

fn question() -> Parts {
    let target = format!("http://{PROBE_AUTHORITY}/");
    let request = Request::builder().method(Method::OPTIONS).uri(target).body(());
    request.expect("the target is a URI").into_parts().0
}

impl Tunnel {
    /// Is it crowded? To be asked about once a second.
    fn looks_crowded(&self, now: Instant) -> bool {
        let refused = self.counters.refused_for_room();
        let mut crowd = lock(&self.crowd);
        let has_refused = std::mem::replace(&mut crowd.refused, refused) != refused;
        let room = self.room.load(Relaxed);
        crowd.state.look(has_refused, self.streams.is_half_full(room), now)
    }
}

/// A tunnel's crowd, and the refusals that were seen.
#[derive(Debug, Default)]
pub(super) struct Crowding {
    state: Crowd,
    refused: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
