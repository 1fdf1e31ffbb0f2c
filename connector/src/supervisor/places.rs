//! The edges that are known, how each of them fares, and which is the best to ask next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use protocol::{
    address::{EdgeAddress, HostPort},
    control::{DirectoryEdge, LinkRefusalCode},
    id::EdgeId,
    name::RegionName,
};
use rand::Rng;

use super::{
    event::FailureKind,
    timing::{
        FAILURES_PER_DOUBLING, NEWCOMER_SMEAR, NEWCOMER_SMEAR_ALONE, REST_FIRST, REST_MOST, SETTLED,
    },
    up_to,
};

#[derive(Debug)]
pub(super) struct Place {
    pub(super) edge: EdgeAddress,
    id: Option<EdgeId>,
    is_bootstrap: bool,
    is_listed: bool,
    /// In a row.
    failures: u32,
    /// Not to be asked before.
    rest_until: Duration,
    /// New to everybody: not to be asked before, unless a link is missing.
    new_until: Duration,
    /// The same while all links stand on one edge.
    new_until_alone: Duration,
    /// Is leaving: the last choice until then.
    draining_until: Duration,
    /// The last trouble that people were told of; forgotten when a link comes up.
    pub(super) said: Option<Trouble>,
}

/// What people were told of an edge, so that they are not told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Fails(FailureKind),
    Refuses(LinkRefusalCode),
}

#[derive(Debug)]
pub(super) struct Places {
    /// Keyed by the address that is dialled, for two addresses are two ways in.
    known: BTreeMap<HostPort, Place>,
    follow_directory: bool,
    region: Option<RegionName>,
}

/// How the connector stands to the edges.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Those with a link that is to stay.
    pub(super) alive: BTreeSet<HostPort>,
    /// Those of them with a link that is not suspect.
    pub(super) well: BTreeSet<HostPort>,
    /// Those that somebody is asking.
    pub(super) busy: BTreeSet<HostPort>,
}

/// Where the links stand, and where those on their way are to stand.
#[derive(Debug, Default)]
pub(super) struct Spread<'a>(pub(super) Vec<(&'a RegionName, &'a HostPort)>);

impl Spread<'_> {
    /// How crowded an edge is: links in its region, then on itself.
    pub(super) fn load(&self, region: &RegionName, address: &HostPort) -> (usize, usize) {
        let in_region = self.0.iter().filter(|(other, _)| *other == region).count();
        let on_edge = self.0.iter().filter(|(_, other)| *other == address).count();
        (in_region, on_edge)
    }
}

impl Places {
    pub(super) fn new(
        edges: Vec<EdgeAddress>,
        follow_directory: bool,
        region: Option<RegionName>,
    ) -> Self {
        let place = |edge: EdgeAddress| (edge.address.clone(), Place::new(edge, None, true));
        Self { known: edges.into_iter().map(place).collect(), follow_directory, region }
    }

    pub(super) fn get_mut(&mut self, address: &HostPort) -> Option<&mut Place> {
        self.known.get_mut(address)
    }

    /// Takes over a directory. Newcomers rest for a moment if `smear`, since everybody learns of them
    /// at once. Edges that it no longer names stay known while `in_use`.
    pub(super) fn learn(
        &mut self,
        now: Duration,
        directory: Vec<DirectoryEdge>,
        smear: bool,
        in_use: &BTreeSet<HostPort>,
        rng: &mut dyn Rng,
    ) {
        // An empty directory would leave nothing to dial: the last good one stands.
        if directory.is_empty() || !self.follow_directory {
            return;
        }
        for place in self.known.values_mut() {
            place.is_listed = false;
        }
        for DirectoryEdge { edge, link } in directory {
            let place = self.known.entry(link.address.clone()).or_insert_with(|| {
                let mut place = Place::new(link.clone(), Some(edge), false);
                if smear {
                    place.new_until = now + up_to(NEWCOMER_SMEAR, rng);
                    place.new_until_alone = place.new_until.min(now + NEWCOMER_SMEAR_ALONE);
                }
                place
            });
            place.edge = link;
            place.id = Some(edge);
            place.is_listed = true;
        }
        self.known.retain(|address, place| {
            place.is_listed || place.is_bootstrap || in_use.contains(address)
        });
    }

    /// An edge answered at `address`. Returns the address under which it is known from now on, which
    /// is the directory's if that names the edge.
    pub(super) fn recognise(
        &mut self,
        address: &HostPort,
        edge: EdgeId,
        region: &RegionName,
    ) -> HostPort {
        let listed = self.known.values().find(|place| place.is_listed && place.id == Some(edge));
        let address = listed.map_or(address, |place| &place.edge.address).clone();
        if let Some(place) = self.known.get_mut(&address) {
            place.id = Some(edge);
            place.edge.region = region.clone();
            place.rest_until = Duration::ZERO;
            place.new_until = Duration::ZERO;
            place.said = None;
        }
        address
    }

    /// The least crowded edge that may be asked now. For a slot that needs a link (`is_urgent`) an edge
    /// that is neither failing nor in doubt comes first, however crowded, and one that drains last.
    pub(super) fn choose(
        &self,
        now: Duration,
        is_urgent: bool,
        spread: &Spread<'_>,
        standing: &Standing,
        rng: &mut dyn Rng,
    ) -> Option<&Place> {
        let Standing { alive, well, busy } = standing;
        let is_draining = |place: &Place| place.draining_until > now;
        let candidates = self.candidates(alive.is_empty()).filter(|place| {
            let address = &place.edge.address;
            place.rest_until <= now
                && (is_urgent || !place.is_new(now, alive.len() <= 1))
                && (is_urgent || !is_draining(place))
                && !(self.is_failing(address, alive) && busy.contains(address))
        });
        candidates.min_by_key(|place| {
            let address = &place.edge.address;
            let is_in_doubt = alive.contains(address) && !well.contains(address);
            let is_worse = is_urgent && (is_in_doubt || self.is_failing(address, alive));
            let load = spread.load(&place.edge.region, address);
            (is_draining(place), is_worse, load, rng.next_u32())
        })
    }

    /// Is somebody of the wanted region known at all?
    pub(super) fn unknown_region(&self) -> Option<&RegionName> {
        let wanted = self.region.as_ref()?;
        let is_known = self.known.values().any(|place| place.edge.region == *wanted);
        (!is_known).then_some(wanted)
    }

    /// Is this a region to leave, as the wanted one is known?
    pub(super) fn is_foreign(&self, region: &RegionName) -> bool {
        self.region.as_ref().is_some_and(|wanted| wanted != region)
            && self.unknown_region().is_none()
    }

    /// Edges that may be asked at some time: those of the directory; before there is one, or when no
    /// link is up, also those that the connector was started with. Of the wanted region, if one is
    /// known there.
    fn candidates(&self, is_offline: bool) -> impl Iterator<Item = &Place> {
        let has_directory = self.known.values().any(|place| place.is_listed);
        let bootstrap_counts = !has_directory || is_offline;
        let region = self.region.as_ref().filter(|_| self.unknown_region().is_none());
        self.known.values().filter(move |place| {
            (place.is_listed || (place.is_bootstrap && bootstrap_counts))
                && region.is_none_or(|region| place.edge.region == *region)
        })
    }

    fn is_failing(&self, address: &HostPort, alive: &BTreeSet<HostPort>) -> bool {
        !alive.contains(address) && self.known.get(address).is_some_and(|place| place.failures > 0)
    }

    /// After a total outage, the first link up: whoever rests because of failures may be asked again.
    pub(super) fn hurry(&mut self, now: Duration) {
        for place in self.known.values_mut() {
            if matches!(place.said, Some(Trouble::Fails(_)) | None) {
                place.rest_until = place.rest_until.min(now);
            }
        }
    }

    /// Has anybody already been told of this refusal by some edge?
    pub(super) fn was_said(&self, trouble: Trouble) -> bool {
        self.known.values().any(|place| place.said == Some(trouble))
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> + '_ {
        self.known.values().flat_map(|place| {
            [place.rest_until, place.new_until, place.new_until_alone, place.draining_until]
        })
    }
}

impl Place {
    fn new(edge: EdgeAddress, id: Option<EdgeId>, is_bootstrap: bool) -> Self {
        Self {
            edge,
            id,
            is_bootstrap,
            is_listed: false,
            failures: 0,
            rest_until: Duration::ZERO,
            new_until: Duration::ZERO,
            new_until_alone: Duration::ZERO,
            draining_until: Duration::ZERO,
            said: None,
        }
    }

    fn is_new(&self, now: Duration, is_alone: bool) -> bool {
        now < if is_alone { self.new_until_alone } else { self.new_until }
    }

    /// Rests for a random while, up to a bound that grows with the failures in a row.
    pub(super) fn fail(&mut self, now: Duration, rng: &mut dyn Rng) {
        let bound =
            REST_FIRST * 2u32.saturating_pow((self.failures / FAILURES_PER_DOUBLING).min(8));
        self.failures = self.failures.saturating_add(1);
        self.rest_until = now + up_to(bound.min(REST_MOST), rng);
    }

    /// Rests because it asked for it.
    pub(super) fn rest(&mut self, until: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.rest_until = until;
    }

    /// Is leaving, and not to be asked before `until` if there is another.
    pub(super) fn drains(&mut self, until: Duration) {
        self.draining_until = until;
    }

    /// Somebody new answers there.
    pub(super) fn is_back(&mut self, now: Duration) {
        self.failures = 0;
        self.draining_until = now;
        self.rest_until = now;
    }

    /// The last link is gone. An edge that was draining is asked again after a short rest, in which it
    /// can end: most drains are restarts.
    pub(super) fn last_link_gone(&mut self, now: Duration, rng: &mut dyn Rng) {
        if self.draining_until > now {
            self.draining_until = now;
            self.rest_until = self.rest_until.max(now + up_to(REST_FIRST, rng));
        }
    }

    /// A link of its is gone that lived for `age`.
    pub(super) fn link_lost(&mut self, age: Duration) {
        if age >= SETTLED {
            self.failures = 0;
        }
    }
}
