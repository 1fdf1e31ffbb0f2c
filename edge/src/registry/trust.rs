//! Whether a link can be relied on right now. [`monitor`](crate::links) decides; whoever picks a link only
//! reads a flag.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use link::{Look, Session, Vitals};
use tokio::{sync::Notify, time::Instant};

/// What is known of one link's silence.
#[derive(Debug)]
pub(crate) struct Trust {
    is_suspect: AtomicBool,
    /// It is to be looked at, even if nothing is under way on it.
    is_in_question: AtomicBool,
    /// Only the monitor takes it.
    watch: Mutex<Watch>,
    probe: Notify,
}

#[derive(Debug)]
struct Watch {
    vitals: Vitals,
    silence: Silence,
    /// When a sign of life was last seen, which is looked for only now and then.
    lived_at: Instant,
}

/// How long a link has owed a sign of life.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    since: Option<Instant>,
    probed_at: Option<Instant>,
    owed: Option<Owed>,
}

/// What a link owes this edge when the edge was stopped. What arrived meanwhile waits in the socket, perhaps with the
/// link's end behind it, and is no sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    /// The probe that must be answered: [`Session::has_answered`]. Without one, over QUIC, something must arrive once
    /// what waited has been read.
    probe: Option<u64>,
    /// By the first look, what waited has been read.
    is_looked_at: bool,
}

/// What a look at a link has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It owes nothing.
    Well,
    /// It owes a sign of life, for this long.
    Silent {
        length: Duration,
        /// It should be asked for one now.
        is_probe_due: bool,
        /// What was sent may not have arrived yet: [`Look::lingers`].
        lingers: bool,
    },
}

impl Trust {
    pub(super) fn new(vitals: Vitals) -> Self {
        let watch =
            Mutex::new(Watch { vitals, silence: Silence::default(), lived_at: Instant::now() });
        let (is_suspect, is_in_question, probe) = Default::default();
        Self { is_suspect, is_in_question, watch, probe }
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed)
    }

    pub(crate) fn is_in_question(&self) -> bool {
        self.is_in_question.load(Ordering::Relaxed)
    }

    /// Suspects the link, for this edge was stopped: until the other end has answered, whatever arrives.
    pub(crate) fn doubt(&self, now: Instant, session: &Session) {
        self.suspect();
        let owed = Owed { probe: session.next_probe(), is_looked_at: false };
        let silence = Silence { owed: Some(owed), ..Silence::asked(now) };
        self.watch().silence = silence;
        self.probe();
    }

    pub(crate) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
        self.is_in_question.store(true, Ordering::Relaxed);
    }

    /// It is well; true if it was suspect.
    pub(crate) fn restore(&self) -> bool {
        self.is_in_question.store(false, Ordering::Relaxed);
        self.is_suspect.swap(false, Ordering::Relaxed)
    }

    /// Asks a link for a sign of life that has given no reason of its own.
    pub(crate) fn question(&self, now: Instant) {
        self.is_in_question.store(true, Ordering::Relaxed);
        self.watch().silence = Silence::asked(now);
        self.probe();
    }

    pub(crate) fn look(&self, now: Instant, session: &Session) -> Finding {
        let mut watch = self.watch();
        let look = watch.vitals.look();
        if look.lives {
            watch.lived_at = now;
        }
        let look = watch.silence.look_for_owed(look, |probe| session.has_answered(probe));
        watch.silence.judge(now, look)
    }

    /// Was a sign of life seen so short a time ago?
    pub(crate) fn lived_within(&self, length: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.watch().lived_at) < length
    }

    pub(crate) fn probe(&self) {
        self.probe.notify_one();
    }

    /// Resolves when the link is to be asked for a sign of life. Cancel-safe.
    pub(crate) async fn probed(&self) {
        self.probe.notified().await;
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silence {
    /// A silent link is probed this often.
    pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(500);
    /// One that has been silent for less is not probed: most answers come sooner.
    pub(crate) const PROBE_AFTER: Duration = Duration::from_millis(250);

    /// A link that is asked at this moment.
    fn asked(now: Instant) -> Self {
        Self { since: Some(now), probed_at: Some(now), owed: None }
    }

    /// What a look means where something is owed: without it the link is silent.
    fn look_for_owed(&mut self, look: Look, has_answered: impl Fn(u64) -> bool) -> Look {
        let Some(owed) = &mut self.owed else { return look };
        let lives = match owed.probe {
            Some(probe) => has_answered(probe),
            None => owed.is_looked_at && look.lives,
        };
        if lives {
            self.owed = None;
            return Look { lives, ..look };
        }
        owed.is_looked_at = true;
        Look { lives: false, waits: true, ..look }
    }

    fn judge(&mut self, now: Instant, look: Look) -> Finding {
        if look.lives || !look.waits {
            // What was sent after the sign of life has been sent by now.
            *self = Self { since: look.waits.then_some(now), ..Self::default() };
            return Finding::Well;
        }
        let length = now - *self.since.get_or_insert(now);
        let is_probe_due = length >= Self::PROBE_AFTER
            && self.probed_at.is_none_or(|at| now - at >= Self::PROBE_EVERY);
        if is_probe_due {
            self.probed_at = Some(now);
        }
        Finding::Silent { length, is_probe_due, lingers: look.lingers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Look = Look { lives: false, waits: false, lingers: false };
    const LIFE: Look = Look { lives: true, ..NOTHING };
    const WAIT: Look = Look { waits: true, ..NOTHING };

    fn judge(looks: &[Look]) -> Vec<Option<(u128, bool)>> {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let ticks = looks.iter().enumerate();
        let findings = ticks.map(|(n, look)| {
            match silence.judge(start + n as u32 * Duration::from_millis(250), *look) {
                Finding::Well => None,
                Finding::Silent { length, is_probe_due, .. } => {
                    Some((length.as_millis(), is_probe_due))
                }
            }
        });
        findings.collect()
    }

    #[test]
    fn a_link_that_owes_nothing_is_never_silent() {
        assert_eq!(judge(&[NOTHING, LIFE, NOTHING, NOTHING]), [None; 4]);
    }

    #[test]
    fn silence_is_counted_from_when_an_answer_was_due_and_probed_every_half_second() {
        let looks = [LIFE, WAIT, WAIT, WAIT, WAIT, LIFE, WAIT];
        let due = |ms, is_probe_due| Some((ms, is_probe_due));
        let expected = [None, due(0, false), due(250, true), due(500, false), due(750, true), None];
        assert_eq!(judge(&looks)[..6], expected);
        assert_eq!(judge(&looks)[6], due(0, false), "a sign of life ends it");
        let asked_again = [Look { waits: true, ..LIFE }, WAIT];
        assert_eq!(judge(&asked_again), [None, due(250, true)]);
    }

    #[test]
    fn what_waited_while_the_edge_was_stopped_is_no_life() {
        let silence = |probe| {
            let owed = Owed { probe, is_looked_at: false };
            Silence { owed: Some(owed), ..Silence::asked(Instant::now()) }
        };
        let lives = |silence: &mut Silence, look, answered| {
            silence.look_for_owed(look, |probe| answered >= probe).lives
        };
        let mut asked = silence(Some(7));
        assert!(!lives(&mut asked, LIFE, 6), "the answer to a probe from before");
        assert!(lives(&mut asked, NOTHING, 7));
        assert!(lives(&mut asked, LIFE, 0), "nothing is owed any more");
        let mut unasked = silence(None);
        assert!(!lives(&mut unasked, LIFE, 0), "it may have waited");
        assert!(!lives(&mut unasked, NOTHING, 0));
        assert!(lives(&mut unasked, LIFE, 0));
    }
}
