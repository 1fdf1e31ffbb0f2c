//! What the control plane tells an edge: everything that the edge needs to judge a secret, a token
//! and a request by itself. First a snapshot, then changes; a generation numbers them.
//!
//! The feed is a response body at [`FEED_PATH`] of JSON lines. It carries public keys and digests,
//! never a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Caller},
    address::{EdgeAddress, HostPort},
    credential::CredentialDigest,
    id::{EdgeId, KeyId, ProxyTokenId, TeamId, TenantId, TunnelId, WorkflowId},
    key::PublicKey,
    name::TunnelName,
    order::Order,
};

/// Path of the feed at the control plane's edge port; `?after=N` continues after generation N.
pub const FEED_PATH: &str = "/edge/v1/feed";
/// Longest line of the feed, in bytes: a snapshot of some 100,000 tunnels.
pub const MAX_LINE: usize = 64 * 1024 * 1024;
/// How often the control plane says that nothing has changed, in milliseconds.
pub const ALIVE_EVERY_MS: u64 = 3_000;

/// One line of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FeedMessage {
    /// Everything, as of a generation.
    Snapshot {
        /// The newest change that the snapshot holds.
        generation: u64,
        /// Everything there is.
        items: Vec<Item>,
    },
    /// What has changed since the message before.
    Change {
        /// The newest change that this message holds.
        generation: u64,
        /// Items that are new or different.
        put: Vec<Item>,
        /// Items that are gone.
        remove: Vec<ItemKey>,
    },
    /// Nothing has changed, and the feed is alive.
    Alive {
        /// The newest change there is.
        generation: u64,
    },
    /// Something that a newer control plane says.
    #[serde(other)]
    Unknown,
}

/// One thing that an edge knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// A tunnel.
    Tunnel(FeedTunnel),
    /// A key that verifies capabilities.
    TokenKey(FeedTokenKey),
    /// A long-lived gateway token.
    ProxyToken(FeedProxyToken),
    /// An edge of the deployment.
    Edge(FeedEdge),
}

/// By which an [`Item`] is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum ItemKey {
    /// See [`Item::Tunnel`].
    Tunnel(TunnelId),
    /// See [`Item::TokenKey`].
    TokenKey(String),
    /// See [`Item::ProxyToken`].
    ProxyToken(ProxyTokenId),
    /// See [`Item::Edge`].
    Edge(EdgeId),
}

/// A tunnel, as an edge knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedTunnel {
    /// Its identity.
    pub id: TunnelId,
    /// Its owner.
    pub tenant: TenantId,
    /// Its name, unique in its tenant.
    pub name: TunnelName,
    /// Who may use it.
    pub access: Access,
    /// Its secrets' public halves, revoked ones included.
    pub keys: Vec<FeedTunnelKey>,
    /// What has been asked of its connectors of late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
}

/// The public half of a tunnel's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedTunnelKey {
    /// Which secret.
    pub id: KeyId,
    /// What verifies its proofs.
    pub public_key: PublicKey,
    /// A revoked key opens no link, and its links are cut.
    pub revoked: bool,
}

/// A key that verifies capabilities ([`crate::claims`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedTokenKey {
    /// `kid` of the capabilities that it signed.
    pub kid: String,
    /// What verifies them.
    pub public_key: PublicKey,
}

/// A long-lived gateway token, as an edge knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedProxyToken {
    /// Its public half.
    pub id: ProxyTokenId,
    /// What proves its secret half.
    pub digest: CredentialDigest,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its team.
    pub team: TeamId,
    /// Its workflow, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    /// Not valid from this second since 1970 on.
    pub expires_at: u64,
    /// How long an answer to its requests may take to begin, in seconds, if that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout_s: Option<u32>,
}

impl FeedProxyToken {
    /// Who asks.
    pub fn caller(&self) -> Caller {
        Caller { tenant: self.tenant, team: self.team, workflow: self.workflow }
    }
}

/// An edge of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEdge {
    /// Its identity.
    pub id: EdgeId,
    /// Where connectors reach it.
    pub link: EdgeAddress,
    /// Where workflows reach its gateway.
    pub gateway: HostPort,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The state is different now.
    Changed,
    /// The state is as it was.
    Unchanged,
    /// The message is older than the state, or comes before any snapshot: ask for a new snapshot.
    Refused,
}

/// Everything that an edge knows, as of a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedState {
    /// The newest change that is in here; 0 before the first snapshot.
    pub generation: u64,
    /// Tunnels by identity.
    pub tunnels: BTreeMap<TunnelId, FeedTunnel>,
    /// Keys that verify capabilities, by `kid`.
    pub token_keys: BTreeMap<String, FeedTokenKey>,
    /// Gateway tokens by their public half.
    pub proxy_tokens: BTreeMap<ProxyTokenId, FeedProxyToken>,
    /// Edges by identity.
    pub edges: BTreeMap<EdgeId, FeedEdge>,
}

impl FeedState {
    /// Applies a message. Never goes back to an older generation.
    pub fn apply(&mut self, message: FeedMessage) -> Applied {
        match message {
            FeedMessage::Snapshot { generation, .. } if generation < self.generation => {
                Applied::Refused
            }
            FeedMessage::Snapshot { generation, items } => {
                *self = Self { generation, ..Self::default() };
                items.into_iter().for_each(|item| self.put(item));
                Applied::Changed
            }
            FeedMessage::Change { generation, .. }
                if self.generation == 0 || generation <= self.generation =>
            {
                Applied::Refused
            }
            FeedMessage::Change { generation, put, remove } => {
                self.generation = generation;
                remove.iter().for_each(|key| self.remove(key));
                put.into_iter().for_each(|item| self.put(item));
                Applied::Changed
            }
            FeedMessage::Alive { generation } if generation < self.generation => Applied::Refused,
            FeedMessage::Alive { .. } | FeedMessage::Unknown => Applied::Unchanged,
        }
    }

    fn put(&mut self, item: Item) {
        match item {
            Item::Tunnel(tunnel) => drop(self.tunnels.insert(tunnel.id, tunnel)),
            Item::TokenKey(key) => drop(self.token_keys.insert(key.kid.clone(), key)),
            Item::ProxyToken(token) => drop(self.proxy_tokens.insert(token.id, token)),
            Item::Edge(edge) => drop(self.edges.insert(edge.id, edge)),
        }
    }

    fn remove(&mut self, key: &ItemKey) {
        match key {
            ItemKey::Tunnel(id) => drop(self.tunnels.remove(id)),
            ItemKey::TokenKey(kid) => drop(self.token_keys.remove(kid)),
            ItemKey::ProxyToken(id) => drop(self.proxy_tokens.remove(id)),
            ItemKey::Edge(id) => drop(self.edges.remove(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kid: &str, byte: u8) -> Item {
        Item::TokenKey(FeedTokenKey {
            kid: kid.into(),
            public_key: PublicKey::from_bytes([byte; 32]),
        })
    }

    #[test]
    fn changes_build_on_a_snapshot_and_never_go_back() {
        let mut state = FeedState::default();
        let change = |generation, put, remove| FeedMessage::Change { generation, put, remove };
        assert_eq!(state.apply(change(1, vec![key("a", 1)], vec![])), Applied::Refused);
        let snapshot = FeedMessage::Snapshot { generation: 5, items: vec![key("a", 1)] };
        assert_eq!(state.apply(snapshot.clone()), Applied::Changed);
        assert_eq!(state.apply(change(6, vec![key("b", 2)], vec![])), Applied::Changed);
        assert_eq!(state.apply(change(6, vec![key("c", 2)], vec![])), Applied::Refused);
        assert_eq!(state.apply(snapshot), Applied::Refused);
        assert_eq!(state.apply(FeedMessage::Alive { generation: 6 }), Applied::Unchanged);
        assert_eq!(state.apply(FeedMessage::Alive { generation: 5 }), Applied::Refused);
        let gone = vec![ItemKey::TokenKey("a".into())];
        assert_eq!(state.apply(change(9, vec![], gone)), Applied::Changed);
        assert_eq!(state.token_keys.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(state.generation, 9);
    }

    #[test]
    fn a_newer_control_plane_is_understood_as_far_as_possible() {
        let line = r#"{"type":"weather","wind":3}"#;
        assert_eq!(serde_json::from_str::<FeedMessage>(line).unwrap(), FeedMessage::Unknown);
    }
}
