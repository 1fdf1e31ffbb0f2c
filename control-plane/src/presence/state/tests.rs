//! The rules of presence, under reports in any order.

use proptest::prelude::*;
use protocol::{
    health::Cause,
    id::{ControlPlaneId, KeyId},
    presence::Transport,
};

use super::{tracked::MAX_MISSING, *};
use crate::store::edge_presence::EdgePresence;

const TUNNEL: TunnelId = TunnelId::from_bytes([1; 16]);
const KEY: KeyId = KeyId::from_bytes([2; 16]);

/// What can happen.
#[derive(Debug, Clone)]
enum Event {
    Report { edge: u8, reset: bool, up: Vec<(u8, u8)>, down: Vec<(u8, u8, bool)> },
    Reconnect { edge: u8 },
    Pass { ms: u64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let link = || (0u8..3, 0u8..4);
    let report = (
        0u8..2,
        prop::bool::weighted(0.2),
        prop::collection::vec(link(), 0..5),
        prop::collection::vec((0u8..3, 0u8..4, any::<bool>()), 0..5),
    );
    let event = prop_oneof![
        5 => report.prop_map(|(edge, reset, up, down)| Event::Report { edge, reset, up, down }),
        1 => (0u8..2).prop_map(|edge| Event::Reconnect { edge }),
        2 => (0u64..15_000).prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::Pass { ms: MISSING_FOR_MS }),
    ];
    prop::collection::vec(event, 1..40)
}

fn link(connector: u8, slot: u8) -> LinkPresence {
    LinkPresence {
        tunnel: TUNNEL,
        connector: ConnectorId::from_bytes([connector; 16]),
        slot,
        key: KEY,
        transport: Transport::Quic,
        since_ms: 0,
        rtt_us: None,
        remote: "192.0.2.1:1".parse().unwrap(),
        facts: Facts::default(),
        strain: None,
    }
}

proptest! {
    #[test]
    fn connectors_and_health_always_fit_the_links_that_edges_hold(events in events()) {
        let ids = [EdgeId::from_bytes([3; 16]), EdgeId::from_bytes([4; 16])];
        let mut now_ms = 1_000_000;
        let mut state = State::load(vec![], vec![], now_ms);
        let mut sessions = ids.map(|id| state.begin(id));
        for event in events {
            match event {
                Event::Report { edge, reset, up, down } => {
                    let up = up.into_iter().map(|(c, slot)| link(c, slot)).collect();
                    let down = down.into_iter().map(|(c, slot, goodbye)| LinkDown {
                        tunnel: TUNNEL,
                        connector: ConnectorId::from_bytes([c; 16]),
                        slot,
                        goodbye,
                    });
                    let down = down.collect();
                    let report = Report { applied_generation: 1, reset, up, down, ..Report::default() };
                    let n = usize::from(edge);
                    let counts = reset || state.edge(ids[n], now_ms).is_live;
                    let expected = if counts { Ok(()) } else { Err(Refused::Lapsed) };
                    prop_assert_eq!(state.report(ids[n], sessions[n], report, now_ms), expected);
                }
                Event::Reconnect { edge } => {
                    let (n, before) = (usize::from(edge), sessions[usize::from(edge)]);
                    sessions[n] = state.begin(ids[n]);
                    let report = state.report(ids[n], before, Report::default(), now_ms);
                    prop_assert_eq!(report, Err(Refused::Superseded));
                }
                Event::Pass { ms } => {
                    now_ms += ms;
                    state.expire(now_ms);
                }
            }
            check(&state, &ids, now_ms)?;
        }
    }
}

fn check(state: &State, ids: &[EdgeId], now_ms: u64) -> Result<(), TestCaseError> {
    let held: usize = ids.iter().map(|id| state.edge(*id, now_ms).links).sum();
    let connectors = state.connectors(TUNNEL);
    prop_assert_eq!(held, connectors.iter().map(|c| c.links.len()).sum::<usize>());
    for connector in &connectors {
        prop_assert_eq!(connector.links.is_empty(), connector.vanished_ms.is_some());
    }
    let Some(row) = state.health(TUNNEL) else { return Ok(()) };
    let serving = matches!(row.health, Health::Healthy | Health::Degraded);
    let counted = |c: &&Connector| c.connecting_until_ms.is_none() && !c.links.is_empty();
    let tracked = &state.tunnels[&TUNNEL].connectors;
    if tracked.values().find(counted).is_some() {
        prop_assert!(serving, "{:?}", row);
    } else if tracked.values().all(|c| c.connecting_until_ms.is_none()) {
        prop_assert!(!serving, "{:?}", row);
    }
    Ok(())
}

/// An edge that reports to a state, and the words that come of it.
struct Reporter {
    state: State,
    session: u64,
}

impl Reporter {
    const EDGE: EdgeId = EdgeId::from_bytes([3; 16]);

    fn new() -> Self {
        let mut state = State::load(vec![], vec![], 0);
        let session = state.begin(Self::EDGE);
        let mut reporter = Self { state, session };
        reporter.report(&[], LEASE_MS);
        reporter
    }

    /// All links that there are.
    fn report(&mut self, links: &[(u8, u8)], now_ms: u64) {
        let up = links.iter().map(|&(connector, slot)| link(connector, slot)).collect();
        let report = Report { reset: true, up, ..Report::default() };
        self.state.report(Self::EDGE, self.session, report, now_ms).unwrap();
    }

    fn words(&mut self) -> Vec<Health> {
        let dirty = self.state.take_dirty();
        dirty.iter().flat_map(|presence| &presence.health).map(|row| row.health).collect()
    }
}

#[test]
fn a_tunnel_is_degraded_for_as_long_as_an_edge_says_that_requests_do_not_get_through() {
    let mut edge = Reporter::new();
    let links: Vec<_> = (0..SLOTS).map(|slot| (1, slot)).collect();
    edge.report(&links, LEASE_MS);
    edge.state.take_touched();
    let strained = |edge: &mut Reporter, slots: &[u8], strain, now_ms| {
        let up = slots.iter().map(|slot| LinkPresence { strain, ..link(1, *slot) }).collect();
        let report = Report { up, ..Report::default() };
        edge.state.report(Reporter::EDGE, edge.session, report, now_ms).unwrap();
    };
    strained(&mut edge, &[0, 1, 2, 3], Some(Strain::Crowded), LEASE_MS + 1);
    assert_eq!(edge.state.health(TUNNEL).unwrap().causes, [Cause::Crowded]);
    assert_eq!(edge.state.take_touched(), HashSet::from([TUNNEL]));
    strained(&mut edge, &[0], Some(Strain::Stuck), LEASE_MS + 2);
    assert_eq!(edge.state.health(TUNNEL).unwrap().causes, [Cause::Crowded, Cause::Stuck]);
    strained(&mut edge, &[1, 2, 3], Some(Strain::Unknown), LEASE_MS + 3);
    assert_eq!(edge.state.health(TUNNEL).unwrap().causes, [Cause::Stuck]);
    strained(&mut edge, &[0, 1, 2, 3], None, LEASE_MS + 4);
    assert_eq!(edge.state.health(TUNNEL).unwrap().causes, []);
    assert_eq!(
        edge.words(),
        [Health::Healthy, Health::Degraded, Health::Degraded, Health::Degraded, Health::Healthy]
    );
}

#[test]
fn a_start_is_no_fault() {
    let mut edge = Reporter::new();
    let mut links = Vec::new();
    for connector in [1, 2] {
        for slot in 0..SLOTS {
            links.push((connector, slot));
            edge.report(&links, LEASE_MS + 100 * u64::from(slot));
        }
    }
    assert_eq!(edge.words(), [Health::Healthy; 2], "of one connector, then of both");
    let health = edge.state.health(TUNNEL).unwrap();
    assert_eq!(health.reason, "All connectors hold all 4 links.");
}

#[test]
fn links_that_do_not_come_up_are_missing_after_five_seconds() {
    let mut edge = Reporter::new();
    edge.report(&[(1, 0), (1, 1)], LEASE_MS);
    edge.state.expire(LEASE_MS + CONNECTING_FOR_MS - 1);
    assert_eq!(edge.words(), []);
    edge.state.expire(LEASE_MS + CONNECTING_FOR_MS);
    assert_eq!(edge.words(), [Health::Degraded]);
    edge.report(&[(1, 0), (1, 1), (1, 2), (1, 3)], LEASE_MS + CONNECTING_FOR_MS + 1);
    edge.report(&[(1, 0), (1, 1), (1, 2)], LEASE_MS + CONNECTING_FOR_MS + 2);
    assert_eq!(edge.words(), [Health::Healthy, Health::Degraded], "the start is over");
}

#[test]
fn a_connector_that_dies_as_it_starts_is_missing() {
    let mut edge = Reporter::new();
    edge.report(&[(1, 0)], LEASE_MS);
    edge.report(&[], LEASE_MS + 1);
    assert_eq!(edge.words(), [Health::Down]);
}

#[test]
fn an_edge_that_was_silent_for_too_long_has_to_report_every_link_again() {
    let edge = EdgeId::from_bytes([3; 16]);
    let mut state = State::load(vec![], vec![], 0);
    let session = state.begin(edge);
    let all = Report { reset: true, up: vec![link(1, 0)], ..Report::default() };
    state.report(edge, session, all.clone(), 1).unwrap();
    let late = 1 + LEASE_MS;
    state.expire(late);
    let renewal = state.report(edge, session, Report::default(), late);
    assert_eq!(renewal, Err(Refused::Lapsed), "it would hold a lease without its links");
    assert!(!state.edge(edge, late).is_live);
    let session = state.begin(edge);
    state.report(edge, session, all, late).unwrap();
    assert_eq!(state.edge(edge, late).links, 1);
}

#[test]
fn what_could_not_be_stored_is_stored_later_and_in_order() {
    let edge = EdgeId::from_bytes([3; 16]);
    let mut state = State::load(vec![], vec![], 0);
    let session = state.begin(edge);
    let report = |state: &mut State, slots: &[u8], now_ms| {
        let up = slots.iter().map(|slot| link(1, *slot)).collect();
        let report = Report { reset: true, up, ..Report::default() };
        state.report(edge, session, report, now_ms).unwrap();
    };
    report(&mut state, &[0, 1, 2, 3], 1);
    let taken = state.take_dirty();
    assert!(state.take_dirty().is_empty());
    report(&mut state, &[0], 2);
    state.put_back(taken);
    let words: Vec<_> = state.take_dirty().remove(0).health.iter().map(|row| row.health).collect();
    assert_eq!(words, [Health::Healthy, Health::Degraded]);
}

#[test]
fn after_a_restart_a_tunnel_is_not_degraded_by_silence() {
    let edges = [EdgeId::from_bytes([3; 16]), EdgeId::from_bytes([4; 16])];
    let healthy = HealthRow {
        since_ms: 7,
        health: Health::Healthy,
        reason: "All well.".into(),
        causes: vec![],
    };
    let connector = ConnectorRow {
        tunnel: TUNNEL,
        connector: ConnectorId::from_bytes([1; 16]),
        facts: Facts::default(),
        vanished_ms: None,
    };
    let load = || State::load(vec![(TUNNEL, healthy.clone())], vec![connector.clone()], 1_000);
    let report = |state: &mut State, edge: EdgeId, slots: [u8; 2]| {
        let session = state.begin(edge);
        let up = slots.map(|slot| link(1, slot)).to_vec();
        let report = Report { reset: true, up, ..Report::default() };
        state.report(edge, session, report, 2_000).unwrap();
    };
    let mut state = load();
    report(&mut state, edges[0], [0, 1]);
    assert_eq!(state.health(TUNNEL), Some(healthy.clone()), "the other edge may still report");
    report(&mut state, edges[1], [2, 3]);
    let settled = state.health(TUNNEL).unwrap();
    assert_eq!((settled.health, settled.since_ms), (Health::Healthy, 7));

    let mut state = load();
    report(&mut state, edges[0], [0, 1]);
    state.expire(1_000 + LEASE_MS);
    assert_eq!(state.health(TUNNEL).unwrap().health, Health::Degraded, "it had its time");
}

#[test]
fn a_tunnel_remembers_so_many_missing_connectors_and_no_more() {
    let edge = EdgeId::from_bytes([3; 16]);
    let mut state = State::load(vec![], vec![], 0);
    let session = state.begin(edge);
    for n in 0..2 * MAX_MISSING as u64 {
        let connector = ConnectorId::from_bytes(u128::from(n).to_be_bytes());
        let up = vec![LinkPresence { connector, ..link(0, 0) }];
        let came = Report { reset: n == 0, up, ..Report::default() };
        state.report(edge, session, came, n).unwrap();
        let down = vec![LinkDown { tunnel: TUNNEL, connector, slot: 0, goodbye: false }];
        state.report(edge, session, Report { down, ..Report::default() }, n).unwrap();
    }
    let missing = state.connectors(TUNNEL);
    assert_eq!(missing.len(), MAX_MISSING);
    let since: Vec<_> = missing.iter().filter_map(|connector| connector.vanished_ms).collect();
    assert_eq!(since.iter().min(), Some(&(MAX_MISSING as u64)), "the latest ones");
}

#[test]
fn other_control_planes_hear_that_requests_do_not_get_through() {
    let me = ControlPlaneId::from_bytes([8; 16]);
    let mut edge = Reporter::new();
    edge.report(&[(1, 0)], LEASE_MS);
    let unshared = edge.state.unshared(me, LEASE_MS);
    edge.state.shared(unshared, &[]);
    let up = vec![LinkPresence { strain: Some(Strain::Crowded), ..link(1, 0) }];
    let report = Report { up, ..Report::default() };
    edge.state.report(Reporter::EDGE, edge.session, report, LEASE_MS + 1).unwrap();
    let told = edge.state.unshared(me, LEASE_MS + 1).told.remove(0);
    assert_eq!(told.report.unwrap().up[0].strain, Some(Strain::Crowded));
}

/// What another control plane tells of an edge with two links.
fn told(version: u64) -> (Vec<EdgePresence>, HashMap<EdgeId, Report>) {
    let edge = EdgeId::from_bytes([3; 16]);
    let control_plane = ControlPlaneId::from_bytes([9; 16]);
    let links = LinksVersion { control_plane, session: 1, version };
    let presence = EdgePresence { edge, is_live: true, applied_generation: 1, links };
    let up = vec![link(1, 0), link(1, 1)];
    (vec![presence], HashMap::from([(edge, Report { up, reset: true, ..Report::default() })]))
}

#[test]
fn links_at_a_control_plane_that_stops_are_lost_and_come_back_with_it() {
    let mut state = State::load(vec![], vec![], 0);
    let links = |state: &State| -> usize {
        state.connectors(TUNNEL).iter().map(|connector| connector.links.len()).sum()
    };
    let (rows, reports) = told(2);
    state.adopt(rows, reports, |_| true, 1_000);
    assert_eq!(links(&state), 2);
    state.adopt(told(2).0, HashMap::new(), |_| false, 9_000);
    state.expire(9_001);
    assert_eq!(links(&state), 2, "the edge has time to find another control plane");
    state.adopt(told(2).0, HashMap::new(), |_| false, 11_000);
    state.expire(11_001);
    assert_eq!(links(&state), 0);
    let (rows, reports) = told(2);
    assert_eq!(state.unknown_links(&rows).len(), 1, "though nothing has changed there");
    state.adopt(rows, reports, |_| true, 12_000);
    assert_eq!(links(&state), 2);
}

#[test]
fn links_at_other_control_planes_outlive_a_database_that_is_away() {
    let mut state = State::load(vec![], vec![], 0);
    let (rows, reports) = told(2);
    state.adopt(rows, reports, |_| true, 1_000);
    state.expire(60_000);
    assert_eq!(state.connectors(TUNNEL)[0].links.len(), 2);
    state.adopt(vec![], HashMap::new(), |_| true, 61_000);
    state.expire(61_001);
    assert!(state.connectors(TUNNEL)[0].links.is_empty(), "now it is known that they are gone");
}

#[test]
fn an_edge_is_claimed_by_its_newest_connection() {
    let edge = EdgeId::from_bytes([3; 16]);
    let me = ControlPlaneId::from_bytes([8; 16]);
    let mut state = State::load(vec![], vec![], 0);
    let (rows, reports) = told(2);
    state.adopt(rows.clone(), reports, |_| true, 1_000);
    let session = state.begin(edge);
    state.adopt(rows.clone(), HashMap::new(), |_| true, 1_001);
    let report = Report { reset: true, ..Report::default() };
    state.report(edge, session, report.clone(), 1_002).unwrap();
    let unshared = state.unshared(me, 1_003);
    assert!(unshared.told[0].is_claim, "the other's row is older");
    state.shared(unshared, &[]);
    assert!(state.unshared(me, 1_004).told.is_empty());
    state.report(edge, session, report.clone(), 1_005).unwrap();
    assert!(state.unshared(me, 1_006).told.is_empty(), "a renewal is no news");
    state.adopt(rows, HashMap::new(), |_| true, 1_007);
    assert_eq!(state.report(edge, session, report, 1_008), Err(Refused::Superseded));
}
