//! Which links the edge holds, by tunnel, and which of them takes the next request.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use link::{CloseReason, Session, workers::WorkerId};
use protocol::{
    control::{Facts, Hello},
    id::{ConnectorId, KeyId, TunnelId},
    presence::{LinkPresence, Transport},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{control_plane::presence::Unreported, streams::Streams};

pub(crate) use self::trust::{Finding, Trust};

mod trust;

/// How much busier a worker's own links may be than others before one of those gets its request, which
/// wakes another thread several times. Most requests under way only wait for their origin, so a few more
/// of them say little about how busy a link is; but it must be few of the 1024 that fit on one.
const CROSSING: usize = 16;

/// So many requests begin at the same one of several links that are equally good, before it is the next
/// one's turn: where little is under way, a link, and whoever serves it at either end, stays warm.
const TURN: usize = 16;

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
    in_flight: AtomicUsize,
    said_goodbye: AtomicBool,
    replaced: CancellationToken,
    rtt_us: AtomicU64,
    pub(crate) trust: Trust,
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
            session,
            worker,
            in_flight: AtomicUsize::new(0),
            said_goodbye: AtomicBool::new(false),
            replaced: CancellationToken::new(),
            rtt_us: AtomicU64::new(0),
        }
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

    fn is_leaving(&self) -> bool {
        self.has_said_goodbye() || self.is_replaced()
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
        }
    }

    /// What a request on `worker` would pay for this link: the least is the best.
    fn cost(&self, worker: WorkerId) -> (bool, usize, bool) {
        let is_remote = self.worker != worker;
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        (self.trust.is_suspect(), in_flight + if is_remote { CROSSING } else { 0 }, is_remote)
    }

    fn begin(self: Arc<Self>) -> Option<InFlight> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let in_flight = InFlight(self);
        // Counted before it is asked: a link that begins to leave in between is not closed under us.
        (!in_flight.0.is_leaving()).then_some(in_flight)
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

/// A tunnel that has links here.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) streams: Arc<Streams>,
    links: RwLock<Vec<Arc<Link>>>,
    turn: AtomicUsize,
}

impl Tunnel {
    fn new(max_streams: usize) -> Self {
        let streams = Arc::new(Streams::new(max_streams));
        Self { streams, links: RwLock::default(), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn holds(&self, link: &Arc<Link>) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().any(|known| Arc::ptr_eq(known, link))
    }

    /// Is there a link that is up, not suspect, and not among `tried`?
    pub(crate) fn has_well_link(&self, tried: &[Arc<Link>]) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.iter().any(|link| {
            let is_tried = tried.iter().any(|tried| Arc::ptr_eq(tried, link));
            !is_tried && !link.is_leaving() && !link.trust.is_suspect()
        })
    }

    /// The link with the least in flight that is up and not among `tried`, for a request on `worker`, whose
    /// own links come first unless they are much busier; links that are equally good take turns.
    pub(crate) fn pick(&self, worker: WorkerId, tried: &[Arc<Link>]) -> Option<InFlight> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) / TURN;
        let mut left = links.len();
        let offset = if left == 0 { 0 } else { turn % left };
        // A link may begin to leave between the look and the pick; each round then has one fewer.
        while left > 0 {
            let best = (0..links.len())
                .map(|n| &links[(n + offset) % links.len()])
                .filter(|link| !link.is_leaving())
                .filter(|link| !tried.iter().any(|tried| Arc::ptr_eq(tried, link)))
                .min_by_key(|link| link.cost(worker))?;
            if let Some(in_flight) = best.clone().begin() {
                return Some(in_flight);
            }
            left -= 1;
        }
        None
    }
}

/// All links of the edge.
#[derive(Debug)]
pub(crate) struct Registry {
    tunnels: RwLock<HashMap<TunnelId, Arc<Tunnel>>>,
    links: AtomicUsize,
    changed: Notify,
    max_links: usize,
    max_streams_per_tunnel: usize,
}

impl Registry {
    pub(crate) fn new(max_links: usize, max_streams_per_tunnel: usize) -> Self {
        Self {
            tunnels: RwLock::default(),
            links: AtomicUsize::new(0),
            changed: Notify::new(),
            max_links,
            max_streams_per_tunnel,
        }
    }

    /// The tunnel, if it has links here.
    pub(crate) fn get(&self, tunnel: TunnelId) -> Option<Arc<Tunnel>> {
        self.tunnels.read().unwrap_or_else(PoisonError::into_inner).get(&tunnel).cloned()
    }

    /// Every tunnel that has links here.
    pub(crate) fn all(&self) -> Vec<Arc<Tunnel>> {
        let tunnels = self.tunnels.read().unwrap_or_else(PoisonError::into_inner);
        tunnels.values().cloned().collect()
    }

    /// Every link of the edge.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.all().iter().flat_map(|tunnel| tunnel.links()).collect()
    }

    /// Every link that holds its place, as the control plane should see it.
    pub(crate) fn presence(&self) -> Vec<LinkPresence> {
        let links = self.links();
        links.iter().filter(|link| !link.is_replaced()).map(|link| link.presence()).collect()
    }

    /// How many links there are.
    pub(crate) fn count(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() >= self.max_links
    }

    /// Resolves when a link has gone; for one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes a link. One that the same connector holds in the same slot gives its place up, and finishes
    /// what is under way.
    pub(crate) fn insert(&self, link: &Arc<Link>, unreported: &Unreported) {
        let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        let tunnel = tunnels
            .entry(link.key.tunnel)
            .or_insert_with(|| Arc::new(Tunnel::new(self.max_streams_per_tunnel)));
        let mut links = tunnel.links.write().unwrap_or_else(PoisonError::into_inner);
        links
            .iter()
            .filter(|older| older.key == link.key)
            .for_each(|older| older.replaced.cancel());
        links.push(link.clone());
        self.links.fetch_add(1, Ordering::Relaxed);
        // Said under the lock: the last word on a place is then about the link that holds it.
        unreported.up(link.presence(), false);
    }

    /// Reports a link's new figures, if it still holds its place.
    pub(crate) fn renew(&self, link: &Arc<Link>, unreported: &Unreported) {
        let tunnels = self.tunnels.read().unwrap_or_else(PoisonError::into_inner);
        let tunnel = tunnels.get(&link.key.tunnel);
        let is_listed = tunnel.is_some_and(|tunnel| tunnel.holds(link));
        if is_listed && !link.is_replaced() {
            unreported.up(link.presence(), true);
        }
    }

    /// Forgets a link, unless it was removed before.
    pub(crate) fn remove(&self, link: &Arc<Link>, unreported: &Unreported) {
        let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        let Some(tunnel) = tunnels.get(&link.key.tunnel) else { return };
        let mut links = tunnel.links.write().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = links.iter().position(|known| Arc::ptr_eq(known, link)) else { return };
        links.swap_remove(at);
        let is_last = links.is_empty();
        drop(links);
        if is_last {
            tunnels.remove(&link.key.tunnel);
        }
        self.links.fetch_sub(1, Ordering::Relaxed);
        if !link.is_replaced() {
            unreported.down(link.key, link.has_said_goodbye());
        }
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
