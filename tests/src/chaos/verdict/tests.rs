use super::*;

/// An exchange between two moments, in milliseconds from the beginning.
fn exchange(at: Instant, kind: Kind, [begun, ended]: [u64; 2], code: Option<&str>) -> Exchange {
    let [begun, ended] = [begun, ended].map(|ms| at + Duration::from_millis(ms));
    let outcome = code.map_or(Ok(()), |code| Err(Failure::Refused(code.into())));
    Exchange { kind, begun, ended, gateway: 0, outcome, id: None }
}

fn judge(exchanges: &[Exchange], marks: &Marks, stopped: Instant) -> Verdict {
    Verdict::of(exchanges, marks, &Ledger::default(), stopped, marks.begun)
}

#[test]
fn only_what_was_under_way_at_a_death_is_excused() {
    let mut marks = Marks::now();
    let at = marks.begun;
    let death = at + Duration::from_millis(1_000);
    marks.deaths.push(Death { at: death, unknown_for: Duration::ZERO, whose: Whose::Links });
    let lost = Some("link_lost");
    let judged = |kind, times, code| {
        let verdict = judge(&[exchange(at, kind, times, code)], &marks, at);
        (verdict.excused.len(), verdict.lost.len())
    };
    assert_eq!(judged(Kind::Post, [900, 1_100], lost), (1, 0));
    assert_eq!(judged(Kind::Post, [1_001, 1_100], lost), (0, 1), "begun after it");
    assert_eq!(judged(Kind::Post, [900, 999], lost), (0, 1), "failed before it");
    assert_eq!(judged(Kind::Get, [900, 1_100], lost), (0, 1), "it is asked for again");
    assert_eq!(judged(Kind::Post, [900, 1_100], Some("no_link")), (0, 1));
    assert_eq!(judged(Kind::Post, [900, 1_100], None), (0, 0));
}

#[test]
fn the_longest_time_without_an_answer_counts_no_failures() {
    let marks = Marks::now();
    let at = marks.begun;
    let stopped = at + Duration::from_millis(5_000);
    let exchanges = [
        exchange(at, Kind::Get, [0, 100], None),
        exchange(at, Kind::Get, [100, 1_000], Some("no_link")),
        exchange(at, Kind::Post, [1_500, 3_100], None),
        exchange(at, Kind::Download, [1_500, 1_600], None),
        exchange(at, Kind::Get, [3_100, 4_900], None),
    ];
    let verdict = judge(&exchanges, &marks, stopped);
    assert_eq!(verdict.gap, Duration::from_millis(3_000));
    assert_eq!(verdict.slowest, Duration::from_millis(1_800));
}

#[test]
fn the_ledger_tells_what_happened_twice_and_what_was_denied() {
    let marks = Marks::now();
    let ledger = Ledger::default();
    ledger.enter(1);
    ledger.enter(1);
    ledger.enter(2);
    let post = |id, code| {
        let post = exchange(marks.begun, Kind::Post, [0, 1], code);
        Exchange { id: Some(id), ..post }
    };
    let exchanges = [post(1, None), post(2, Some("not_delivered")), post(3, None)];
    let verdict = Verdict::of(&exchanges, &marks, &ledger, marks.begun, marks.begun);
    assert_eq!((verdict.doubled, verdict.misreported), (1, 2));
    assert!(!verdict.counts_hold());
}
