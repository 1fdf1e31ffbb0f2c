//! What edges report becomes connectors, links and one of four words.

use std::time::Duration;

use control_plane::Clock;
use protocol::{
    id::{ConnectorId, KeyId, TunnelId},
    order::{LogLevel, Task},
    presence::{LinkDown, LinkPresence, Report},
    secret::TunnelSecret,
};
use serde_json::{Value, json};

use crate::{
    test_edge::{Presence, TestEdge, link},
    world::{World, eventually},
};

const NOW_MS: u64 = 1_800_000_000_000;

struct Scene {
    world: World,
    clock: Clock,
    tunnel: TunnelId,
    key: KeyId,
    edges: [TestEdge; 2],
    presence: [Presence; 2],
}

impl Scene {
    /// Two edges with a lease, one tunnel.
    async fn set() -> Self {
        let clock = Clock::manual(NOW_MS);
        let world = World::start_with(clock.clone(), |_| {}).await;
        let east = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
        let west = TestEdge::join(&world, "west", "127.0.0.1:3129".parse().unwrap()).await;
        let tunnel = json!({"name": "office"});
        let created = world.owner.post("/api/v1/admin/tunnel", &tunnel).await.expect(201);
        let secret = TunnelSecret::decode(created["secret"].as_str().unwrap()).unwrap();
        let presence = [east.presence(), west.presence()];
        for presence in &presence {
            presence.report(Report { reset: true, ..Report::default() }).await;
        }
        crate::edges::wait_until_live(&world, 2).await;
        let (tunnel, key) = (secret.tunnel, secret.key);
        Self { world, clock, tunnel, key, edges: [east, west], presence }
    }

    /// A connector brings up two links at each edge.
    async fn connect(&self, connector: u8) {
        for (n, presence) in self.presence.iter().enumerate() {
            let slots = [2 * n as u8, 2 * n as u8 + 1];
            let up = slots.map(|slot| link(self.tunnel, self.key, connector, slot)).to_vec();
            presence.report(Report { up, ..Report::default() }).await;
        }
    }

    /// The edges report all their links, those of one connector.
    async fn report_again(&self, connector: u8) {
        for (presence, slots) in self.presence.iter().zip([[0, 1], [2, 3]]) {
            let up = slots.map(|slot| link(self.tunnel, self.key, connector, slot)).to_vec();
            presence.report(Report { reset: true, up, ..Report::default() }).await;
        }
    }

    async fn lose(&self, connector: u8, slots: &[u8], goodbye: bool) {
        for &slot in slots {
            let connector = ConnectorId::from_bytes([connector; 16]);
            let down = vec![LinkDown { tunnel: self.tunnel, connector, slot, goodbye }];
            let presence = &self.presence[usize::from(slot / 2)];
            presence.report(Report { down, ..Report::default() }).await;
        }
    }

    async fn wait_for(&self, health: &str, reason: &str) -> Value {
        let what = format!("{health}: {reason}");
        eventually(&what, || async {
            let seen = self.world.owner.get("/api/v1/admin/tunnel/office/health").await.expect(200);
            let fits = seen["health"] == health && seen["reason"].as_str()?.contains(reason);
            fits.then_some(seen)
        })
        .await
    }
}

#[tokio::test]
async fn four_links_are_healthy_and_a_lost_one_is_not() {
    let scene = Scene::set().await;
    scene.wait_for("Inactive", "ever run").await;
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4 links").await;

    let shown = scene.world.owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    let connector = &shown["connectors"][0];
    assert_eq!(connector["host"], "host-1");
    assert_eq!(connector["policy"].as_str().map(str::len), Some(64), "{connector}");
    let links = connector["links"].as_array().unwrap();
    assert_eq!(links.len(), 4);
    assert_eq!((&links[0]["region"], &links[3]["region"]), (&json!("east"), &json!("west")));
    assert_eq!((&links[0]["transport"], &links[1]["transport"]), (&json!("quic"), &json!("http2")));
    assert_eq!(links[0]["rtt_us"], 1_250);
    assert_eq!(shown["secrets"][0]["links"], 4);
    assert!(shown["secrets"][0]["last_used_at"].is_string());

    scene.clock.advance(Duration::from_millis(1));
    scene.lose(1, &[3], false).await;
    scene.wait_for("Degraded", "3 of 4").await;
    scene.clock.advance(Duration::from_millis(1));
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4 links").await;
    eventually("the history is stored", || async {
        let path = "/api/v1/admin/tunnel/office/health/history";
        let history = scene.world.owner.get(path).await.expect(200);
        let words: Vec<_> =
            history["items"].as_array()?.iter().map(|i| i["health"].as_str()).collect();
        let words: Option<Vec<_>> = words.into_iter().collect();
        (words? == ["Healthy", "Degraded", "Healthy"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_said_goodbye_is_not_missing_and_one_that_vanished_is() {
    let scene = Scene::set().await;
    for connector in [1, 2, 3] {
        scene.connect(connector).await;
    }
    scene.wait_for("Healthy", "All connectors").await;
    scene.lose(2, &[0, 1, 2, 3], true).await;
    scene.wait_for("Healthy", "All connectors").await;
    scene.lose(3, &[0, 1, 2, 3], false).await;
    scene.wait_for("Degraded", "host-3 vanished").await;
    scene.clock.advance(Duration::from_secs(60 * 60));
    scene.report_again(1).await;
    let mut scene = scene;
    let password = scene.world.password.clone();
    scene.world.owner.log_in("owner@localhost", &password).await;
    scene.lose(1, &[0, 1, 2, 3], true).await;
    scene.wait_for("Down", "Start the container again").await;
}

#[tokio::test]
async fn a_lease_that_runs_out_takes_its_links_along() {
    let scene = Scene::set().await;
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4").await;
    scene.clock.advance(Duration::from_secs(9));
    scene.presence[0].report(Report::default()).await;
    eventually("the report has arrived", || async {
        let edges = scene.world.owner.get("/api/v1/edges").await.expect(200);
        let items = edges["items"].as_array()?.clone();
        let east = items.iter().find(|edge| edge["region"] == "east")?;
        let west = items.iter().find(|edge| edge["region"] == "west")?;
        (east["lease_until"] != west["lease_until"]).then_some(())
    })
    .await;
    scene.clock.advance(Duration::from_secs(2));
    scene.wait_for("Degraded", "2 of 4").await;
    scene.clock.advance(Duration::from_secs(20));
    let down = scene.wait_for("Down", "without saying goodbye").await;
    assert_eq!(down["since"], "2027-01-15T08:00:31Z");
    scene.report_again(1).await;
    scene.wait_for("Healthy", "all 4").await;
}

fn connector_path(connector: u8) -> String {
    let id = ConnectorId::from_bytes([connector; 16]);
    format!("/api/v1/admin/tunnel/office/connectors/{id}")
}

#[tokio::test]
async fn a_connector_that_has_vanished_can_be_forgotten_and_no_other() {
    let scene = Scene::set().await;
    scene.connect(1).await;
    scene.connect(2).await;
    scene.wait_for("Healthy", "").await;
    scene.lose(1, &[0, 1, 2, 3], false).await;
    scene.wait_for("Degraded", "host-1").await;
    let owner = &scene.world.owner;
    owner.delete(&connector_path(2)).await.expect_problem(409, "conflict");
    owner.delete(&connector_path(1)).await.expect(204);
    scene.wait_for("Healthy", "").await;
    owner.delete(&connector_path(1)).await.expect_problem(404, "not_found");
    let entries = owner.get("/api/v1/admin/tunnel/office/audit").await.expect(200);
    let entry = &entries["items"][0];
    assert_eq!(
        (&entry["action"], &entry["detail"]["host"]),
        (&json!("tunnel.forget_connector"), &json!("host-1"),)
    );
    eventually("it is forgotten for good", || async {
        let world = owner.get("/api/v1/admin/tunnel/office").await.expect(200);
        (world["connectors"].as_array()?.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_of_a_connector_reaches_its_edges() {
    let scene = Scene::set().await;
    scene.connect(1).await;
    scene.connect(2).await;
    scene.wait_for("Healthy", "").await;
    let owner = &scene.world.owner;
    let shown = owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    let told = &shown["connectors"][1];
    assert_eq!((&told["log_level"], &told["log_level_from_cloud"]), (&json!("info"), &json!(true)));
    assert_eq!(told["links"][0]["secret"], json!(scene.key));
    let link = |slot: u8| format!("{}/links/{slot}", connector_path(2));
    owner.post(&format!("{}/drain", link(1)), &json!({})).await.expect(200);
    owner.delete(&link(2)).await.expect(200);
    let level = |connector| format!("{}/log-level", connector_path(connector));
    owner.put(&level(2), &json!({"level": "debug"})).await.expect(200);
    owner.put(&level(1), &json!({"level": "debug"})).await.expect_problem(409, "conflict");
    owner.put(&level(2), &json!({"level": "loud"})).await.expect_problem(422, "invalid");
    owner.delete(&link(7)).await.expect_problem(404, "not_found");
    owner.delete(&format!("{}/links/0", connector_path(9))).await.expect_problem(404, "not_found");

    let mut feed = scene.edges[0].feed(None).await;
    feed.next().await;
    let since_ms = 1_700_000_000_000;
    let tasks: Vec<_> =
        feed.state.tunnels[&scene.tunnel].orders.iter().map(|order| order.task).collect();
    assert_eq!(
        tasks,
        [
            Task::LogLevel { level: LogLevel::Debug },
            Task::CutLink { slot: 2, since_ms },
            Task::DrainLink { slot: 1, since_ms },
        ]
    );
    owner.delete(&link(3)).await.expect(200);
    while feed.state.tunnels[&scene.tunnel].orders.len() < 4 {
        feed.next().await;
    }
}

#[tokio::test]
async fn of_two_links_in_a_slot_the_one_that_is_named_is_cut() {
    let scene = Scene::set().await;
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4").await;
    let leaving = link(scene.tunnel, scene.key, 1, 1);
    let since_ms = leaving.since_ms;
    let replacement = LinkPresence { since_ms: since_ms + 1, ..leaving };
    scene.presence[1].report(Report { up: vec![replacement], ..Report::default() }).await;
    let owner = &scene.world.owner;
    eventually("the slot has two links", || async {
        let shown = owner.get("/api/v1/admin/tunnel/office").await.expect(200);
        (shown["connectors"][0]["links"].as_array()?.len() == 5).then_some(())
    })
    .await;
    let slot = |slot: u8| format!("{}/links/{slot}", connector_path(1));
    let [east, west] = [&scene.edges[0].id, &scene.edges[1].id];
    owner.delete(&slot(1)).await.expect_problem(409, "conflict");
    owner.post(&format!("{}/drain", slot(1)), &json!({})).await.expect_problem(409, "conflict");
    owner.delete(&format!("{}?edge=east", slot(1))).await.expect_problem(400, "bad_query");
    owner.delete(&format!("{}?edge={west}", slot(0))).await.expect_problem(404, "not_found");
    owner.delete(&format!("{}?edge={east}", slot(1))).await.expect(200);
    owner.post(&format!("{}/drain?edge={west}", slot(1)), &json!({})).await.expect(200);
    let entries = owner.get("/api/v1/admin/tunnel/office/audit").await.expect(200);
    assert_eq!(entries["items"][0]["detail"]["edge"], json!(west));

    let mut feed = scene.edges[0].feed(None).await;
    feed.next().await;
    let mut tasks: Vec<_> =
        feed.state.tunnels[&scene.tunnel].orders.iter().map(|order| order.task).collect();
    tasks.sort_by_key(|task| matches!(task, Task::DrainLink { .. }));
    assert_eq!(
        tasks,
        [Task::CutLink { slot: 1, since_ms }, Task::DrainLink { slot: 1, since_ms: since_ms + 1 },]
    );
}

#[tokio::test]
async fn an_edge_whose_lease_ran_out_is_told_to_begin_anew() {
    let mut scene = Scene::set().await;
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4").await;
    scene.clock.advance(Duration::from_secs(11));
    scene.presence[0].report(Report::default()).await;
    let answer = (&mut scene.presence[0].answer).await.unwrap();
    assert_eq!(answer, Some(409), "a lease without links would be no good to it");
}

#[tokio::test]
async fn the_newest_presence_connection_of_an_edge_counts() {
    let mut scene = Scene::set().await;
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4").await;
    let newer = scene.edges[0].presence();
    newer.report(Report { reset: true, ..Report::default() }).await;
    scene.wait_for("Degraded", "2 of 4").await;
    let up = vec![link(scene.tunnel, scene.key, 1, 0), link(scene.tunnel, scene.key, 1, 1)];
    scene.presence[0].report(Report { up, ..Report::default() }).await;
    let answer = (&mut scene.presence[0].answer).await.unwrap();
    assert_eq!(answer, Some(409), "the older one is told to stop");
    scene.wait_for("Degraded", "2 of 4").await;
}

#[tokio::test]
async fn what_must_outlive_the_process_does() {
    let scene = Scene::set().await;
    scene.connect(1).await;
    scene.wait_for("Healthy", "all 4").await;
    let Scene { world, clock, edges, presence, tunnel, key } = scene;
    drop((edges, presence));
    let world = world.restart().await;
    let health = "/api/v1/admin/tunnel/office/health";
    let seen = world.owner.get(health).await.expect(200);
    assert_eq!(seen["health"], "Healthy", "silence means nothing yet");
    let secrets = world.owner.get("/api/v1/admin/tunnel/office/secrets").await.expect(200);
    assert!(secrets["items"][0]["last_used_at"].is_string());

    clock.advance(Duration::from_secs(11));
    eventually("the connector counts as vanished", || async {
        let seen = world.owner.get(health).await.expect(200);
        (seen["health"] == "Down" && seen["reason"].as_str()?.contains("host-1")).then_some(())
    })
    .await;
    let east = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let presence = east.presence();
    let up = [0, 1, 2, 3].map(|slot| link(tunnel, key, 1, slot)).to_vec();
    presence.report(Report { reset: true, up, ..Report::default() }).await;
    eventually("it is healthy again", || async {
        (world.owner.get(health).await.expect(200)["health"] == "Healthy").then_some(())
    })
    .await;
}
