//! What each promise means, by example.

use std::time::Duration;

use link::CloseReason;
use protocol::{
    control::{LinkRefusal, LinkRefusalCode},
    presence::Transport,
};

use super::world::{Paths, RTT, World};
use crate::{
    proxy::Proxies,
    supervisor::{Event, Input, LossReason, Plan, Purpose, SlotState, Transports, timing},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn settled(edges: &[usize]) -> World {
    let mut world = World::new(edges, Transports::Auto, 1);
    world.run_until(MINUTE);
    assert_eq!(world.serving(), 4);
    world
}

fn refusal(code: LinkRefusalCode, retry_after: Option<Duration>) -> LinkRefusal {
    let retry_after_ms = retry_after.map(|after| after.as_millis() as u64);
    LinkRefusal { code, retry_after_ms }
}

#[test]
fn four_links_come_up_in_one_round() {
    let mut world = World::new(&[1, 1], Transports::Auto, 1);
    world.run_until(SECOND);
    assert_eq!(world.by_edge(), [(0, 2), (1, 2)].into());
    assert_eq!(world.on(Transport::Quic), 4);
    assert_eq!(world.dials.len(), 4, "nothing is dialled twice");
}

#[test]
fn links_spread_over_regions_first_and_then_over_edges() {
    assert_eq!(settled(&[3, 1]).by_edge()[&3], 2, "the region with one edge takes its half");
    assert_eq!(settled(&[4]).by_edge().len(), 4);
    assert_eq!(settled(&[1, 1, 1, 1, 1]).by_edge().len(), 4);
    assert_eq!(settled(&[1]).by_edge(), [(0, 4)].into());
}

#[test]
fn http2_joins_in_when_quic_has_been_silent_for_a_second_and_a_half() {
    let mut world = World::new(&[1, 1], Transports::Auto, 1);
    world.paths.udp = false;
    let took = world.run_while(5 * SECOND, |world| world.serving() == 4).unwrap();
    assert!((timing::NEXT_RUNG..timing::NEXT_RUNG + SECOND / 2).contains(&took), "{took:?}");
    assert_eq!(world.on(Transport::Http2), 4);
    assert!(world.dialling.is_empty(), "the silent dials are cancelled");
    let told = world.said.iter().filter(|(_, event)| *event == Event::UdpDropped);
    assert_eq!(told.count(), 1);
}

#[test]
fn a_network_that_drops_udp_is_remembered() {
    let mut world = World::new(&[1, 1], Transports::Auto, 1);
    world.paths.udp = false;
    world.run_until(10 * SECOND);
    let before = world.dials.len();
    world.kill(0);
    let took = world.run_while(5 * SECOND, |world| world.serving() == 4).unwrap();
    assert!(took < SECOND, "{took:?}");
    assert_eq!(world.dials[before].transport, Transport::Http2);
}

#[test]
fn links_move_back_to_quic_once_udp_has_healed() {
    let mut world = World::new(&[1, 1], Transports::Auto, 1);
    world.paths.udp = false;
    world.run_until(5 * MINUTE);
    assert_eq!(world.on(Transport::Http2), 4);
    world.paths.udp = true;
    let took = world.run_while(2 * MINUTE, |world| {
        assert_eq!(world.serving(), 4, "the new link comes first");
        world.on(Transport::Quic) == 4
    });
    assert!(took.unwrap() <= MINUTE, "{took:?}");
    assert!(world.closed.is_empty(), "the old links leave by themselves");
}

#[test]
fn a_black_hole_is_left_within_three_seconds() {
    for offset in 0..50 {
        let mut world = settled(&[1, 1]);
        world.run_for(offset * Duration::from_millis(100));
        world.paths.udp = false;
        world.links.clear();
        let took = world.run_while(20 * SECOND, |world| world.on(Transport::Http2) == 4);
        assert!(took.unwrap() <= 3 * SECOND, "{took:?}");
    }
}

#[test]
fn a_network_that_lets_only_443_out_is_served() {
    let mut world = World::new(&[1, 1], Transports::Auto, 1);
    world.paths = Paths { tcp_fallback: true, ..Paths::NONE };
    world.run_until(5 * SECOND);
    assert_eq!(world.serving(), 4);
    let ports: Vec<_> = world.dials.iter().map(|dial| (dial.transport, dial.target.port)).collect();
    for rung in [(Transport::Quic, 7844), (Transport::Http2, 7844), (Transport::Http2, 443)] {
        assert_eq!(ports.iter().filter(|port| **port == rung).count(), 4);
    }
    let before = world.dials.len();
    world.kill(1);
    world.run_for(SECOND);
    assert_eq!(world.dials[before].target.port, 443, "what worked is tried first");
}

#[test]
fn a_proxy_that_lets_only_443_through_is_met_there_from_then_on() {
    let proxies = World::proxies("http://proxy.example:3128", "");
    let mut world = World::behind(proxies, &[1, 1], Transports::Auto, 1);
    world.paths = Paths { tcp_fallback: true, ..Paths::NONE };
    let took = world.run_while(5 * SECOND, |world| world.serving() == 4).unwrap();
    assert!(took < timing::NEXT_RUNG + SECOND / 2, "{took:?}");
    let before = world.dials.len();
    world.kill(1);
    world.run_for(SECOND);
    assert_eq!(world.dials[before].target.port, 443, "what worked is tried first");
    world.run_for(10 * MINUTE);
    assert!(world.dials.iter().all(|dial| dial.transport == Transport::Http2));
}

#[test]
fn a_proxy_that_refuses_is_told_once_for_each_edge_and_asked_every_half_minute() {
    let proxies = World::proxies("http://proxy.example:3128", "");
    let mut world = World::behind(proxies, &[1, 1], Transports::Auto, 1);
    world.proxy_refuses = true;
    world.run_until(10 * MINUTE);
    let told = world.said.iter().filter(|(_, event)| matches!(event, Event::EdgeFailing { .. }));
    assert_eq!(told.count(), 2);
    // Two rungs for four slots at first, then for one slot and each of the two edges.
    let asked = world.dials.len();
    assert!((60..=8 + 20 * 4).contains(&asked), "{asked}");
    let reasons = world.supervisor.view().slots.into_iter().map(|slot| slot.reason.unwrap());
    assert!(reasons.into_iter().all(|reason| reason.contains("407")));
    world.proxy_refuses = false;
    let took = world.run_while(MINUTE, |world| world.serving() == 4);
    assert!(took.unwrap() <= timing::PROXY_REFUSED + 3 * SECOND, "{took:?}");
}

#[test]
fn where_only_quic_is_allowed_an_edge_behind_a_proxy_cannot_be_reached() {
    let proxies = World::proxies("http://proxy.example:3128", "r0.example");
    let mut world = World::behind(proxies, &[1, 1], Transports::Quic, 1);
    world.run_until(10 * MINUTE);
    assert_eq!(world.by_edge(), [(0, 4)].into());
    let told = world.said.iter().filter_map(|(_, event)| match event {
        Event::EdgeFailing { failure, .. } => Some(failure.detail.clone()),
        _ => None,
    });
    assert!(told.collect::<Vec<_>>().concat().contains("TUNNEL_TRANSPORT_PROTOCOL"));
}

#[test]
fn the_protocol_that_was_asked_for_is_the_only_one() {
    for (transports, transport) in
        [(Transports::Quic, Transport::Quic), (Transports::Http2, Transport::Http2)]
    {
        let mut world = World::new(&[1, 1], transports, 1);
        world.run_until(5 * MINUTE);
        world.paths = Paths::NONE;
        world.run_for(MINUTE);
        world.paths = Paths::ALL;
        world.run_for(MINUTE);
        assert_eq!(world.on(transport), 4);
        assert!(world.dials.iter().all(|dial| dial.transport == transport));
    }
}

#[test]
fn when_an_edge_dies_its_links_move_and_come_back_with_it() {
    let mut world = settled(&[1, 1]);
    world.run_for(20 * SECOND);
    world.kill(0);
    let took = world.run_while(20 * SECOND, |world| world.by_edge() == [(1, 4)].into());
    assert!(took.unwrap() <= 6 * SECOND, "pings find out, then dialling is quick: {took:?}");
    world.run_for(10 * SECOND);
    world.edges[0].is_up = true;
    let took = world.run_while(MINUTE, |world| {
        assert_eq!(world.serving(), 4);
        world.by_edge() == [(0, 2), (1, 2)].into()
    });
    assert!(took.unwrap() <= 2 * SECOND, "{took:?}");
}

#[test]
fn after_a_partition_four_links_are_back_within_five_seconds() {
    for seed in 0..20 {
        let mut world = World::new(&[1, 1], Transports::Auto, seed);
        world.run_until(MINUTE);
        world.paths = Paths::NONE;
        world.links.clear();
        world.run_for(MINUTE + Duration::from_millis(137 * seed));
        assert_eq!(world.supervisor.view().serving(), 0);
        world.paths = Paths::ALL;
        let took = world.run_while(MINUTE, |world| world.serving() == 4);
        assert!(took.unwrap() <= 5 * SECOND, "seed {seed}: {took:?}");
    }
}

#[test]
fn a_revoked_secret_is_told_once_and_tried_every_five_minutes() {
    let mut world = World::new(&[2, 2], Transports::Auto, 1);
    for edge in &mut world.edges {
        edge.refuses = Some(refusal(LinkRefusalCode::RevokedSecret, None));
    }
    world.run_until(MINUTE);
    assert_eq!(world.dials.len(), 4);
    world.run_until(61 * MINUTE);
    assert!((8 * 4..=13 * 4).contains(&world.dials.len()), "{} dials", world.dials.len());
    let told = world.said.iter().filter(|(_, e)| matches!(e, Event::EdgeRefuses { .. })).count();
    assert_eq!(told, 1);
    let view = world.supervisor.view();
    assert!(view.slots.iter().all(|slot| slot.reason.as_ref().unwrap().contains("revoked")));

    world.edges.iter_mut().for_each(|edge| edge.refuses = None);
    world.run_for(6 * MINUTE);
    assert_eq!(world.serving(), 4, "it never gives up");
}

#[test]
fn one_edge_that_refuses_for_good_does_not_keep_links_from_the_others() {
    let mut world = World::new(&[1, 1], Transports::Auto, 1);
    world.edges[0].refuses = Some(refusal(LinkRefusalCode::UnknownTunnel, None));
    world.run_until(10 * SECOND);
    assert_eq!(world.by_edge(), [(1, 4)].into());
    world.run_until(4 * MINUTE);
    let asked = world.dials.iter().filter(|dial| dial.edge == 0).count();
    assert!(asked <= 4, "{asked}");
}

#[test]
fn an_edge_says_when_it_wants_to_be_asked_again() {
    let mut world = World::new(&[1], Transports::Auto, 1);
    let wait = Duration::from_secs(30);
    world.edges[0].refuses = Some(refusal(LinkRefusalCode::Capacity, Some(wait)));
    world.run_until(20 * SECOND);
    let first: Vec<_> = world.dials.iter().map(|dial| dial.at).collect();
    assert!(first.iter().all(|at| *at < SECOND), "{first:?}");
    world.run_until(40 * SECOND);
    assert!(world.dials[first.len()].at >= wait);
}

#[test]
fn a_draining_link_serves_until_its_replacement_is_up() {
    let mut world = settled(&[1, 1, 1]);
    let (&id, link) = world.links.iter().next().unwrap();
    let (slot, edge) = (link.slot, link.edge);
    let before = world.dials.len();
    let reconnect_in = 3 * SECOND;
    world.tell(Input::Drain { link: id, reconnect_in, deadline: 30 * SECOND, successor: false });
    assert_eq!(world.supervisor.view().slots[usize::from(slot)].state, SlotState::Draining);
    let start = world.now;
    world.run_for(2 * SECOND);
    assert_eq!(world.dials.len(), before, "it waits as it was told to");
    world.run_for(2 * SECOND);
    assert_eq!(world.dials[before].at, start + reconnect_in);
    assert_ne!(world.dials[before].edge, edge);
    assert_eq!(world.serving(), 4);
    assert!(!world.links.contains_key(&id));
    assert!(world.closed.is_empty());
}

#[test]
fn an_edge_that_was_drained_and_started_again_has_its_links_back_within_two_seconds() {
    for seed in 0..50 {
        let mut world = World::new(&[1, 1], Transports::Auto, seed);
        world.run_until(MINUTE);
        world.drain(0, 30 * SECOND);
        let moved = world.run_while(5 * SECOND, |world| !world.is_held(0));
        assert!(moved.unwrap() <= SECOND, "seed {seed}: {moved:?}");
        assert_eq!(world.by_edge(), [(1, 4)].into());
        world.edges[0].is_up = false;
        world.run_for(Duration::from_millis(40 * seed));
        world.edges[0].is_up = true;
        world.edges[0].refuses = None;
        let back = world.run_while(MINUTE, |world| {
            assert_eq!(world.serving(), 4, "the new links come first");
            world.by_edge() == [(0, 2), (1, 2)].into()
        });
        assert!(back.unwrap() <= 2 * SECOND, "seed {seed}: {back:?}");
    }
}

#[test]
fn a_link_moves_to_the_process_that_has_taken_its_edges_place() {
    let mut world = settled(&[1, 1]);
    let before = world.dials.len();
    let links: Vec<_> = world.links.iter().filter(|(_, link)| link.edge == 0).collect();
    let links: Vec<_> = links.into_iter().map(|(id, _)| *id).collect();
    for (n, link) in links.iter().enumerate() {
        let reconnect_in = n as u32 * SECOND;
        let (link, deadline) = (*link, 30 * SECOND);
        world.tell(Input::Drain { link, reconnect_in, deadline, successor: true });
    }
    world.run_for(SECOND / 2);
    assert_eq!(world.dials.len(), before + 1, "each at its time");
    assert!(!world.links.contains_key(&links[0]) && world.links.contains_key(&links[1]));
    world.run_for(SECOND);
    assert!(world.dials[before..].iter().all(|dial| dial.edge == 0), "at the same address");
    assert_eq!(world.by_edge(), [(0, 2), (1, 2)].into());
    assert_eq!(world.dials.len(), before + 2);
}

#[test]
fn an_edge_that_refused_because_it_drained_is_asked_once_it_has_a_successor() {
    let mut world = settled(&[1]);
    world.drain(0, 30 * SECOND);
    world.run_for(SECOND / 10);
    world.edges[0].refuses = None;
    let before = world.dials.len();
    let links: Vec<_> = world.links.keys().copied().collect();
    for link in links {
        let (reconnect_in, deadline) = (Duration::ZERO, 30 * SECOND);
        world.tell(Input::Drain { link, reconnect_in, deadline, successor: true });
    }
    world.run_for(SECOND / 2);
    assert_eq!(world.dials.len(), before + 4);
    assert_eq!(world.by_edge(), [(0, 4)].into());
}

#[test]
fn an_edge_that_drains_is_the_last_choice_as_long_as_it_has_a_link() {
    let mut world = settled(&[1, 1]);
    world.finishes_in = 5 * SECOND;
    let before = world.dials.len();
    world.drain(0, 30 * SECOND);
    world.edges[0].refuses = None;
    while world.is_held(0) {
        world.run_for(Duration::from_millis(10));
        let asked = world.dials[before..].iter().filter(|dial| dial.edge == 0).count();
        assert_eq!(asked, 0, "it is still there, and drains");
    }
    let back = world.run_while(MINUTE, |world| world.by_edge() == [(0, 2), (1, 2)].into());
    assert!(back.unwrap() <= 2 * SECOND + world.finishes_in, "{back:?}");
}

#[test]
fn a_draining_link_without_a_replacement_serves_until_its_deadline() {
    let mut world = settled(&[1]);
    world.edges[0].refuses = Some(refusal(LinkRefusalCode::Draining, Some(60 * SECOND)));
    let links: Vec<_> = world.links.keys().copied().collect();
    for link in &links {
        let deadline = 20 * SECOND;
        world.tell(Input::Drain { link: *link, reconnect_in: SECOND, deadline, successor: false });
    }
    world.run_for(19 * SECOND);
    assert_eq!(world.serving(), 4);
    world.run_for(2 * SECOND);
    assert_eq!(world.serving(), 0);
    assert!(world.closed.iter().all(|(_, _, reason)| *reason == CloseReason::Drained));
}

#[test]
fn pings_take_turns_and_a_miss_asks_everybody() {
    let mut world = settled(&[1, 1]);
    world.links.values_mut().for_each(|link| link.pings.clear());
    world.run_for(MINUTE);
    let mut pings: Vec<_> = world.links.values().flat_map(|link| link.pings.clone()).collect();
    pings.sort();
    assert!((46..=50).contains(&pings.len()), "{}", pings.len());
    let apart = pings.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert_eq!(apart, timing::PING_EVERY / 4);

    world.paths = Paths::NONE;
    world.links.values_mut().for_each(|link| link.pings.clear());
    world.run_for(4 * SECOND);
    let asked = world.links.values().filter(|link| !link.pings.is_empty()).count();
    assert_eq!(asked, 4, "one miss, and all are asked");
    assert_eq!(world.supervisor.view().serving(), 4);
    world.run_for(2 * SECOND);
    assert_eq!(world.supervisor.view().serving(), 0);
    let reasons = world.said.iter().filter_map(|(_, event)| match event {
        Event::Down { reason, .. } => Some(*reason),
        _ => None,
    });
    assert!(reasons.eq([LossReason::Unresponsive; 4]));
}

#[test]
fn a_lost_link_makes_all_others_be_asked() {
    let mut world = settled(&[1, 1]);
    world.links.values_mut().for_each(|link| link.pings.clear());
    let lost = *world.links.keys().next().unwrap();
    let at = world.now;
    world.links.remove(&lost);
    world.tell(Input::Lost { link: lost, detail: "reset".into() });
    for link in world.links.values().filter(|link| !link.is_retiring) {
        assert_eq!(link.pings.first(), Some(&at), "slot {}", link.slot);
    }
    world.run_for(10 * SECOND);
    assert_eq!(world.supervisor.view().serving(), 4, "those that answer stay");
}

#[test]
fn the_round_trip_is_measured() {
    let world = settled(&[1, 1]);
    for slot in world.supervisor.view().slots {
        assert_eq!(slot.link.unwrap().rtt, Some(RTT));
    }
}

#[test]
fn a_new_edge_gets_its_share_and_not_from_everybody_at_once() {
    let mut world = settled(&[1, 1]);
    world.edges[1].is_up = false;
    world.edges[1].is_listed = false;
    world.kill(1);
    world.run_for(30 * SECOND);
    assert_eq!(world.by_edge(), [(0, 4)].into());
    world.edges[1].is_up = true;
    world.edges[1].is_listed = true;
    let directory = world.directory();
    world.tell(Input::Directory(directory));
    world.run_for(timing::NEWCOMER_SMEAR + 2 * SECOND);
    assert_eq!(world.by_edge(), [(0, 2), (1, 2)].into());
    let moved = world
        .said
        .iter()
        .filter(|(_, event)| matches!(event, Event::Up { purpose: Purpose::Rebalance, .. }));
    assert_eq!(moved.count(), 2);
}

#[test]
fn where_all_links_stand_on_one_edge_a_new_one_is_used_soon() {
    for seed in 0..20 {
        let mut world = World::new(&[1, 1], Transports::Auto, seed);
        world.edges[1].is_up = false;
        world.edges[1].is_listed = false;
        world.run_until(MINUTE);
        world.edges[1].is_up = true;
        let directory = world.directory();
        world.tell(Input::Directory(directory));
        world.edges[1].is_listed = true;
        let directory = world.directory();
        world.tell(Input::Directory(directory));
        let took = world.run_while(MINUTE, |world| world.by_edge() == [(0, 2), (1, 2)].into());
        assert!(took.unwrap() <= 5 * SECOND, "{took:?}");
    }
}

#[test]
fn a_slot_without_a_link_does_not_wait_for_a_new_edge() {
    let mut world = settled(&[1, 1]);
    world.edges[1].is_listed = false;
    let directory = world.directory();
    world.tell(Input::Directory(directory));
    world.kill(1);
    world.run_for(MINUTE);
    world.edges[1].is_up = true;
    world.edges[1].is_listed = true;
    world.edges[0].is_up = false;
    world.kill(0);
    world.run_for(10 * SECOND);
    let directory = world.directory();
    world.tell(Input::Directory(directory));
    let took = world.run_while(MINUTE, |world| world.by_edge() == [(1, 4)].into());
    assert!(took.unwrap() <= 5 * SECOND, "{took:?}");
}

#[test]
fn a_shutdown_lets_links_finish_and_cuts_what_does_not() {
    let mut world = settled(&[1, 1]);
    world.tell(Input::Shutdown(30 * SECOND));
    assert!(!world.supervisor.is_finished());
    world.run_for(SECOND);
    assert!(world.supervisor.is_finished());
    assert!(world.closed.is_empty());

    let mut world = settled(&[1, 1]);
    world.finishes_in = MINUTE;
    world.tell(Input::Shutdown(30 * SECOND));
    world.run_for(29 * SECOND);
    assert!(!world.supervisor.is_finished());
    world.run_for(2 * SECOND);
    assert!(world.supervisor.is_finished());
    assert!(world.closed.iter().all(|(_, _, reason)| *reason == CloseReason::Shutdown));
    let dials = world.dials.len();
    world.run_for(MINUTE);
    assert_eq!(world.dials.len(), dials, "nothing is dialled any more");
}

fn planned(edges: &[usize], change: impl FnOnce(&mut Plan)) -> World {
    let all = World::new(edges, Transports::Auto, 1).edges;
    let bootstrap = vec![all[0].address.clone()];
    let mut plan = Plan {
        proxies: Proxies::default(),
        edges: bootstrap,
        follow_directory: true,
        region: None,
        transports: Transports::Auto,
    };
    change(&mut plan);
    World::planned(all, plan, 1)
}

#[test]
fn the_directory_leads_from_one_edge_to_all_of_them() {
    let mut world = planned(&[1, 1], |_| {});
    world.run_until(10 * SECOND);
    assert_eq!(world.by_edge(), [(0, 2), (1, 2)].into());
}

#[test]
fn edges_that_an_operator_named_are_the_only_ones() {
    let mut world = planned(&[1, 1], |plan| plan.follow_directory = false);
    world.run_until(MINUTE);
    assert_eq!(world.by_edge(), [(0, 4)].into());
}

#[test]
fn a_region_that_was_asked_for_is_the_only_one_once_it_is_known() {
    let mut world = planned(&[1, 2], |plan| plan.region = Some("r1".parse().unwrap()));
    world.run_until(MINUTE);
    assert_eq!(world.by_edge(), [(1, 2), (2, 2)].into());

    let mut world = planned(&[1, 1], |plan| plan.region = Some("atlantis".parse().unwrap()));
    world.run_until(MINUTE);
    assert_eq!(world.by_edge(), [(0, 2), (1, 2)].into());
    let told = world.said.iter().filter(|(_, e)| matches!(e, Event::RegionUnknown { .. }));
    assert_eq!(told.count(), 1);
}
