//! The rules of presence, without IO.
//!
//! ```text
//! a link is up   while the edge that reported it holds a lease
//! a connector    is connecting  until it has all its links, for its first five seconds at most
//!                serves         while it has a link; without one it
//!                has left       if the last link went with a goodbye: it is forgotten
//!                has vanished   otherwise: it is missing for an hour
//! ```
//!
//! Health does not count a connector that is connecting: a start is no fault. While no other connector
//! serves, the tunnel's health stays what it was.
//!
//! After a restart nobody holds a lease yet. For the length of one lease, what was known of a tunnel
//! goes on to count, unless it turns out to be healthy; connectors that no edge has reported by then
//! have vanished.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use protocol::{
    SLOTS,
    control::Facts,
    health::{self, ConnectorState, Health, MISSING_FOR_MS},
    id::{ConnectorId, EdgeId, TunnelId},
    presence::{LEASE_MS, LinkDown, LinkPresence, Report, Strain},
};

use shared::Heard;
use tracked::{Connector, Tracked};

use crate::store::{
    connector_order::Forgotten,
    edge_presence::LinksVersion,
    presence::{ConnectorRow, HealthRow, TunnelPresence},
};

mod shared;
mod tracked;

/// Why a report does not count. The edge has to begin anew, with all its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Another presence connection of the same edge has begun since.
    #[error("a newer presence connection of this edge has taken over")]
    Superseded,
    /// The lease ran out, and the edge's links with it: what has changed since means nothing alone.
    #[error("this edge was silent for longer than its lease")]
    Lapsed,
}

/// Everything that is known of links, connectors and tunnels.
#[derive(Default)]
pub(crate) struct State {
    edges: HashMap<EdgeId, Edge>,
    tunnels: HashMap<TunnelId, Tracked>,
    sessions: u64,
    /// When the other control planes were last heard.
    heard_at_ms: u64,
    /// Until then, silence means nothing: the edges have had no time to report.
    settles_at_ms: u64,
    dirty: HashSet<TunnelId>,
    /// Tunnels of which something is new for whoever watches.
    touched: HashSet<TunnelId>,
}

#[derive(Default)]
struct Edge {
    session: u64,
    lease_until_ms: u64,
    applied_generation: u64,
    gateway_tls: bool,
    links: HashMap<LinkKey, LinkPresence>,
    /// Of its lost links, those that went with a goodbye of late; at most [`MAX_GOODBYES`].
    goodbyes: VecDeque<LinkDown>,
    /// Moves with every link that comes or goes.
    links_version: u64,
    /// What the other control planes know of it, if it reports here.
    heard: Option<Heard>,
    /// Which state of its links this is, if it reports to another control plane.
    copied: Option<LinksVersion>,
}

type LinkKey = (TunnelId, ConnectorId, u8);

/// How long a new connector may take to bring up its links before health counts those that are missing.
const CONNECTING_FOR_MS: u64 = 5_000;

/// Goodbyes that other control planes hear of, though they look seldom; each is some 100 bytes.
const MAX_GOODBYES: usize = 1_000;

/// A connector, for people.
#[derive(Debug, Clone)]
pub(crate) struct ConnectorView {
    pub(crate) connector: ConnectorId,
    pub(crate) facts: Facts,
    pub(crate) links: Vec<(EdgeId, LinkPresence)>,
    pub(crate) vanished_ms: Option<u64>,
}

/// An edge, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EdgeView {
    pub(crate) is_live: bool,
    pub(crate) lease_until_ms: u64,
    pub(crate) applied_generation: u64,
    pub(crate) gateway_tls: bool,
    pub(crate) links: usize,
}

impl State {
    /// What the last process stored.
    pub(crate) fn load(
        tunnels: Vec<(TunnelId, HealthRow)>,
        connectors: Vec<ConnectorRow>,
        now_ms: u64,
    ) -> Self {
        let mut state = Self { settles_at_ms: now_ms + LEASE_MS, ..Self::default() };
        for (tunnel, health) in tunnels {
            state.tunnels.insert(tunnel, Tracked { is_settling: true, ..Tracked::new(health) });
        }
        for row in connectors {
            let Some(tracked) = state.tunnels.get_mut(&row.tunnel) else { continue };
            let connector = Connector {
                facts: row.facts,
                links: BTreeSet::new(),
                connecting_until_ms: None,
                vanished_ms: row.vanished_ms,
            };
            tracked.connectors.insert(row.connector, connector);
        }
        state
    }

    /// A new presence connection of an edge begins; older ones of it count no more.
    pub(crate) fn begin(&mut self, edge: EdgeId) -> u64 {
        self.sessions += 1;
        let state = self.edges.entry(edge).or_default();
        state.session = self.sessions;
        state.copied = None;
        self.sessions
    }

    /// Takes a report.
    pub(crate) fn report(
        &mut self,
        id: EdgeId,
        session: u64,
        report: Report,
        now_ms: u64,
    ) -> Result<(), Refused> {
        let edge = self.edges.get_mut(&id).filter(|edge| edge.session == session);
        let edge = edge.ok_or(Refused::Superseded)?;
        if !report.reset && edge.lease_until_ms <= now_ms {
            return Err(Refused::Lapsed);
        }
        edge.lease_until_ms = now_ms + LEASE_MS;
        edge.applied_generation = report.applied_generation;
        edge.gateway_tls = report.gateway_tls;
        self.take_links(id, report, now_ms);
        Ok(())
    }

    fn take_links(&mut self, id: EdgeId, report: Report, now_ms: u64) {
        let mut gone: Vec<LinkDown> = report.down;
        if report.reset {
            let kept: HashSet<LinkKey> = report.up.iter().map(link_key).collect();
            let links = self.edges.get(&id).into_iter().flat_map(|edge| edge.links.keys());
            gone.extend(links.filter(|key| !kept.contains(key)).map(|&key| lost_link(key)));
        }
        let mut touched = HashSet::new();
        for link in gone {
            touched.insert(link.tunnel);
            self.link_down(id, link, now_ms);
        }
        for link in report.up {
            touched.insert(link.tunnel);
            self.link_up(id, link, now_ms);
        }
        self.judge(touched, now_ms);
    }

    /// Lets leases run out, and missing connectors be forgotten after their hour.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let mut lost = Vec::new();
        let is_cut_off = self.is_cut_off(now_ms);
        for (&id, edge) in self.edges.iter_mut().filter(|(_, edge)| edge.lease_until_ms <= now_ms) {
            if edge.session == 0 && is_cut_off {
                continue;
            }
            edge.copied = None;
            lost.extend(edge.links.keys().map(|&key| (id, key)));
        }
        let mut touched = HashSet::new();
        for (edge, key) in lost {
            touched.insert(key.0);
            self.link_down(edge, lost_link(key), now_ms);
        }
        if now_ms >= self.settles_at_ms {
            for (&tunnel, tracked) in &mut self.tunnels {
                if tracked.is_settling {
                    touched.insert(tunnel);
                }
                let before = tracked.connectors.len();
                for connector in tracked.connectors.values_mut() {
                    if connector.connecting_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
                        connector.connecting_until_ms = None;
                        touched.insert(tunnel);
                    }
                    if connector.links.is_empty() && connector.vanished_ms.is_none() {
                        connector.vanished_ms = Some(now_ms);
                        touched.insert(tunnel);
                    }
                }
                tracked.connectors.retain(|_, c| {
                    c.vanished_ms.is_none_or(|at| now_ms.saturating_sub(at) < MISSING_FOR_MS)
                });
                if tracked.connectors.len() != before {
                    touched.insert(tunnel);
                }
            }
        }
        self.judge(touched, now_ms);
    }

    fn link_up(&mut self, edge: EdgeId, mut link: LinkPresence, now_ms: u64) {
        link.facts = link.facts.clean();
        let tracked = self.tunnels.entry(link.tunnel).or_insert_with(|| {
            Tracked::new(HealthRow::new(now_ms, health::derive(false, &[], now_ms)))
        });
        let connector = tracked.connectors.entry(link.connector).or_insert_with(|| Connector {
            facts: Facts::default(),
            links: BTreeSet::new(),
            connecting_until_ms: Some(now_ms + CONNECTING_FOR_MS),
            vanished_ms: None,
        });
        let is_news = connector.links.insert((link.slot, edge)) || connector.facts != link.facts;
        connector.facts = link.facts.clone();
        connector.vanished_ms = None;
        if connector.slots() >= SLOTS {
            connector.connecting_until_ms = None;
        }
        if is_news {
            tracked.keys_used.insert(link.key, now_ms);
            self.dirty.insert(link.tunnel);
            self.touched.insert(link.tunnel);
        }
        let edge = self.edges.entry(edge).or_default();
        let known = edge.links.get(&link_key(&link));
        let is_strained = known.is_some_and(|known| known.strain != link.strain);
        if is_strained {
            self.touched.insert(link.tunnel);
        }
        edge.links_version += u64::from(is_news || is_strained);
        if is_news {
            edge.goodbyes.retain(|down| down_key(down) != link_key(&link));
        }
        let (tunnel, rtt_us) = (link.tunnel, link.rtt_us);
        let before = edge.links.insert(link_key(&link), link);
        if rtt_us.is_some() && before.is_some_and(|before| before.rtt_us.is_none()) {
            self.touched.insert(tunnel);
        }
    }

    fn link_down(&mut self, edge: EdgeId, down: LinkDown, now_ms: u64) {
        let key = down_key(&down);
        let Some(state) = self.edges.get_mut(&edge) else { return };
        let Some(link) = state.links.remove(&key) else { return };
        state.links_version += 1;
        if down.goodbye {
            state.goodbyes.truncate(MAX_GOODBYES - 1);
            state.goodbyes.push_front(down.clone());
        }
        let Some(tracked) = self.tunnels.get_mut(&down.tunnel) else { return };
        tracked.keys_used.insert(link.key, now_ms);
        self.dirty.insert(down.tunnel);
        self.touched.insert(down.tunnel);
        let Some(connector) = tracked.connectors.get_mut(&down.connector) else { return };
        connector.links.remove(&(down.slot, edge));
        if !connector.links.is_empty() {
            return;
        }
        connector.connecting_until_ms = None;
        if down.goodbye {
            tracked.connectors.remove(&down.connector);
        } else {
            connector.vanished_ms = Some(now_ms);
            tracked.forget_longest_missing();
        }
    }

    fn judge(&mut self, touched: HashSet<TunnelId>, now_ms: u64) {
        let edges = &self.edges;
        for id in touched {
            let Some(tracked) = self.tunnels.get_mut(&id) else { continue };
            let is_connecting = |c: &Connector| c.connecting_until_ms.is_some();
            let serves = |c: &Connector| !c.links.is_empty() && !is_connecting(c);
            if tracked.connectors.values().any(is_connecting)
                && !tracked.connectors.values().any(serves)
            {
                continue;
            }
            let counted = tracked.connectors.iter().filter(|(_, state)| !is_connecting(state));
            let connectors: Vec<_> = counted
                .map(|(&connector, state)| {
                    let strains = state.links.iter().filter_map(|(slot, edge)| {
                        edges.get(edge)?.links.get(&(id, connector, *slot))?.strain
                    });
                    let strains: Vec<Strain> = strains.collect();
                    let stuck = strains.iter().filter(|strain| **strain == Strain::Stuck).count();
                    ConnectorState {
                        connector,
                        host: state.facts.host.clone(),
                        links: state.slots(),
                        vanished_at_ms: state.vanished_ms,
                        is_crowded: strains.contains(&Strain::Crowded),
                        stuck_links: u8::try_from(stuck).unwrap_or(u8::MAX),
                    }
                })
                .collect();
            let verdict = health::derive(true, &connectors, now_ms);
            if tracked.is_settling {
                let is_unheard = |c: &Connector| c.links.is_empty() && c.vanished_ms.is_none();
                let is_heard = !tracked.connectors.values().any(is_unheard);
                if !(is_heard && verdict.health == Health::Healthy) && now_ms < self.settles_at_ms {
                    continue;
                }
                tracked.is_settling = false;
            }
            let before = &tracked.health;
            if (before.health, &before.reason) == (verdict.health, &verdict.reason) {
                continue;
            }
            let is_same_word = before.health == verdict.health;
            let since_ms = if is_same_word { before.since_ms } else { now_ms };
            if !is_same_word {
                tracing::info!(
                    tunnel = %id,
                    health = verdict.health.as_str(),
                    reason = verdict.reason,
                    "a tunnel's health changed"
                );
            }
            tracked.health = HealthRow::new(since_ms, verdict);
            tracked.unstored.push(tracked.health.clone());
            tracked.forget_oldest();
            self.dirty.insert(id);
            self.touched.insert(id);
        }
    }

    /// Tunnels of which something is new since the last call, for whoever watches.
    pub(crate) fn take_touched(&mut self) -> HashSet<TunnelId> {
        std::mem::take(&mut self.touched)
    }

    /// Edges with a live lease.
    pub(crate) fn live_edges(&self, now_ms: u64) -> BTreeSet<EdgeId> {
        let live = self.edges.iter().filter(|(_, edge)| edge.lease_until_ms > now_ms);
        live.map(|(&id, _)| id).collect()
    }

    /// What is to be stored.
    pub(crate) fn take_dirty(&mut self) -> Vec<TunnelPresence> {
        let dirty = std::mem::take(&mut self.dirty);
        let tracked = |id| self.tunnels.get_mut(&id).map(|tracked| tracked.take(id));
        dirty.into_iter().filter_map(tracked).collect()
    }

    /// What could not be stored is to be stored later.
    pub(crate) fn put_back(&mut self, presences: Vec<TunnelPresence>) {
        for presence in presences {
            let Some(tracked) = self.tunnels.get_mut(&presence.tunnel) else { continue };
            self.dirty.insert(presence.tunnel);
            tracked.unstored.splice(..0, presence.health);
            tracked.forget_oldest();
            for (key, at) in presence.keys_used {
                tracked.keys_used.entry(key).or_insert(at);
            }
        }
    }

    /// Forgets a tunnel.
    pub(crate) fn forget(&mut self, tunnel: TunnelId) {
        self.tunnels.remove(&tunnel);
        self.dirty.remove(&tunnel);
        for edge in self.edges.values_mut() {
            edge.links.retain(|key, _| key.0 != tunnel);
        }
    }

    /// Forgets a connector that had vanished when somebody said so.
    pub(crate) fn forget_connector(&mut self, forgotten: Forgotten, now_ms: u64) {
        let Forgotten { tunnel, connector, at_ms } = forgotten;
        let Some(tracked) = self.tunnels.get_mut(&tunnel) else { return };
        // Others may have noticed a lease later, and their clocks differ.
        let was_gone = |c: &Connector| c.vanished_ms.is_some_and(|at| at <= at_ms + LEASE_MS);
        if tracked.connectors.get(&connector).is_some_and(was_gone) {
            tracked.connectors.remove(&connector);
            self.dirty.insert(tunnel);
            self.touched.insert(tunnel);
            self.judge(HashSet::from([tunnel]), now_ms);
        }
    }

    /// Forgets an edge; its links are lost.
    pub(crate) fn forget_edge(&mut self, edge: EdgeId, now_ms: u64) {
        if let Some(state) = self.edges.get_mut(&edge) {
            state.session = 0;
            state.lease_until_ms = 0;
            self.expire(now_ms);
            self.edges.remove(&edge);
        }
    }

    /// A tunnel's health; `None` if it never had a connector.
    pub(crate) fn health(&self, tunnel: TunnelId) -> Option<HealthRow> {
        self.tunnels.get(&tunnel).map(|tracked| tracked.health.clone())
    }

    /// A tunnel's connectors.
    pub(crate) fn connectors(&self, tunnel: TunnelId) -> Vec<ConnectorView> {
        let Some(tracked) = self.tunnels.get(&tunnel) else { return Vec::new() };
        let mut views: Vec<_> = tracked
            .connectors
            .iter()
            .map(|(&connector, state)| {
                let link = |&(slot, edge): &(u8, EdgeId)| {
                    let link = self.edges.get(&edge)?.links.get(&(tunnel, connector, slot))?;
                    Some((edge, link.clone()))
                };
                ConnectorView {
                    connector,
                    facts: state.facts.clone(),
                    links: state.links.iter().filter_map(link).collect(),
                    vanished_ms: state.vanished_ms,
                }
            })
            .collect();
        views.sort_by_key(|view| view.connector);
        views
    }

    /// An edge's lease and what it obeys.
    pub(crate) fn edge(&self, edge: EdgeId, now_ms: u64) -> EdgeView {
        let Some(edge) = self.edges.get(&edge) else { return EdgeView::default() };
        EdgeView {
            is_live: edge.lease_until_ms > now_ms,
            lease_until_ms: edge.lease_until_ms,
            applied_generation: edge.applied_generation,
            gateway_tls: edge.gateway_tls,
            links: edge.links.len(),
        }
    }

    /// Edges with a live lease that obey a generation, and those that do not yet.
    pub(crate) fn applied(&self, generation: u64, now_ms: u64) -> (Vec<EdgeId>, Vec<EdgeId>) {
        let live = self.edges.iter().filter(|(_, edge)| edge.lease_until_ms > now_ms);
        let (applied, pending): (Vec<_>, Vec<_>) =
            live.partition(|(_, edge)| edge.applied_generation >= generation);
        let ids = |edges: Vec<(&EdgeId, &Edge)>| edges.into_iter().map(|(&id, _)| id).collect();
        (ids(applied), ids(pending))
    }
}

fn link_key(link: &LinkPresence) -> LinkKey {
    (link.tunnel, link.connector, link.slot)
}

fn down_key(down: &LinkDown) -> LinkKey {
    (down.tunnel, down.connector, down.slot)
}

fn lost_link((tunnel, connector, slot): LinkKey) -> LinkDown {
    LinkDown { tunnel, connector, slot, goodbye: false }
}

#[cfg(test)]
mod tests;
