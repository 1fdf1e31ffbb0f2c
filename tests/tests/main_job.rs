//! The main job, from end to end, with real processes: a workflow's request reaches a private server
//! through outbound links, health is told in four words, and access is judged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use nix::sys::signal::Signal;
use postern_tests::{
    origin::HELLO,
    process::Process,
    world::{REGIONS, TUNNEL, World},
};
use serde_json::{Value, json};

async fn a_workflow_reaches_the_private_server(transport: &str) {
    let world = World::start().await.unwrap();
    let inactive = world.wait_for_health("Inactive").await.unwrap();
    assert!(inactive["reason"].as_str().unwrap().contains("ever run"), "{inactive}");

    let mut connector = world.connect(transport).await.unwrap();
    let links = world.links().await.unwrap();
    assert_eq!(links.len(), 4);
    for region in REGIONS {
        assert_eq!(links.iter().filter(|link| link.region == region).count(), 2, "{links:?}");
    }
    assert!(links.iter().all(|link| link.transport == transport), "{links:?}");

    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["status"], "succeeded", "{run}");
    let action = &run["actions"][0];
    assert_eq!(action["response"]["status"], 200);
    assert_eq!(action["response"]["text"], HELLO);
    let phases: Vec<&str> =
        action["phases"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect();
    for phase in ["policy", "link", "tcp", "first_byte", "body"] {
        assert!(phases.contains(&phase), "{phase} is missing from {phases:?}");
    }

    let is_counted = |traffic: &Value| {
        let step = &traffic["steps"][0];
        step["answered"] == 1 && step["bytes_down"] == HELLO.len()
    };
    world.wait_for(&format!("/api/v1/admin/tunnel/{TUNNEL}/traffic"), is_counted).await.unwrap();

    connector.signal(Signal::SIGTERM).unwrap();
    assert!(connector.ended().await.unwrap().success(), "{}", connector.said());
    let down = world.wait_for_health("Down").await.unwrap();
    assert!(down["reason"].as_str().unwrap().contains("Start the container"), "{down}");
}

#[tokio::test]
async fn a_workflow_reaches_the_private_server_over_quic() {
    a_workflow_reaches_the_private_server("quic").await;
}

#[tokio::test]
async fn a_workflow_reaches_the_private_server_over_http2() {
    a_workflow_reaches_the_private_server("http2").await;
}

#[tokio::test]
async fn two_links_of_a_connector_come_to_two_workers_of_an_edge_that_has_them() {
    for transport in ["quic", "http2"] {
        let world = World::start().await.unwrap();
        let mut command = world.connector(transport).unwrap();
        command.env("TUNNEL_WORKERS", "2");
        let _connector = Process::start("connector", command).unwrap();
        world.wait_for_health("Healthy").await.unwrap();
        for port in [9001, 9002] {
            let metrics = format!("http://{}:{port}/metrics", world.host());
            let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
            let lines =
                metrics.lines().filter(|line| line.starts_with("postern_edge_worker_links{"));
            let links: Vec<u32> =
                lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
            assert_eq!(links.iter().sum::<u32>(), 2, "{transport}: {links:?}");
            let workers = links.iter().filter(|links| **links > 0).count();
            assert_eq!(workers, links.len().min(2), "{transport}: {links:?}");
        }
    }
}

#[tokio::test]
async fn a_team_whose_access_is_taken_away_is_refused_and_its_live_streams_are_cut() {
    let world = World::start().await.unwrap();
    let _connector = world.connect("auto").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let clients = [0, 1].map(|region| world.client(region, &token).unwrap());
    // Far more than fits the windows: the stream lives until somebody reads it, or cuts it.
    let endless = world.origin.url("/bytes/1000000000");
    let mut live = clients[0].get(&endless).send().await.unwrap();
    assert!(live.chunk().await.unwrap().is_some());

    let access = format!("/api/v1/admin/tunnel/{TUNNEL}/access");
    let saved = world.api.put(&access, &json!({ "mode": "teams", "teams": [] })).await.unwrap();
    world.wait_for_rollout(&saved).await.unwrap();

    let cut = loop {
        match live.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("cut off, it must not look finished"),
            Err(error) => break error,
        }
    };
    assert!(cut.is_body() || cut.is_decode() || cut.is_request(), "{cut:?}");
    for client in &clients {
        let refused = client.get(world.origin.url("/hello")).send().await.unwrap();
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.headers()["postern-error"], "access_denied");
        assert_eq!(refused.headers()["postern-error-source"], "client");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["fix"].as_str().unwrap().contains("TUNNEL_MANAGE"), "{problem}");
    }
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["refusal"]["code"], "access_denied", "{run}");
    let failures = format!("/api/v1/admin/tunnel/{TUNNEL}/failures");
    let by_code = |failures: &Value, code: &str| {
        failures["items"].as_array().unwrap().iter().filter(|item| item["code"] == code).count()
    };
    // A workflow that may not use a tunnel does not get as far as an edge.
    let is_told =
        |told: &Value| by_code(told, "access_denied") == 2 && by_code(told, "access_revoked") == 1;
    let told = world.wait_for(&failures, is_told).await.unwrap();
    assert_eq!(told["items"][0]["destination"], world.origin.address().to_string(), "{told}");

    let team = json!({ "mode": "teams", "teams": [world.team] });
    let saved = world.api.put(&access, &team).await.unwrap();
    world.wait_for_rollout(&saved).await.unwrap();
    let answer = clients[0].get(world.origin.url("/hello")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), HELLO);
}

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let mut world = World::start().await.unwrap();
    let _connector = world.connect("auto").await.unwrap();
    let before = world.links().await.unwrap();
    world.restart_postern().await.unwrap();
    assert!(!world.postern.said().contains("Set up"), "the owner is there already");
    world.wait_for_links(|links| links.iter().all(|link| !before.contains(link))).await.unwrap();
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
}

#[tokio::test]
async fn a_revoked_secret_cannot_return() {
    let world = World::start().await.unwrap();
    let connector = world.connect("auto").await.unwrap();
    let secrets = format!("/api/v1/admin/tunnel/{TUNNEL}/secrets");
    let listed = world.api.get(&secrets).await.unwrap();
    let key = listed["items"][0]["key"].as_str().unwrap().to_owned();
    let revoked = world.api.delete(&format!("{secrets}/{key}")).await.unwrap();
    world.wait_for_rollout(&revoked).await.unwrap();
    refused(&connector, "revoked").await;
    assert!(connector.id().is_ok(), "a refused connector stays up");
    // It did not vanish: it was sent away.
    let down = world.wait_for_health("Down").await.unwrap();
    assert!(!down["reason"].as_str().unwrap().contains("without saying goodbye"), "{down}");
}

async fn refused(connector: &Process, why: &str) {
    connector.find(|line| line.contains(why).then_some(())).await.unwrap();
}

#[tokio::test]
async fn a_damaged_secret_is_told_before_anything_is_dialled() {
    let mut world = World::start().await.unwrap();
    let whole = world.secret.clone();
    for (damaged, why) in [
        (whole[..whole.len() - 3].to_owned(), "mistyped or cut short"),
        (whole.replace("ptn1_", ""), "does not begin with"),
        (String::new(), "TUNNEL_SECRET"),
    ] {
        world.secret = damaged;
        let mut connector = world.start_connector("auto").unwrap();
        let status = connector.ended().await.unwrap();
        assert_eq!(status.code(), Some(2), "{}", connector.said());
        refused(&connector, why).await;
        assert!(!connector.said().contains(&whole[5..40]), "the secret is never said");
    }
}
