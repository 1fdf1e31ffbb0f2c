//! What is remembered of the ways to edges from one dial to the next.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::address::HostPort;

/// Edges that are remembered: more than a connector has.
const MOST: usize = 256;

/// Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Where a link came up last, in case the name does not resolve.
    addresses: Mutex<HashMap<HostPort, Vec<SocketAddr>>>,
    /// Hosts to which no long packets get through.
    narrow: Mutex<HashSet<IpAddr>>,
}

impl Memory {
    pub(super) fn addresses(&self, target: &HostPort) -> Option<Vec<SocketAddr>> {
        lock(&self.addresses).get(target).cloned()
    }

    /// A link has come up at one of these.
    pub(super) fn note_addresses(&self, target: &HostPort, addresses: Vec<SocketAddr>) {
        let mut known = lock(&self.addresses);
        if known.len() >= MOST && !known.contains_key(target) {
            known.clear();
        }
        known.insert(target.clone(), addresses);
    }

    pub(super) fn is_narrow(&self, host: IpAddr) -> bool {
        lock(&self.narrow).contains(&host)
    }

    /// Only short packets get through to there. True if that is news.
    pub(super) fn note_narrow(&self, host: IpAddr) -> bool {
        let mut narrow = lock(&self.narrow);
        if narrow.len() >= MOST {
            narrow.clear();
        }
        narrow.insert(host)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
