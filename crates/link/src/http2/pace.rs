//! How long the frames of a link should be. On a slow line everything waits for the frame before it: one of
//! 128 KiB takes four seconds at 256 kbit/s, and each of several downloads has one under way in turn.
//!
//! The same goes for what the system has taken and not sent yet.
//!
//! A full socket shows how fast the line is: by the time that it takes to have room again. A link begins as a
//! slow one, and is a fast one once it has shown it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Longest piece of a body on a slow line, in bytes: an eighth of a second at 256 kbit/s.
const SHORT: usize = 4 * 1024;
/// How much may wait in the system before it is sent, in bytes (`TCP_NOTSENT_LOWAT`): half a second at
/// 256 kbit/s. The system would take megabytes.
const NOT_SENT: u32 = 16 * 1024;
/// The same on a fast line, where each wait costs a wake-up.
const NOT_SENT_FAST: u32 = 128 * 1024;
/// A socket has room again once half of that is sent. One that is full for longer than this shows a line of
/// less than 1.3 Mbit/s ...
const SLOW: Duration = Duration::from_millis(50);
/// ... with as much more to send as a fast line has.
const SLOW_AFTER_FAST: Duration = Duration::from_millis(400);
/// One that has room again so soon shows more than 6 Mbit/s.
const FAST: Duration = Duration::from_millis(10);
/// So much without a long wait shows a fast line as well, in bytes.
const MUCH: usize = 1024 * 1024;

/// The pace of one link, which its streams read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    fn is_fast(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Longest piece of a body that should become one frame, in bytes.
    pub(crate) fn piece(&self) -> usize {
        if self.is_fast() { usize::MAX } else { SHORT }
    }

    /// How much may wait in the system before it is sent, in bytes.
    pub(super) fn not_sent(&self) -> u32 {
        if self.is_fast() { NOT_SENT_FAST } else { NOT_SENT }
    }
}

/// Measures the pace at the link's socket.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) pace: Pace,
    full_since: Option<Instant>,
    /// Bytes written since the last long wait.
    written: usize,
}

/// What a write has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// The socket was full before.
    pub(super) was_full: bool,
    /// The pace is another one now.
    pub(super) is_news: bool,
}

impl Meter {
    /// The socket takes no more.
    pub(super) fn is_full(&mut self) {
        self.full_since.get_or_insert_with(Instant::now);
    }

    /// The socket has taken something.
    pub(super) fn takes(&mut self, bytes: usize) -> Shown {
        let waited = self.full_since.take().map(|since| since.elapsed());
        Shown { was_full: waited.is_some(), is_news: self.note(waited, bytes) }
    }

    fn note(&mut self, waited: Option<Duration>, bytes: usize) -> bool {
        let was_fast = self.pace.is_fast();
        self.written = self.written.saturating_add(bytes);
        let slow = if was_fast { SLOW_AFTER_FAST } else { SLOW };
        let is_fast = if waited.is_some_and(|waited| waited >= slow) {
            self.written = 0;
            false
        } else {
            was_fast || waited.is_some_and(|waited| waited <= FAST) || self.written >= MUCH
        };
        if is_fast != was_fast {
            self.pace.0.store(is_fast, Ordering::Relaxed);
        }
        is_fast != was_fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_short_until_a_line_has_shown_to_be_fast() {
        let mut meter = Meter::default();
        assert_eq!(meter.pace.piece(), SHORT);
        assert!(meter.note(Some(FAST), 1));
        assert_eq!(meter.pace.piece(), usize::MAX);
        assert!(!meter.note(Some(SLOW), 1), "it has more to send now");
        assert!(meter.note(Some(SLOW_AFTER_FAST), 1));
        assert_eq!(meter.pace.piece(), SHORT);
        assert!(!meter.note(Some(FAST * 2), MUCH - 1));
        assert!(meter.note(None, 1), "much without a long wait");
        assert_eq!((meter.pace.piece(), meter.pace.not_sent()), (usize::MAX, NOT_SENT_FAST));
    }
}
