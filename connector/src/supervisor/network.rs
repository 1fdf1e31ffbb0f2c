//! What is known of the network between here and all edges: which rung of the ladder works, whether
//! UDP passes, and how fast it may be asked.

use std::time::Duration;

use rand::Rng;

use super::{
    attempt::Rung,
    timing::{DIAL_BURST, DIAL_EVERY, UDP_PROBE},
    up_to,
};

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
    /// Where the next ladder starts.
    pub(super) first_rung: Rung,
    /// When a link on HTTP/2 tries to move to QUIC.
    probe_at: Option<Duration>,
}

impl Network {
    pub(super) fn new(transports: Transports) -> Self {
        let first_rung = match transports {
            Transports::Auto | Transports::Quic => Rung::Quic,
            Transports::Http2 => Rung::Http2,
        };
        Self { transports, first_rung, probe_at: None }
    }

    /// The rungs to try, first the one that last worked.
    pub(super) fn ladder(&self, has_fallback_port: bool) -> Vec<Rung> {
        let allowed: &[Rung] = match self.transports {
            Transports::Auto => &[Rung::Quic, Rung::Http2, Rung::Http2Fallback],
            Transports::Quic => &[Rung::Quic],
            Transports::Http2 => &[Rung::Http2, Rung::Http2Fallback],
        };
        let exists = |rung: &Rung| has_fallback_port || *rung != Rung::Http2Fallback;
        let mut ladder: Vec<Rung> = allowed.iter().copied().filter(exists).collect();
        ladder.sort_by_key(|rung| *rung != self.first_rung);
        ladder
    }

    pub(super) fn may_upgrade(&self) -> bool {
        self.transports == Transports::Auto
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
