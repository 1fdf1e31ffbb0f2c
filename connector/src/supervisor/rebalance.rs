//! Making good links better: spread evenly, and on QUIC. The new link comes first, the old one leaves
//! afterwards; one slot at a time for each of the two aims.

use std::time::Duration;

use rand::Rng;

use super::{
    Link, Purpose, Stage, Supervisor,
    attempt::{Attempt, Rung},
};

impl Supervisor {
    /// Moves one link to a less crowded edge, if there is one: fewer links in its region, or as many
    /// and fewer on the edge. Each such move brings the links nearer to an even spread, so moving ends.
    /// It waits until every slot has a link that is well and to stay: where the others go, matters here.
    pub(super) fn rebalance(&mut self, now: Duration, rng: &mut dyn Rng) {
        let is_settled = |link: &&Link| link.stage == Stage::Up && !link.heartbeat.is_suspect();
        let up = self.links.values().filter(is_settled).count();
        if up < self.slots.len() || self.is_under_way(Purpose::Rebalance) {
            return;
        }
        let standing = self.standing();
        let mut best = None;
        for slot in self.contented() {
            let Some(link) = self.slots[slot].link.and_then(|id| self.links.get(&id)) else {
                continue;
            };
            let spread = self.spread_without(slot);
            let here = if self.places.is_foreign(&link.region) {
                (usize::MAX, usize::MAX)
            } else {
                spread.load(&link.region, &link.place)
            };
            let Some(place) = self.places.choose(now, false, &spread, &standing, rng) else {
                return;
            };
            let there = spread.load(&place.edge.region, &place.edge.address);
            let is_better = best.as_ref().is_none_or(|(_, _, least)| there < *least);
            if there < here && is_better {
                best = Some((slot, place.edge.clone(), there));
            }
        }
        let Some((slot, edge, _)) = best else { return };
        if self.budget.take(now) {
            let rungs = self.network.ladder(&edge);
            self.attempt(now, slot, Attempt::new(now, edge, Purpose::Rebalance, rungs));
        }
    }

    /// Tries whether a link on HTTP/2 can move to QUIC, when it is time to.
    pub(super) fn move_to_quic(&mut self, now: Duration, rng: &mut dyn Rng) {
        let is_time = self.network.probe_at().is_some_and(|at| at <= now);
        if !is_time || !self.network.may_upgrade() || self.is_under_way(Purpose::Upgrade) {
            return;
        }
        let serving = self.slots.iter().filter_map(|slot| self.links.get(&slot.link?));
        if !serving.into_iter().any(|link| self.network.lacks_quic(&link.place, link.transport)) {
            self.network.clear_probe();
            return;
        }
        let candidate = self.contented().find_map(|slot| {
            let link = self.slots[slot].link.and_then(|id| self.links.get(&id))?;
            let lacks_quic = self.network.lacks_quic(&link.place, link.transport);
            lacks_quic.then(|| (slot, link.place.clone()))
        });
        let Some((slot, address)) = candidate else { return };
        let Some(edge) = self.places.get_mut(&address).map(|place| place.edge.clone()) else {
            self.network.clear_probe();
            self.network.schedule_probe(now, rng);
            return;
        };
        if self.budget.take(now) {
            let attempt = Attempt::new(now, edge, Purpose::Upgrade, vec![Rung::Quic]);
            self.attempt(now, slot, attempt);
        }
    }

    /// Slots that could do with a better link: up, nothing under way, and no link of theirs still
    /// leaving, so that links never pile up.
    fn contented(&self) -> impl Iterator<Item = usize> + '_ {
        let leaving = |slot: usize| {
            self.links.values().any(|link| {
                usize::from(link.slot) == slot && matches!(link.stage, Stage::Leaving { .. })
            })
        };
        self.slots.iter().enumerate().filter_map(move |(n, slot)| {
            let link = self.links.get(&slot.link?)?;
            let is_free = slot.attempt.is_none() && link.stage == Stage::Up && !leaving(n);
            is_free.then_some(n)
        })
    }

    fn is_under_way(&self, purpose: Purpose) -> bool {
        let attempts = self.slots.iter().filter_map(|slot| slot.attempt.as_ref());
        attempts.into_iter().any(|attempt| attempt.purpose == purpose)
    }
}
