//! What is known of one tunnel's connectors, and of its health.

use std::collections::{BTreeSet, HashMap};

use protocol::{
    control::Facts,
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
};

use crate::store::presence::{ConnectorRow, HealthRow, TunnelPresence};

/// Changes of health that wait for the disk; while it fails, older ones are given up.
const MAX_UNSTORED: usize = 100;

/// Connectors of one tunnel that are remembered as missing; those that have been so for longest are given
/// up. One that crashes again and again is another one each time.
pub(super) const MAX_MISSING: usize = 256;

/// A tunnel that has had connectors.
pub(super) struct Tracked {
    pub(super) connectors: HashMap<ConnectorId, Connector>,
    /// Known from before a restart, and not heard of in full yet.
    pub(super) is_settling: bool,
    pub(super) health: HealthRow,
    /// Health that is not stored yet, oldest first; at most [`MAX_UNSTORED`].
    pub(super) unstored: Vec<HealthRow>,
    /// Secrets whose use is not stored yet.
    pub(super) keys_used: HashMap<KeyId, u64>,
}

/// One of its connectors.
pub(super) struct Connector {
    pub(super) facts: Facts,
    /// Slot first: a slot that is moving from one edge to another counts once.
    pub(super) links: BTreeSet<(u8, EdgeId)>,
    /// Until then its first links may be on their way; `None` once all have been there, or the time is over.
    pub(super) connecting_until_ms: Option<u64>,
    pub(super) vanished_ms: Option<u64>,
}

impl Tracked {
    pub(super) fn new(health: HealthRow) -> Self {
        let (connectors, keys_used) = (HashMap::new(), HashMap::new());
        Self { connectors, is_settling: false, health, unstored: Vec::new(), keys_used }
    }

    pub(super) fn forget_oldest(&mut self) {
        let excess = self.unstored.len().saturating_sub(MAX_UNSTORED);
        self.unstored.drain(..excess);
    }

    pub(super) fn forget_longest_missing(&mut self) {
        let missing = self.connectors.iter().filter_map(|(id, c)| Some((c.vanished_ms?, *id)));
        let missing: Vec<_> = missing.collect();
        if missing.len() > MAX_MISSING {
            let longest = missing.iter().min();
            longest.and_then(|(_, id)| self.connectors.remove(id));
        }
    }

    pub(super) fn take(&mut self, tunnel: TunnelId) -> TunnelPresence {
        let connectors = self.connectors.iter().map(|(&connector, state)| ConnectorRow {
            tunnel,
            connector,
            facts: state.facts.clone(),
            vanished_ms: state.vanished_ms,
        });
        TunnelPresence {
            tunnel,
            connectors: connectors.collect(),
            health: std::mem::take(&mut self.unstored),
            keys_used: std::mem::take(&mut self.keys_used).into_iter().collect(),
        }
    }
}

impl Connector {
    pub(super) fn slots(&self) -> u8 {
        let slots: BTreeSet<u8> = self.links.iter().map(|(slot, _)| *slot).collect();
        u8::try_from(slots.len()).unwrap_or(u8::MAX)
    }
}
