//! The requests under way: how old the oldest one is, and which one has stood still for longest.
//!
//! Each worker has a table of its own. Only its thread enters requests there, so that nobody waits for the
//! lock but for a moment once a second, when all tables are looked through. A place is used again and again: a
//! request allocates nothing. What moves a byte sets a flag and reads no clock.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::Gauge;
use tokio::time::Instant;

/// Every worker's table.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Vec<Arc<Table>>>);

/// What was found in the tables; zero without a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ages {
    pub(super) oldest: Duration,
    pub(super) longest_stall: Duration,
}

/// The requests of one worker.
pub(crate) struct Table {
    places: Mutex<Places>,
    in_flight: Gauge,
}

#[derive(Default)]
struct Places {
    /// As many as there ever were requests at once.
    all: Vec<Place>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Place {
    /// None while it is free.
    began: Option<Instant>,
    moved_at: Option<Instant>,
    mark: Mark,
}

/// Notes that a request moves. What is left of one that has ended may still do so: then the next one in its
/// place seems to have moved once more.
#[derive(Clone, Default)]
pub(crate) struct Mark(Arc<AtomicBool>);

impl Mark {
    /// Something of the request, or of its answer, has moved.
    pub(crate) fn moves(&self) {
        self.0.store(true, Relaxed);
    }
}

/// One request that is being served.
pub(crate) struct InFlight<'a> {
    table: &'a Table,
    place: usize,
    pub(crate) mark: Mark,
}

impl UnderWay {
    pub(super) fn table(&self, in_flight: Gauge) -> Arc<Table> {
        let table = Arc::new(Table { places: Mutex::default(), in_flight });
        lock(&self.0).push(table.clone());
        table
    }

    /// Looks at every request. One that has moved since the last look has moved just now.
    pub(super) fn look(&self) -> Ages {
        let now = Instant::now();
        let mut ages = Ages::default();
        for table in lock(&self.0).iter() {
            for place in &mut lock(&table.places).all {
                let Some(began) = place.began else { continue };
                if place.mark.0.swap(false, Relaxed) {
                    place.moved_at = Some(now);
                }
                let moved_at = place.moved_at.unwrap_or(began);
                ages.oldest = ages.oldest.max(now.saturating_duration_since(began));
                ages.longest_stall =
                    ages.longest_stall.max(now.saturating_duration_since(moved_at));
            }
        }
        ages
    }
}

impl Table {
    /// Enters a request that begins now.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.increment(1);
        let began = Some(Instant::now());
        let mut places = lock(&self.places);
        let place = places.free.pop().unwrap_or_else(|| {
            places.all.push(Place::default());
            places.all.len() - 1
        });
        let mark = places.all[place].mark.clone();
        mark.0.store(false, Relaxed);
        places.all[place] = Place { began, moved_at: None, mark: mark.clone() };
        InFlight { table: self, place, mark }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.table.in_flight.decrement(1);
        let mut places = lock(&self.table.places);
        places.all[self.place].began = None;
        places.free.push(self.place);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    fn ages(oldest: u64, longest_stall: u64) -> Ages {
        let seconds = Duration::from_secs;
        Ages { oldest: seconds(oldest), longest_stall: seconds(longest_stall) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_request_of_all_workers_is_found() {
        let under_way = UnderWay::default();
        let tables = [Gauge::noop(), Gauge::noop()].map(|gauge| under_way.table(gauge));
        assert_eq!(under_way.look(), ages(0, 0));
        let first = tables[0].enter();
        pass(3).await;
        let second = tables[1].enter();
        pass(4).await;
        assert_eq!(under_way.look(), ages(7, 7));
        drop(first);
        assert_eq!(under_way.look(), ages(4, 4));
        drop(second);
        assert_eq!(under_way.look(), ages(0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_moves_is_old_and_does_not_stand_still() {
        let under_way = UnderWay::default();
        let table = under_way.table(Gauge::noop());
        let (moving, still) = (table.enter(), table.enter());
        for _ in 0..10 {
            pass(1).await;
            moving.mark.moves();
            under_way.look();
        }
        assert_eq!(under_way.look(), ages(10, 10));
        drop(still);
        assert_eq!(under_way.look(), ages(10, 0));
        pass(5).await;
        assert_eq!(under_way.look(), ages(15, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_used_again_and_tells_nothing_of_who_was_there() {
        let under_way = UnderWay::default();
        let table = under_way.table(Gauge::noop());
        for _ in 0..100 {
            let request = table.enter();
            request.mark.moves();
            pass(1).await;
        }
        assert_eq!(lock(&table.places).all.len(), 1);
        let _request = table.enter();
        pass(2).await;
        assert_eq!(under_way.look(), ages(2, 2));
    }
}
