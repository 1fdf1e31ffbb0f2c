use proptest::prelude::*;

use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A tunnel that is looked at once a second.
struct Clocked {
    crowd: Crowd,
    now: Instant,
}

impl Clocked {
    fn new() -> Self {
        Self { crowd: Crowd::Calm, now: Instant::now() }
    }

    fn next(&mut self, has_refused: bool, is_half_full: bool) -> bool {
        self.now += seconds(1);
        self.crowd.look(has_refused, is_half_full, self.now)
    }

    /// Seconds of the next minute in which it is crowded, where nothing more happens.
    fn rest(&mut self, is_half_full: bool) -> usize {
        (0..60).filter(|_| self.next(false, is_half_full)).count()
    }
}

#[test]
fn a_tunnel_that_is_full_of_what_hangs_is_crowded_until_that_ends() {
    let mut tunnel = Clocked::new();
    assert!(!tunnel.next(true, true), "it may be a burst");
    let told = (1..60).position(|_| tunnel.next(false, true));
    assert_eq!(told, Some(4), "after five seconds, though nobody asks again");
    assert_eq!(tunnel.rest(true), 60);
    assert_eq!(tunnel.rest(false), 0, "its last refusal was long ago");
}

#[test]
fn a_burst_is_nobodys_concern() {
    let mut tunnel = Clocked::new();
    for _ in 0..3 {
        assert!(!tunnel.next(true, true));
    }
    assert_eq!(tunnel.rest(false), 0);
    assert_eq!(tunnel.crowd, Crowd::Calm);
}

#[test]
fn a_tunnel_that_goes_on_refusing_is_crowded_however_little_is_under_way() {
    let mut tunnel = Clocked::new();
    let crowded = (0..30).filter(|n| tunnel.next(n % 4 == 0, false)).count();
    assert!(crowded >= 20, "{crowded}");
    assert!(tunnel.rest(false) < 10);
}

proptest! {
    #[test]
    fn a_crowd_has_refusals_and_an_end(
        looks in prop::collection::vec((prop::bool::weighted(0.2), any::<bool>()), 1..200),
    ) {
        let mut tunnel = Clocked::new();
        let (mut refused_at, mut calm_for, mut refusing_for) = (None, 0, 0);
        for (has_refused, is_half_full) in looks {
            let is_crowded = tunnel.next(has_refused, is_half_full);
            if has_refused {
                refused_at = Some(tunnel.now);
            }
            calm_for = if has_refused || is_half_full { 0 } else { calm_for + 1 };
            refusing_for = if has_refused { refusing_for + 1 } else { 0 };
            prop_assert!(!is_crowded || refused_at.is_some());
            prop_assert!(!(is_crowded && calm_for >= 10), "it is over");
            prop_assert!(is_crowded || refusing_for <= 5, "it has gone on for long enough");
        }
    }
}

#[test]
fn a_busy_link_without_answers_is_probed_and_stuck_until_there_is_one() {
    let mut now = Instant::now();
    let mut passage = Passage::new(now);
    let probed_at = |passage: &mut Passage, now: &mut Instant, answers, waits| {
        (1..=60).find(|_| {
            *now += seconds(1);
            passage.look(answers, waits, *now)
        })
    };
    assert_eq!(probed_at(&mut passage, &mut now, 0, false), None, "nothing waits");
    assert_eq!(probed_at(&mut passage, &mut now, 0, true), Some(5));
    assert_eq!(probed_at(&mut passage, &mut now, 0, true), None, "one probe at a time");
    passage.probed(true, now);
    assert!(!passage.is_stuck, "its origins are slow");
    assert_eq!(probed_at(&mut passage, &mut now, 0, true), Some(5));
    passage.probed(false, now);
    assert!(passage.is_stuck);
    assert_eq!(probed_at(&mut passage, &mut now, 0, false), Some(5), "idle or not");
    passage.probed(true, now);
    assert!(!passage.is_stuck);
    passage.probed(false, now);
    assert!(!passage.look(1, true, now + seconds(60)), "an answer is an answer");
    assert!(!passage.is_stuck);
}

#[test]
fn a_link_that_answers_is_never_probed() {
    let mut now = Instant::now();
    let mut passage = Passage::new(now);
    for answers in 1..100 {
        now += seconds(4);
        assert!(!passage.look(answers, true, now));
    }
}

#[test]
fn the_probe_is_a_request_that_every_connector_answers() {
    let uri = question().uri;
    assert_eq!(uri.authority().unwrap().as_str(), PROBE_AUTHORITY);
    assert_eq!(uri.port_u16(), Some(0));
}
