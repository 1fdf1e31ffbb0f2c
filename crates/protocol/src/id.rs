//! Identities. Each kind of thing has a type of its own, so that a team can never be passed where
//! a tunnel is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text was not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected a UUID such as 0192d3a4-5b6c-7d8e-9f00-112233445566")]
pub struct InvalidId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps the 16 bytes of an id.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The id's 16 bytes, as they stand in secrets and proofs.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

ids! {
    /// One running process of the control plane; drawn anew at each start.
    ControlPlaneId,
    /// One customer of a deployment.
    TenantId,
    /// A group of users inside a tenant.
    TeamId,
    /// A person who can log in.
    UserId,
    /// A named path into one private network.
    TunnelId,
    /// One of a tunnel's secrets; public, stands inside the secret and in logs.
    KeyId,
    /// One running process that holds a tunnel's secret; drawn anew at each start.
    ConnectorId,
    /// One data-plane process.
    EdgeId,
    /// An automation owned by a team.
    WorkflowId,
    /// One step of a workflow.
    ActionId,
    /// One execution of a workflow.
    RunId,
    /// A long-lived gateway token; public, stands inside the token.
    ProxyTokenId,
    /// A key for the control plane's API; public, stands inside the key.
    ApiKeyId,
    /// An invitation for an edge to join; public, stands inside the join token.
    JoinTokenId,
}
