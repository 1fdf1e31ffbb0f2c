//! How links are spread over workers: what is alike goes apart, and otherwise to where the fewest are.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{WorkerId, Workers};

/// How many links each worker has, or is about to have; by what they have in common, such as the other end.
pub struct Spread<K>(Arc<Mutex<Vec<Crowd<K>>>>);

/// The links of one worker.
struct Crowd<K> {
    all: usize,
    alike: HashMap<K, usize>,
}

/// A link's place on a worker, until this is dropped.
pub struct Place<K: Eq + Hash> {
    spread: Spread<K>,
    worker: WorkerId,
    key: K,
}

impl<K> Clone for Spread<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for Spread<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spread").finish_non_exhaustive()
    }
}

impl<K: Eq + Hash + Clone> Spread<K> {
    /// Over these workers, none of which has a link yet.
    pub fn new(workers: &Workers) -> Self {
        let nobody = |_| Crowd { all: 0, alike: HashMap::new() };
        Self(Arc::new(Mutex::new(workers.iter().map(nobody).collect())))
    }

    /// A place on the worker with the fewest links of this key, of those on the one with the fewest links, and
    /// of those on the first one.
    pub fn settle(&self, key: K) -> Place<K> {
        let mut crowds = self.crowds();
        let count = |crowd: &Crowd<K>| (crowd.alike.get(&key).copied().unwrap_or(0), crowd.all);
        let best = crowds.iter().enumerate().min_by_key(|(_, crowd)| count(crowd));
        let best = best.map_or(0, |(at, _)| at);
        crowds[best].all += 1;
        *crowds[best].alike.entry(key.clone()).or_default() += 1;
        drop(crowds);
        Place { spread: self.clone(), worker: WorkerId(best as u8), key }
    }
}

impl<K> Spread<K> {
    fn crowds(&self) -> MutexGuard<'_, Vec<Crowd<K>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Place<K> {
    /// Where it is.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut crowds = self.spread.crowds();
        let crowd = &mut crowds[self.worker.index()];
        crowd.all -= 1;
        if let Some(count) = crowd.alike.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                crowd.alike.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_alike_goes_apart_and_the_rest_where_there_is_room() {
        let spread = Spread::new(&Workers::start(2).unwrap());
        let at = |place: &Place<&str>| place.worker().index();
        let first = spread.settle("a");
        assert_eq!(at(&first), 0);
        let crowd = [spread.settle("b"), spread.settle("c"), spread.settle("d")];
        assert_eq!(crowd.each_ref().map(at), [1, 0, 1]);
        let second = spread.settle("a");
        assert_eq!(at(&second), 1, "the first one's worker has fewer, but one of its kind");
        drop(first);
        assert_eq!(at(&spread.settle("a")), 0, "its place is free again");
        drop((crowd, second));
        let is_empty = |crowd: &Crowd<&str>| crowd.all == 0 && crowd.alike.is_empty();
        assert!(spread.crowds().iter().all(is_empty), "nothing is kept of what is gone");
    }
}
