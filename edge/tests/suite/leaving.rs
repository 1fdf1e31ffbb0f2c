//! An edge leaves and comes back: who asks for it meanwhile, and when it says that it is ready.

use protocol::{
    control::{FromConnector, FromEdge},
    feed::{FeedEdge, Item},
    id::EdgeId,
    presence::Transport,
};

use crate::{
    client::{fetch, get},
    connector::{CARRIERS, Connector, Held},
    world::{World, closed_tunnel, patiently},
};

const IN_FLIGHT: &str = "postern_edge_requests_in_flight";

/// Lets the directory name an edge besides the world's own.
async fn add_edge(world: &World) {
    let id = EdgeId::from_bytes([0xee; 16]);
    let link = protocol::address::EdgeAddress {
        region: "us".parse().unwrap(),
        address: "127.0.0.1:1".parse().unwrap(),
        fallback_port: None,
    };
    let gateway = "127.0.0.1:2".parse().unwrap();
    world.control_plane.put(Item::Edge(FeedEdge { id, link, gateway })).await;
}

async fn until_drained(held: &mut Held) {
    while !matches!(held.hear().await, FromEdge::Drain { .. }) {}
}

/// A connector whose only link has just broken.
async fn lately_connected(world: &World, carrier: Transport) -> Connector {
    let connector = Connector::new(world, 1);
    connector.hold(world, carrier, 0).await.break_down().await;
    world.control_plane.until(|heard| heard.links.is_empty()).await;
    connector
}

async fn until_ready(world: &World) {
    let ready = async {
        while world.observe("/ready").await.status.as_u16() != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    patiently(ready).await;
}

#[tokio::test]
async fn a_request_waits_for_a_link_that_is_lately_gone() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let connector = lately_connected(&world, carrier).await;
        let request = fetch(&world, get("http://wiki.corp/"));
        let back = async {
            world.metric_until(IN_FLIGHT, 1).await;
            connector.dial(carrier, 0).await.unwrap()
        };
        let (answer, _held) = tokio::join!(request, back);
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(answer.json()["uri"], "http://wiki.corp/");
    }
}

#[tokio::test]
async fn a_connect_waits_for_a_link_that_is_lately_gone() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let connector = lately_connected(&world, carrier).await;
        let request = async {
            let request = get("closed.corp:443").method("CONNECT");
            fetch(&world, request).await
        };
        let back = async {
            world.metric_until(IN_FLIGHT, 1).await;
            connector.dial(carrier, 0).await.unwrap()
        };
        let (answer, _held) = tokio::join!(request, back);
        assert_eq!(answer.header("postern-error"), "origin_refused", "the connector was asked");
    }
}

#[tokio::test]
async fn a_link_that_does_not_come_is_not_waited_for_long() {
    let world = World::new().await;
    let _connector = lately_connected(&world, CARRIERS[0]).await;
    let answer = fetch(&world, get("http://wiki.corp/")).await;
    assert_eq!(answer.code(), "no_link");
    assert_eq!(answer.header("retry-after"), "5");
}

#[tokio::test]
async fn who_loses_access_while_waiting_is_refused_at_once() {
    let world = World::new().await;
    let _connector = lately_connected(&world, CARRIERS[0]).await;
    let revoke = async {
        world.metric_until(IN_FLIGHT, 1).await;
        world.control_plane.put(Item::Tunnel(closed_tunnel())).await;
    };
    let (answer, ()) = tokio::join!(fetch(&world, get("http://wiki.corp/")), revoke);
    assert_eq!(answer.code(), "access_revoked");
}

#[tokio::test]
async fn an_edge_without_a_past_is_ready_at_once() {
    let world = World::new().await;
    let ready = world.observe("/ready").await;
    assert_eq!(ready.status.as_u16(), 200);
    assert_eq!(ready.json()["awaited_tunnels"], 0);
}

#[tokio::test]
async fn a_restarted_edge_is_ready_once_its_links_are_back() {
    for carrier in CARRIERS {
        let mut world = World::new().await;
        let connector = Connector::new(&world, 1);
        let mut held = connector.hold(&world, carrier, 0).await;
        world.stop().await;
        held.gone().await;
        world.start().await;
        let ready = world.observe("/ready").await;
        assert_eq!((ready.status.as_u16(), &ready.json()["awaited_tunnels"]), (503, &1.into()));
        let _held = connector.dial(carrier, 0).await.unwrap();
        until_ready(&world).await;
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_request_that_comes_to_a_restarted_edge_before_its_links_waits_for_them() {
    for carrier in CARRIERS {
        let mut world = World::new().await;
        let connector = Connector::new(&world, 1);
        let mut held = connector.hold(&world, carrier, 0).await;
        world.stop().await;
        held.gone().await;
        world.start().await;
        let back = async {
            world.metric_until(IN_FLIGHT, 1).await;
            connector.dial(carrier, 0).await.unwrap()
        };
        let (answer, _held) = tokio::join!(fetch(&world, get("http://wiki.corp/")), back);
        assert_eq!(answer.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_restarted_edge_waits_for_nobody_whose_tunnel_is_gone() {
    let mut world = World::new().await;
    let mut held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    world.stop().await;
    held.gone().await;
    world
        .control_plane
        .announce(vec![], vec![protocol::feed::ItemKey::Tunnel(crate::world::TUNNEL)]);
    world.start().await;
    until_ready(&world).await;
    assert_eq!(world.observe("/ready").await.json()["awaited_tunnels"], 0);
}

#[tokio::test]
async fn the_gateway_is_open_until_connectors_have_their_replacements() {
    for carrier in CARRIERS {
        let mut world = World::new().await;
        add_edge(&world).await;
        let mut held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        world.shutdown.cancel();
        until_drained(&mut held).await;
        let ready = world.observe("/ready").await;
        assert_eq!((ready.status.as_u16(), &ready.json()["stopping"]), (503, &true.into()));
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        held.sender.send(&FromConnector::Goodbye).await.unwrap();
        held.gone().await;
        world.left().await;
    }
}

#[tokio::test]
async fn whoever_shares_requests_out_has_time_to_see_that_the_edge_leaves() {
    let mut world = World::with(|options| {
        // Long, so that what happens within it happens before the drain.
        options.leave_delay = std::time::Duration::from_secs(1);
    })
    .await;
    let mut held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    world.shutdown.cancel();
    assert_eq!(world.observe("/ready").await.status.as_u16(), 503);
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    until_drained(&mut held).await;
    held.sender.send(&FromConnector::Goodbye).await.unwrap();
    world.left().await;
}
