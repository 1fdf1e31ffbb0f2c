//! What all parts of one edge share, and the one order in which a change from the feed takes effect:
//! first it is known, then everything live is judged by it, then the control plane hears that it is
//! obeyed.

use std::time::SystemTime;

use protocol::{
    control::DirectoryEdge,
    feed::{Applied, FeedMessage},
    id::{EdgeId, TunnelId},
    name::RegionName,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::presence::Unreported,
    knowledge::{Knowledge, Touched},
    metrics::Metrics,
    registry::Registry,
};

/// One edge's shared parts.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) edge: EdgeId,
    pub(crate) region: RegionName,
    pub(crate) knowledge: Knowledge,
    pub(crate) registry: Registry,
    pub(crate) unreported: Unreported,
    pub(crate) directory: watch::Sender<Vec<DirectoryEdge>>,
    pub(crate) metrics: Metrics,
    /// The gateway speaks TLS.
    pub(crate) gateway_tls: bool,
    /// Cancelled once another process has taken this edge's place: what is said in its name and kept in its
    /// directory is for that one to do.
    pub(crate) superseded: CancellationToken,
}

impl Core {
    /// The parts of an edge that nobody has told anything yet.
    #[cfg(test)]
    pub(crate) fn empty() -> std::sync::Arc<Self> {
        use std::time::Duration;

        use protocol::feed::FeedState;
        let hour = Duration::from_secs(3_600);
        std::sync::Arc::new(Self {
            edge: EdgeId::from_bytes([0xed; 16]),
            region: "eu".parse().expect("it is a name"),
            knowledge: Knowledge::new(FeedState::default(), SystemTime::now(), hour),
            registry: Registry::new(10, 10),
            unreported: Unreported::default(),
            directory: watch::Sender::default(),
            metrics: Metrics::new(1).expect("the buckets are not empty"),
            gateway_tls: false,
            superseded: CancellationToken::new(),
        })
    }

    /// Puts in force what was known before the start.
    pub(crate) fn begin(&self) {
        let state = self.knowledge.read();
        self.directory.send_replace(state.directory());
        self.unreported.applied(state.feed().generation);
    }

    /// Takes a message from the feed; when this returns, nothing lives on that it forbids.
    pub(crate) fn apply(&self, message: FeedMessage, now: SystemTime) -> Applied {
        let (applied, touched) = self.knowledge.apply(message, now);
        if applied == Applied::Changed {
            self.enforce(&touched);
            let generation = self.knowledge.read().feed().generation;
            self.unreported.applied(generation);
            tracing::debug!(generation, "a change from the feed is in force");
        }
        applied
    }

    /// Tunnels that had links before the start, and are waited for.
    pub(crate) fn awaited(&self) -> usize {
        self.registry.awaited(|tunnel| self.is_known(tunnel))
    }

    /// Resolves when no tunnel is waited for any more; for one waiter.
    pub(crate) async fn settled(&self) {
        self.registry.settled(|tunnel| self.is_known(tunnel)).await;
    }

    fn is_known(&self, tunnel: TunnelId) -> bool {
        self.knowledge.read().feed().tunnels.contains_key(&tunnel)
    }

    fn enforce(&self, touched: &Touched) {
        let state = self.knowledge.read();
        let tunnels = if touched.everything || touched.tokens {
            self.registry.all()
        } else {
            touched.tunnels.iter().filter_map(|id| self.registry.get(*id)).collect()
        };
        for tunnel in tunnels {
            tunnel.streams.judge(|grant| state.judge(grant).is_ok());
            for link in tunnel.links() {
                link.obey(state.orders(link.key.tunnel));
                if let Err(code) = state.link_key(link.key.tunnel, link.secret) {
                    tracing::info!(
                        tunnel.id = %link.key.tunnel,
                        key.id = %link.secret,
                        reason = code.as_str(),
                        "a link is cut"
                    );
                    link.revoke();
                    self.registry.remove(&link, &self.unreported);
                }
            }
        }
        if touched.everything || touched.directory {
            let directory = state.directory();
            self.directory.send_if_modified(|known| {
                let is_new = *known != directory;
                *known = directory;
                is_new
            });
        }
    }
}
