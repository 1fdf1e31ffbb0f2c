//! Accepts links: whoever dials has a few seconds to prove a tunnel's secret; who does is in the
//! registry from then on, until the link or the right to it is gone.

use std::{
    error::Error,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use link::{
    CloseReason, LinkError,
    listen::{Candidate, Http2Listener, Pending, QuicListener, Shard},
    workers::{Place, Spread, WorkerId, Workers},
};
use protocol::{
    LINK_VERSION, SLOTS,
    control::{Hello, LinkRefusal, LinkRefusalCode},
    key::PublicKey,
    presence::Transport,
};
use rand::RngExt as _;
use room::Room;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{accept::AcceptTrouble, core::Core, knowledge::State, registry::Link, tasks::Tasks};

use control::Control;

mod control;
pub(crate) mod monitor;

/// Links that are not up yet, over each transport; each holds some 50 KiB at most. Sources share this room, with a
/// proven secret or without: a secret must not open it to endless links that never speak.
const HALF_OPEN: usize = 1024;
/// A link is up by then, or has been refused: the handshake, news of its tunnel, the answer's way and the first word.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// How long the edge's answer to a hello may take to leave.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a connector that is admitted may take to say its first word.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(5);
/// How long a tunnel or key that nobody has heard of may be on its way here.
const NEWS_WITHIN: Duration = Duration::from_secs(1);
/// A feed that has been silent for longer may not know the newest tunnels.
const FRESH: Duration = Duration::from_secs(10);

/// What the accept loops and the links share.
#[derive(Debug)]
pub(crate) struct Links {
    core: Arc<Core>,
    tasks: Tasks,
    /// By the connector's address: its few links over HTTP/2 should not come to one and the same worker, as the
    /// hash by which the system shares out connections would often have it.
    spread: Spread<IpAddr>,
    runtimes: Vec<Handle>,
    half_open_quic: Arc<Room>,
    half_open_http2: Arc<Room>,
    draining: CancellationToken,
    /// Links that there were when draining began.
    drained: AtomicUsize,
    grace: Duration,
}

impl Links {
    pub(crate) fn new(
        core: Arc<Core>,
        tasks: Tasks,
        workers: &Workers,
        grace: Duration,
    ) -> Arc<Self> {
        let spread = Spread::new(workers);
        let runtimes = workers.iter().map(|worker| worker.runtime.clone()).collect();
        let half_open_quic = Room::of_strangers("links over QUIC", HALF_OPEN);
        let half_open_http2 = Room::of_strangers("links over HTTP/2", HALF_OPEN);
        let draining = CancellationToken::new();
        let drained = AtomicUsize::new(0);
        Arc::new(Self {
            core,
            tasks,
            spread,
            runtimes,
            half_open_quic,
            half_open_http2,
            draining,
            drained,
            grace,
        })
    }

    /// Asks every connector to go elsewhere, and takes no new links.
    pub(crate) fn drain(&self) {
        self.drained.store(self.core.registry.count(), Ordering::Relaxed);
        self.draining.cancel();
    }

    /// Accepts QUIC links until the listener, which `worker` polls, is closed.
    pub(crate) async fn accept_quic(
        self: Arc<Self>,
        listener: Arc<QuicListener>,
        worker: WorkerId,
    ) {
        while let Some(pending) = listener.accept().await {
            let from = pending.remote().ip();
            let place = match listener.shard() {
                Shard::WHOLE => self.spread.settle(from),
                // The connector has seen to it that its links come to different workers.
                _ => self.spread.settle_on(worker, from),
            };
            self.begin(pending, place);
        }
    }

    /// Accepts HTTP/2 links until another process does.
    pub(crate) async fn accept_http2(self: Arc<Self>, listener: Http2Listener) {
        let mut trouble = AcceptTrouble::default();
        loop {
            let accepted = self.core.superseded.run_until_cancelled(listener.accept()).await;
            let Some(accepted) = accepted else { return };
            if let Some(pending) = trouble.pass(accepted).await {
                let place = self.spread.settle(pending.remote().ip());
                self.begin(pending, place);
            }
        }
    }

    fn begin(self: &Arc<Self>, pending: Pending, worker: Place<IpAddr>) {
        let half_open = match pending.transport() {
            Transport::Quic => &self.half_open_quic,
            Transport::Http2 => &self.half_open_http2,
        };
        let Some(half_open) = half_open.try_enter(pending.remote().ip()) else {
            self.core.metrics.handshakes_dropped.increment(1);
            return;
        };
        let links = self.clone();
        self.tasks.spawn_on(&self.runtimes[worker.worker().index()], async move {
            let registered = half_open.hold(UP_WITHIN, Box::pin(links.meet(pending, &worker)));
            let Some(registered) = registered.await else {
                return links.core.metrics.handshakes_dropped.increment(1);
            };
            drop(half_open);
            if let Some((link, control)) = registered {
                links.serve(&link, control).await;
            }
        });
    }

    /// Takes a link, if its connector proves the secret.
    async fn meet(&self, pending: Pending, worker: &Place<IpAddr>) -> Option<(Arc<Link>, Control)> {
        let remote = pending.remote();
        let (edge, region) = (self.core.edge, self.core.region.clone());
        match Box::pin(pending.handshake(edge, region)).await {
            Ok(candidate) => Box::pin(self.admit(candidate, worker)).await,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(%remote, error, "a handshake came to nothing");
                None
            }
        }
    }

    async fn admit(
        &self,
        candidate: Candidate,
        worker: &Place<IpAddr>,
    ) -> Option<(Arc<Link>, Control)> {
        let proven = self.judge(candidate.hello()).await.and_then(|key| {
            candidate.is_proven_by(&key).then_some(()).ok_or(LinkRefusalCode::BadProof)
        });
        if let Err(code) = proven {
            self.turn_away(candidate, code).await;
            return None;
        }
        let mut directory = self.core.directory.subscribe();
        let known = directory.borrow_and_update().clone();
        let (remote, hello) = (candidate.remote(), candidate.hello().clone());
        if !hello.probe {
            // The connector counts its link as up once it is told, which is sooner than this edge does.
            self.core.registry.await_link(hello.tunnel);
        }
        let registered = timeout(ANSWER_WITHIN, candidate.register(known)).await;
        match registered.unwrap_or(Err(LinkError::TimedOut)) {
            Ok((session, ..)) if hello.probe => {
                // The connector closes once it has read the answer; one that does not is cut.
                let _ = timeout(ANSWER_WITHIN, session.closed()).await;
                session.close(CloseReason::Drained);
                None
            }
            Ok((session, sender, mut receiver)) => {
                // A connector that dials again before it was answered keeps one link of those that come up, and pings
                // on that one at once. The others must neither take requests nor a place.
                let first_word = tokio::select! {
                    word = timeout(FIRST_WORD_WITHIN, receiver.receive()) => word,
                    _ = session.closed() => return None,
                };
                let Ok(Ok(Some(first_word))) = first_word else {
                    session.close(CloseReason::Unresponsive);
                    return None;
                };
                let link = Link::new(&hello, session, worker.worker(), SystemTime::now());
                let first_word = Some(first_word);
                Some((Arc::new(link), Control { sender, receiver, directory, first_word }))
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::debug!(%remote, error, "a link broke while it came up");
                None
            }
        }
    }

    async fn turn_away(&self, candidate: Candidate, code: LinkRefusalCode) {
        self.core.metrics.link_refusal(code);
        tracing::info!(
            remote = %candidate.remote(),
            tunnel.id = %candidate.hello().tunnel,
            key.id = %candidate.hello().key,
            reason = code.as_str(),
            "a link is refused"
        );
        let refusal = refuse(code, self.drained.load(Ordering::Relaxed));
        // A stranger that does not read its refusal is cut.
        let _ = timeout(ANSWER_WITHIN, candidate.refuse(refusal)).await;
    }

    async fn serve(&self, link: &Arc<Link>, control: Control) {
        let core = &self.core;
        core.registry.insert(link, &core.unreported);
        // The secret may have been revoked since it was judged; whoever revokes from now on finds
        // the link in the registry. So does whoever asks something of it.
        {
            let known = core.knowledge.read();
            if known.link_key(link.key.tunnel, link.secret).is_err() {
                link.revoke();
            }
            link.obey(known.orders(link.key.tunnel));
        }
        tracing::info!(
            tunnel.id = %link.key.tunnel,
            connector.id = %link.key.connector,
            link.slot = link.key.slot,
            link.transport = link.transport.as_str(),
            remote = %link.remote,
            "a link is up"
        );
        let ended = control.run(core, link, &self.draining, self.grace).await;
        core.registry.remove(link, &core.unreported);
        tracing::info!(
            tunnel.id = %link.key.tunnel,
            connector.id = %link.key.connector,
            link.slot = link.key.slot,
            link.transport = link.transport.as_str(),
            reason = %ended,
            "a link is gone"
        );
    }

    /// The key that the proof must fit, if this link may be.
    async fn judge(&self, hello: &Hello) -> Result<PublicKey, LinkRefusalCode> {
        let knowledge = &self.core.knowledge;
        if hello.version < LINK_VERSION {
            return Err(LinkRefusalCode::VersionTooOld);
        }
        if hello.version > LINK_VERSION || hello.slot >= SLOTS {
            return Err(LinkRefusalCode::Malformed);
        }
        if self.draining.is_cancelled() {
            return Err(LinkRefusalCode::Draining);
        }
        if knowledge.is_stale(SystemTime::now()) {
            return Err(LinkRefusalCode::FeedStale);
        }
        if self.core.registry.is_full() {
            return Err(LinkRefusalCode::Capacity);
        }
        // A secret may be faster than the feed: whoever has just copied it should not be told that it
        // is unknown.
        let is_known = |state: &State| {
            use LinkRefusalCode::{UnknownKey, UnknownTunnel};
            !matches!(state.link_key(hello.tunnel, hello.key), Err(UnknownTunnel | UnknownKey))
        };
        let mut changes = knowledge.subscribe();
        let _ = timeout(NEWS_WITHIN, changes.wait_for(is_known)).await;
        let key = knowledge.read().link_key(hello.tunnel, hello.key);
        key.map_err(|code| match code {
            LinkRefusalCode::UnknownTunnel | LinkRefusalCode::UnknownKey
                if knowledge.age(SystemTime::now()) > FRESH =>
            {
                LinkRefusalCode::FeedStale
            }
            code => code,
        })
    }
}

/// The refusal, with a wait that spreads those who come back; `drained` is how many links an edge that leaves
/// had.
fn refuse(code: LinkRefusalCode, drained: usize) -> LinkRefusal {
    let after_ms = match code {
        // Most drains are restarts, which nobody should be late to meet; thousands of connectors must not
        // ask every second either.
        LinkRefusalCode::Draining => Some(500 + drained as u64 / 4),
        LinkRefusalCode::FeedStale | LinkRefusalCode::Capacity => Some(5_000),
        LinkRefusalCode::UnknownTunnel
        | LinkRefusalCode::UnknownKey
        | LinkRefusalCode::RevokedSecret
        | LinkRefusalCode::BadProof
        | LinkRefusalCode::VersionTooOld
        | LinkRefusalCode::Malformed
        | LinkRefusalCode::Unknown => None,
    };
    let retry_after_ms = after_ms.map(|ms| rand::rng().random_range(ms..=2 * ms));
    LinkRefusal { code, retry_after_ms }
}

#[cfg(test)]
mod tests;
