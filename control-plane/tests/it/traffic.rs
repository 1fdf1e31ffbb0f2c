//! What edges report of a tunnel's traffic, by the minute and by the hour, and its latest refusals.

use std::time::Duration;

use control_plane::Clock;
use protocol::{
    id::{TeamId, TunnelId},
    presence::Report,
    secret::TunnelSecret,
    traffic::{Counts, Failure, LATENCY_CLASSES, TunnelTraffic},
};
use serde_json::{Value, json};

use crate::{
    test_edge::TestEdge,
    world::{World, eventually},
};

const NOW_MS: u64 = 1_800_000_000_000;
const PATH: &str = "/api/v1/admin/tunnel/office";

async fn tunnel(world: &World) -> TunnelId {
    let body = json!({"name": "office"});
    let created = world.owner.post("/api/v1/admin/tunnel", &body).await.expect(201);
    TunnelSecret::decode(created["secret"].as_str().unwrap()).unwrap().tunnel
}

fn report(tunnel: TunnelId, ok: u64, failures: Vec<Failure>) -> Report {
    let mut latency = vec![0; LATENCY_CLASSES];
    latency[2] = ok;
    let outcomes = [("ok", ok), ("no_link", failures.len() as u64)];
    let outcomes = outcomes.into_iter().filter(|(_, count)| *count > 0);
    let counts = Counts {
        outcomes: outcomes.map(|(outcome, count)| (outcome.to_owned(), count)).collect(),
        bytes_up: 10 * ok,
        bytes_down: 20 * ok,
        latency,
    };
    let traffic = vec![TunnelTraffic { tunnel, counts, failures }];
    Report { reset: true, traffic, ..Report::default() }
}

async fn traffic(world: &World, span: &str, answered: u64) -> Value {
    let path = format!("{PATH}/traffic?span={span}");
    eventually("the traffic is there", || async {
        let traffic = world.owner.get(&path).await.expect(200);
        let sum: u64 = traffic["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["answered"].as_u64().unwrap())
            .sum();
        (sum == answered).then_some(traffic)
    })
    .await
}

#[tokio::test]
async fn traffic_adds_up_by_the_minute_and_by_the_hour_and_outlives_a_restart() {
    let clock = Clock::manual(NOW_MS);
    let world = World::start_with(clock.clone(), |_| {}).await;
    let edges = [
        TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await,
        TestEdge::join(&world, "west", "127.0.0.1:3129".parse().unwrap()).await,
    ];
    let presence = edges.each_ref().map(TestEdge::presence);
    let tunnel = tunnel(&world).await;
    let nothing = world.owner.get(&format!("{PATH}/traffic")).await.expect(200);
    assert_eq!(nothing["steps"], json!([]));

    presence[0].report(report(tunnel, 3, vec![])).await;
    presence[1].report(report(tunnel, 2, vec![])).await;
    traffic(&world, "1h", 5).await;
    clock.advance(Duration::from_secs(61));
    presence[0].report(report(tunnel, 1, vec![])).await;
    let minutes = traffic(&world, "1h", 6).await;
    assert_eq!(minutes["step_s"], 60);
    assert_eq!(minutes["latency_bounds_ms"].as_array().unwrap().len() + 1, LATENCY_CLASSES);
    let steps = minutes["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{minutes}");
    assert_eq!(steps[0]["answered"], 5);
    assert_eq!((&steps[0]["bytes_up"], &steps[0]["bytes_down"]), (&json!(50), &json!(100)));
    assert_eq!(steps[0]["latency"][2], 5);
    let hours = traffic(&world, "30d", 6).await;
    assert_eq!(hours["step_s"], 3_600);
    assert_eq!(hours["steps"].as_array().unwrap().len(), 1, "{hours}");

    let world = world.restart().await;
    assert_eq!(traffic(&world, "24h", 6).await["steps"], minutes["steps"]);
    assert_eq!(traffic(&world, "30d", 6).await["steps"], hours["steps"]);
    world.owner.get(&format!("{PATH}/traffic?span=2h")).await.expect_problem(400, "bad_query");
    let other = world.other_tenant().await;
    other.get(&format!("{PATH}/traffic")).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn the_latest_refusals_say_who_asked_for_what_and_what_to_do() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let presence = edge.presence();
    let tunnel = tunnel(&world).await;
    let team = world.team("ops").await;
    let failure = |at_ms| Failure {
        at_ms,
        code: if at_ms == 0 { "of_a_newer_edge" } else { "no_link" }.into(),
        detail: "no connector".into(),
        destination: "db.internal:5432".into(),
        team: team.parse().unwrap_or(TeamId::from_bytes([0; 16])),
        workflow: None,
        token: None,
        phases: "policy=10".into(),
    };
    presence.report(report(tunnel, 0, (0..70).map(failure).collect())).await;
    presence.report(report(tunnel, 0, (70..120).map(failure).collect())).await;
    let path = format!("{PATH}/failures");
    let failures = eventually("the refusals are stored", || async {
        let failures = world.owner.get(&path).await.expect(200);
        (failures["items"][0]["at"] == "1970-01-01T00:00:00.119Z").then_some(failures)
    })
    .await;
    let items = failures["items"].as_array().unwrap();
    assert_eq!(items.len(), 100);
    assert_eq!(items[0]["code"], "no_link");
    assert_eq!((&items[0]["source"], &items[0]["team_name"]), (&json!("connector"), &json!("ops")));
    assert_eq!(items[0]["destination"], "db.internal:5432");
    assert!(items[0]["fix"].is_string() && items[0]["title"].is_string());
    let other = world.other_tenant().await;
    other.get(&path).await.expect_problem(404, "not_found");
    let (_, member) = world.user("member@example.com", &[]).await;
    member.get(&path).await.expect_problem(403, "forbidden");
}
