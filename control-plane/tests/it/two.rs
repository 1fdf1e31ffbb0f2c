//! Two control planes on one database.

use control_plane::{ControlPlane, Options};
use protocol::{
    id::ConnectorId,
    presence::{LinkDown, Report},
    secret::TunnelSecret,
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    edges::wait_until_live,
    runner::workflow,
    test_edge::{Presence, TestEdge, link},
    world::{PATIENCE, World, eventually, options},
};

/// One tunnel, and an edge at each control plane.
struct Scene {
    first: World,
    second: World,
    secret: TunnelSecret,
    edges: [TestEdge; 2],
}

impl Scene {
    async fn set() -> Self {
        let first = World::start().await;
        let second = first.join_by_another().await;
        let east = TestEdge::join(&first, "east", "127.0.0.1:3128".parse().unwrap()).await;
        let west = TestEdge::join(&second, "west", "127.0.0.1:3129".parse().unwrap()).await;
        let created = first.owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await;
        let secret = created.expect(201)["secret"].as_str().unwrap().to_owned();
        let secret = TunnelSecret::decode(&secret).unwrap();
        Self { first, second, secret, edges: [east, west] }
    }

    /// A connector has two links at an edge.
    async fn connect(&self, presence: &Presence, slots: [u8; 2]) {
        let up = slots.map(|slot| link(self.secret.tunnel, self.secret.key, 1, slot)).to_vec();
        presence.report(Report { reset: true, up, ..Report::default() }).await;
    }

    async fn leave(&self, presence: &Presence, slots: [u8; 2], goodbye: bool) {
        let connector = ConnectorId::from_bytes([1; 16]);
        let down = |slot| LinkDown { tunnel: self.secret.tunnel, connector, slot, goodbye };
        presence.report(Report { down: slots.map(down).to_vec(), ..Report::default() }).await;
    }

    /// Waits until both say the same of the tunnel.
    async fn wait_for(&self, health: &str, reason: &str) {
        for world in [&self.first, &self.second] {
            wait_for(&world.owner, health, reason).await;
        }
    }
}

async fn wait_for(client: &Client, health: &str, reason: &str) -> Value {
    eventually(&format!("{health}: {reason}"), || async {
        let seen = client.get("/api/v1/admin/tunnel/office/health").await.expect(200);
        let fits = seen["health"] == health && seen["reason"].as_str()?.contains(reason);
        fits.then_some(seen)
    })
    .await
}

#[tokio::test]
async fn a_session_and_a_change_hold_at_both() {
    let first = World::start().await;
    let second = first.join_by_another().await;
    let at_second = Client { address: second.owner.address, ..first.owner.clone() };
    let team = at_second.post("/api/v1/teams", &json!({"name": "ops"})).await.expect(201);
    assert_eq!(first.owner.get("/api/v1/teams").await.expect(200)["items"][0]["id"], team["id"]);
}

#[tokio::test]
async fn changes_at_one_reach_edges_of_the_other_and_its_answer_says_so() {
    let scene = Scene::set().await;
    let _obedient = [scene.edges[0].obey().await, scene.edges[1].obey().await];
    for world in [&scene.first, &scene.second] {
        wait_until_live(world, 2).await;
        let team = world.team(&format!("of {}", world.owner.address)).await;
        let access = json!({"mode": "teams", "teams": [team]});
        let path = "/api/v1/admin/tunnel/office/access";
        let changed = world.owner.put(path, &access).await.expect(200);
        assert_eq!(changed["rollout"]["pending"], json!([]), "{changed}");
        assert_eq!(changed["rollout"]["applied"].as_array().unwrap().len(), 2, "{changed}");
    }
}

#[tokio::test]
async fn links_at_both_make_one_health_with_one_history() {
    let scene = Scene::set().await;
    let presence = [scene.edges[0].presence(), scene.edges[1].presence()];
    scene.connect(&presence[0], [0, 1]).await;
    scene.wait_for("Degraded", "2 of 4").await;
    scene.connect(&presence[1], [2, 3]).await;
    scene.wait_for("Healthy", "all 4 links").await;
    let shown = scene.first.owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    assert_eq!(shown["connectors"][0]["links"].as_array().unwrap().len(), 4);
    assert_eq!(shown["secrets"][0]["links"], 4);

    scene.leave(&presence[0], [0, 1], true).await;
    scene.leave(&presence[1], [2, 3], true).await;
    scene.wait_for("Down", "").await;
    scene.connect(&presence[1], [2, 3]).await;
    scene.wait_for("Degraded", "2 of 4").await;
    scene.leave(&presence[1], [2, 3], true).await;
    scene.wait_for("Down", "").await;
    let left = scene.first.owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    assert_eq!(left["connectors"], json!([]), "a goodbye at one is a goodbye at the other");
    let history = |world: &World| {
        let client = world.owner.clone();
        async move {
            let path = "/api/v1/admin/tunnel/office/health/history";
            let history = client.get(path).await.expect(200);
            let items = history["items"].as_array().unwrap().clone();
            items.iter().map(|item| item["health"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    let told = eventually("the history is stored", || async {
        let history = history(&scene.second).await;
        (history.first()? == "Down" && history.last()? == "Degraded").then_some(history)
    })
    .await;
    let twice = told.windows(2).any(|pair| pair[0] == "Down" && pair[1] == "Down");
    assert!(!twice, "only one of the two writes the history: {told:?}");
}

#[tokio::test]
async fn a_connector_that_is_forgotten_at_one_is_forgotten_at_both() {
    let scene = Scene::set().await;
    let presence = [scene.edges[0].presence(), scene.edges[1].presence()];
    scene.connect(&presence[0], [0, 1]).await;
    scene.connect(&presence[1], [2, 3]).await;
    scene.wait_for("Healthy", "").await;
    scene.leave(&presence[0], [0, 1], false).await;
    scene.leave(&presence[1], [2, 3], false).await;
    let connectors = async |world: &World, count: usize| {
        eventually(&format!("{count} connectors have vanished"), || async {
            let shown = world.owner.get("/api/v1/admin/tunnel/office").await.expect(200);
            let all = shown["connectors"].as_array()?;
            let has_vanished = |connector: &&Value| connector["vanished_at"].is_string();
            (all.len() == count && all.iter().filter(has_vanished).count() == count).then_some(())
        })
        .await;
    };
    for world in [&scene.first, &scene.second] {
        connectors(world, 1).await;
    }
    let id = ConnectorId::from_bytes([1; 16]);
    let path = format!("/api/v1/admin/tunnel/office/connectors/{id}");
    scene.second.owner.delete(&path).await.expect(204);
    for world in [&scene.first, &scene.second] {
        connectors(world, 0).await;
    }
}

#[tokio::test]
async fn an_edge_that_moves_to_the_other_stays_one_edge() {
    let scene = Scene::set().await;
    let old = scene.edges[0].presence();
    scene.connect(&old, [0, 1]).await;
    scene.wait_for("Degraded", "2 of 4").await;

    let moved = scene.edges[0].at(&scene.second).await;
    let new = moved.presence();
    scene.connect(&new, [0, 1]).await;
    let ended = async {
        // The first control plane hears of the move and lets the older connection go.
        while !old.answer.is_finished() {
            old.report(Report::default()).await;
            tokio::task::yield_now().await;
        }
        old.answer.await.unwrap()
    };
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap(), Some(409));
    scene.leave(&new, [0, 1], false).await;
    scene.wait_for("Down", "").await;
}

#[tokio::test]
async fn edges_of_one_that_was_killed_are_live_again_at_the_other() {
    let mut scene = Scene::set().await;
    let presence = [scene.edges[0].presence(), scene.edges[1].presence()];
    scene.connect(&presence[0], [0, 1]).await;
    scene.connect(&presence[1], [2, 3]).await;
    scene.wait_for("Healthy", "all 4 links").await;

    scene.first.kill().await;
    let moved = scene.edges[0].at(&scene.second).await;
    let [_, stayed] = presence;
    let presence = moved.presence();
    scene.connect(&presence, [0, 1]).await;
    wait_for(&scene.second.owner, "Healthy", "all 4 links").await;
    // Without its leader the second one stores the history, too.
    scene.leave(&presence, [0, 1], false).await;
    wait_for(&scene.second.owner, "Degraded", "2 of 4").await;
    eventually("the history goes on", || async {
        presence.report(Report::default()).await;
        stayed.report(Report::default()).await;
        let path = "/api/v1/admin/tunnel/office/health/history";
        let history = scene.second.owner.get(path).await.expect(200);
        (history["items"][0]["health"] == "Degraded").then_some(())
    })
    .await;
}

#[tokio::test]
async fn runs_of_one_that_starts_or_stops_leave_those_of_the_other_alone() {
    let first = World::start_with(control_plane::Clock::system(), |options| {
        options.allow_private_destinations = true;
    })
    .await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let workflow = workflow(&first, json!([{"type": "http", "name": "ask", "url": url}])).await;
    let run = first.owner.post(&format!("{workflow}/runs"), &json!({})).await.expect(202);
    let (mut asked, _) = tokio::time::timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    let second = first.join_by_another().await;
    let path = format!("/api/v1/runs/{}", run["id"].as_str().unwrap());
    assert_eq!(second.owner.get(&path).await.expect(200)["status"], "running");
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut asked, answer).await.unwrap();
    eventually("the run succeeds", || async {
        let run = second.owner.get(&path).await.expect(200);
        (run["status"] == "succeeded").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_run_of_one_that_was_killed_is_interrupted_by_the_other() {
    let mut first = World::start_with(control_plane::Clock::system(), |options| {
        options.allow_private_destinations = true;
    })
    .await;
    let second = first.join_by_another().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let workflow = workflow(&first, json!([{"type": "http", "name": "ask", "url": url}])).await;
    let run = first.owner.post(&format!("{workflow}/runs"), &json!({})).await.expect(202);
    let _asked = tokio::time::timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    first.kill().await;
    let path = format!("/api/v1/runs/{}", run["id"].as_str().unwrap());
    eventually("the run is interrupted", || async {
        let run = second.owner.get(&path).await.expect(200);
        (run["status"] == "interrupted").then_some(())
    })
    .await;
}

#[tokio::test]
async fn writers_at_both_leave_one_unbroken_chain() {
    let first = World::start().await;
    let second = first.join_by_another().await;
    let write = |world: &World, prefix: &'static str| {
        let client = world.owner.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let body = json!({"name": format!("{prefix}-{n}")});
                client.post("/api/v1/teams", &body).await.expect(201);
            }
        })
    };
    let (one, two) = (write(&first, "a"), write(&second, "b"));
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(first.owner.get("/api/v1/audit/verify").await.expect(200)["intact"], true);
    let teams = second.owner.get("/api/v1/teams").await.expect(200);
    assert_eq!(teams["items"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn keys_of_its_own_keep_a_second_one_out() {
    let first = World::start().await;
    let other = World::start().await;
    let (_dir, mut options) = first.options_of_another();
    for (keys, sentence) in [
        (None, "ca.key and ca.crt are missing"),
        (Some(other.data_dir()), "ca.key and ca.crt are another deployment's"),
    ] {
        options.keys_dir = keys;
        let error = ControlPlane::open(options.clone()).await.err().unwrap();
        assert!(format!("{error:#}").contains(sentence), "{error:#}");
    }

    let keys = tempfile::tempdir().unwrap();
    for file in ["ca.key", "ca.crt"] {
        std::fs::copy(first.data_dir().join(file), keys.path().join(file)).unwrap();
    }
    options.keys_dir = Some(keys.path().to_owned());
    let error = ControlPlane::open(options.clone()).await.err().unwrap();
    assert!(format!("{error:#}").contains("the other control planes sign with"), "{error:#}");
    std::fs::copy(first.data_dir().join("token.key"), keys.path().join("token.key")).unwrap();
    assert!(ControlPlane::open(options).await.unwrap().1.is_none());
}

#[tokio::test]
async fn two_that_start_together_for_the_first_time_make_one_deployment() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "battery staple").unwrap();
    let mut one = options(&dir.path().join("one"));
    one.keys_dir = Some(dir.path().join("keys"));
    // Without one, each start has a link to tell by which the owner chooses it.
    one.owner_password_file = Some(password);
    let two = Options { data_dir: dir.path().join("two"), ..one.clone() };
    let (one, two) = tokio::join!(ControlPlane::open(one), ControlPlane::open(two));
    let firsts = [one.unwrap().1, two.unwrap().1];
    assert_eq!(firsts.iter().flatten().count(), 1, "one of them makes the owner");
}
