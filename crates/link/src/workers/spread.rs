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

type Crowds<'a, K> = MutexGuard<'a, Vec<Crowd<K>>>;

/// The links of one worker.
struct Crowd<K> {
    all: usize,
    alike: HashMap<K, Alike>,
}

/// Links of one kind on one worker.
struct Alike {
    count: usize,
    lane: u8,
}

/// A link's place on a worker, until this is dropped.
pub struct Place<K: Eq + Hash> {
    spread: Spread<K>,
    worker: WorkerId,
    lane: u8,
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
        let crowds = self.crowds();
        let count =
            |crowd: &Crowd<K>| (crowd.alike.get(&key).map_or(0, |alike| alike.count), crowd.all);
        let best = crowds.iter().enumerate().min_by_key(|(_, crowd)| count(crowd));
        let best = best.map_or(0, |(at, _)| at);
        self.take(crowds, WorkerId(best as u8), key)
    }

    /// A place on a worker that something else has chosen.
    pub fn settle_on(&self, worker: WorkerId, key: K) -> Place<K> {
        self.take(self.crowds(), worker, key)
    }

    fn take(&self, mut crowds: Crowds<'_, K>, worker: WorkerId, key: K) -> Place<K> {
        let is_taken = |lane: &u8| {
            crowds
                .iter()
                .any(|crowd| crowd.alike.get(&key).is_some_and(|alike| alike.lane == *lane))
        };
        let free = (0..u8::MAX).find(|lane| !is_taken(lane)).unwrap_or_default();
        let crowd = &mut crowds[worker.index()];
        crowd.all += 1;
        let alike = crowd.alike.entry(key.clone()).or_insert(Alike { count: 0, lane: free });
        alike.count += 1;
        let lane = alike.lane;
        drop(crowds);
        Place { spread: self.clone(), worker, lane, key }
    }
}

impl<K> Spread<K> {
    fn crowds(&self) -> Crowds<'_, K> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Place<K> {
    /// Where it is.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Counts the workers that have links of this key, from 0: the same for all of one worker's, and
    /// another for each worker.
    pub fn lane(&self) -> u8 {
        self.lane
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut crowds = self.spread.crowds();
        let crowd = &mut crowds[self.worker.index()];
        crowd.all -= 1;
        if let Some(alike) = crowd.alike.get_mut(&self.key) {
            alike.count -= 1;
            if alike.count == 0 {
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
        assert_eq!([first.lane(), second.lane(), crowd[0].lane()], [0, 1, 0]);
        let third = spread.settle_on(WorkerId(1), "a");
        assert_eq!((at(&third), third.lane()), (1, 1), "a worker has one lane for what is alike");
        drop((first, third));
        let again = spread.settle("a");
        assert_eq!((at(&again), again.lane()), (0, 0), "its place is free again");
        drop((crowd, second, again));
        let is_empty = |crowd: &Crowd<&str>| crowd.all == 0 && crowd.alike.is_empty();
        assert!(spread.crowds().iter().all(is_empty), "nothing is kept of what is gone");
    }
}
