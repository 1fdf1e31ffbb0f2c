//! What all parts of the control plane share.

use std::{sync::Arc, time::Duration};

use protocol::{address::HostPort, credential::CredentialSecret, id::EdgeId, join::JoinToken};

use crate::{
    auth::{backoff::Backoff, password::Passwords},
    ca::Authority,
    clock::Clock,
    events::Events,
    failures::Failures,
    listener::Streams,
    peers::Peers,
    presence::Presence,
    random,
    runner::Runner,
    signer::Signer,
    store::{
        self, Store,
        audit::{Actor, Entry},
        join_token::JoinTokenRow,
    },
    traffic::Traffic,
};

/// A join token is good for that long: 24 hours.
const JOIN_TOKEN_MS: u64 = 24 * 60 * 60 * 1000;
/// An answer waits that long for the edges to obey.
const APPLY_PATIENCE: Duration = Duration::from_secs(1);

/// The control plane's parts and settings.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) peers: Peers,
    pub(crate) presence: Presence,
    pub(crate) traffic: Traffic,
    pub(crate) events: Events,
    pub(crate) passwords: Passwords,
    pub(crate) logins: Backoff,
    pub(crate) failures: Failures,
    pub(crate) authority: Authority,
    pub(crate) signer: Signer,
    pub(crate) runner: Runner,
    /// Requests that go on though their client has gone.
    pub(crate) requests: Streams,
    /// TLS towards gateways.
    pub(crate) to_gateways: Arc<rustls::ClientConfig>,
    pub(crate) edge_address: HostPort,
    pub(crate) allow_private_destinations: bool,
    pub(crate) secure_cookies: bool,
}

/// As handlers hold it.
pub(crate) type Shared = Arc<App>;

impl App {
    /// Makes a join token and stores its digest.
    pub(crate) async fn create_join_token(
        &self,
        actor: Actor,
    ) -> store::Result<(JoinToken, JoinTokenRow)> {
        let token = JoinToken {
            id: random::id(),
            secret: CredentialSecret::from_bytes(*random::bytes::<32>()),
            control_plane: self.edge_address.clone(),
            ca_pin: self.authority.pin(),
        };
        let now_ms = self.clock.now_ms();
        let row = JoinTokenRow {
            id: token.id,
            digest: token.secret.digest(),
            created_ms: now_ms,
            expires_ms: now_ms + JOIN_TOKEN_MS,
            last_used_ms: None,
            revoked_ms: None,
        };
        let mut change = self.store.change().await?;
        store::join_token::insert(&mut change, &row).await?;
        let tenant = store::tenant::operator(&mut change).await?;
        let entry = Entry {
            tenant,
            actor,
            action: "join_token.create",
            subject: row.id.to_string(),
            detail: serde_json::json!({ "expires_ms": row.expires_ms }),
            at_ms: now_ms,
        };
        change.commit(entry).await?;
        Ok((token, row))
    }

    /// Waits a moment for the edges to obey a generation.
    pub(crate) async fn applied(&self, generation: u64) -> (Vec<EdgeId>, Vec<EdgeId>) {
        self.presence.applied(generation, APPLY_PATIENCE, &self.clock).await
    }
}
