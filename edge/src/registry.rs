//! Which links the edge holds, by tunnel, and which of them takes the next request.
//!
//! A tunnel whose links have all gone is kept for a while ([`MISSED_FOR`]): its connector is most likely on
//! its way back, and a request waits for it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::link::workers::WorkerId;
use protocol::{id::TunnelId, presence::LinkPresence, refusal::Refusal};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, futures::Notified},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::presence::Unreported,
    knowledge::Grant,
    streams::{Ages, Live, Sharers, Streams},
    traffic::{Counters, Traffic},
};

use missing::Missing;
use pulse::Pulse;
use strain::Crowding;

pub(crate) use self::{
    link::{InFlight, Link, LinkKey},
    trust::Finding,
};

mod link;
mod missing;
mod pulse;
pub(crate) mod strain;
mod trust;

/// So many requests begin at the same one of several links that are equally good, before it is the next
/// one's turn: where little is under way, a link, and whoever serves it at either end, stays warm.
const TURN: usize = 16;

/// A tunnel that lost its last link so long ago is expected back: a connector that has lost its links, or whose
/// edge was restarted, dials within 5 s. Later, requests are refused at once.
const MISSED_FOR: Duration = Duration::from_secs(10);

/// Requests that wait for a link at once, in all tunnels together: each holds what it has read of its body,
/// some 100 KiB at most.
const WAITERS: usize = 1_024;

/// Why no link takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPick {
    /// None is up, or not among those that were tried.
    NoLink,
    /// Those that are up have as much under way as they take.
    Full,
}

/// A tunnel that has links here, or had some until lately.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) streams: Arc<Streams>,
    pub(crate) counters: Arc<Counters>,
    links: RwLock<Vec<Arc<Link>>>,
    /// Requests that all its links take together.
    room: AtomicUsize,
    turn: AtomicUsize,
    crowd: Mutex<Crowding>,
    /// Since when no link takes requests, as far as anybody has looked.
    missing_since: Mutex<Option<Instant>>,
    arrived: Notify,
}

impl Tunnel {
    fn new(max_streams: usize, counters: Arc<Counters>) -> Self {
        Self {
            streams: Arc::new(Streams::new(max_streams)),
            counters,
            links: RwLock::default(),
            room: AtomicUsize::new(usize::MAX),
            turn: AtomicUsize::new(0),
            crowd: Mutex::default(),
            missing_since: Mutex::new(None),
            arrived: Notify::new(),
        }
    }

    /// Counts a new stream in, or tells why it has to wait.
    pub(crate) fn begin(
        &self,
        grant: Grant,
        sharers: Sharers,
        began: std::time::Instant,
    ) -> Result<Live, Refusal> {
        self.streams.begin(grant, sharers, self.room.load(Ordering::Relaxed), began)
    }

    /// To be called whenever a link has come or gone, under the lock. Without any, streams may wait for one.
    fn measure(&self, links: &[Arc<Link>]) {
        if !links.is_empty() {
            let room = links.iter().map(|link| link.capacity).sum();
            self.room.store(room, Ordering::Relaxed);
        }
    }

    /// Tells those who wait that one of its links is well again.
    pub(crate) fn link_is_well(&self) {
        self.arrived.notify_waiters();
    }

    /// Resolves when a link has come up, or is well again, since this was called.
    pub(crate) fn link_arrives(&self) -> Notified<'_> {
        self.arrived.notified()
    }

    /// No link takes requests, and one did until lately: is a link worth waiting for?
    pub(crate) fn is_missed(&self) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if links.iter().any(|link| !link.is_leaving() && !link.has_ended()) {
            return false;
        }
        let now = Instant::now();
        let mut since = self.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
        now < *since.get_or_insert(now) + MISSED_FOR
    }

    /// Begins to miss a link, if that has not begun before.
    fn miss(&self) {
        let mut since = self.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now);
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Is this the one of its links that came first?
    pub(crate) fn is_first(&self, link: &Arc<Link>) -> bool {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.first().is_some_and(|first| Arc::ptr_eq(first, link))
    }

    fn has_links(&self) -> bool {
        !self.links.read().unwrap_or_else(PoisonError::into_inner).is_empty()
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
            !is_tried && !link.is_leaving() && !link.is_full() && !link.trust.is_suspect()
        })
    }

    /// The link with the least in flight that is up, has room and is not among `tried`, for a request on
    /// `worker`, whose own links come first unless they are much busier; links that are equally good take turns.
    pub(crate) fn pick(&self, worker: WorkerId, tried: &[Arc<Link>]) -> Result<InFlight, NoPick> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) / TURN;
        let mut left = links.len();
        let offset = if left == 0 { 0 } else { turn % left };
        let mut without = NoPick::NoLink;
        // A link may begin to leave between the look and the pick; each round then has one fewer.
        while left > 0 {
            let best = (0..links.len())
                .map(|n| &links[(n + offset) % links.len()])
                .filter(|link| !link.is_leaving())
                .filter(|link| !tried.iter().any(|tried| Arc::ptr_eq(tried, link)))
                .filter(|link| {
                    let is_full = link.is_full();
                    if is_full {
                        without = NoPick::Full;
                    }
                    !is_full
                })
                .min_by_key(|link| link.cost(worker));
            let Some(best) = best else { break };
            if let Some(in_flight) = best.clone().begin() {
                return Ok(in_flight);
            }
            left -= 1;
        }
        Err(without)
    }
}

/// All links of the edge.
#[derive(Debug)]
pub(crate) struct Registry {
    tunnels: RwLock<HashMap<TunnelId, Arc<Tunnel>>>,
    pub(crate) traffic: Traffic,
    links: AtomicUsize,
    changed: Notify,
    /// Moves with every link that comes or goes.
    version: AtomicU64,
    missing: Missing,
    waiters: Semaphore,
    pulse: Pulse,
    leaving: CancellationToken,
    max_links: usize,
    max_streams_per_tunnel: usize,
}

impl Registry {
    pub(crate) fn new(max_links: usize, max_streams_per_tunnel: usize) -> Self {
        Self {
            tunnels: RwLock::default(),
            traffic: Traffic::default(),
            links: AtomicUsize::new(0),
            changed: Notify::new(),
            version: AtomicU64::new(0),
            missing: Missing::default(),
            waiters: Semaphore::new(WAITERS),
            pulse: Pulse::default(),
            leaving: CancellationToken::new(),
            max_links,
            max_streams_per_tunnel,
        }
    }

    fn tunnel(&self, id: TunnelId) -> Arc<Tunnel> {
        Arc::new(Tunnel::new(self.max_streams_per_tunnel, self.traffic.of(id)))
    }

    /// The tunnel, if it has links here, or had some until lately.
    pub(crate) fn get(&self, tunnel: TunnelId) -> Option<Arc<Tunnel>> {
        self.tunnels.read().unwrap_or_else(PoisonError::into_inner).get(&tunnel).cloned()
    }

    /// Every tunnel that has links here, or had some until lately.
    pub(crate) fn all(&self) -> Vec<Arc<Tunnel>> {
        let tunnels = self.tunnels.read().unwrap_or_else(PoisonError::into_inner);
        tunnels.values().cloned().collect()
    }

    /// Looks at every request under way.
    pub(crate) fn ages(&self, now: std::time::Instant) -> Option<Ages> {
        self.all().iter().filter_map(|tunnel| tunnel.streams.look(now)).reduce(Ages::and)
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

    /// Resolves when a link has gone, or takes no more requests; for one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes a connector's goodbye on a link.
    pub(crate) fn say_goodbye(&self, link: &Link) {
        link.say_goodbye();
        self.changed.notify_one();
    }

    /// How many links take requests.
    pub(crate) fn serving(&self) -> usize {
        self.links().iter().filter(|link| !link.is_leaving()).count()
    }

    /// Links that go from now on do not come back here: nobody waits for them.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Is cancelled once links that go do not come back.
    pub(crate) fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// To be called all the time. If it was not for a while, the process was stopped: then all links are suspect until
    /// they show life. True if so.
    pub(crate) fn beat(&self, now: Instant) -> bool {
        let was_stopped = self.pulse.is_late(now.into_std());
        if was_stopped {
            self.suspect_all(now);
        }
        // Only now, so that no request misses that.
        self.pulse.beat(now.into_std());
        was_stopped
    }

    /// Notices that the process was stopped, for a request that may be the first one to see it.
    pub(crate) fn wake(&self, now: std::time::Instant) {
        if self.pulse.has_stopped(now) {
            self.suspect_all(now.into());
            self.pulse.notice();
        }
    }

    fn suspect_all(&self, now: Instant) {
        for link in self.links() {
            link.trust.doubt(now, &link.session);
        }
    }

    /// A place among those who wait for a link; `None` when there are too many.
    pub(crate) fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waiters.try_acquire().ok()
    }

    /// Before the start: these tunnels had links here until the edge was stopped, so they are missed until
    /// they are back.
    pub(crate) fn miss(&self, tunnels: impl IntoIterator<Item = TunnelId>) {
        let tunnels: HashSet<TunnelId> = tunnels.into_iter().collect();
        let mut known = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        for id in &tunnels {
            let tunnel = self.tunnel(*id);
            tunnel.miss();
            known.insert(*id, tunnel);
            self.missing.forget_later(*id);
        }
        self.missing.expect(tunnels);
    }

    /// Tunnels that had links before the start, have had none since, and may still be expected;
    /// `is_known` tells whether a tunnel exists.
    pub(crate) fn awaited(&self, is_known: impl Fn(TunnelId) -> bool) -> usize {
        self.missing.awaited(is_known)
    }

    /// Resolves when no tunnel is awaited any more; for one waiter.
    pub(crate) async fn settled(&self, is_known: impl Fn(TunnelId) -> bool) {
        self.missing.settled(is_known).await;
    }

    /// Moves when [`served`](Self::served) may have changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The tunnels that have links, and those that are awaited: for the next start.
    pub(crate) fn served(&self) -> HashSet<TunnelId> {
        let tunnels = self.tunnels.read().unwrap_or_else(PoisonError::into_inner);
        let mut served = self.missing.expected();
        served.extend(tunnels.iter().filter(|(_, tunnel)| tunnel.has_links()).map(|(id, _)| *id));
        served
    }

    /// Forgets tunnels that have had no link for long, until the future is dropped.
    pub(crate) async fn tidy(&self) {
        loop {
            tokio::time::sleep(MISSED_FOR).await;
            let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
            self.missing.forget(|id| {
                let Some(tunnel) = tunnels.get(&id).filter(|tunnel| !tunnel.has_links()) else {
                    return true;
                };
                // Under the lock nobody new gets hold of the tunnel. A stream that is still under way must
                // stay among the tunnel's, where a change of access finds it.
                let is_in_use =
                    Arc::strong_count(tunnel) > 1 || Arc::strong_count(&tunnel.streams) > 1;
                let is_over = !is_in_use && !tunnel.is_missed();
                if is_over {
                    tunnels.remove(&id);
                }
                is_over
            });
        }
    }

    /// A link to the tunnel comes up in a moment: requests wait for it.
    pub(crate) fn await_link(&self, id: TunnelId) {
        let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        let tunnel = tunnels.entry(id).or_insert_with(|| self.tunnel(id));
        if !tunnel.has_links() {
            let now = Some(Instant::now());
            *tunnel.missing_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
            self.missing.forget_later(id);
        }
    }

    /// Takes a link. One that the same connector holds in the same slot gives its place up, and finishes
    /// what is under way.
    pub(crate) fn insert(&self, link: &Arc<Link>, unreported: &Unreported) {
        let mut tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        let tunnel = tunnels.entry(link.key.tunnel).or_insert_with(|| self.tunnel(link.key.tunnel));
        let mut links = tunnel.links.write().unwrap_or_else(PoisonError::into_inner);
        links
            .iter()
            .filter(|older| older.key == link.key)
            .for_each(|older| older.replaced.cancel());
        links.push(link.clone());
        tunnel.measure(&links);
        drop(links);
        *tunnel.missing_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tunnel.arrived.notify_waiters();
        self.missing.is_back(link.key.tunnel);
        self.links.fetch_add(1, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Relaxed);
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
        let tunnels = self.tunnels.write().unwrap_or_else(PoisonError::into_inner);
        let Some(tunnel) = tunnels.get(&link.key.tunnel) else { return };
        let mut links = tunnel.links.write().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = links.iter().position(|known| Arc::ptr_eq(known, link)) else { return };
        links.swap_remove(at);
        tunnel.measure(&links);
        let is_last = links.is_empty();
        drop(links);
        if is_last {
            tunnel.miss();
            self.missing.forget_later(link.key.tunnel);
        }
        self.links.fetch_sub(1, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Relaxed);
        if !link.is_replaced() {
            unreported.down(link.key, link.has_said_goodbye());
        }
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
