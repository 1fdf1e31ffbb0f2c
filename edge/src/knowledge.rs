//! What the edge knows from the feed, and how sure it may be of it.
//!
//! Every request reads it, so a read is a short shared lock around a few look-ups; a change costs
//! what has changed, not what is known. Who must react to a change learns what it touches.

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use protocol::{
    access::{Caller, Decision},
    control::{DirectoryEdge, LinkRefusalCode},
    feed::{Applied, FeedMessage, FeedState, FeedTunnel, Item, ItemKey},
    id::{KeyId, ProxyTokenId, TenantId, TunnelId},
    key::PublicKey,
    order::Order,
    refusal::Code,
};
use tokio::sync::watch;

/// The feed's state, with what look-ups need besides.
#[derive(Debug, Default)]
pub(crate) struct State {
    feed: FeedState,
    names: HashMap<TenantId, HashMap<String, TunnelId>>,
}

/// What a message from the feed touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Nobody knows how much: judge everything again.
    pub(crate) everything: bool,
    /// These tunnels.
    pub(crate) tunnels: BTreeSet<TunnelId>,
    /// Some gateway token.
    pub(crate) tokens: bool,
    /// Some edge of the directory.
    pub(crate) directory: bool,
}

/// Who may use which tunnel: judged when a stream begins, and again when the feed changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The tunnel that is used.
    pub(crate) tunnel: TunnelId,
    /// Who uses it.
    pub(crate) caller: Caller,
    /// The gateway token that proved it, if it was one.
    pub(crate) token: Option<ProxyTokenId>,
    /// How long an answer may take to begin, if the token bounds that.
    pub(crate) response_timeout: Option<Duration>,
}

impl State {
    fn new(feed: FeedState) -> Self {
        let mut names: HashMap<TenantId, HashMap<String, TunnelId>> = HashMap::new();
        for tunnel in feed.tunnels.values() {
            let name = tunnel.name.as_str().to_owned();
            names.entry(tunnel.tenant).or_default().insert(name, tunnel.id);
        }
        Self { feed, names }
    }

    /// The feed's own view.
    pub(crate) fn feed(&self) -> &FeedState {
        &self.feed
    }

    /// The tunnel that a tenant calls `name`.
    pub(crate) fn tunnel_named(&self, tenant: TenantId, name: &str) -> Option<&FeedTunnel> {
        let id = self.names.get(&tenant)?.get(name)?;
        self.feed.tunnels.get(id)
    }

    /// May a stream of this grant be, or go on? Expiry is judged when it begins, and by the caller: a
    /// capability's key that is gone since then, or a token that has run out, ends nothing.
    pub(crate) fn judge(&self, grant: &Grant) -> Result<(), Code> {
        let tunnel = self.feed.tunnels.get(&grant.tunnel).ok_or(Code::UnknownTunnel)?;
        match tunnel.access.evaluate(tunnel.tenant, &grant.caller) {
            Decision::Allowed => {}
            Decision::OtherTenant => return Err(Code::UnknownTunnel),
            Decision::TeamNotListed => return Err(Code::AccessDenied),
        }
        let Some(token) = grant.token else { return Ok(()) };
        let known = self.feed.proxy_tokens.get(&token);
        let still_holds = known.is_some_and(|known| known.caller() == grant.caller);
        if still_holds { Ok(()) } else { Err(Code::BadCredentials) }
    }

    /// The key that a link's proof must fit, if such a link may be.
    pub(crate) fn link_key(
        &self,
        tunnel: TunnelId,
        key: KeyId,
    ) -> Result<PublicKey, LinkRefusalCode> {
        let tunnel = self.feed.tunnels.get(&tunnel).ok_or(LinkRefusalCode::UnknownTunnel)?;
        let key = tunnel.keys.iter().find(|known| known.id == key);
        let key = key.ok_or(LinkRefusalCode::UnknownKey)?;
        if key.revoked { Err(LinkRefusalCode::RevokedSecret) } else { Ok(key.public_key) }
    }

    /// What has been asked of a tunnel's connectors.
    pub(crate) fn orders(&self, tunnel: TunnelId) -> &[Order] {
        self.feed.tunnels.get(&tunnel).map_or(&[], |tunnel| &tunnel.orders)
    }

    /// The edges that a connector may dial.
    pub(crate) fn directory(&self) -> Vec<DirectoryEdge> {
        let edges = self.feed.edges.values();
        edges.map(|edge| DirectoryEdge { edge: edge.id, link: edge.link.clone() }).collect()
    }

    fn touched_by(&self, message: &FeedMessage) -> Touched {
        let mut touched = Touched::default();
        match message {
            FeedMessage::Snapshot { .. } => touched.everything = true,
            FeedMessage::Change { put, remove, .. } => {
                for item in put {
                    match item {
                        Item::Tunnel(tunnel) => _ = touched.tunnels.insert(tunnel.id),
                        Item::ProxyToken(_) => touched.tokens = true,
                        Item::Edge(_) => touched.directory = true,
                        Item::TokenKey(_) => {}
                    }
                }
                for key in remove {
                    match key {
                        ItemKey::Tunnel(id) => _ = touched.tunnels.insert(*id),
                        ItemKey::ProxyToken(_) => touched.tokens = true,
                        ItemKey::Edge(_) => touched.directory = true,
                        ItemKey::TokenKey(_) => {}
                    }
                }
            }
            FeedMessage::Alive { .. } | FeedMessage::Unknown => {}
        }
        touched
    }

    /// Takes a message other than a snapshot.
    fn apply(&mut self, message: FeedMessage, touched: &Touched) -> Applied {
        let before = touched.tunnels.iter().filter_map(|id| self.feed.tunnels.get(id));
        let before: Vec<_> = before.map(|t| (t.tenant, t.name.clone(), t.id)).collect();
        let applied = self.feed.apply(message);
        if applied != Applied::Changed {
            return applied;
        }
        for (tenant, name, id) in before {
            let Some(names) = self.names.get_mut(&tenant) else { continue };
            if names.get(name.as_str()) == Some(&id) {
                names.remove(name.as_str());
            }
            if names.is_empty() {
                self.names.remove(&tenant);
            }
        }
        for tunnel in touched.tunnels.iter().filter_map(|id| self.feed.tunnels.get(id)) {
            let names = self.names.entry(tunnel.tenant).or_default();
            names.insert(tunnel.name.as_str().to_owned(), tunnel.id);
        }
        applied
    }
}

/// The current [`State`], shared by the whole edge.
#[derive(Debug)]
pub(crate) struct Knowledge {
    state: watch::Sender<State>,
    heard_at: AtomicU64,
    max_age: Duration,
    is_current: AtomicBool,
}

impl Knowledge {
    /// Begins with what was known at `heard_at`; after `max_age` without the feed it counts no more.
    pub(crate) fn new(feed: FeedState, heard_at: SystemTime, max_age: Duration) -> Self {
        let state = watch::Sender::new(State::new(feed));
        let (heard_at, is_current) = (AtomicU64::new(seconds(heard_at)), AtomicBool::new(false));
        Self { state, heard_at, max_age, is_current }
    }

    /// What is known now. The reference blocks changes: never keep it across an await.
    pub(crate) fn read(&self) -> watch::Ref<'_, State> {
        self.state.borrow()
    }

    /// Wakes at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Takes a message from the feed, heard at `now`.
    pub(crate) fn apply(&self, message: FeedMessage, now: SystemTime) -> (Applied, Touched) {
        let touched = self.read().touched_by(&message);
        let applied = match message {
            FeedMessage::Snapshot { .. } => self.replace(message),
            message => self.change(message, &touched),
        };
        if applied != Applied::Refused {
            self.heard_at.store(seconds(now), Ordering::Relaxed);
            self.is_current.store(true, Ordering::Relaxed);
        }
        (applied, touched)
    }

    fn change(&self, message: FeedMessage, touched: &Touched) -> Applied {
        let mut applied = Applied::Unchanged;
        self.state.send_if_modified(|state| {
            applied = state.apply(message, touched);
            applied == Applied::Changed
        });
        applied
    }

    /// Builds the new state beside the old one, so that readers wait for an exchange of pointers only.
    fn replace(&self, snapshot: FeedMessage) -> Applied {
        let mut feed = FeedState::default();
        feed.apply(snapshot);
        let mut other = State::new(feed);
        let is_newer = self.state.send_if_modified(|state| {
            let is_newer = other.feed.generation >= state.feed.generation;
            if is_newer {
                std::mem::swap(state, &mut other);
            }
            is_newer
        });
        if is_newer { Applied::Changed } else { Applied::Refused }
    }

    /// How long ago the feed was last heard.
    pub(crate) fn age(&self, now: SystemTime) -> Duration {
        let heard_at = self.heard_at.load(Ordering::Relaxed);
        Duration::from_secs(seconds(now).saturating_sub(heard_at))
    }

    /// False as long as there is only what an earlier start saved: what is not known may just be new.
    pub(crate) fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    /// True if there is nothing to judge by: no snapshot yet, or none that is fresh enough.
    pub(crate) fn is_stale(&self, now: SystemTime) -> bool {
        self.age(now) > self.max_age || self.read().feed.generation == 0
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
