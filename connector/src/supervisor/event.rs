//! What the supervisor tells people: one event per change of state, never twice the same.

use std::time::Duration;

use link::CloseReason;
use protocol::{
    address::HostPort, control::LinkRefusal, id::EdgeId, name::RegionName, presence::Transport,
};

/// A change that somebody may want to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link is up.
    Up {
        /// Which of the slots it fills.
        slot: u8,
        /// The edge.
        edge: EdgeId,
        /// Where it stands.
        region: RegionName,
        /// How it was reached.
        transport: Transport,
        /// What the link was dialled for.
        purpose: Purpose,
        /// Serving links now.
        links: usize,
    },
    /// A link was lost.
    Down {
        /// Which of the slots is vacant now.
        slot: u8,
        /// The edge.
        edge: EdgeId,
        /// Where it stands.
        region: RegionName,
        /// How it was reached.
        transport: Transport,
        /// In one word.
        reason: LossReason,
        /// In one sentence.
        detail: String,
        /// Serving links now.
        links: usize,
    },
    /// An edge wants its link gone; a replacement is on its way.
    Draining {
        /// Which slot.
        slot: u8,
        /// The edge.
        edge: EdgeId,
        /// Where it stands.
        region: RegionName,
        /// When the replacement is dialled.
        reconnect_in: Duration,
        /// When the edge closes the link.
        deadline: Duration,
    },
    /// An edge cannot be reached; it is asked again and again.
    EdgeFailing {
        /// Where it was dialled.
        address: HostPort,
        /// What happened.
        failure: Failure,
    },
    /// An edge says no; it is asked again.
    EdgeRefuses {
        /// Where it was dialled.
        address: HostPort,
        /// Its reason.
        refusal: LinkRefusal,
        /// When it is asked again.
        again_in: Duration,
    },
    /// QUIC is silent and HTTP/2 is not: the network drops UDP.
    UdpDropped,
    /// QUIC works again.
    UdpBack,
    /// No known edge stands in the region that was asked for; the others serve.
    RegionUnknown {
        /// The one asked for.
        region: RegionName,
    },
    /// Shutdown has begun.
    Leaving {
        /// Links that are to finish.
        links: usize,
        /// For how long they may.
        grace: Duration,
    },
}

/// What a link was dialled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The slot was vacant.
    Fill,
    /// The edge of the link before is leaving.
    Drain,
    /// The link before shows no life.
    Doubt,
    /// To spread the links more evenly.
    Rebalance,
    /// To move from HTTP/2 back to QUIC.
    Upgrade,
}

impl Purpose {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Drain => "drain",
            Self::Doubt => "doubt",
            Self::Rebalance => "rebalance",
            Self::Upgrade => "upgrade",
        }
    }
}

/// How a link was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The connection ended.
    Closed,
    /// The edge did not answer the pings.
    Unresponsive,
    /// The drain's deadline has passed.
    Drained,
}

impl LossReason {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unresponsive => CloseReason::Unresponsive.as_str(),
            Self::Drained => CloseReason::Drained.as_str(),
        }
    }
}

/// Why a dial led nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In one word.
    pub kind: FailureKind,
    /// In one sentence.
    pub detail: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The host's name does not resolve.
    Dns,
    /// The network or the host says no.
    Connect,
    /// The proxy on the way cannot be reached, or does not reach the edge.
    Proxy,
    /// The proxy on the way says no, which only a person can change.
    ProxyRefused,
    /// TLS failed.
    Tls,
    /// The connection broke during the handshake.
    Handshake,
    /// Silence.
    Unanswered,
}

impl FailureKind {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::ProxyRefused => "proxy_refused",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Unanswered => "unanswered",
        }
    }
}
