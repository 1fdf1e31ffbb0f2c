//! Gateway tokens: what edges hear of them, who may make and revoke them, and that none is kept.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control_plane::Clock;
use protocol::{
    credential::ProxyToken,
    feed::FeedState,
    id::{ProxyTokenId, TeamId},
    presence::Report,
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    test_edge::{Feed, TestEdge},
    world::{PATIENCE, World, eventually},
};

const PATH: &str = "/api/v1/proxy-tokens";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const NOW_MS: u64 = 1_800_000_000_000;

async fn edge(world: &World) -> TestEdge {
    edge_at(world, 3128).await
}

async fn edge_at(world: &World, port: u16) -> TestEdge {
    TestEdge::join(world, "eu", ([127, 0, 0, 1], port).into()).await
}

async fn create(client: &Client, owner: &str, id: &str) -> (Value, ProxyToken) {
    let created = client.post(PATH, &json!({"name": "n8n", owner: id})).await.expect(201);
    let token = ProxyToken::decode(created["token"].as_str().unwrap()).unwrap();
    assert_eq!(created["id"], token.id.to_string());
    (created, token)
}

async fn workflow(client: &Client, team: &str) -> String {
    let action = json!({"name": "ask", "type": "http", "url": "https://example.com/"});
    let body = json!({"team": team, "name": "w", "actions": [action]});
    let created = client.post("/api/v1/workflows", &body).await.expect(201);
    created["id"].as_str().unwrap().to_owned()
}

async fn until(feed: &mut Feed, what: &str, holds: impl Fn(&FeedState) -> bool) {
    let reading = async {
        while !holds(&feed.state) {
            feed.next().await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn until_gone(feed: &mut Feed, id: ProxyTokenId) {
    until(feed, "the token is gone", |state| !state.proxy_tokens.contains_key(&id)).await;
}

async fn until_known(feed: &mut Feed, id: ProxyTokenId) {
    until(feed, "the token is known", |state| state.proxy_tokens.contains_key(&id)).await;
}

#[tokio::test]
async fn a_token_says_how_long_an_answer_may_take_to_begin() {
    let world = World::start().await;
    let mut feed = edge(&world).await.feed(None).await;
    feed.next().await;
    let team = world.team("ops").await;
    let body = json!({"name": "n8n", "team": team, "response_timeout_s": 20});
    let created = world.owner.post(PATH, &body).await.expect(201);
    assert_eq!(created["response_timeout_s"], 20);
    let token = ProxyToken::decode(created["token"].as_str().unwrap()).unwrap();
    until_known(&mut feed, token.id).await;
    assert_eq!(feed.state.proxy_tokens[&token.id].response_timeout_s, Some(20));
    let (created, token) = create(&world.owner, "team", &team).await;
    assert!(created["response_timeout_s"].is_null());
    until_known(&mut feed, token.id).await;
    assert_eq!(feed.state.proxy_tokens[&token.id].response_timeout_s, None);
    for bad in [0, 3_601] {
        let body = json!({"name": "n8n", "team": team, "response_timeout_s": bad});
        world.owner.post(PATH, &body).await.expect(422);
    }
}

#[tokio::test]
async fn a_new_token_reaches_the_edges_with_its_digest_its_team_and_its_end() {
    let world = World::start_with(Clock::manual(NOW_MS), |_| {}).await;
    let edge = edge(&world).await;
    let mut feed = edge.feed(None).await;
    feed.next().await;
    let team = world.team("ops").await;
    let (created, token) = create(&world.owner, "team", &team).await;
    assert_eq!(created["expires_at"], "2027-04-15T08:00:00Z", "90 days");
    assert_eq!(created["team"], team);
    assert!(created["workflow"].is_null());

    until_known(&mut feed, token.id).await;
    let known = &feed.state.proxy_tokens[&token.id];
    assert!(known.digest.matches(&token.secret));
    assert_eq!(known.team, team.parse::<TeamId>().unwrap());
    assert_eq!(known.workflow, None);
    assert_eq!(known.expires_at, (NOW_MS + 90 * DAY_MS) / 1000);

    let workflow = workflow(&world.owner, &team).await;
    let (created, token) = create(&world.owner, "workflow", &workflow).await;
    assert_eq!((&created["team"], &created["workflow"]), (&json!(team), &json!(workflow)));
    until_known(&mut feed, token.id).await;
    let caller = feed.state.proxy_tokens[&token.id].caller();
    assert_eq!(caller.team.to_string(), team);
    assert_eq!(caller.workflow.map(|id| id.to_string()), Some(workflow));
}

#[tokio::test]
async fn the_answers_say_which_edges_obey() {
    let world = World::start_with(Clock::manual(NOW_MS), |_| {}).await;
    let (quick, slow) = (edge_at(&world, 3128).await, edge_at(&world, 3129).await);
    let (of_quick, of_slow) = (quick.presence(), slow.presence());
    for (presence, applied_generation) in [(&of_quick, u64::MAX / 2), (&of_slow, 1)] {
        presence.report(Report { reset: true, applied_generation, ..Report::default() }).await;
    }
    eventually("both edges are live", || async {
        let edges = world.owner.get("/api/v1/edges").await.expect(200);
        let live = |edge: &&Value| edge["is_live"] == true;
        (edges["items"].as_array().unwrap().iter().filter(live).count() == 2).then_some(())
    })
    .await;
    let (created, token) = create(&world.owner, "team", &world.team("ops").await).await;
    let revoked = world.owner.delete(&format!("{PATH}/{}", token.id)).await.expect(200);
    for rollout in [&created["rollout"], &revoked["rollout"]] {
        assert_eq!(rollout["applied"], json!([{"edge": quick.id, "region": "eu"}]), "{rollout}");
        assert_eq!(rollout["pending"], json!([{"edge": slow.id, "region": "eu"}]), "{rollout}");
    }
    let generation = |answer: &Value| answer["rollout"]["generation"].as_u64().unwrap();
    assert!(generation(&created) < generation(&revoked));
}

#[tokio::test]
async fn a_revoked_token_disappears_from_the_feed_for_good() {
    let world = World::start().await;
    let edge = edge(&world).await;
    let mut feed = edge.feed(None).await;
    let (_, token) = create(&world.owner, "team", &world.team("ops").await).await;
    until_known(&mut feed, token.id).await;
    let path = format!("{PATH}/{}", token.id);
    world.owner.delete(&path).await.expect(200);
    until_gone(&mut feed, token.id).await;

    let listed = world.owner.get(&format!("{PATH}?state=all")).await.expect(200);
    let revoked_at = listed["items"][0]["revoked_at"].as_str().unwrap();
    world.owner.delete(&path).await.expect(200);
    let again = world.owner.get(&format!("{PATH}?state=all")).await.expect(200);
    assert_eq!(again["items"][0]["revoked_at"], revoked_at, "once is enough");
    let mut snapshot = edge.feed(None).await;
    snapshot.next().await;
    assert!(snapshot.state.proxy_tokens.is_empty());
}

#[tokio::test]
async fn an_expired_token_is_in_no_snapshot() {
    let clock = Clock::manual(NOW_MS);
    let world = World::start_with(clock.clone(), |_| {}).await;
    let edge = edge(&world).await;
    let body = json!({"name": "n8n", "team": world.team("ops").await, "expires_in_days": 1});
    world.owner.post(PATH, &body).await.expect(201);
    let mut before = edge.feed(None).await;
    before.next().await;
    assert_eq!(before.state.proxy_tokens.len(), 1);
    clock.advance(Duration::from_millis(DAY_MS));
    let mut after = edge.feed(None).await;
    after.next().await;
    assert!(after.state.proxy_tokens.is_empty());
}

#[tokio::test]
async fn the_tokens_of_a_deleted_workflow_or_team_are_revoked() {
    let world = World::start().await;
    let edge = edge(&world).await;
    let mut feed = edge.feed(None).await;
    let team = world.team("ops").await;
    let workflow = workflow(&world.owner, &team).await;
    let (_, of_workflow) = create(&world.owner, "workflow", &workflow).await;
    let (_, of_team) = create(&world.owner, "team", &team).await;
    until_known(&mut feed, of_team.id).await;

    world.owner.delete(&format!("/api/v1/workflows/{workflow}")).await.expect(204);
    until_gone(&mut feed, of_workflow.id).await;
    assert!(feed.state.proxy_tokens.contains_key(&of_team.id), "the team is still there");
    world.owner.delete(&format!("/api/v1/teams/{team}?force=true")).await.expect(204);
    until_gone(&mut feed, of_team.id).await;

    let listed = world.owner.get(&format!("{PATH}?state=all")).await.expect(200);
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|token| token["revoked_at"].is_string()), "{listed}");
}

#[tokio::test]
async fn members_and_owners_care_for_a_teams_tokens_and_strangers_see_none() {
    let world = World::start().await;
    let team = world.team("ops").await;
    let (ann_id, ann) = world.user("ann@example.com", &[]).await;
    let (_, ben) = world.user("ben@example.com", &["TUNNEL_MANAGE"]).await;
    let stranger = world.other_tenant().await;
    world
        .owner
        .put(&format!("/api/v1/teams/{team}/members/{ann_id}"), &json!({}))
        .await
        .expect(204);
    let workflow = workflow(&ann, &team).await;
    let (created, token) = create(&ann, "team", &team).await;
    assert_eq!(created["created_by"], ann_id);

    let path = format!("{PATH}/{}", token.id);
    for (key, id) in [("team", &team), ("workflow", &workflow)] {
        let body = json!({"name": "n8n", key: id});
        ben.post(PATH, &body).await.expect_problem(403, "forbidden");
        stranger.post(PATH, &body).await.expect_problem(404, "not_found");
    }
    ben.delete(&path).await.expect_problem(403, "forbidden");
    stranger.delete(&path).await.expect_problem(404, "not_found");
    let unknown = format!("{PATH}/{}", ProxyTokenId::from_bytes([7; 16]));
    ann.delete(&unknown).await.expect_problem(404, "not_found");
    for client in [&ben, &stranger] {
        assert_eq!(client.get(PATH).await.expect(200)["items"], json!([]));
    }
    for client in [&ann, &world.owner] {
        let listed = client.get(PATH).await.expect(200);
        assert_eq!(listed["items"][0]["id"], created["id"]);
        assert!(listed["items"][0]["revoked_at"].is_null());
        assert!(listed["items"][0]["token"].is_null(), "shown once");
    }
    world.owner.delete(&path).await.expect(200);

    let audit = world.owner.get("/api/v1/audit").await.expect(200).to_string();
    for action in ["proxy_token.create", "proxy_token.revoke"] {
        assert!(audit.contains(action), "{audit}");
    }
}

#[tokio::test]
async fn a_token_needs_a_name_one_owner_and_an_end_within_a_year() {
    let world = World::start().await;
    let team = world.team("ops").await;
    let workflow = workflow(&world.owner, &team).await;
    for body in [
        json!({"name": "n8n"}),
        json!({"name": "n8n", "team": team, "workflow": workflow}),
        json!({"name": " ", "team": team}),
        json!({"name": "n8n", "team": team, "expires_in_days": 0}),
        json!({"name": "n8n", "team": team, "expires_in_days": 366}),
        json!({"name": "n8n", "team": team, "expires_in_days": -1}),
    ] {
        world.owner.post(PATH, &body).await.expect_problem(422, "invalid");
    }
    let body = json!({"name": "n8n", "team": team, "expires_in_days": 365});
    world.owner.post(PATH, &body).await.expect(201);
}

#[tokio::test]
async fn no_file_holds_a_token() {
    let world = World::start().await;
    let (created, _) = create(&world.owner, "team", &world.team("ops").await).await;
    let token = created["token"].as_str().unwrap().to_owned();
    let database = world.database.clone();
    let (path, _dir) = world.stop().await;
    let mut bytes = database.dump();
    for file in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
        assert!(file.file_type().unwrap().is_file(), "{:?}", file.path());
        bytes.extend(std::fs::read(file.path()).unwrap());
    }
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(holds(created["id"].as_str().unwrap().as_bytes()), "the row is there");
    let payload = URL_SAFE_NO_PAD.decode(&token[ProxyToken::PREFIX.len()..]).unwrap();
    let secret = &payload[16..48];
    assert!(!holds(secret));
    assert!(!holds(URL_SAFE_NO_PAD.encode(secret).as_bytes()));
    assert!(!holds(token.as_bytes()));
}

#[tokio::test]
async fn a_team_has_at_most_a_thousand_live_tokens() {
    let world = World::start().await;
    let team = world.team("ops").await;
    for _ in 1..1_000 {
        create(&world.owner, "team", &team).await;
    }
    let (_, last) = create(&world.owner, "team", &team).await;
    let body = json!({"name": "n8n", "team": team});
    world.owner.post(PATH, &body).await.expect_problem(409, "conflict");
    create(&world.owner, "team", &world.team("dev").await).await;
    world.owner.delete(&format!("{PATH}/{}", last.id)).await.expect(200);
    create(&world.owner, "team", &team).await;
}
