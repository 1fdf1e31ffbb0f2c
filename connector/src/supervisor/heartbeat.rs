//! Is the other end still there? One of these for each link.
//!
//! ```text
//!  quiet ── every 5 s ──► asked ── 1 s ──► suspect ── 3 s ──► dead
//!    ▲                      │                 │ └─ asked again every 0.5 s
//!    └─── any sign of life ─┴─────────────────┘
//! ```
//!
//! A pong is not the only sign of life: on a slow line it waits behind what else is sent. Whatever arrives,
//! and every acknowledgement, counts as much. The waits grow with the round-trip time.
//!
//! A suspect link is asked again and again, because a carrier that gets no acknowledgement sends what it
//! has at ever longer intervals: without a new ping, a network that is well again would be noticed late.
//!
//! The links take turns: one of them is asked every [`TURN`], however few they are, so that a network
//! which falls silent is found out as soon with one link as with four.
//!
//! A miss or a loss of one link makes the supervisor suspect all of them, since what befell one has often
//! befallen the others. Those that have not answered a moment later are [in doubt](Heartbeat::is_in_doubt):
//! another link is dialled beside each, at an edge that has answered if there is one.

use std::{collections::VecDeque, time::Duration};

use protocol::SLOTS;

use super::timing::{
    DEAD_AFTER_MISS, DOUBT_AFTER, LONGEST_PATIENCE, PING_EVERY, PING_SUSPECT_EVERY, PONG_WITHIN,
};

/// Pings whose time of departure is remembered: those of a suspect link, for as long as it may live.
const REMEMBERED: usize = 16;

const TURN: Duration = PING_EVERY.checked_div(SLOTS as u32).expect("there are slots");

#[derive(Debug)]
pub(super) struct Heartbeat {
    turns: Turns,
    next_at: Duration,
    sequence: u64,
    sent_at: Duration,
    /// When recent pings have left, the newest one last.
    sent: VecDeque<(u64, Duration)>,
    wait: Wait,
    pub(super) rtt: Option<Duration>,
    /// Has a ping told the edge a round trip?
    is_told: bool,
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
    Suspect { doubt_at: Duration, dead_at: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Nothing,
    Ping,
    Miss,
    Dead,
}

impl Heartbeat {
    /// The first ping is due at once: it measures the round trip. So is the second one, which tells it to the edge.
    pub(super) fn new(now: Duration) -> Self {
        let turns = Turns::new(0, 1);
        Self {
            turns,
            next_at: now,
            sequence: 0,
            sent_at: now,
            sent: VecDeque::new(),
            wait: Wait::Quiet,
            rtt: None,
            is_told: false,
        }
    }

    /// Other turns are this link's own from now on.
    pub(super) fn take_turns(&mut self, turns: Turns) {
        if self.turns != turns && self.sequence > 0 && !self.is_suspect() {
            self.next_at = turns.after(self.sent_at);
        }
        self.turns = turns;
    }

    /// What is due.
    pub(super) fn due(&self, now: Duration) -> Beat {
        match self.wait {
            Wait::Suspect { dead_at, .. } if dead_at <= now => Beat::Dead,
            Wait::Asked { miss_at } if miss_at <= now => Beat::Miss,
            Wait::Quiet | Wait::Asked { .. } | Wait::Suspect { .. } if self.ping_at() <= now => {
                Beat::Ping
            }
            Wait::Quiet | Wait::Asked { .. } | Wait::Suspect { .. } => Beat::Nothing,
        }
    }

    fn ping_at(&self) -> Duration {
        if self.rtt.is_some() && !self.is_told { self.sent_at } else { self.next_at }
    }

    /// Marks a ping as sent; returns its number.
    pub(super) fn ping(&mut self, now: Duration) -> u64 {
        self.sequence += 1;
        self.is_told = self.rtt.is_some();
        self.sent_at = now;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.sequence, now));
        self.next_at = match self.wait {
            Wait::Suspect { .. } => now + PING_SUSPECT_EVERY,
            Wait::Quiet | Wait::Asked { .. } => self.turns.after(now),
        };
        if self.wait == Wait::Quiet {
            self.wait = Wait::Asked { miss_at: now + self.patience(PONG_WITHIN) };
        }
        self.sequence
    }

    /// Suspects the link: it must show life within [`DEAD_AFTER_MISS`]. False if it is suspect already.
    pub(super) fn suspect(&mut self, now: Duration) -> bool {
        if self.is_suspect() {
            return false;
        }
        let doubt_at = now + self.patience(DOUBT_AFTER);
        self.wait = Wait::Suspect { doubt_at, dead_at: now + self.patience(DEAD_AFTER_MISS) };
        true
    }

    pub(super) fn is_suspect(&self) -> bool {
        matches!(self.wait, Wait::Suspect { .. })
    }

    /// Is the link suspect, and has it had the time to show life?
    pub(super) fn is_in_doubt(&self, now: Duration) -> bool {
        matches!(self.wait, Wait::Suspect { doubt_at, .. } if doubt_at <= now)
    }

    /// Something has arrived, or was acknowledged, that proves the other end's life up to now.
    pub(super) fn on_life(&mut self) {
        if self.is_suspect() {
            self.next_at = self.turns.after(self.sent_at);
        }
        self.wait = Wait::Quiet;
    }

    pub(super) fn on_pong(&mut self, now: Duration, sequence: u64) {
        if sequence == 0 || sequence > self.sequence {
            return;
        }
        self.on_life();
        while let Some((sent, at)) = self.sent.pop_front_if(|(sent, _)| *sent <= sequence) {
            if sent == sequence {
                self.rtt = Some(now.saturating_sub(at));
            }
        }
    }

    /// A wait of `least`, or longer where the round trip alone takes long.
    fn patience(&self, least: Duration) -> Duration {
        let by_rtt = self.rtt.map_or(Duration::ZERO, |rtt| rtt * 3);
        least.max(by_rtt.min(LONGEST_PATIENCE))
    }

    pub(super) fn deadlines(&self) -> [Duration; 3] {
        let (first, second) = match self.wait {
            Wait::Quiet => (self.ping_at(), self.ping_at()),
            Wait::Asked { miss_at } => (miss_at, miss_at),
            Wait::Suspect { doubt_at, dead_at } => (doubt_at, dead_at),
        };
        [self.ping_at(), first, second]
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
                assert_eq!(link.due(start), Beat::Ping, "the edge is told the round trip");
                let sequence = link.ping(start);
                link.on_pong(start, sequence);
            }
            for turn in 1..20 {
                let at = TURN * turn;
                let due: Vec<_> =
                    links.iter_mut().filter(|link| link.due(at) == Beat::Ping).collect();
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
        link.ping(TURN * 3);
        link.on_pong(TURN * 3, 2);
        assert_eq!(link.deadlines(), [TURN * 7; 3]);
        link.take_turns(Turns::new(0, 1));
        assert_eq!(link.deadlines(), [TURN * 4; 3]);
    }
}
