//! Tunnels without a link: those that are expected back after a start, and those that are to be forgotten.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::id::TunnelId;
use tokio::{sync::Notify, time::Instant};

/// How long after its start an edge counts on the links that it had before. Connectors dial an edge that is
/// back within 5 s; one that has not come in twice the time has gone elsewhere, or is gone.
const EXPECTED_FOR: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Missing {
    expected: Mutex<Option<Expected>>,
    is_back: Notify,
    /// Had no link when they were noted; each at most once.
    forgettable: Mutex<HashSet<TunnelId>>,
}

#[derive(Debug)]
struct Expected {
    tunnels: HashSet<TunnelId>,
    until: Instant,
}

impl Missing {
    /// Expects these tunnels back from now on.
    pub(super) fn expect(&self, tunnels: HashSet<TunnelId>) {
        let until = Instant::now() + EXPECTED_FOR;
        *lock(&self.expected) = Some(Expected { tunnels, until });
    }

    /// A tunnel has a link.
    pub(super) fn is_back(&self, tunnel: TunnelId) {
        if let Some(expected) = &mut *lock(&self.expected)
            && expected.tunnels.remove(&tunnel)
        {
            self.is_back.notify_one();
        }
    }

    /// How many are expected and not back, of those that `is_known`.
    pub(super) fn awaited(&self, is_known: impl Fn(TunnelId) -> bool) -> usize {
        self.expected().into_iter().filter(|tunnel| is_known(*tunnel)).count()
    }

    /// Those that are expected and not back.
    pub(super) fn expected(&self) -> HashSet<TunnelId> {
        let mut expected = lock(&self.expected);
        if expected.as_ref().is_some_and(|expected| expected.until <= Instant::now()) {
            *expected = None;
        }
        expected.as_ref().map(|expected| expected.tunnels.clone()).unwrap_or_default()
    }

    /// Resolves when none is awaited; for one waiter.
    pub(super) async fn settled(&self, is_known: impl Fn(TunnelId) -> bool) {
        let until = lock(&self.expected).as_ref().map(|expected| expected.until);
        let Some(until) = until else { return };
        let all = async {
            while self.awaited(&is_known) > 0 {
                self.is_back.notified().await;
            }
        };
        let _ = tokio::time::timeout_at(until, all).await;
    }

    /// A tunnel has no link any more.
    pub(super) fn forget_later(&self, tunnel: TunnelId) {
        lock(&self.forgettable).insert(tunnel);
    }

    /// Asks of each tunnel without a link whether it is forgotten now.
    pub(super) fn forget(&self, is_forgotten: impl FnMut(TunnelId) -> bool) {
        let mut is_forgotten = is_forgotten;
        lock(&self.forgettable).retain(|tunnel| !is_forgotten(*tunnel));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
