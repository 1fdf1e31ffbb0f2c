//! Is the other end still there? One of these for each link.
//!
//! ```text
//!  quiet ── every 5 s ──► asked ── 1.5 s ──► missed ── 2.5 s ──► dead
//!    ▲                      │                  │
//!    └─────── any pong ─────┴──────────────────┘
//! ```
//!
//! The links take turns: one of them is asked every [`TURN`], however few they are, so that a network
//! which falls silent is found out as soon with one link as with four.
//!
//! A miss or a loss of one link makes the supervisor probe all of them, since what befell one has often
//! befallen the others; a probed link stands where a missed one does.

use std::time::Duration;

use protocol::SLOTS;

use super::timing::{DEAD_AFTER_MISS, PING_EVERY, PONG_WITHIN};

const TURN: Duration = PING_EVERY.checked_div(SLOTS as u32).expect("there are slots");

#[derive(Debug)]
pub(super) struct Heartbeat {
    turns: Turns,
    next_at: Duration,
    sequence: u64,
    sent_at: Duration,
    wait: Wait,
    pub(super) rtt: Option<Duration>,
}

/// Which of the turns are a link's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turns {
    phase: Duration,
    every: Duration,
}

impl Turns {
    /// Those of the `rank`-th of `count` links.
    pub(super) fn new(rank: usize, count: usize) -> Self {
        let slots = usize::from(SLOTS);
        let count = count.clamp(1, slots);
        Self { phase: TURN * (rank % count) as u32, every: TURN * count as u32 }
    }

    /// The first one after `now`.
    fn after(self, now: Duration) -> Duration {
        let turns = (now + self.every - self.phase).as_micros() / self.every.as_micros();
        self.phase + self.every * u32::try_from(turns).unwrap_or(u32::MAX)
    }
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
    pub(super) fn new(now: Duration) -> Self {
        let turns = Turns::new(0, 1);
        Self { turns, next_at: now, sequence: 0, sent_at: now, wait: Wait::Quiet, rtt: None }
    }

    /// Other turns are this link's own from now on.
    pub(super) fn take_turns(&mut self, turns: Turns) {
        if self.turns != turns && self.sequence > 0 {
            self.next_at = turns.after(self.sent_at);
        }
        self.turns = turns;
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
        self.next_at = self.turns.after(now);
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
    fn one_link_after_the_other_is_asked_however_few_they_are() {
        let start = Duration::from_millis(80);
        for count in 1..=4 {
            let mut links: Vec<_> = (0..count).map(|_| Heartbeat::new(start)).collect();
            for (rank, link) in links.iter_mut().enumerate() {
                assert_eq!(link.due(start), Beat::Ping);
                link.take_turns(Turns::new(rank, count));
                let sequence = link.ping(start);
                link.on_pong(start, sequence);
            }
            for turn in 1..20 {
                let at = TURN * turn;
                let due: Vec<_> = links.iter_mut().filter(|link| link.deadline() <= at).collect();
                assert_eq!(due.len(), 1, "turn {turn} of {count}");
                for link in due {
                    let sequence = link.ping(at);
                    link.on_pong(at, sequence);
                }
            }
        }
    }

    #[test]
    fn a_link_that_is_alone_now_takes_the_turns_of_the_others() {
        let mut link = Heartbeat::new(Duration::ZERO);
        link.take_turns(Turns::new(3, 4));
        link.ping(TURN * 3);
        link.on_pong(TURN * 3, 1);
        assert_eq!(link.deadline(), TURN * 7);
        link.take_turns(Turns::new(0, 1));
        assert_eq!(link.deadline(), TURN * 4);
    }
}
