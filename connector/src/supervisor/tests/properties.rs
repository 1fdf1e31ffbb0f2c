//! The promises, one property each, in random worlds with random histories. A failure prints the world
//! and the history; both are then the same again.

use std::{collections::BTreeSet, time::Duration};

use proptest::{collection::vec, prelude::*};
use protocol::{
    control::{LinkRefusal, LinkRefusalCode},
    presence::Transport,
};

use super::world::{Paths, World};
use crate::supervisor::{Effect, Event, Input, LinkId, Transports, timing};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Something that befalls a world.
#[derive(Debug, Clone)]
enum Blow {
    Kill(usize),
    Return(usize),
    Refuse(usize, LinkRefusalCode, Option<u64>),
    Paths {
        udp: bool,
        tcp: bool,
        tcp_fallback: bool,
    },
    /// All links die without a word.
    Silence,
    /// The n-th link's connection breaks.
    Break(usize),
    Drain {
        link: usize,
        reconnect_in_ms: u64,
        deadline_ms: u64,
    },
    Directory,
}

fn regions() -> impl Strategy<Value = Vec<usize>> {
    vec(1..4usize, 1..4)
}

fn code() -> impl Strategy<Value = LinkRefusalCode> {
    prop_oneof![
        Just(LinkRefusalCode::Capacity),
        Just(LinkRefusalCode::Draining),
        Just(LinkRefusalCode::FeedStale),
        Just(LinkRefusalCode::RevokedSecret),
        Just(LinkRefusalCode::UnknownTunnel),
        Just(LinkRefusalCode::BadProof),
    ]
}

fn blow() -> impl Strategy<Value = Blow> {
    let after = proptest::option::of(0..400_000u64);
    prop_oneof![
        (0..9usize).prop_map(Blow::Kill),
        (0..9usize).prop_map(Blow::Return),
        (0..9usize, code(), after).prop_map(|(edge, code, after)| Blow::Refuse(edge, code, after)),
        any::<(bool, bool, bool)>().prop_map(|(udp, tcp, tcp_fallback)| Blow::Paths {
            udp,
            tcp,
            tcp_fallback
        }),
        Just(Blow::Silence),
        (0..8usize).prop_map(Blow::Break),
        (0..8usize, 0..10_000u64, 0..60_000u64).prop_map(|(link, reconnect_in_ms, deadline_ms)| {
            Blow::Drain { link, reconnect_in_ms, deadline_ms }
        }),
        Just(Blow::Directory),
    ]
}

/// Blows, and how long after the one before each falls, in milliseconds.
fn history() -> impl Strategy<Value = Vec<(u64, Blow)>> {
    vec((0..20_000u64, blow()), 0..25)
}

fn strike(world: &mut World, blow: &Blow) {
    let edges = world.edges.len();
    match *blow {
        Blow::Kill(edge) => world.kill(edge % edges),
        Blow::Return(edge) => {
            world.edges[edge % edges].is_up = true;
            world.edges[edge % edges].refuses = None;
        }
        Blow::Refuse(edge, code, retry_after_ms) => {
            world.edges[edge % edges].refuses = Some(LinkRefusal { code, retry_after_ms });
        }
        Blow::Paths { udp, tcp, tcp_fallback } => world.paths = Paths { udp, tcp, tcp_fallback },
        Blow::Silence => world.links.clear(),
        Blow::Break(n) => {
            if let Some(link) = world.links.keys().nth(n).copied() {
                world.links.remove(&link);
                world.tell(Input::Lost { link, detail: "reset".into() });
            }
        }
        Blow::Drain { link, reconnect_in_ms, deadline_ms } => {
            if let Some(link) = world.links.keys().nth(link).copied() {
                let reconnect_in = Duration::from_millis(reconnect_in_ms);
                let deadline = Duration::from_millis(deadline_ms);
                world.tell(Input::Drain { link, reconnect_in, deadline, successor: false });
            }
        }
        Blow::Directory => {
            let directory = world.directory();
            world.tell(Input::Directory(directory));
        }
    }
}

/// A world after its history, with everything well again.
fn healed(regions: &[usize], history: &[(u64, Blow)], seed: u64) -> World {
    heal(World::new(regions, Transports::Auto, seed), history)
}

fn heal(mut world: World, history: &[(u64, Blow)]) -> World {
    for (after, blow) in history {
        world.run_for(Duration::from_millis(*after));
        strike(&mut world, blow);
    }
    world.paths = Paths::ALL;
    for edge in &mut world.edges {
        edge.is_up = true;
        edge.refuses = None;
    }
    world
}

/// How unevenly things are spread: the most minus the least.
fn unevenness(counts: impl Iterator<Item = usize> + Clone) -> usize {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

fn is_even(world: &World, regions: &[usize]) -> bool {
    let by_edge = world.by_edge();
    let mut first = 0;
    let counts: Vec<Vec<usize>> = regions
        .iter()
        .map(|edges| {
            let here = first..first + edges;
            first += edges;
            here.map(|edge| by_edge.get(&edge).copied().unwrap_or(0)).collect()
        })
        .collect();
    unevenness(counts.iter().map(|edges| edges.iter().sum())) <= 1
        && counts.iter().all(|edges| unevenness(edges.iter().copied()) <= 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happened: once all is well, four links stand, spread evenly over regions and over the
    /// edges in each, all on QUIC. The longest wait that anybody asked for is five minutes.
    #[test]
    fn all_comes_right_in_the_end(
        regions in regions(),
        history in history(),
        seed in any::<u64>(),
    ) {
        let mut world = healed(&regions, &history, seed);
        world.run_for(timing::FATAL + 2 * MINUTE);
        prop_assert_eq!(world.serving(), 4);
        prop_assert_eq!(world.on(Transport::Quic), 4);
        prop_assert!(is_even(&world, &regions), "{:?}", world.by_edge());
        prop_assert_eq!(world.supervisor.view().serving(), 4);
    }

    /// Without refusals, that takes no more than a minute, and four links no more than twelve seconds: nine until a
    /// link that died without a word is found out, and a few to dial.
    #[test]
    fn without_refusals_it_comes_right_within_a_minute(
        regions in regions(),
        history in history(),
        seed in any::<u64>(),
    ) {
        let kind = |(_, blow): &(u64, Blow)| {
            !matches!(blow, Blow::Refuse(..) | Blow::Drain { .. } | Blow::Directory)
        };
        let history: Vec<_> = history.into_iter().filter(kind).collect();
        let mut world = healed(&regions, &history, seed);
        let took = world.run_while(MINUTE, |world| world.serving() == 4);
        prop_assert!(took.is_some_and(|took| took <= 12 * SECOND), "four links after {:?}", took);
        let took = world.run_while(MINUTE, |world| {
            is_even(world, &regions) && world.on(Transport::Quic) == 4
        });
        prop_assert!(took.is_some(), "{:?}, {} on QUIC", world.by_edge(), world.on(Transport::Quic));
    }

    /// When all is well, nothing is dialled and nothing said: there is no restlessness.
    #[test]
    fn a_good_state_is_left_alone(regions in regions(), history in history(), seed in any::<u64>()) {
        let mut world = healed(&regions, &history, seed);
        world.run_for(timing::FATAL + 2 * MINUTE);
        // Links that were replaced before have left by then.
        world.run_for(SECOND);
        let (dials, said) = (world.dials.len(), world.said.len());
        world.run_for(30 * MINUTE);
        prop_assert_eq!(world.dials.len(), dials);
        prop_assert_eq!(world.said.len(), said);
    }

    /// While two edges live, the four links never settle on one of them, nor in one region.
    #[test]
    fn never_all_links_on_one_edge_while_another_lives(
        regions in regions(),
        dead in vec(any::<bool>(), 9),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        for (edge, is_dead) in world.edges.iter_mut().zip(dead) {
            edge.is_up = !is_dead;
        }
        let alive: Vec<_> = world.edges.iter().filter(|edge| edge.is_up).collect();
        prop_assume!(!alive.is_empty());
        let is_one_edge = alive.len() == 1;
        let regions: BTreeSet<_> = alive.iter().map(|edge| edge.address.region.clone()).collect();
        world.run_until(MINUTE);
        prop_assert_eq!(world.serving(), 4);
        prop_assert_eq!(world.by_edge().len() == 1, is_one_edge);
        let used = world.by_edge().into_keys().map(|edge| &world.edges[edge].address.region);
        prop_assert_eq!(used.cloned().collect::<BTreeSet<_>>(), regions);
    }

    /// An edge that is down is asked by one attempt at a time, at most four seconds apart, for ever.
    #[test]
    fn it_never_gives_up_and_never_hammers(
        regions in regions(),
        seed in any::<u64>(),
        minutes in 5..60u32,
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.paths = Paths::NONE;
        world.run_until(minutes * MINUTE);
        for edge in 0..world.edges.len() {
            let mut quic: Vec<_> = world
                .dials
                .iter()
                .filter(|dial| dial.edge == edge && dial.transport == Transport::Quic)
                .map(|dial| dial.at)
                .collect();
            quic.dedup();
            let gaps: Vec<_> = quic.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // Behind the first round, in which every slot asks somebody, one attempt follows another.
            let later = &gaps[gaps.len().min(8)..];
            prop_assert!(later.iter().all(|gap| *gap >= timing::ATTEMPT), "{:?}", later.iter().min());
            // With more edges than slots, they wait for a slot as well.
            if world.edges.len() <= 4 {
                let most = timing::ATTEMPT + timing::REST_MOST + SECOND;
                prop_assert!(later.iter().all(|gap| *gap <= most), "{:?}", later.iter().max());
            }
        }
    }

    /// A dial that a silent network swallows is cancelled; none outlives its attempt.
    #[test]
    fn no_dial_is_left_behind(regions in regions(), history in history(), seed in any::<u64>()) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        for (after, blow) in &history {
            world.run_for(Duration::from_millis(*after));
            strike(&mut world, blow);
            for dial in world.dialling.values() {
                prop_assert!(world.now - dial.at <= timing::ATTEMPT, "since {:?}", dial.at);
            }
            prop_assert!(world.dialling.len() <= 4 * 3);
        }
    }

    /// A fatal refusal is said once, and with no link up each slot asks only every five minutes.
    #[test]
    fn a_fatal_refusal_is_said_once_and_asked_rarely(
        regions in regions(),
        seed in any::<u64>(),
        rounds in 1..5u32,
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        for edge in &mut world.edges {
            let code = LinkRefusalCode::UnknownKey;
            edge.refuses = Some(LinkRefusal { code, retry_after_ms: Some(1_000) });
        }
        world.run_until(timing::FATAL * rounds - SECOND);
        prop_assert!(world.dials.len() as u32 <= 4 * rounds, "{} dials", world.dials.len());
        prop_assert!(world.dials.len() as u32 >= rounds);
        let said = world.said.iter().filter(|(_, e)| matches!(e, Event::EdgeRefuses { .. }));
        prop_assert_eq!(said.count(), 1);
    }

    /// An edge that names a time is not asked before it.
    #[test]
    fn an_edge_is_not_asked_before_the_time_it_named(
        regions in regions(),
        seed in any::<u64>(),
        retry_after_ms in 1_000..300_000u64,
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        for edge in &mut world.edges {
            let code = LinkRefusalCode::Capacity;
            edge.refuses = Some(LinkRefusal { code, retry_after_ms: Some(retry_after_ms) });
        }
        world.run_until(15 * MINUTE);
        for edge in 0..world.edges.len() {
            let asked = world.dials.iter().filter(|dial| dial.edge == edge);
            let asked: Vec<_> = asked.map(|dial| dial.at).collect();
            // Several slots may ask before the first answer is there.
            let rounds = asked.chunk_by(|a, b| *b - *a < SECOND / 2).map(|round| round[0]);
            let rounds: Vec<_> = rounds.collect();
            let apart = rounds.windows(2).map(|pair| pair[1] - pair[0]).min();
            let least = Duration::from_millis(retry_after_ms);
            prop_assert!(apart.is_none_or(|apart| apart >= least), "{:?}", apart);
        }
    }

    /// A draining link goes only when its replacement is up, or when its time has come.
    #[test]
    fn a_draining_link_is_never_given_up_early(
        regions in regions(),
        seed in any::<u64>(),
        // There is time for a dial before the deadline.
        reconnect_in_ms in 0..4_900u64,
        deadline_ms in 5_000..40_000u64,
        is_cut_off in any::<bool>(),
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(MINUTE);
        let link = *world.links.keys().next().unwrap();
        let (reconnect_in, deadline) =
            (Duration::from_millis(reconnect_in_ms), Duration::from_millis(deadline_ms));
        if is_cut_off {
            let refusal =
                LinkRefusal { code: LinkRefusalCode::Draining, retry_after_ms: Some(60_000) };
            world.edges.iter_mut().for_each(|edge| edge.refuses = Some(refusal.clone()));
        }
        let (start, dials) = (world.now, world.dials.len());
        world.tell(Input::Drain { link, reconnect_in, deadline, successor: false });
        while world.links.get(&link).is_some_and(|link| !link.is_retiring) {
            prop_assert_eq!(world.serving(), 4);
            prop_assert!(world.now <= start + deadline, "it serves beyond its deadline");
            world.run_for(Duration::from_millis(10));
        }
        let is_replaced = world.serving() == 4;
        prop_assert_eq!(is_replaced, !is_cut_off);
        prop_assert!(is_replaced || world.now >= start + deadline);
        if let Some(dial) = world.dials.get(dials) {
            prop_assert!(dial.at >= start + reconnect_in, "it was to wait");
        }
    }

    /// An edge that was drained is asked again soon after it is back, however long it was away and
    /// however long its links took to end.
    #[test]
    fn a_drained_edge_is_used_again_within_three_seconds_of_its_return(
        regions in regions(),
        seed in any::<u64>(),
        finishes_in_ms in 0..5_000u64,
        away_ms in 0..20_000u64,
    ) {
        prop_assume!(regions.iter().sum::<usize>() > 1);
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(MINUTE);
        world.finishes_in = Duration::from_millis(finishes_in_ms);
        let (&edge, _) = world.by_edge().iter().next().unwrap();
        world.drain(edge, 30 * SECOND);
        let left = world.run_while(MINUTE, |world| !world.is_held(edge));
        prop_assert!(left.is_some());
        world.edges[edge].is_up = false;
        world.run_for(Duration::from_millis(away_ms));
        world.edges[edge].is_up = true;
        world.edges[edge].refuses = None;
        let before = world.dials.len();
        let asked = world.run_while(MINUTE, |world| {
            world.dials[before..].iter().any(|dial| dial.edge == edge)
                || world.dialling.values().any(|dial| dial.edge == edge)
                || world.is_held(edge)
        });
        // Where the links are spread as evenly without it, nothing moves there, so it may not be asked.
        let is_even = is_even(&world, &regions);
        prop_assert!(asked.is_some_and(|asked| asked <= 3 * SECOND) || is_even, "{:?}", asked);
    }

    /// A dead link is found out soon after the silence began, and never a live one.
    #[test]
    fn only_the_dead_are_buried(regions in regions(), seed in any::<u64>(), at in 60_000..70_000u64) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(Duration::from_millis(at));
        prop_assert!(world.closed.is_empty());
        world.paths = Paths::NONE;
        let took = world.run_while(MINUTE, |world| world.supervisor.view().serving() == 0);
        let most = timing::PING_EVERY / 4 + timing::PONG_WITHIN + timing::DEAD_AFTER_MISS;
        prop_assert!(took.is_some_and(|took| took <= most + SECOND / 10), "{:?}", took);
    }

    /// On a slow line a pong may take longer than any patience. As long as something arrives, no link is
    /// given up and none is dialled.
    #[test]
    fn a_slow_line_costs_no_link(
        regions in regions(),
        seed in any::<u64>(),
        backlog_ms in 0..30_000u64,
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(MINUTE);
        let dials = world.dials.len();
        world.backlog = Duration::from_millis(backlog_ms);
        world.is_loaded = true;
        world.run_for(10 * MINUTE);
        prop_assert!(world.closed.is_empty());
        prop_assert_eq!(world.dials.len(), dials);
    }

    /// A pong that comes late is waited for where the one before was late, too.
    #[test]
    fn a_long_round_trip_costs_no_link(seed in any::<u64>(), seconds in 0..=5u64) {
        let mut world = World::new(&[1, 1], Transports::Auto, seed);
        world.run_until(MINUTE);
        for step in 0..=4 * seconds {
            world.backlog = Duration::from_millis(250 * step);
            world.run_for(MINUTE / 2);
        }
        prop_assert!(world.closed.is_empty());
    }

    /// A network that drops everything for three seconds costs no link.
    #[test]
    fn three_seconds_without_a_network_cost_no_link(
        regions in regions(),
        seed in any::<u64>(),
        at in 60_000..70_000u64,
        outage_ms in 0..=3_000u64,
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(Duration::from_millis(at));
        world.paths = Paths::NONE;
        world.run_for(Duration::from_millis(outage_ms));
        world.paths = Paths::ALL;
        world.run_for(MINUTE);
        prop_assert!(world.closed.is_empty(), "{:?}", world.closed);
        prop_assert_eq!(world.serving(), 4);
    }

    /// When UDP dies under live links, HTTP/2 takes over within three seconds.
    #[test]
    fn where_udp_dies_http2_takes_over_within_three_seconds(
        regions in regions(),
        seed in any::<u64>(),
        at in 60_000..70_000u64,
    ) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(Duration::from_millis(at));
        world.paths.udp = false;
        let took = world.run_while(MINUTE, |world| world.on(Transport::Http2) > 0);
        prop_assert!(took.is_some_and(|took| took < 3 * SECOND), "the first after {:?}", took);
        let took = world.run_while(MINUTE, |world| world.on(Transport::Http2) == 4);
        prop_assert!(took.is_some_and(|took| took < SECOND), "all {:?} later", took);
    }

    /// When an edge falls silent, its links move to one that is well, before they are given up. It may take
    /// three turns until one of them is asked.
    #[test]
    fn links_leave_a_silent_edge_before_they_are_given_up(
        seed in any::<u64>(),
        at in 60_000..70_000u64,
    ) {
        let mut world = World::new(&[1, 1], Transports::Auto, seed);
        world.run_until(Duration::from_millis(at));
        world.edges[0].is_up = false;
        let took = world.run_while(MINUTE, |world| world.by_edge().get(&1) == Some(&4));
        let most = timing::PING_EVERY * 3 / 4 + timing::PONG_WITHIN + timing::DOUBT_AFTER;
        prop_assert!(took.is_some_and(|took| took <= most + SECOND / 5), "{:?}", took);
        prop_assert!(world.closed.is_empty());
        prop_assert_eq!(world.on(Transport::Quic), 4);
    }

    /// Edges behind a proxy are never asked over QUIC, the others as ever; all links come up, stay
    /// where they are, and nothing is said of UDP that only the proxy keeps away.
    #[test]
    fn quic_is_for_edges_without_a_proxy(
        regions in regions(),
        history in history(),
        exempt in proptest::option::of(0..3usize),
        seed in any::<u64>(),
    ) {
        let except = exempt.map_or(String::new(), |region| format!("r{region}.example"));
        let proxies = World::proxies("http://proxy.example:3128", &except);
        let mut world = heal(World::behind(proxies, &regions, Transports::Auto, seed), &history);
        world.run_for(timing::FATAL + 2 * MINUTE);
        let is_direct = |edge: usize| world.edges[edge].address.region.as_str()
            == exempt.map_or(String::new(), |region| format!("r{region}"));
        prop_assert_eq!(world.serving(), 4);
        prop_assert!(is_even(&world, &regions), "{:?}", world.by_edge());
        for dial in &world.dials {
            prop_assert!(dial.transport == Transport::Http2 || is_direct(dial.edge));
        }
        for link in world.links.values() {
            prop_assert_eq!(link.transport == Transport::Quic, is_direct(link.edge));
        }
        let shown = world.supervisor.view();
        for link in shown.slots.iter().filter_map(|slot| slot.link.as_ref()) {
            prop_assert_eq!(link.proxy.is_some(), link.transport == Transport::Http2);
        }
        if exempt.is_none_or(|region| region >= regions.len()) {
            let of_udp = |event: &Event| matches!(event, Event::UdpDropped | Event::UdpBack);
            prop_assert!(!world.said.iter().any(|(_, event)| of_udp(event)));
        }
    }

    /// A network that falls silent is found out within 5.25 s however few links there are.
    #[test]
    fn the_last_links_loss_is_known_within_six_seconds(
        slots in 1..4usize,
        seed in any::<u64>(),
        at in 60_000..70_000u64,
    ) {
        let mut world = World::new(&[1, 1], Transports::Auto, seed);
        world.run_until(MINUTE);
        let refusal = LinkRefusal { code: LinkRefusalCode::Capacity, retry_after_ms: Some(60_000) };
        world.edges.iter_mut().for_each(|edge| edge.refuses = Some(refusal.clone()));
        while world.links.len() > slots {
            let link = *world.links.keys().next().unwrap();
            world.links.remove(&link);
            world.tell(Input::Lost { link, detail: "reset".into() });
        }
        world.run_until(Duration::from_millis(at));
        prop_assert_eq!(world.supervisor.view().serving(), slots);
        world.paths = Paths::NONE;
        let took = world.run_while(MINUTE, |world| world.supervisor.view().serving() == 0);
        prop_assert!(took.is_some_and(|took| took <= Duration::from_millis(5_350)), "{:?}", took);
    }

    /// Inputs about dials and links that are long gone change nothing; a link that comes up too late
    /// is closed.
    #[test]
    fn late_news_is_harmless(regions in regions(), seed in any::<u64>(), id in 1_000..2_000u64) {
        let mut world = World::new(&regions, Transports::Auto, seed);
        world.run_until(MINUTE);
        let link = LinkId(id);
        let before = world.supervisor.view();
        let mut rng = rand::rng();
        let now = world.now;
        let refusal =
            LinkRefusal { code: LinkRefusalCode::RevokedSecret, retry_after_ms: None };
        let brief = Duration::ZERO;
        for input in [
            Input::Lost { link, detail: String::new() },
            Input::Pong { link, sequence: 7 },
            Input::Refused { link, refusal },
            Input::Drain { link, reconnect_in: brief, deadline: brief, successor: false },
        ] {
            let effects = world.supervisor.handle(now, input, &mut rng);
            prop_assert!(effects.is_empty(), "{:?}", effects);
        }
        let late = Input::Registered {
            link,
            edge: protocol::id::EdgeId::from_bytes([1; 16]),
            region: "r0".parse().unwrap(),
            directory: vec![],
        };
        let effects = world.supervisor.handle(now, late, &mut rng);
        prop_assert_eq!(effects, vec![Effect::Close(link, link::CloseReason::Replaced)]);
        prop_assert_eq!(world.supervisor.view(), before);
    }
}
