//! The room of a port, and who gets it. Whoever has proven nothing yet, by a credential or a certificate, is a
//! *stranger*. Strangers share a part of the room by their source, so that one source with thousands of connections
//! keeps nobody else out; the rest of the room is never theirs.
//!
//! ```text
//! accepted ─► enter ─┬─ stranger ── prove ─► guest, until dropped
//!                    │     └─ put out: for a source that holds fewer places, or at its deadline
//!                    └─ turned away: the strangers' part is full, and nobody in it holds more than the newcomer
//! ```
//!
//! Every port has one: links (QUIC and TCP apart), the gateway, the edge port, the API, the status ports, and the queue
//! for password hashes. [`Timely`] gives a connection its deadline for writing.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use timely::Timely;

mod timely;

/// A stranger keeps its place that long, even if its own source asks for another one. Most handshakes are over by then;
/// in a storm from one source those who came first succeed, instead of nobody.
const GRACE: Duration = Duration::from_secs(1);
/// A full room is told in the log at most that often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// All that one sender has at hand: an IPv4 address, or the 64 bits of an IPv6 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// An address of IPv4, written as IPv6 or not.
    V4(Ipv4Addr),
    /// The first 64 bits of an address of IPv6.
    V6([u16; 4]),
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip) => ip.fmt(f),
            Self::V6([a, b, c, d]) => write!(f, "{a:x}:{b:x}:{c:x}:{d:x}::/64"),
        }
    }
}

/// Places for connections, or for whatever else takes room.
pub struct Room {
    name: &'static str,
    bound: usize,
    strangers: usize,
    grace: Duration,
    held: Mutex<Held>,
    freed: Notify,
}

/// A place in a [`Room`], given back when it is dropped.
pub struct Place {
    room: Arc<Room>,
    source: Source,
    id: u64,
    is_proven: AtomicBool,
    put_out: CancellationToken,
}

#[derive(Default)]
struct Held {
    /// By source, the oldest first; never an empty map.
    strangers: HashMap<Source, BTreeMap<u64, Stranger>>,
    stranger_count: usize,
    guests: usize,
    next: u64,
    told_at: Option<Instant>,
}

struct Stranger {
    since: Instant,
    put_out: CancellationToken,
}

/// Why nobody comes in.
enum Full {
    /// Strangers, of whom none has to give way.
    Strangers,
    /// Guests alone.
    Guests,
}

impl Room {
    /// A room of `bound` places, at most `strangers` of them for those who have proven nothing. Each is one at least.
    /// `name` says in the log whose room it is.
    pub fn new(name: &'static str, bound: usize, strangers: usize) -> Arc<Self> {
        Self::with_grace(name, bound, strangers, GRACE)
    }

    /// A room for strangers alone: whoever has proven something leaves it.
    pub fn of_strangers(name: &'static str, strangers: usize) -> Arc<Self> {
        Self::new(name, strangers, strangers)
    }

    /// A queue for strangers. In it nobody gives way to its own source: whoever came first is served first.
    pub fn queue(name: &'static str, strangers: usize) -> Arc<Self> {
        Self::with_grace(name, usize::MAX, strangers, Duration::MAX)
    }

    fn with_grace(
        name: &'static str,
        bound: usize,
        strangers: usize,
        grace: Duration,
    ) -> Arc<Self> {
        let (bound, strangers) = (bound.max(1), strangers.clamp(1, bound.max(1)));
        let (held, freed) = (Mutex::default(), Notify::new());
        Arc::new(Self { name, bound, strangers, grace, held, freed })
    }

    /// A place for a stranger; `None` turns it away. Where guests alone fill the room, it waits until one leaves.
    /// Cancel-safe.
    pub async fn enter(self: &Arc<Self>, from: impl Into<Source>) -> Option<Place> {
        let source = from.into();
        loop {
            // Before the look, or a place that is given back in between would be missed.
            let freed = self.freed.notified();
            match self.admit(source, CancellationToken::new()) {
                Ok(place) => return Some(place),
                Err(Full::Strangers) => return None,
                Err(Full::Guests) => freed.await,
            }
        }
    }

    /// The same without a wait: `None` if the room is full in either way.
    pub fn try_enter(self: &Arc<Self>, from: impl Into<Source>) -> Option<Place> {
        self.admit(from.into(), CancellationToken::new()).ok()
    }

    fn admit(self: &Arc<Self>, source: Source, put_out: CancellationToken) -> Result<Place, Full> {
        let now = Instant::now();
        let mut held = self.held();
        let is_full = held.stranger_count >= self.strangers
            || held.stranger_count + held.guests >= self.bound;
        if is_full {
            if held.stranger_count == 0 {
                return Err(Full::Guests);
            }
            let made = held.make_room(source, now, self.grace);
            if held.told_at.is_none_or(|at| now.duration_since(at) >= TELL_EVERY) {
                held.told_at = Some(now);
                let (of, places) =
                    held.biggest(source).map_or((source, 0), |(of, all)| (of, all.len()));
                tracing::warn!(
                    room = self.name,
                    source = %of,
                    places,
                    "no more room for strangers: those of the source with most places give way"
                );
            }
            if !made {
                return Err(Full::Strangers);
            }
        }
        let id = held.next;
        held.next += 1;
        held.stranger_count += 1;
        let stranger = Stranger { since: now, put_out: put_out.clone() };
        held.strangers.entry(source).or_default().insert(id, stranger);
        drop(held);
        let is_proven = AtomicBool::new(false);
        Ok(Place { room: self.clone(), source, id, is_proven, put_out })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Held {
    /// The source with most places; among equals the newcomer's own.
    fn biggest(&self, newcomer: Source) -> Option<(Source, &BTreeMap<u64, Stranger>)> {
        let sources = self.strangers.iter().map(|(source, places)| (*source, places));
        sources.max_by_key(|(source, places)| (places.len(), *source == newcomer))
    }

    /// Puts out the oldest stranger of the source with most places, if that has more than the newcomer's source will
    /// have, or if the stranger has had its time.
    fn make_room(&mut self, newcomer: Source, now: Instant, grace: Duration) -> bool {
        let own = self.strangers.get(&newcomer).map_or(0, BTreeMap::len);
        let Some((source, places)) = self.biggest(newcomer) else { return false };
        let Some((&id, oldest)) = places.first_key_value() else { return false };
        if places.len() <= own + 1 && now.duration_since(oldest.since) < grace {
            return false;
        }
        oldest.put_out.cancel();
        self.remove(source, id)
    }

    fn remove(&mut self, source: Source, id: u64) -> bool {
        let Some(places) = self.strangers.get_mut(&source) else { return false };
        let was_there = places.remove(&id).is_some();
        if places.is_empty() {
            self.strangers.remove(&source);
        }
        self.stranger_count -= usize::from(was_there);
        was_there
    }
}

impl Place {
    /// Its holder has proven something: it is a stranger no longer, and not put out any more.
    pub fn prove(&self) {
        if self.is_proven() {
            return;
        }
        let mut held = self.room.held();
        // Whoever was put out meanwhile has no place that could count.
        if held.remove(self.source, self.id) {
            held.guests += 1;
            self.is_proven.store(true, Ordering::Relaxed);
        }
    }

    /// Has its holder proven something?
    pub fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }

    /// From where its holder comes.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Takes a place in another room as well, for a stranger that needs more than others. Put out from there, it loses
    /// this place, too. `None` if there is none.
    pub fn also_in(&self, room: &Arc<Room>) -> Option<Self> {
        room.admit(self.source, self.put_out.clone()).ok()
    }

    /// Does `work`; `None` if its holder is put out, or is still a stranger after `within`.
    pub async fn hold<T>(&self, within: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.lost(within) => None,
            done = work => Some(done),
        }
    }

    /// Resolves when its holder is put out, or is still a stranger after `within`.
    pub async fn lost(&self, within: Duration) {
        let put_out = self.put_out.cancelled();
        if tokio::time::timeout(within, put_out).await.is_err() && self.is_proven() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.room.held();
        match *self.is_proven.get_mut() {
            true => held.guests -= 1,
            // It may have been put out, and is not there any more.
            false => drop(held.remove(self.source, self.id)),
        }
        drop(held);
        self.room.freed.notify_waiters();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
