//! Edges join, read the feed and are listed.

use std::time::Duration;

use control_plane::Clock;
use http::Method;
use protocol::{address::EdgeAddress, feed::FeedMessage, join::JoinToken};
use serde_json::json;

use crate::{
    test_edge::{self, TestEdge},
    world::{World, eventually},
};

/// Waits until so many edges hold a lease.
pub async fn wait_until_live(world: &World, count: usize) {
    eventually("edges are live", || async {
        let edges = world.owner.get("/api/v1/edges").await.expect(200);
        let live = edges["items"].as_array().unwrap().iter().filter(|edge| edge["is_live"] == true);
        (live.count() == count).then_some(())
    })
    .await;
}

fn address() -> EdgeAddress {
    EdgeAddress {
        region: "east".parse().unwrap(),
        address: "edge.example.com:7844".parse().unwrap(),
        fallback_port: Some(443),
    }
}

#[tokio::test]
async fn a_join_token_is_good_until_it_expires_or_is_revoked() {
    let clock = Clock::manual(1_800_000_000_000);
    let mut world = World::start_with(clock.clone(), |_| {}).await;
    let gateway = "127.0.0.1:3128".parse().unwrap();
    let created = world.owner.post("/api/v1/edges/join-tokens", &json!({})).await.expect(201);
    let token = JoinToken::decode(created["token"].as_str().unwrap()).unwrap();
    let (_, joined) = test_edge::join(&token, address(), gateway).await;
    joined.unwrap();
    let path = format!("/api/v1/edges/join-tokens/{}", created["id"].as_str().unwrap());
    world.owner.delete(&path).await.expect(204);
    assert_eq!(test_edge::join(&token, address(), gateway).await.1, Err(401));

    let forged = JoinToken {
        secret: protocol::credential::CredentialSecret::from_bytes([7; 32]),
        ..JoinToken::decode(&world.join_token.encode()).unwrap()
    };
    assert_eq!(test_edge::join(&forged, address(), gateway).await.1, Err(401));
    clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(test_edge::join(&world.join_token, address(), gateway).await.1, Err(401));
    let password = world.password.clone();
    world.owner.log_in("owner@localhost", &password).await;
    let tokens = world.owner.get("/api/v1/edges/join-tokens?state=all").await.expect(200);
    assert_eq!(tokens["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_edge_that_joins_again_under_its_address_stays_the_same_edge() {
    let world = World::start().await;
    let gateway = "127.0.0.1:3128".parse().unwrap();
    let first = TestEdge::join(&world, "east", gateway).await;
    let second = TestEdge::join(&world, "east", gateway).await;
    let other = TestEdge::join(&world, "east", "127.0.0.1:3129".parse().unwrap()).await;
    assert_eq!(first.id, second.id);
    assert_ne!(first.id, other.id);
    let edges = world.owner.get("/api/v1/edges").await.expect(200);
    assert_eq!(edges["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_but_joining_works_without_a_certificate() {
    let world = World::start().await;
    let (mut sender, driver) = test_edge::connect_anonymously(&world.join_token).await;
    for (method, path) in [
        (Method::GET, protocol::feed::FEED_PATH),
        (Method::POST, protocol::presence::PRESENCE_PATH),
        (Method::GET, "/"),
        (Method::GET, protocol::join::JOIN_PATH),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://edge.port{path}"))
            .body(test_edge::empty())
            .unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 401, "{path}");
    }
    driver.abort();
}

#[tokio::test]
async fn the_feed_begins_with_a_snapshot_and_goes_on_with_changes() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let mut feed = edge.feed(None).await;
    assert!(matches!(feed.next().await, FeedMessage::Snapshot { .. }));
    assert_eq!(feed.state.edges.len(), 1);
    assert_eq!(feed.state.token_keys.len(), 1);
    let before = feed.state.generation;

    world.owner.post("/api/v1/admin/tunnel", &json!({"name": "a"})).await.expect(201);
    world.owner.post("/api/v1/admin/tunnel", &json!({"name": "b"})).await.expect(201);
    while feed.state.tunnels.len() < 2 {
        assert!(matches!(feed.news().await, FeedMessage::Change { .. }));
    }
    assert!(feed.state.generation > before, "generations grow");
    world.owner.delete("/api/v1/admin/tunnel/a").await.expect(200);

    let mut later = edge.feed(Some(before)).await;
    let FeedMessage::Change { put, remove, generation } = later.next().await else {
        panic!("a known generation is continued")
    };
    assert_eq!((put.len(), remove.len()), (1, 1), "the deleted tunnel is named, too");
    assert!(generation > before);
    let mut future = edge.feed(Some(1_000_000)).await;
    assert!(matches!(future.next().await, FeedMessage::Snapshot { .. }));
    let mut current = edge.feed(Some(generation)).await;
    assert!(matches!(current.next().await, FeedMessage::Alive { .. }));
}

#[tokio::test]
async fn the_list_shows_what_a_firewall_must_let_out_and_how_each_edge_is() {
    let world = World::start().await;
    let gateway = "127.0.0.1:3128".parse().unwrap();
    test_edge::join(&world.join_token, address(), gateway).await.1.unwrap();
    let live = TestEdge::join(&world, "west", "127.0.0.1:3129".parse().unwrap()).await;
    let _obedient = live.obey().await;
    wait_until_live(&world, 1).await;
    let edges = world.owner.get("/api/v1/edges").await.expect(200);
    let (silent, live) = (&edges["items"][0], &edges["items"][1]);
    let endpoints: Vec<_> = silent["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["host"].as_str().unwrap(),
                e["port"].as_u64().unwrap(),
                e["protocol"].as_str().unwrap(),
            )
        })
        .collect();
    let host = "edge.example.com";
    assert_eq!(endpoints, [(host, 7844, "udp"), (host, 7844, "tcp"), (host, 443, "tcp")]);
    assert_eq!((&silent["is_live"], &live["is_live"]), (&json!(false), &json!(true)));
    assert_eq!(live["gateway"], "127.0.0.1:3129");
}

#[tokio::test]
async fn a_removed_edge_may_do_nothing_any_more() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let (_, ann) = world.user("ann@example.com", &["TUNNEL_MANAGE"]).await;
    let path = format!("/api/v1/edges/{}", edge.id);
    ann.delete(&path).await.expect_problem(403, "forbidden");
    let mut feed = edge.feed(None).await;
    feed.next().await;
    world.owner.delete(&path).await.expect(204);
    feed.end().await;
    let answer = edge.request(Method::GET, protocol::feed::FEED_PATH, test_edge::empty()).await;
    assert_eq!(answer.status(), 401);
    world.owner.delete(&path).await.expect_problem(404, "not_found");
}
