//! A tunnel's life, its access list and its secrets.

use std::collections::BTreeSet;

use protocol::{
    access::Access,
    feed::FeedMessage,
    id::{KeyId, TeamId},
    secret::TunnelSecret,
};
use serde_json::json;

use crate::{test_edge::TestEdge, world::World};

const TUNNELS: &str = "/api/v1/admin/tunnel";

#[tokio::test]
async fn without_an_edge_there_is_nothing_that_a_secret_could_name() {
    let world = World::start().await;
    let body = json!({"name": "office"});
    world.owner.post(TUNNELS, &body).await.expect_problem(409, "no_edge");
    assert_eq!(world.owner.get(TUNNELS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_tunnel_lives_from_its_creation_to_its_removal() {
    let world = World::start().await;
    let east = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let _west = TestEdge::join(&world, "west", "127.0.0.1:3129".parse().unwrap()).await;
    let mut feed = east.feed(None).await;
    assert!(matches!(feed.next().await, FeedMessage::Snapshot { .. }));

    let body = json!({"name": "office", "display_name": "The office"});
    let created = world.owner.post(TUNNELS, &body).await.expect(201);
    let secret = TunnelSecret::decode(created["secret"].as_str().unwrap()).unwrap();
    let regions: BTreeSet<_> = secret.edges.iter().map(|edge| edge.region.as_str()).collect();
    assert_eq!(regions, BTreeSet::from(["east", "west"]));
    assert_eq!(secret.ca_pin, Some(world.join_token.ca_pin));
    assert_eq!(created["id"], secret.tunnel.to_string());

    while feed.state.tunnels.is_empty() {
        feed.news().await;
    }
    let known = &feed.state.tunnels[&secret.tunnel];
    assert_eq!(known.name.as_str(), "office");
    assert_eq!(known.keys[0].id, secret.key);
    assert_eq!(known.keys[0].public_key, secret.seed.public_key());

    world.owner.post(TUNNELS, &body).await.expect_problem(409, "conflict");
    world.owner.post(TUNNELS, &json!({"name": "Office"})).await.expect_problem(422, "invalid");

    let path = format!("{TUNNELS}/office");
    let renamed = world.owner.patch(&path, &json!({"display_name": "HQ"})).await.expect(200);
    assert_eq!(renamed["display_name"], "HQ");
    let shown = world.owner.get(&path).await.expect(200);
    assert_eq!(shown["display_name"], "HQ");
    assert_eq!(shown["health"]["health"], "Inactive");
    assert_eq!(shown["secrets"][0]["key"], secret.key.to_string());
    assert!(shown.get("secret").is_none(), "shown once");
    let health = world.owner.get(&format!("{path}/health")).await.expect(200);
    assert_eq!(health["health"], "Inactive");
    assert!(health["reason"].is_string() && health["since"].is_string());

    world.owner.delete(&path).await.expect(200);
    while !feed.state.tunnels.is_empty() {
        feed.news().await;
    }
    world.owner.get(&path).await.expect_problem(404, "not_found");
    world.owner.post(TUNNELS, &body).await.expect(201);
}

#[tokio::test]
async fn access_names_the_edges_that_obey_and_those_that_do_not_yet() {
    let world = World::start().await;
    let prompt = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let late = TestEdge::join(&world, "west", "127.0.0.1:3129".parse().unwrap()).await;
    let _gone = TestEdge::join(&world, "north", "127.0.0.1:3130".parse().unwrap()).await;
    let _obedient = prompt.obey().await;
    let presence = late.presence();
    presence.report(protocol::presence::Report { reset: true, ..Default::default() }).await;
    crate::edges::wait_until_live(&world, 2).await;
    world.owner.post(TUNNELS, &json!({"name": "office"})).await.expect(201);
    let team = world.team("ops").await;

    let path = format!("{TUNNELS}/office/access");
    assert_eq!(world.owner.get(&path).await.expect(200), json!({"mode": "any_team"}));
    let body = json!({"mode": "teams", "teams": [team]});
    let answer = world.owner.put(&path, &body).await.expect(200);
    assert_eq!(answer["teams"], json!([team]));
    let rollout = &answer["rollout"];
    assert_eq!(rollout["applied"], json!([{"edge": prompt.id, "region": "east"}]));
    assert_eq!(rollout["pending"], json!([{"edge": late.id, "region": "west"}]));
    assert_eq!(world.owner.get(&path).await.expect(200), body);

    let mut feed = late.feed(None).await;
    feed.next().await;
    let access = &feed.state.tunnels.values().next().unwrap().access;
    let team: TeamId = team.parse().unwrap();
    assert_eq!(*access, Access::Teams { teams: BTreeSet::from([team]) });

    let stranger = json!({"mode": "teams", "teams": ["0192d3a4-5b6c-7d8e-9f00-112233445566"]});
    world.owner.put(&path, &stranger).await.expect_problem(422, "invalid");
    let unknown = json!({"mode": "any_team", "but": "ops"});
    world.owner.put(&path, &unknown).await.expect_problem(422, "invalid");
}

#[tokio::test]
async fn a_rotation_has_two_live_secrets_and_a_revoked_one_stays_revoked() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    let created = world.owner.post(TUNNELS, &json!({"name": "office"})).await.expect(201);
    let first = TunnelSecret::decode(created["secret"].as_str().unwrap()).unwrap();
    let path = format!("{TUNNELS}/office/secrets");
    let rotated = world.owner.post(&path, &json!({})).await.expect(201);
    let second = TunnelSecret::decode(rotated["secret"].as_str().unwrap()).unwrap();
    assert_ne!(first.key, second.key);
    assert_eq!(first.tunnel, second.tunnel);
    world.owner.post(&path, &json!({})).await.expect_problem(409, "conflict");

    let revoke = format!("{path}/{}", first.key);
    world.owner.delete(&revoke).await.expect(200);
    let revoked = |feed: &crate::test_edge::Feed, key: KeyId| {
        let tunnel = feed.state.tunnels.get(&first.tunnel)?;
        Some(tunnel.keys.iter().find(|known| known.id == key)?.revoked)
    };
    while revoked(&feed, first.key) != Some(true) {
        feed.news().await;
    }
    assert_eq!(revoked(&feed, second.key), Some(false));
    let all = format!("{path}?state=all");
    let listed = world.owner.get(&all).await.expect(200);
    let revoked_at = listed["items"][0]["revoked_at"].clone();
    assert!(revoked_at.is_string());
    world.owner.delete(&revoke).await.expect(200);
    assert_eq!(world.owner.get(&all).await.expect(200)["items"][0]["revoked_at"], revoked_at);
    world.owner.post(&path, &json!({})).await.expect(201);
    let unknown = format!("{path}/0192d3a4-5b6c-7d8e-9f00-112233445566");
    world.owner.delete(&unknown).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn the_picker_shows_what_the_callers_teams_may_use() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    let (id, ann) = world.user("ann@example.com", &[]).await;
    for (name, teams) in [("all", None), ("ops-only", Some(&ops)), ("dev-only", Some(&dev))] {
        let mut body = json!({"name": name});
        if let Some(team) = teams {
            body["access"] = json!({"mode": "teams", "teams": [team]});
        }
        world.owner.post(TUNNELS, &body).await.expect(201);
    }
    let names = |body: serde_json::Value| {
        let items = body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(names(ann.get("/api/v1/tunnels").await.expect(200)).is_empty(), "in no team yet");
    world.owner.put(&format!("/api/v1/teams/{ops}/members/{id}"), &json!({})).await.expect(204);
    let usable = ann.get("/api/v1/tunnels").await.expect(200);
    assert_eq!(usable["items"][0]["health"], "Inactive");
    assert_eq!(names(usable), ["all", "ops-only"]);
    let all = names(world.owner.get("/api/v1/tunnels").await.expect(200));
    assert_eq!(all, ["all", "dev-only", "ops-only"]);
    world.owner.delete(&format!("/api/v1/teams/{ops}/members/{id}")).await.expect(204);
    assert!(names(ann.get("/api/v1/tunnels").await.expect(200)).is_empty());
}

#[tokio::test]
async fn a_team_that_is_removed_leaves_every_access_list() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    let access = json!({"mode": "teams", "teams": [ops, dev]});
    let body = json!({"name": "office", "access": access});
    world.owner.post(TUNNELS, &body).await.expect(201);
    let path = format!("{TUNNELS}/office/access");
    world.owner.delete(&format!("/api/v1/teams/{ops}?force=true")).await.expect(204);
    let rest = json!({"mode": "teams", "teams": [dev]});
    assert_eq!(world.owner.get(&path).await.expect(200), rest);
    world.owner.delete(&format!("/api/v1/teams/{dev}?force=true")).await.expect(204);
    let nobody = json!({"mode": "teams", "teams": []});
    assert_eq!(world.owner.get(&path).await.expect(200), nobody, "not open to all again");
}
