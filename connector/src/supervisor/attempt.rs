//! One try to get a link from one edge: a ladder of rungs, each joining in when the one before has
//! failed or kept silent.

use std::{collections::VecDeque, time::Duration};

use protocol::{
    address::{EdgeAddress, HostPort},
    presence::Transport,
};

use super::{
    LinkId,
    event::{Failure, FailureKind, Purpose},
    timing::{ATTEMPT, ATTEMPT_AT_CLOSED_DOOR, ATTEMPT_UPGRADE, NEXT_RUNG, NEXT_RUNG_IN_DOUBT},
};

/// One way to reach an edge, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    Quic,
    Http2,
    Http2Fallback,
}

impl Rung {
    pub(super) fn transport(self) -> Transport {
        match self {
            Self::Quic => Transport::Quic,
            Self::Http2 | Self::Http2Fallback => Transport::Http2,
        }
    }

    pub(super) fn target(self, edge: &EdgeAddress) -> HostPort {
        let port = match self {
            Self::Quic | Self::Http2 => edge.address.port,
            Self::Http2Fallback => edge.fallback_port.unwrap_or(edge.address.port),
        };
        HostPort { host: edge.address.host.clone(), port }
    }
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) edge: EdgeAddress,
    pub(super) purpose: Purpose,
    pub(super) last_failure: Option<Failure>,
    pub(super) tried_quic: bool,
    rungs: VecDeque<Rung>,
    legs: Vec<(LinkId, Rung)>,
    next_rung_at: Duration,
    /// How long a rung may be silent until the next one joins in.
    pace: Duration,
    started_at: Duration,
    give_up_at: Duration,
    was_http2_refused: bool,
}

impl Attempt {
    pub(super) fn new(
        now: Duration,
        edge: EdgeAddress,
        purpose: Purpose,
        rungs: Vec<Rung>,
    ) -> Self {
        let patience = match purpose {
            Purpose::Fill | Purpose::Drain | Purpose::Doubt | Purpose::Rebalance => ATTEMPT,
            Purpose::Upgrade => ATTEMPT_UPGRADE,
        };
        let pace = if purpose == Purpose::Doubt { NEXT_RUNG_IN_DOUBT } else { NEXT_RUNG };
        let no_way = rungs.is_empty().then(|| Failure {
            kind: FailureKind::ProxyRefused,
            detail: "a proxy stands before the edge, which QUIC cannot pass; set \
                     TUNNEL_TRANSPORT_PROTOCOL to auto or http2, or name the edge in NO_PROXY"
                .into(),
        });
        Self {
            edge,
            purpose,
            last_failure: no_way,
            tried_quic: false,
            rungs: rungs.into(),
            legs: Vec::new(),
            next_rung_at: now,
            pace,
            started_at: now,
            give_up_at: now + patience,
            was_http2_refused: false,
        }
    }

    /// The rung to dial now, if its turn has come.
    pub(super) fn next_rung(&mut self, now: Duration) -> Option<Rung> {
        if self.next_rung_at > now {
            return None;
        }
        let rung = self.rungs.pop_front()?;
        self.next_rung_at = now + self.pace;
        self.tried_quic |= rung == Rung::Quic;
        Some(rung)
    }

    pub(super) fn add_leg(&mut self, link: LinkId, rung: Rung) {
        self.legs.push((link, rung));
    }

    pub(super) fn legs(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.legs.iter().map(|(link, _)| *link)
    }

    pub(super) fn rung_of(&self, link: LinkId) -> Option<Rung> {
        self.legs.iter().find(|(leg, _)| *leg == link).map(|(_, rung)| *rung)
    }

    /// A leg has failed: the next rung's turn comes at once. `is_network_well` tells that a link to
    /// somewhere is up.
    pub(super) fn leg_failed(
        &mut self,
        now: Duration,
        link: LinkId,
        failure: Failure,
        is_network_well: bool,
    ) {
        self.was_http2_refused |=
            self.rung_of(link).is_some_and(|rung| rung.transport() == Transport::Http2);
        self.legs.retain(|(leg, _)| *leg != link);
        self.last_failure = Some(failure);
        self.next_rung_at = now;
        let has_http2 = self.rungs.iter().chain(self.legs.iter().map(|(_, rung)| rung));
        let has_http2 = has_http2.copied().any(|rung| rung.transport() == Transport::Http2);
        if is_network_well && self.was_http2_refused && !has_http2 {
            self.give_up_at = self.give_up_at.min(self.started_at + ATTEMPT_AT_CLOSED_DOOR);
        }
    }

    /// True when nothing is left to hope for.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.give_up_at <= now || (self.legs.is_empty() && self.rungs.is_empty())
    }

    pub(super) fn deadline(&self) -> Duration {
        if self.rungs.is_empty() { self.give_up_at } else { self.next_rung_at.min(self.give_up_at) }
    }
}
