//! Is the other end still there? One of these for each link.
//!
//! ```text
//!  quiet ── every 5 s ──► asked ── 1.5 s ──► missed ── 2.5 s ──► dead
//!    ▲                      │                  │
//!    └─────── any pong ─────┴──────────────────┘
//! ```
//!
//! A miss or a loss of one link makes the supervisor probe all of them, since what befell one has often
//! befallen the others; a probed link stands where a missed one does.

use std::time::Duration;

use protocol::SLOTS;

use super::timing::{DEAD_AFTER_MISS, PING_EVERY, PONG_WITHIN};

#[derive(Debug)]
pub(super) struct Heartbeat {
    /// Shifts this link's turn against the others', so that the four are not pinged together.
    phase: Duration,
    next_at: Duration,
    sequence: u64,
    sent_at: Duration,
    wait: Wait,
    pub(super) rtt: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Quiet,
    Asked { miss_at: Duration },
    Missed { dead_at: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Nothing,
    Ping,
    Miss,
    Dead,
}

impl Heartbeat {
    /// The first ping is due at once: it measures the round trip.
    pub(super) fn new(slot: u8, now: Duration) -> Self {
        let phase = PING_EVERY / u32::from(SLOTS) * u32::from(slot);
        Self { phase, next_at: now, sequence: 0, sent_at: now, wait: Wait::Quiet, rtt: None }
    }

    /// What is due.
    pub(super) fn due(&self, now: Duration) -> Beat {
        match self.wait {
            Wait::Missed { dead_at } if dead_at <= now => Beat::Dead,
            Wait::Asked { miss_at } if miss_at <= now => Beat::Miss,
            Wait::Quiet | Wait::Asked { .. } | Wait::Missed { .. } if self.next_at <= now => {
                Beat::Ping
            }
            Wait::Quiet | Wait::Asked { .. } | Wait::Missed { .. } => Beat::Nothing,
        }
    }

    /// Marks a ping as sent; returns its number.
    pub(super) fn ping(&mut self, now: Duration) -> u64 {
        self.sequence += 1;
        self.sent_at = now;
        let turns = (now + PING_EVERY - self.phase).as_micros() / PING_EVERY.as_micros();
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        self.next_at = self.phase + PING_EVERY * turns;
        if self.wait == Wait::Quiet {
            self.wait = Wait::Asked { miss_at: now + PONG_WITHIN };
        }
        self.sequence
    }

    /// Suspects the link: it must answer within [`DEAD_AFTER_MISS`]. False if it is suspect already.
    pub(super) fn suspect(&mut self, now: Duration) -> bool {
        if matches!(self.wait, Wait::Missed { .. }) {
            return false;
        }
        self.wait = Wait::Missed { dead_at: now + DEAD_AFTER_MISS };
        true
    }

    pub(super) fn on_pong(&mut self, now: Duration, sequence: u64) {
        if sequence == 0 || sequence > self.sequence {
            return;
        }
        self.wait = Wait::Quiet;
        if sequence == self.sequence {
            self.rtt = Some(now.saturating_sub(self.sent_at));
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        match self.wait {
            Wait::Quiet => self.next_at,
            Wait::Asked { miss_at } => self.next_at.min(miss_at),
            Wait::Missed { dead_at } => self.next_at.min(dead_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_turns_from_the_beginning() {
        let at = Duration::from_millis;
        for (slot, turn) in [(0, at(5_000)), (1, at(1_250)), (2, at(2_500)), (3, at(3_750))] {
            let mut heartbeat = Heartbeat::new(slot, at(80));
            assert_eq!(heartbeat.due(at(80)), Beat::Ping);
            let sequence = heartbeat.ping(at(80));
            heartbeat.on_pong(at(81), sequence);
            assert_eq!(heartbeat.deadline(), turn);
            heartbeat.ping(turn);
            heartbeat.on_pong(turn, sequence + 1);
            assert_eq!(heartbeat.deadline(), turn + PING_EVERY);
        }
    }
}
