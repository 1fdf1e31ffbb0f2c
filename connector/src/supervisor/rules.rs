//! What each input and each passed deadline means.

use std::{collections::BTreeSet, time::Duration};

use link::CloseReason;
use protocol::{
    address::HostPort,
    control::{DirectoryEdge, LinkRefusal},
    id::EdgeId,
    name::RegionName,
};
use rand::Rng;

use super::{
    Effect, Event, Failure, FailureKind, Link, LinkId, LossReason, Purpose, Stage, Supervisor,
    attempt::{Attempt, Rung},
    heartbeat::{Beat, Heartbeat, Turns},
    places::{Spread, Standing, Trouble},
    timing::{
        DRAINING, FATAL, LEAVE_WITHIN, PROXY_REFUSED, RETRY_AFTER, RETRY_AFTER_DEFAULT,
        RETRY_AFTER_SMEAR, SETTLED,
    },
    up_to,
};

impl Supervisor {
    pub(super) fn on_registered(
        &mut self,
        now: Duration,
        id: LinkId,
        edge: EdgeId,
        region: RegionName,
        directory: Vec<DirectoryEdge>,
        rng: &mut dyn Rng,
    ) {
        let Some((slot, rung, attempt)) = self.take_attempt(id) else {
            self.effects.push(Effect::Close(id, CloseReason::Replaced));
            return;
        };
        self.effects.extend(attempt.legs().filter(|leg| *leg != id).map(Effect::Cancel));
        let was_alone = self.serving() == 0;
        self.learn(now, directory, false, rng);
        let place = self.places.recognise(&attempt.edge.address, edge, &region);
        if let Some(old) = self.slots[slot].link {
            self.retire(now, old);
        }
        let transport = rung.transport();
        let link = Link {
            slot: slot as u8,
            place: place.clone(),
            edge,
            region: region.clone(),
            transport,
            rung,
            up_at: now,
            stage: Stage::Up,
            heartbeat: Heartbeat::new(now),
        };
        self.links.insert(id, link);
        self.slots[slot].link = Some(id);
        self.slots[slot].reason = None;
        self.note_rung(now, &place, rung, attempt.tried_quic, rng);
        if was_alone {
            self.places.hurry(now);
            self.slots.iter_mut().for_each(|slot| slot.rest_until = now);
        }
        let (purpose, links) = (attempt.purpose, self.serving());
        self.say(Event::Up { slot: slot as u8, edge, region, transport, purpose, links });
        if was_alone && let Some(region) = self.places.unknown_region() {
            let region = region.clone();
            self.say(Event::RegionUnknown { region });
        }
    }

    /// Remembers which rung works here, unless a link shows that a better one does, too. Edges behind
    /// the proxy tell nothing of those that are not, and the other way round.
    fn note_rung(
        &mut self,
        now: Duration,
        place: &HostPort,
        won: Rung,
        tried_quic: bool,
        rng: &mut dyn Rng,
    ) {
        let is_by_proxy = self.network.is_by_proxy(place);
        let mut alike = self.links.values().filter(|link| {
            self.network.is_by_proxy(&link.place) == is_by_proxy && !link.heartbeat.is_suspect()
        });
        let is_best = alike.all(|link| won <= link.rung);
        let first_rung = self.network.first_rung(place);
        let is_news = is_best && won != *first_rung;
        if is_best {
            *first_rung = won;
        }
        if won == Rung::Quic {
            if is_news {
                self.say(Event::UdpBack);
            }
            // QUIC works: links that had to do without follow, one after the other.
            self.network.probe_now(now);
        } else if !is_by_proxy {
            if is_news && tried_quic {
                self.say(Event::UdpDropped);
            }
            self.network.schedule_probe(now, rng);
        }
    }

    pub(super) fn on_refused(
        &mut self,
        now: Duration,
        id: LinkId,
        refusal: LinkRefusal,
        rng: &mut dyn Rng,
    ) {
        let Some((slot, _, attempt)) = self.take_attempt(id) else { return };
        self.effects.extend(attempt.legs().filter(|leg| *leg != id).map(Effect::Cancel));
        if attempt.purpose == Purpose::Upgrade {
            // The edge serves this very slot over HTTP/2; it just wants no second link.
            self.network.clear_probe();
            self.network.schedule_probe(now, rng);
            return;
        }
        let is_fatal = !refusal.code.is_retryable();
        let again_in = if is_fatal {
            FATAL
        } else {
            let asked = refusal.retry_after_ms.map_or(RETRY_AFTER_DEFAULT, Duration::from_millis);
            asked.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end())
        } + up_to(RETRY_AFTER_SMEAR, rng);
        if is_fatal && self.serving() == 0 {
            self.slots[slot].rest_until = now + again_in;
        }
        self.slots[slot].reason = Some(refusal.code.to_string());
        let trouble = Trouble::Refuses(refusal.code);
        let was_said = is_fatal && self.places.was_said(trouble);
        let address = attempt.edge.address;
        let Some(place) = self.places.get_mut(&address) else { return };
        place.rest(now + again_in);
        if place.said.replace(trouble) != Some(trouble) && !was_said {
            self.say(Event::EdgeRefuses { address, refusal, again_in });
        }
    }

    pub(super) fn on_failed(
        &mut self,
        now: Duration,
        id: LinkId,
        failure: Failure,
        rng: &mut dyn Rng,
    ) {
        let is_network_well = self.serving() > 0;
        let attempts = self.slots.iter_mut().enumerate();
        let mut attempts = attempts.filter_map(|(n, slot)| Some((n, slot.attempt.as_mut()?)));
        let Some((slot, attempt)) = attempts.find(|(_, a)| a.rung_of(id).is_some()) else {
            return;
        };
        attempt.leg_failed(now, id, failure, is_network_well);
        if attempt.is_over(now) {
            self.attempt_failed(now, slot, rng);
        }
    }

    /// The attempt of `slot` has come to nothing.
    fn attempt_failed(&mut self, now: Duration, slot: usize, rng: &mut dyn Rng) {
        let Some(attempt) = self.slots[slot].attempt.take() else { return };
        self.effects.extend(attempt.legs().map(Effect::Cancel));
        if attempt.purpose == Purpose::Upgrade {
            self.network.clear_probe();
            self.network.schedule_probe(now, rng);
            return;
        }
        let failure = attempt.last_failure.unwrap_or_else(|| Failure {
            kind: FailureKind::Unanswered,
            detail: "the edge did not answer".into(),
        });
        let is_refused = failure.kind == FailureKind::ProxyRefused;
        let address = attempt.edge.address;
        if self.slots[slot].link.is_none() {
            self.slots[slot].reason = Some(format!("{address}: {}", failure.detail));
        }
        let Some(place) = self.places.get_mut(&address) else { return };
        if is_refused {
            place.rest(now + PROXY_REFUSED + up_to(RETRY_AFTER_SMEAR, rng));
        } else {
            place.fail(now, rng);
        }
        let trouble = Trouble::Fails(failure.kind);
        if place.said.replace(trouble) != Some(trouble) {
            self.say(Event::EdgeFailing { address, failure });
        }
    }

    pub(super) fn on_lost(
        &mut self,
        now: Duration,
        id: LinkId,
        reason: LossReason,
        detail: String,
        rng: &mut dyn Rng,
    ) {
        let Some(link) = self.links.remove(&id) else { return };
        let has_others = self.links.values().any(|other| other.place == link.place);
        if !has_others && let Some(place) = self.places.get_mut(&link.place) {
            place.last_link_gone(now, rng);
        }
        if matches!(link.stage, Stage::Leaving { .. }) {
            return;
        }
        let slot = &mut self.slots[usize::from(link.slot)];
        slot.link = None;
        slot.reason = Some(detail.clone());
        let is_upgrade = slot.attempt.as_ref().is_some_and(|a| a.purpose == Purpose::Upgrade);
        if is_upgrade && let Some(attempt) = slot.attempt.take() {
            // It knows QUIC only, which may be just what is broken.
            self.effects.extend(attempt.legs().map(Effect::Cancel));
            self.network.clear_probe();
            self.network.schedule_probe(now, rng);
        } else if let Some(attempt) = &mut slot.attempt {
            attempt.purpose = Purpose::Fill;
        }
        let age = now.saturating_sub(link.up_at);
        let is_last = !self.standing().alive.contains(&link.place);
        if let Some(place) = self.places.get_mut(&link.place) {
            place.link_lost(age);
            if is_last || age < SETTLED {
                place.fail(now, rng);
            }
        }
        match reason {
            LossReason::Closed | LossReason::Unresponsive => self.suspect_all(now),
            LossReason::Drained => {}
        }
        let links = self.serving();
        let Link { slot, edge, region, transport, .. } = link;
        self.say(Event::Down { slot, edge, region, transport, reason, detail, links });
    }

    pub(super) fn on_drain(
        &mut self,
        now: Duration,
        id: LinkId,
        reconnect_in: Duration,
        deadline: Duration,
        successor: bool,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        // An edge that drains may find a successor later.
        let was_draining = match link.stage {
            Stage::Up => false,
            Stage::Draining { .. } if successor => true,
            Stage::Draining { .. } | Stage::Leaving { .. } => return,
        };
        link.stage = Stage::Draining { reconnect_at: now + reconnect_in, deadline: now + deadline };
        let (slot, edge, region) = (link.slot, link.edge, link.region.clone());
        if let Some(place) = self.places.get_mut(&link.place) {
            if successor {
                place.is_back(now);
            } else {
                place.drains(now + DRAINING);
            }
        }
        if !was_draining {
            self.say(Event::Draining { slot, edge, region, reconnect_in, deadline });
        }
    }

    pub(super) fn learn(
        &mut self,
        now: Duration,
        directory: Vec<DirectoryEdge>,
        smear: bool,
        rng: &mut dyn Rng,
    ) {
        let attempts = self.slots.iter().filter_map(|slot| slot.attempt.as_ref());
        let in_use = attempts.map(|attempt| &attempt.edge.address);
        let in_use = in_use.chain(self.links.values().map(|link| &link.place));
        let in_use: BTreeSet<HostPort> = in_use.cloned().collect();
        self.places.learn(now, directory, smear, &in_use, rng);
    }

    pub(super) fn heartbeats(&mut self, now: Duration, rng: &mut dyn Rng) {
        let mut dead = Vec::new();
        let mut is_missed = false;
        let count = self.links.len();
        for (rank, (id, link)) in self.links.iter_mut().enumerate() {
            link.heartbeat.take_turns(Turns::new(rank, count));
            match link.heartbeat.due(now) {
                Beat::Nothing => {}
                Beat::Ping => self.effects.push(ping(*id, link, now)),
                Beat::Miss => is_missed = true,
                Beat::Dead => dead.push(*id),
            }
        }
        for id in dead {
            self.effects.push(Effect::Close(id, CloseReason::Unresponsive));
            let detail = "the edge did not answer pings".to_owned();
            self.on_lost(now, id, LossReason::Unresponsive, detail, rng);
        }
        if is_missed {
            self.suspect_all(now);
        }
    }

    /// Gives up attempts beside links that have shown life again.
    pub(super) fn end_doubts(&mut self) {
        for slot in &mut self.slots {
            let link = slot.link.and_then(|id| self.links.get(&id));
            let is_well = link.is_some_and(|link| !link.heartbeat.is_suspect());
            if let Some(attempt) = slot.attempt.take_if(|a| is_well && a.purpose == Purpose::Doubt)
            {
                self.effects.extend(attempt.legs().map(Effect::Cancel));
            }
        }
    }

    /// What befell one link has often befallen the others: asks each, and soon.
    fn suspect_all(&mut self, now: Duration) {
        for (id, link) in &mut self.links {
            if link.heartbeat.suspect(now) {
                self.effects.push(ping(*id, link, now));
            }
        }
    }

    pub(super) fn link_deadlines(&mut self, now: Duration, rng: &mut dyn Rng) {
        let reason = match self.leave_by {
            None => CloseReason::Drained,
            Some(_) => CloseReason::Shutdown,
        };
        let passed = self.links.iter().filter(|(_, link)| match link.stage {
            Stage::Up => false,
            Stage::Draining { deadline, .. } | Stage::Leaving { deadline } => deadline <= now,
        });
        for id in passed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.effects.push(Effect::Close(id, reason));
            let detail = "the drain's deadline has passed".to_owned();
            self.on_lost(now, id, LossReason::Drained, detail, rng);
        }
    }

    pub(super) fn attempt_deadlines(&mut self, now: Duration, rng: &mut dyn Rng) {
        for slot in 0..self.slots.len() {
            let Some(attempt) = &mut self.slots[slot].attempt else { continue };
            if attempt.is_over(now) {
                self.attempt_failed(now, slot, rng);
            } else {
                self.climb(now, slot);
            }
        }
    }

    /// Dials the next rung of a slot's attempt, if its turn has come.
    fn climb(&mut self, now: Duration, slot: usize) {
        let Some(attempt) = &mut self.slots[slot].attempt else { return };
        let Some(rung) = attempt.next_rung(now) else { return };
        self.next_link += 1;
        let link = LinkId(self.next_link);
        attempt.add_leg(link, rung);
        let (target, transport) = (rung.target(&attempt.edge), rung.transport());
        self.effects.push(Effect::Dial { link, slot: slot as u8, target, transport });
    }

    /// Begins attempts for slots that have no link, one that drains, or one in doubt.
    pub(super) fn fill_slots(&mut self, now: Duration, rng: &mut dyn Rng) {
        for slot in 0..self.slots.len() {
            if let Some(purpose) = self.wish(now, slot) {
                self.begin(now, slot, purpose, rng);
            }
        }
    }

    /// What a slot needs a new link for, if it does and may ask.
    fn wish(&self, now: Duration, slot: usize) -> Option<Purpose> {
        let slot = &self.slots[slot];
        if slot.attempt.is_some() || slot.rest_until > now {
            return None;
        }
        let Some(link) = slot.link.and_then(|id| self.links.get(&id)) else {
            return Some(Purpose::Fill);
        };
        match link.stage {
            Stage::Draining { reconnect_at, .. } if reconnect_at <= now => Some(Purpose::Drain),
            Stage::Up if link.heartbeat.is_in_doubt(now) => Some(Purpose::Doubt),
            Stage::Up | Stage::Draining { .. } | Stage::Leaving { .. } => None,
        }
    }

    fn begin(&mut self, now: Duration, slot: usize, purpose: Purpose, rng: &mut dyn Rng) {
        let standing = self.standing();
        let spread = self.spread_without(slot);
        let Some(place) = self.places.choose(now, true, &spread, &standing, rng) else { return };
        let edge = place.edge.clone();
        if self.budget.take(now) {
            let rungs = self.network.ladder(&edge);
            self.attempt(now, slot, Attempt::new(now, edge, purpose, rungs));
        }
    }

    pub(super) fn attempt(&mut self, now: Duration, slot: usize, attempt: Attempt) {
        self.slots[slot].attempt = Some(attempt);
        self.climb(now, slot);
    }

    /// Takes the attempt that `link` is a leg of out of its slot.
    fn take_attempt(&mut self, link: LinkId) -> Option<(usize, Rung, Attempt)> {
        self.slots.iter_mut().enumerate().find_map(|(slot, state)| {
            let rung = state.attempt.as_ref()?.rung_of(link)?;
            Some((slot, rung, state.attempt.take()?))
        })
    }

    /// Lets a link that has been replaced finish.
    fn retire(&mut self, now: Duration, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let deadline = match link.stage {
            Stage::Draining { deadline, .. } => deadline,
            Stage::Up | Stage::Leaving { .. } => now + LEAVE_WITHIN,
        };
        link.stage = Stage::Leaving { deadline };
        self.effects.push(Effect::Retire(id));
    }

    /// How this connector stands to the edges.
    pub(super) fn standing(&self) -> Standing {
        let attempts = self.slots.iter().filter_map(|slot| slot.attempt.as_ref());
        let busy = attempts.map(|attempt| attempt.edge.address.clone()).collect();
        let up = || self.links.values().filter(|link| link.stage == Stage::Up);
        let alive = up().map(|link| link.place.clone()).collect();
        let well = up().filter(|link| !link.heartbeat.is_suspect());
        let well = well.map(|link| link.place.clone()).collect();
        Standing { alive, well, busy }
    }

    /// Where the other slots stand, or are on their way to.
    pub(super) fn spread_without(&self, slot: usize) -> Spread<'_> {
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != slot);
        let places = others.filter_map(|(_, other)| {
            if let Some(attempt) = &other.attempt {
                return Some((&attempt.edge.region, &attempt.edge.address));
            }
            let link = self.links.get(&other.link?)?;
            (link.stage == Stage::Up).then_some((&link.region, &link.place))
        });
        Spread(places.collect())
    }
}

fn ping(id: LinkId, link: &mut Link, now: Duration) -> Effect {
    let sequence = link.heartbeat.ping(now);
    Effect::Ping { link: id, sequence, rtt: link.heartbeat.rtt }
}
