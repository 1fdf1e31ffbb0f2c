//! What is known of the network between here and all edges: which rung of the ladder works, whether
//! UDP passes, and how fast it may be asked.

use std::time::Duration;

use protocol::{
    address::{EdgeAddress, HostPort},
    presence::Transport,
};
use rand::Rng;

use super::{
    attempt::Rung,
    timing::{DIAL_BURST, DIAL_EVERY, UDP_PROBE},
    up_to,
};
use crate::proxy::Proxies;

/// Which carriers may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transports {
    /// QUIC where it passes, HTTP/2 where it does not.
    #[default]
    Auto,
    /// QUIC alone.
    Quic,
    /// HTTP/2 alone.
    Http2,
}

#[derive(Debug)]
pub(super) struct Network {
    transports: Transports,
    proxies: Proxies,
    /// Where the next ladder starts.
    first_rung: Rung,
    /// The same for edges behind the proxy.
    first_rung_by_proxy: Rung,
    /// When a link on HTTP/2 tries to move to QUIC.
    probe_at: Option<Duration>,
}

impl Network {
    pub(super) fn new(transports: Transports, proxies: Proxies) -> Self {
        let first_rung = match transports {
            Transports::Auto | Transports::Quic => Rung::Quic,
            Transports::Http2 => Rung::Http2,
        };
        let first_rung_by_proxy = Rung::Http2;
        Self { transports, proxies, first_rung, first_rung_by_proxy, probe_at: None }
    }

    /// The proxy that an edge stands behind.
    pub(super) fn proxy(&self, edge: &HostPort) -> Option<String> {
        self.proxies.before(edge).map(ToString::to_string)
    }

    pub(super) fn is_by_proxy(&self, edge: &HostPort) -> bool {
        self.proxies.before(edge).is_some()
    }

    /// Where the next ladder to `edge` starts.
    pub(super) fn first_rung(&mut self, edge: &HostPort) -> &mut Rung {
        if self.is_by_proxy(edge) { &mut self.first_rung_by_proxy } else { &mut self.first_rung }
    }

    /// The rungs to try, first the one that last worked. None at all if only QUIC is allowed, and a
    /// proxy stands before the edge.
    pub(super) fn ladder(&mut self, edge: &EdgeAddress) -> Vec<Rung> {
        let allowed: &[Rung] = match self.transports {
            Transports::Auto => &[Rung::Quic, Rung::Http2, Rung::Http2Fallback],
            Transports::Quic => &[Rung::Quic],
            Transports::Http2 => &[Rung::Http2, Rung::Http2Fallback],
        };
        let is_by_proxy = self.is_by_proxy(&edge.address);
        let exists = |rung: &Rung| match rung {
            Rung::Quic => !is_by_proxy,
            Rung::Http2 => true,
            Rung::Http2Fallback => edge.fallback_port.is_some(),
        };
        let mut ladder: Vec<Rung> = allowed.iter().copied().filter(exists).collect();
        let first_rung = *self.first_rung(&edge.address);
        ladder.sort_by_key(|rung| *rung != first_rung);
        ladder
    }

    pub(super) fn may_upgrade(&self) -> bool {
        self.transports == Transports::Auto
    }

    /// Could this link to `edge` be on QUIC, and is not?
    pub(super) fn lacks_quic(&self, edge: &HostPort, transport: Transport) -> bool {
        self.may_upgrade() && transport == Transport::Http2 && !self.is_by_proxy(edge)
    }

    pub(super) fn probe_at(&self) -> Option<Duration> {
        self.probe_at
    }

    /// Makes sure that QUIC is tried again some time.
    pub(super) fn schedule_probe(&mut self, now: Duration, rng: &mut dyn Rng) {
        if self.may_upgrade() && self.probe_at.is_none() {
            let (least, most) = (*UDP_PROBE.start(), *UDP_PROBE.end());
            self.probe_at = Some(now + least + up_to(most - least, rng));
        }
    }

    pub(super) fn probe_now(&mut self, now: Duration) {
        self.probe_at = Some(now);
    }

    pub(super) fn clear_probe(&mut self) {
        self.probe_at = None;
    }
}

/// Bounds how often attempts begin, whatever happens: a bucket of tokens.
#[derive(Debug)]
pub(super) struct DialBudget {
    tokens: u32,
    refilled_at: Duration,
}

impl Default for DialBudget {
    fn default() -> Self {
        Self { tokens: DIAL_BURST, refilled_at: Duration::ZERO }
    }
}

impl DialBudget {
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.refilled_at).as_micros() / DIAL_EVERY.as_micros();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned >= DIAL_BURST - self.tokens {
            self.tokens = DIAL_BURST;
            self.refilled_at = now;
        } else {
            self.tokens += earned;
            self.refilled_at += DIAL_EVERY * earned;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }

    pub(super) fn next_at(&self) -> Duration {
        self.refilled_at + DIAL_EVERY
    }
}
