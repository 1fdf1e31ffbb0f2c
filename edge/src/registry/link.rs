//! One live link, and the requests that are under way on it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use ::link::{CloseReason, Session, workers::WorkerId};
use futures_util::FutureExt as _;
use protocol::{
    control::{Facts, Hello},
    id::{ConnectorId, KeyId, TunnelId},
    order::{LogLevel, Order, Task},
    presence::{LinkPresence, Strain, Transport},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{strain::Strained, trust::Trust};

/// How much busier a worker's own links may be than others before one of those gets its request, which
/// wakes another thread several times. Most requests under way only wait for their origin, so a few more
/// of them say little about how busy a link is; but it must be few of the 1,000 that fit on one.
pub(super) const CROSSING: usize = 16;

/// A link's place: one connector holds one link in each slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkKey {
    pub(crate) tunnel: TunnelId,
    pub(crate) connector: ConnectorId,
    pub(crate) slot: u8,
}

impl From<&LinkPresence> for LinkKey {
    fn from(link: &LinkPresence) -> Self {
        Self { tunnel: link.tunnel, connector: link.connector, slot: link.slot }
    }
}

/// One live link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) key: LinkKey,
    pub(crate) secret: KeyId,
    pub(crate) session: Session,
    /// The worker that moves the link's bytes.
    pub(crate) worker: WorkerId,
    facts: Mutex<Facts>,
    pub(crate) since_ms: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) transport: Transport,
    /// Requests that may be under way at once.
    pub(super) capacity: usize,
    in_flight: AtomicUsize,
    said_goodbye: AtomicBool,
    pub(super) replaced: CancellationToken,
    rtt_us: AtomicU64,
    asked: watch::Sender<Asked>,
    pub(crate) trust: Trust,
    pub(super) strained: Strained,
}

/// What an admin wants the connector to be told on a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) drain: bool,
    /// With the order's number.
    pub(crate) log_level: Option<(u64, LogLevel)>,
}

impl Link {
    /// A link that has just come up.
    pub(crate) fn new(hello: &Hello, session: Session, worker: WorkerId, now: SystemTime) -> Self {
        let Hello { tunnel, connector, slot, .. } = *hello;
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            key: LinkKey { tunnel, connector, slot },
            secret: hello.key,
            facts: Mutex::new(hello.facts.clone()),
            since_ms: since.map_or(0, |since| since.as_millis() as u64),
            remote: session.remote(),
            transport: session.transport(),
            trust: Trust::new(session.vitals()),
            strained: Strained::new(),
            capacity: session.capacity(),
            session,
            worker,
            in_flight: AtomicUsize::new(0),
            said_goodbye: AtomicBool::new(false),
            replaced: CancellationToken::new(),
            rtt_us: AtomicU64::new(0),
            asked: watch::Sender::default(),
        }
    }

    /// Does what has been asked of it among all that was asked of its tunnel's connectors.
    pub(crate) fn obey(&self, orders: &[Order]) {
        let mut asked = Asked::default();
        for order in orders.iter().filter(|order| order.connector == self.key.connector) {
            let is_this = |slot, since_ms| (slot, since_ms) == (self.key.slot, self.since_ms);
            match order.task {
                Task::DrainLink { slot, since_ms } => asked.drain |= is_this(slot, since_ms),
                Task::CutLink { slot, since_ms } if is_this(slot, since_ms) => {
                    self.session.close(CloseReason::Cut);
                }
                Task::LogLevel { level: LogLevel::Unknown } => {}
                Task::LogLevel { level } => {
                    let newest = asked.log_level.map_or(0, |(number, _)| number);
                    if order.number > newest {
                        asked.log_level = Some((order.number, level));
                    }
                }
                Task::CutLink { .. } | Task::Unknown => {}
            }
        }
        self.asked.send_if_modified(|before| std::mem::replace(before, asked) != asked);
    }

    /// What the connector is to be told; what was asked before counts as news.
    pub(crate) fn asked(&self) -> watch::Receiver<Asked> {
        let mut asked = self.asked.subscribe();
        asked.mark_changed();
        asked
    }

    /// Takes no more requests, and closes once none is under way.
    pub(crate) fn say_goodbye(&self) {
        self.said_goodbye.store(true, Ordering::SeqCst);
        self.close_if_drained();
    }

    /// Cuts the link because the right to it is gone. Its connector is not missing: it was sent away.
    pub(crate) fn revoke(&self) {
        self.said_goodbye.store(true, Ordering::SeqCst);
        self.session.close(CloseReason::Revoked);
    }

    pub(crate) fn has_said_goodbye(&self) -> bool {
        self.said_goodbye.load(Ordering::SeqCst)
    }

    /// Resolves when another link has taken this one's place. From then on it takes no more requests.
    pub(crate) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced.is_cancelled()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.has_said_goodbye() || self.is_replaced()
    }

    /// True once the connection has ended. The link is removed a moment later.
    pub(crate) fn has_ended(&self) -> bool {
        self.session.closed().now_or_never().is_some()
    }

    /// Is a request under way?
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// The round-trip time, as far as it is known.
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_us.load(Ordering::Relaxed))
    }

    /// Takes a new round-trip time; true if it differs enough from the last one to be worth a word.
    pub(crate) fn set_rtt(&self, rtt_us: u64) -> bool {
        let known = self.rtt_us.load(Ordering::Relaxed);
        let is_news = known == 0 || known.abs_diff(rtt_us) > known / 4;
        if is_news {
            self.rtt_us.store(rtt_us, Ordering::Relaxed);
        }
        is_news
    }

    /// Takes what the connector tells of itself now.
    pub(crate) fn set_facts(&self, facts: Facts) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts.clean();
    }

    pub(crate) fn presence(&self) -> LinkPresence {
        let rtt_us = self.rtt_us.load(Ordering::Relaxed);
        LinkPresence {
            tunnel: self.key.tunnel,
            connector: self.key.connector,
            slot: self.key.slot,
            key: self.secret,
            transport: self.transport,
            since_ms: self.since_ms,
            rtt_us: (rtt_us > 0).then_some(rtt_us),
            remote: self.remote,
            facts: self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            strain: self.strain(),
        }
    }

    /// The connector has answered a request.
    pub(crate) fn answers(&self) {
        self.strained.answers();
    }

    /// Why requests do not get through.
    pub(crate) fn strain(&self) -> Option<Strain> {
        self.strained.get()
    }

    /// What a request on `worker` would pay for this link: the least is the best.
    pub(super) fn cost(&self, worker: WorkerId) -> (bool, usize, bool) {
        let is_remote = self.worker != worker;
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        (self.trust.is_suspect(), in_flight + if is_remote { CROSSING } else { 0 }, is_remote)
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) >= self.capacity
    }

    pub(super) fn begin(self: Arc<Self>) -> Option<InFlight> {
        let others = self.in_flight.fetch_add(1, Ordering::SeqCst);
        let in_flight = InFlight(self);
        // Counted before it is asked: a link that begins to leave in between is not closed under us.
        let link = &in_flight.0;
        (!link.is_leaving() && others < link.capacity).then_some(in_flight)
    }

    fn close_if_drained(&self) {
        if self.has_said_goodbye() && self.in_flight.load(Ordering::SeqCst) == 0 {
            self.session.close(CloseReason::Drained);
        }
    }
}

/// A request on a link, for as long as it is under way.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Link>);

impl InFlight {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.close_if_drained();
    }
}
