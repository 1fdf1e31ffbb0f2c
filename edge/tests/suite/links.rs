//! How links come, are replaced, drain and go.

use std::time::Duration;

use http_body_util::BodyExt;
use protocol::{
    control::{Facts, FromConnector, FromEdge},
    feed::{FeedEdge, FeedTunnel, Item},
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
    key::Seed,
    order::{LogLevel, Order, Task},
};
use tokio::net::TcpStream;

use crate::{
    client::{self, Whole, empty, fetch, get, send},
    connector::{CARRIERS, Connector, carriers_and_workers},
    world::{KEY, TUNNEL, World, patiently, seed, tunnel},
};

#[tokio::test]
async fn a_link_is_refused_for_a_reason_that_a_person_can_act_on() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let refusal = async |connector: &Connector, slot| {
            let error = connector.dial(carrier, slot).await.err().unwrap();
            error.refusal().unwrap().code.as_str()
        };
        let stranger = Connector::with_secret(&world, 1, KeyId::from_bytes([9; 16]), seed());
        assert_eq!(refusal(&stranger, 0).await, "unknown_key");
        let liar = Connector::with_secret(&world, 1, KEY, Seed::from_bytes([8; 32]));
        assert_eq!(refusal(&liar, 0).await, "bad_proof");
        let mut lost = Connector::new(&world, 1);
        assert_eq!(refusal(&lost, 4).await, "malformed", "there are four slots");
        lost.identity().tunnel = TunnelId::from_bytes([9; 16]);
        assert_eq!(refusal(&lost, 0).await, "unknown_tunnel");
    }
}

#[tokio::test]
async fn the_control_plane_hears_of_every_link() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let held = connector.hold(&world, CARRIERS[0], 0).await;
    let _other = connector.hold(&world, CARRIERS[1], 1).await;
    let heard = world.control_plane.until(|heard| heard.links.len() == 2).await;
    assert_eq!(heard.resets, 1);
    let mut transports: Vec<_> = heard.links.values().map(|link| link.transport).collect();
    transports.sort_by_key(|transport| transport.as_str());
    assert_eq!(transports, [CARRIERS[1], CARRIERS[0]]);
    assert!(heard.links.values().all(|link| link.facts.host == "office" && link.key == KEY));
    held.break_down().await;
    let heard = world.control_plane.until(|heard| heard.links.len() == 1).await;
    assert_eq!(heard.goodbyes, 0);
}

#[tokio::test]
async fn the_same_slot_registered_again_replaces_the_older_link() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let mut older = connector.hold(&world, carrier, 0).await;
        let _newer = connector.dial(carrier, 0).await.unwrap();
        older.gone().await;
        let heard = world.control_plane.until(|heard| heard.links.len() == 1).await;
        assert_eq!(heard.goodbyes, 0);
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_link_that_moves_lets_requests_on_the_old_one_finish() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let mut older = connector.hold(&world, carrier, 0).await;
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        older.begun().await;
        let _newer = connector.dial(carrier, 0).await.unwrap();
        older.sender.send(&FromConnector::Goodbye).await.unwrap();
        for _ in 0..4 {
            assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        }
        older.go_on();
        assert_eq!(Whole::of(response).await.body, "firstsecond");
        older.gone().await;
        let heard = world.control_plane.until(|heard| heard.links.len() == 1).await;
        assert_eq!(heard.goodbyes, 0, "its place is still held");
    }
}

#[tokio::test]
async fn pings_are_answered_and_their_round_trips_reported() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let mut held = connector.hold(&world, carrier, 0).await;
        for (sequence, rtt_us) in [(1, None), (2, Some(350))] {
            held.sender.send(&FromConnector::Ping { sequence, rtt_us }).await.unwrap();
            assert_eq!(held.hear().await, FromEdge::Pong { sequence });
        }
        let has_rtt = |link: &protocol::presence::LinkPresence| link.rtt_us == Some(350);
        world.control_plane.until(|heard| heard.links.values().any(has_rtt)).await;
    }
}

#[tokio::test]
async fn facts_that_change_are_reported() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let mut held = connector.hold(&world, carrier, 0).await;
        let digest = format!("sha256:{carrier:?}");
        let facts = Facts { policy: Some(digest.clone()), ..Facts::default() };
        held.sender.send(&FromConnector::Facts(facts)).await.unwrap();
        let has_digest =
            |link: &protocol::presence::LinkPresence| link.facts.policy.as_ref() == Some(&digest);
        world.control_plane.until(|heard| heard.links.values().any(has_digest)).await;
    }
}

#[tokio::test]
async fn what_an_admin_asks_of_a_link_concerns_no_other() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let connector = Connector::new(&world, 1);
        let mut drained = connector.hold(&world, carrier, 0).await;
        let mut cut = connector.hold(&world, carrier, 1).await;
        let mut kept = connector.hold(&world, carrier, 2).await;
        let id = ConnectorId::from_bytes([1; 16]);
        let heard = world.control_plane.until(|heard| heard.links.len() == 3).await;
        let since = |slot| heard.links[&(TUNNEL, id, slot)].since_ms;
        let level = Task::LogLevel { level: LogLevel::Debug };
        let tasks = [
            (1, Task::DrainLink { slot: 0, since_ms: since(0) }),
            (2, Task::CutLink { slot: 1, since_ms: since(1) }),
            // A link that was there before.
            (3, Task::CutLink { slot: 2, since_ms: since(2) - 1 }),
            (4, Task::LogLevel { level: LogLevel::Trace }),
            (5, level),
        ];
        let orders = tasks.map(|(number, task)| Order { number, connector: id, task }).to_vec();
        world.control_plane.put(Item::Tunnel(FeedTunnel { orders, ..tunnel() })).await;
        let debug = FromEdge::LogLevel { level: LogLevel::Debug, order: 5 };
        cut.gone().await;
        assert_eq!(kept.hear().await, debug);
        assert_eq!(drained.hear().await, debug);
        assert!(matches!(drained.hear().await, FromEdge::Drain { reconnect_in_ms: 0, .. }));
        // A link that comes later hears of the level.
        let mut later = connector.hold(&world, carrier, 1).await;
        assert_eq!(later.hear().await, debug);
        kept.sender.send(&FromConnector::Ping { sequence: 1, rtt_us: None }).await.unwrap();
        assert_eq!(kept.hear().await, FromEdge::Pong { sequence: 1 }, "it has heard nothing else");
        world.control_plane.put(Item::Tunnel(tunnel())).await;
        for held in [drained, kept, later] {
            held.break_down().await;
        }
        world.control_plane.until(|heard| heard.links.is_empty()).await;
    }
}

#[tokio::test]
async fn requests_spread_over_the_links_with_the_least_under_way() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let busy = connector.hold(&world, CARRIERS[0], 0).await;
    let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
    busy.begun().await;
    let idle = connector.hold(&world, CARRIERS[1], 1).await;
    let other = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
    idle.begun().await;
    busy.go_on();
    idle.go_on();
    for response in [response, other] {
        assert_eq!(Whole::of(response).await.body, "firstsecond");
    }
}

#[tokio::test]
async fn a_goodbye_lets_requests_finish_and_takes_no_new_ones() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let connector = Connector::new(&world, 1);
        let mut held = connector.hold(&world, carrier, 0).await;
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        held.begun().await;
        held.sender.send(&FromConnector::Goodbye).await.unwrap();
        held.sender.send(&FromConnector::Ping { sequence: 1, rtt_us: None }).await.unwrap();
        assert_eq!(held.hear().await, FromEdge::Pong { sequence: 1 });
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "no_link");
        held.go_on();
        assert_eq!(Whole::of(response).await.body, "firstsecond");
        held.gone().await;
        let heard = world.control_plane.until(|heard| heard.links.is_empty()).await;
        assert!(heard.goodbyes > 0);
    }
}

#[tokio::test]
async fn the_ages_of_requests_under_way_are_told() {
    let world = World::new().await;
    let ages = async || {
        let text = world.observe("/metrics").await.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        ["oldest_request", "longest_stall"].map(|name| {
            let name = format!("postern_edge_{name}_seconds ");
            let age = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap();
            age.parse::<f64>().unwrap()
        })
    };
    for carrier in CARRIERS {
        let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        assert_eq!(ages().await, [0.0, 0.0]);
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        held.begun().await;
        // What has moved by now is looked at.
        ages().await;
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        let [younger, still] = ages().await;
        let [older, stiller] = ages().await;
        assert!(0.0 < younger && younger < older, "{younger} {older}");
        assert!(0.0 < still && still < stiller, "{still} {stiller}");
        assert!(stiller < older, "its head has moved");
        held.go_on();
        assert_eq!(Whole::of(response).await.body, "firstsecond");
        world.metric_until("postern_edge_requests_in_flight", 0).await;
        assert_eq!(ages().await, [0.0, 0.0]);
    }
}

#[tokio::test]
async fn connectors_hear_of_new_edges() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for (n, carrier) in CARRIERS.into_iter().enumerate() {
        let mut held = connector.hold(&world, carrier, 0).await;
        assert_eq!(held.directory.len(), 1 + n, "the edge itself, and what came since");
        let id = EdgeId::from_bytes([0xe0 + n as u8; 16]);
        let link = held.directory[0].link.clone();
        let gateway = "127.0.0.1:3128".parse().unwrap();
        world.control_plane.put(Item::Edge(FeedEdge { id, link, gateway })).await;
        let FromEdge::Directory { directory } = held.hear().await else { panic!("a directory") };
        assert_eq!(directory.len(), 2 + n);
        assert!(directory.iter().any(|edge| edge.edge == id));
    }
}

#[tokio::test]
async fn an_edge_that_leaves_drains_first() {
    for (carrier, workers) in carriers_and_workers() {
        let mut world = World::with_workers(workers).await;
        let connector = Connector::new(&world, 1);
        let mut held = connector.hold(&world, carrier, 0).await;
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        held.begun().await;
        world.shutdown.cancel();
        let FromEdge::Drain { reconnect_in_ms, deadline_ms, successor: false } = held.hear().await
        else {
            panic!("a drain")
        };
        assert!(reconnect_in_ms <= 3_000 && deadline_ms == 30_000);
        held.sender.send(&FromConnector::Goodbye).await.unwrap();
        held.go_on();
        assert_eq!(Whole::of(response).await.body, "firstsecond");
        held.gone().await;
        world.left().await;
    }
}

#[tokio::test]
async fn what_outlives_the_grace_period_is_cut() {
    for (carrier, workers) in carriers_and_workers() {
        let mut world = World::with(|options| {
            options.grace_period = Duration::from_millis(200);
            options.workers = Some(workers);
        })
        .await;
        let mut held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        held.begun().await;
        let mut h2 = client::h2(&world).await;
        for (method, target) in [("GET", "http://wiki.corp/stream"), ("CONNECT", "wiki.corp:443")] {
            let request = get(target).method(method).body(empty()).unwrap();
            assert_eq!(patiently(h2.send_request(request)).await.unwrap().status().as_u16(), 200);
        }
        world.stop().await;
        held.gone().await;
        assert!(patiently(response.into_body().collect()).await.is_err());
    }
}

#[tokio::test]
async fn a_connector_that_does_not_ping_is_let_go() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let mut quic = connector.hold(&world, CARRIERS[0], 0).await;
    let mut http2 = connector.hold(&world, CARRIERS[1], 1).await;
    tokio::join!(quic.gone(), http2.gone());
    world.control_plane.until(|heard| heard.links.is_empty()).await;
}

#[tokio::test]
async fn stalled_handshakes_keep_nobody_out() {
    let world = World::new().await;
    let mut stalled = Vec::new();
    for _ in 0..200 {
        stalled.push(patiently(TcpStream::connect(world.links)).await.unwrap());
    }
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[1], 0).await;
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn an_edge_that_is_full_says_so_and_when_to_come_back() {
    let world = World::with(|options| options.max_links = 1).await;
    let connector = Connector::new(&world, 1);
    let _held = connector.hold(&world, CARRIERS[0], 0).await;
    let error = connector.dial(CARRIERS[1], 1).await.err().unwrap();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.code.as_str(), "capacity");
    assert!(refusal.retry_after_ms.is_some_and(|wait| (5_000..=10_000).contains(&wait)));
}
