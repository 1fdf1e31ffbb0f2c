//! An edge that is started beside the one before it takes its ports over: no client finds them closed, and what
//! is under way through the older one is finished there.

use edge::{Edge, StartError};
use http::Response;
use hyper::body::Incoming;
use protocol::{
    control::{FromConnector, FromEdge},
    presence::Transport,
};

use crate::{
    client::{Whole, empty, fetch, get, send},
    connector::{CARRIERS, Connector, Held, carriers_and_workers},
    world::{World, patiently},
};

/// A link with an answer under way on it.
async fn busy_link(world: &World, carrier: Transport) -> (Held, Response<Incoming>) {
    let held = Connector::new(world, 1).hold(world, carrier, 0).await;
    let response = send(world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
    held.begun().await;
    (held, response)
}

/// Waits for the word that there is a successor.
async fn until_succeeded(held: &mut Held) {
    while !matches!(held.hear().await, FromEdge::Drain { successor: true, .. }) {}
}

async fn finishes(mut held: Held, response: Response<Incoming>) {
    held.sender.send(&FromConnector::Goodbye).await.unwrap();
    held.sender.send(&FromConnector::Ping { sequence: 1, rtt_us: None }).await.unwrap();
    while held.hear().await != (FromEdge::Pong { sequence: 1 }) {}
    held.go_on();
    assert_eq!(Whole::of(response).await.body, "firstsecond");
    held.gone().await;
}

#[tokio::test]
async fn an_edge_that_is_replaced_finishes_what_is_under_way_while_the_next_one_serves() {
    for (carrier, workers) in carriers_and_workers() {
        let mut world = World::with_workers(workers).await;
        let (mut held, response) = busy_link(&world, carrier).await;
        world.options.replace = true;
        let older = world.start_beside().await;
        until_succeeded(&mut held).await;
        let connector = Connector::new(&world, 1);
        // A client that comes before the connector waits for it.
        let (answer, _newer) = tokio::join!(fetch(&world, get("http://wiki.corp/")), async {
            world.metric_until("postern_edge_requests_in_flight", 1).await;
            connector.dial(carrier, 0).await.unwrap()
        });
        assert_eq!(answer.status.as_u16(), 200);
        let heard = world.control_plane.until(|heard| heard.resets == 2).await;
        assert_eq!(heard.links.len(), 1, "the newer edge speaks for both");
        finishes(held, response).await;
        patiently(older).await.unwrap();
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        let heard = world.control_plane.until(|heard| heard.links.len() == 1).await;
        assert_eq!((heard.resets, heard.goodbyes), (2, 0), "the older one has said nothing");
    }
}

#[tokio::test]
async fn an_edge_that_leaves_lets_the_next_one_take_over_without_being_asked_to() {
    for carrier in CARRIERS {
        let mut world = World::new().await;
        let (mut held, response) = busy_link(&world, carrier).await;
        world.shutdown.cancel();
        while !matches!(held.hear().await, FromEdge::Drain { successor: false, .. }) {}
        let older = world.start_beside().await;
        until_succeeded(&mut held).await;
        let _newer = Connector::new(&world, 1).dial(carrier, 0).await.unwrap();
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        finishes(held, response).await;
        patiently(older).await.unwrap();
    }
}

#[tokio::test]
async fn an_edge_whose_parent_is_gone_lets_the_next_one_take_over() {
    let mut world = World::new().await;
    let orphaned = world.options.orphaned.clone();
    let (mut held, response) = busy_link(&world, Transport::Quic).await;
    orphaned.cancel();
    world.options.orphaned = Default::default();
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    let older = world.start_beside().await;
    until_succeeded(&mut held).await;
    finishes(held, response).await;
    patiently(older).await.unwrap();
}

#[tokio::test]
async fn an_edge_that_is_to_stay_keeps_its_ports() {
    for workers in [1, 3] {
        let world = World::with_workers(workers).await;
        let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
        match patiently(Edge::bind(world.options.clone())).await.err() {
            Some(StartError::Listen { what: "gateway", address, source }) => {
                assert_eq!(address, world.gateway);
                assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
            }
            other => panic!("the ports were not taken: {other:?}"),
        }
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_port_that_a_stranger_has_is_no_legacy() {
    let mut world = World::new().await;
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = stranger.local_addr().unwrap();
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let mut options = world.options.clone();
    (options.replace, options.gateway_listen) = (true, gateway);
    match patiently(Edge::bind(options)).await.err() {
        Some(StartError::Listen { what: "gateway", address, .. }) => assert_eq!(address, gateway),
        other => panic!("the port was not taken: {other:?}"),
    }
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    // The edge goes on as if nobody had come, and hands over to one that can.
    world.options.replace = true;
    let older = world.start_beside().await;
    patiently(older).await.unwrap();
}

#[tokio::test]
async fn the_next_edge_may_have_another_number_of_workers() {
    for (before, after) in [(1, 3), (3, 1), (3, 2)] {
        for carrier in CARRIERS {
            let mut world = World::with_workers(before).await;
            let (mut held, response) = busy_link(&world, carrier).await;
            (world.options.replace, world.options.workers) = (true, Some(after));
            let older = world.start_beside().await;
            until_succeeded(&mut held).await;
            let mut newer = Vec::new();
            for id in 1..=3 {
                newer.push(Connector::new(&world, id).dial(carrier, 0).await.unwrap());
            }
            for _ in 0..16 {
                let answer = fetch(&world, get("http://wiki.corp/")).await;
                assert_eq!(answer.status.as_u16(), 200, "{before} {after} {carrier:?}");
            }
            finishes(held, response).await;
            patiently(older).await.unwrap();
        }
    }
}

#[tokio::test]
async fn three_edges_one_after_the_other_each_finish_what_is_theirs() {
    for carrier in CARRIERS {
        let mut world = World::new().await;
        world.options.replace = true;
        let mut busy = vec![busy_link(&world, carrier).await];
        let mut older = Vec::new();
        for _ in 0..2 {
            older.push(world.start_beside().await);
            until_succeeded(&mut busy.last_mut().unwrap().0).await;
            busy.push(busy_link(&world, carrier).await);
        }
        for (held, response) in busy {
            finishes(held, response).await;
        }
        for older in older {
            patiently(older).await.unwrap();
        }
    }
}

#[tokio::test]
async fn when_the_next_edge_crashes_the_older_one_still_finishes_and_another_takes_over() {
    // Over HTTP/2 the older one needs nothing from the next.
    let carrier = Transport::Quic;
    let mut world = World::new().await;
    world.options.replace = true;
    let (mut held, response) = busy_link(&world, carrier).await;
    let older = world.start_beside().await;
    until_succeeded(&mut held).await;
    world.crash().await;
    // An answer shows that the older one has noticed that it is alone again.
    held.sender.send(&FromConnector::Ping { sequence: 7, rtt_us: None }).await.unwrap();
    while held.hear().await != (FromEdge::Pong { sequence: 7 }) {}
    world.resume(older);
    let older = world.start_beside().await;
    let _newer = Connector::new(&world, 1).dial(carrier, 0).await.unwrap();
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    finishes(held, response).await;
    patiently(older).await.unwrap();
}
