//! Presence that several control planes share: what this one has to tell of the edges that report to
//! it, and what it makes of edges that report to another. Both kinds are [`Edge`]s; a session number of
//! 0 means that the edge reports elsewhere.
//!
//! ```text
//!           begin                        another control plane claims it
//! elsewhere ─────► here, not told yet ─► here, told ─────────────────────► elsewhere
//! ```

use std::collections::{HashMap, HashSet};

use protocol::{
    id::{ControlPlaneId, EdgeId},
    presence::{LEASE_MS, Report},
};

use super::State;
use crate::store::{
    edge_presence::{EdgePresence, LinksVersion, Told},
    presence::HealthRow,
};

/// Without a word of the others for so long (the database is away), their edges' leases do not run out.
/// They are heard every two seconds.
const CUT_OFF_MS: u64 = 5_000;

/// What the others have been told of an edge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    session: u64,
    is_live: bool,
    applied_generation: u64,
    links_version: u64,
}

/// What the other control planes are to hear, with what they will then have heard.
pub(crate) struct Unshared {
    pub(crate) told: Vec<Told>,
    heard: HashMap<EdgeId, Heard>,
}

impl State {
    /// What the other control planes have not heard yet of the edges that report here.
    pub(crate) fn unshared(&self, me: ControlPlaneId, now_ms: u64) -> Unshared {
        let mut unshared = Unshared { told: Vec::new(), heard: HashMap::new() };
        for (&id, edge) in self.edges.iter().filter(|(_, edge)| edge.session != 0) {
            let heard = Heard {
                session: edge.session,
                is_live: edge.lease_until_ms > now_ms,
                applied_generation: edge.applied_generation,
                links_version: edge.links_version,
            };
            if edge.heard == Some(heard) {
                continue;
            }
            let before = edge.heard.filter(|before| before.session == edge.session);
            let has_news = before.is_none_or(|before| before.links_version != edge.links_version);
            let presence = EdgePresence {
                edge: id,
                is_live: heard.is_live,
                applied_generation: heard.applied_generation,
                links: LinksVersion {
                    control_plane: me,
                    session: heard.session,
                    version: heard.links_version,
                },
            };
            let report = has_news.then(|| Report {
                applied_generation: edge.applied_generation,
                reset: true,
                gateway_tls: edge.gateway_tls,
                up: edge.links.values().cloned().collect(),
                down: edge.goodbyes.iter().cloned().collect(),
            });
            unshared.told.push(Told { presence, is_claim: before.is_none(), report });
            unshared.heard.insert(id, heard);
        }
        unshared
    }

    /// The others have been told; `lost` are edges that another session has claimed.
    pub(crate) fn shared(&mut self, unshared: Unshared, lost: &[EdgeId]) {
        for (id, heard) in unshared.heard {
            let Some(edge) = self.edges.get_mut(&id) else { continue };
            if edge.session == heard.session {
                edge.heard = Some(heard);
                if lost.contains(&id) {
                    edge.session = 0;
                }
            }
        }
    }

    /// Has nothing been heard of the others for so long that their silence means nothing?
    pub(super) fn is_cut_off(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_at_ms) >= CUT_OFF_MS
    }

    /// Of these edges, which live elsewhere, those whose links are not known here.
    pub(crate) fn unknown_links(&self, rows: &[EdgePresence]) -> Vec<EdgeId> {
        let copied = |edge: &EdgeId| self.edges.get(edge).and_then(|edge| edge.copied);
        let unknown = rows.iter().filter(|row| copied(&row.edge) != Some(row.links));
        unknown.map(|row| row.edge).collect()
    }

    /// Takes over what the others have told: all edges that live there, and reports of the links that
    /// were not known. Edges of a control plane that has stopped are given their lease's time to find
    /// another one.
    pub(crate) fn adopt(
        &mut self,
        rows: Vec<EdgePresence>,
        mut reports: HashMap<EdgeId, Report>,
        is_at_work: impl Fn(ControlPlaneId) -> bool,
        now_ms: u64,
    ) {
        self.heard_at_ms = now_ms;
        let mut told = HashSet::new();
        for row in rows {
            let id = row.edge;
            let edge = self.edges.entry(id).or_default();
            let is_told = edge.heard.is_some_and(|heard| heard.session == edge.session);
            // A claim of this one that is not stored yet comes later, and wins.
            if edge.session != 0 && !is_told {
                continue;
            }
            told.insert(id);
            edge.session = 0;
            edge.heard = None;
            if !is_at_work(row.links.control_plane) {
                continue;
            }
            edge.applied_generation = row.applied_generation;
            edge.lease_until_ms = now_ms + LEASE_MS;
            if let Some(report) = reports.remove(&id) {
                edge.copied = Some(row.links);
                edge.gateway_tls = report.gateway_tls;
                self.take_links(id, report, now_ms);
            }
        }
        let is_elsewhere = |(id, edge): &(&EdgeId, &mut super::Edge)| {
            edge.session == 0 && edge.copied.is_some() && !told.contains(id)
        };
        for (_, edge) in self.edges.iter_mut().filter(is_elsewhere) {
            edge.lease_until_ms = edge.lease_until_ms.min(now_ms);
        }
    }

    /// From now on this control plane stores tunnels' presence, and another one did before: its word
    /// stands in the database.
    pub(crate) fn take_over(&mut self, stored: Vec<(protocol::id::TunnelId, HealthRow)>) {
        let stored: HashMap<_, _> = stored.into_iter().collect();
        for (&id, tracked) in &mut self.tunnels {
            let is_stored = stored.get(&id).is_some_and(|row| {
                (row.health, &row.reason) == (tracked.health.health, &tracked.health.reason)
            });
            tracked.unstored.clear();
            if !is_stored {
                tracked.unstored.push(tracked.health.clone());
            }
            self.dirty.insert(id);
        }
    }
}
