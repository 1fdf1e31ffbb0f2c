//! Two control planes on one PostgreSQL database: either can go, and so can the database, for a while.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::mem;

use nix::sys::signal::Signal;
use postern_tests::{origin::HELLO, traffic::Traffic, world::World};
use serde_json::json;

#[tokio::test]
async fn one_of_two_control_planes_is_killed_and_the_other_does_all() {
    let (mut world, _database, (second, second_api)) = World::start_shared().await.unwrap();
    let _connector = world.connect("auto").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let mut traffic = Traffic::start(&world, 0, &token).unwrap();
    traffic.goes_on_for(20).await;

    let mut first = mem::replace(&mut world.postern, second);
    world.api = second_api;
    world.wait_for_health("Healthy").await.unwrap();
    first.signal(Signal::SIGKILL).unwrap();
    first.ended().await.unwrap();

    // A change at the second one is in force at both edges, those of the first among them.
    let tunnel = json!({ "name": "another" });
    let tunnel = world.api.post("/api/v1/admin/tunnel", &tunnel).await.unwrap();
    assert!(tunnel["secret"].is_string());
    let fresh = world.proxy_token().await.unwrap();
    for region in 0..2 {
        let asked = world.client(region, &fresh).unwrap().get(world.origin.url("/hello")).send();
        assert_eq!(asked.await.unwrap().text().await.unwrap(), HELLO);
    }
    world.wait_for_links(|_| true).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
    traffic.goes_on_for(20).await;
    println!("{} requests, none failed", traffic.stop().await);
}

#[tokio::test]
async fn the_database_crashes_and_nothing_acknowledged_is_lost() {
    let (world, mut database, (_second, second_api)) = World::start_shared().await.unwrap();
    let _connector = world.connect("auto").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let mut traffic = Traffic::start(&world, 0, &token).unwrap();
    traffic.goes_on_for(20).await;

    let (acknowledged, crashed) = tokio::join!(
        async {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let name = format!("team-{n}");
                match second_api.post("/api/v1/teams", &json!({ "name": name })).await {
                    Ok(_) => acknowledged.push(name),
                    Err(_) => break,
                }
            }
            acknowledged
        },
        async {
            traffic.goes_on_for(50).await;
            database.crash().await
        }
    );
    crashed.unwrap();
    traffic.goes_on_for(100).await;
    database.restart().await.unwrap();

    // The API of both is back by itself.
    world.wait_for("/api/v1/edges", |_| true).await.unwrap_or_else(|error| panic!("{error:#}"));
    let teams = second_api.get("/api/v1/teams").await.unwrap();
    let names: Vec<_> = teams["items"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    for name in &acknowledged {
        assert!(names.iter().any(|known| *known == name), "{name} was acknowledged");
    }
    let verdict = world.api.get("/api/v1/audit/verify").await.unwrap();
    assert_eq!(verdict["intact"], true, "{verdict}");
    world.wait_for_health("Healthy").await.unwrap();
    world.proxy_token().await.unwrap();
    let requests = traffic.stop().await;
    println!(
        "{} changes acknowledged, none lost; {requests} requests, none failed",
        acknowledged.len()
    );
}
