//! Notices that the process was stopped, or its machine paused. Meanwhile the other ends may have given links up, and
//! that waits in sockets beside requests of clients: which of them is read first is chance.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Beats come every quarter of a second. One that is so late says that the process was stopped; connectors give a
/// link up after a longer silence.
const LATE: Duration = Duration::from_secs(1);

/// A heart that beats while the process runs.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    begun: OnceLock<Instant>,
    /// Milliseconds from there.
    beat: AtomicU64,
    /// Somebody has found the next beat late.
    is_noticed: AtomicBool,
}

impl Pulse {
    /// Beats; the first time it begins to.
    pub(crate) fn beat(&self, now: Instant) {
        let begun = self.begun.get_or_init(|| now);
        self.beat.store(millis(*begun, now), Ordering::Release);
        self.is_noticed.store(false, Ordering::Relaxed);
    }

    /// Is it late, and nobody has noticed?
    pub(crate) fn has_stopped(&self, now: Instant) -> bool {
        self.is_late(now) && !self.is_noticed.load(Ordering::Relaxed)
    }

    pub(crate) fn notice(&self) {
        self.is_noticed.store(true, Ordering::Relaxed);
    }

    /// Is the next beat late?
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.begun.get().is_some_and(|begun| {
            let since = millis(*begun, now).saturating_sub(self.beat.load(Ordering::Acquire));
            since > LATE.as_millis() as u64
        })
    }
}

fn millis(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_that_is_late_has_stopped_until_somebody_notices() {
        let (pulse, begun) = (Pulse::default(), Instant::now());
        assert!(!pulse.has_stopped(begun + 2 * LATE), "it has not begun");
        pulse.beat(begun);
        pulse.beat(begun + LATE);
        assert!(!pulse.has_stopped(begun + 2 * LATE));
        assert!(pulse.has_stopped(begun + 3 * LATE));
        assert!(!pulse.has_stopped(begun), "a request that began before the beat");
        pulse.notice();
        assert!(!pulse.has_stopped(begun + 3 * LATE));
        assert!(pulse.is_late(begun + 3 * LATE));
        pulse.beat(begun + 3 * LATE);
        assert!(pulse.has_stopped(begun + 5 * LATE));
    }
}
