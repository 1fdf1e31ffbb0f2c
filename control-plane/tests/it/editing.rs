//! Editing: versions, who changed what, what goes by which name, and what is used by what.

use http::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client},
    test_edge::TestEdge,
    world::World,
};

/// A change of the version that an earlier answer showed.
async fn change_if(
    client: &Client,
    (method, path): (Method, &str),
    etag: &str,
    body: &Value,
) -> Answer {
    let mut client = client.clone();
    client.headers.push(("if-match", etag.to_owned()));
    client.send(method, path, Some(body.to_string())).await
}

async fn workflow(world: &World, team: &str, tunnel: &str) -> String {
    let action =
        json!({"type": "http", "name": "ask", "url": "http://wiki/", "use_tunnel": tunnel});
    let body = json!({"team": team, "name": "report", "actions": [action]});
    text(&world.owner.post("/api/v1/workflows", &body).await.expect(201)["id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn of_two_who_edit_the_same_thing_the_second_is_told() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let owner = &world.owner;
    let team = world.team("ops").await;
    let (user, _) = world.user("ann@example.com", &[]).await;
    owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await.expect(201);
    let workflow = workflow(&world, &team, "office").await;
    let action = json!({"type": "http", "name": "ask", "url": "http://wiki/"});
    let tunnel = "/api/v1/admin/tunnel/office";
    for (shown, method, changed, body) in [
        (format!("/api/v1/teams/{team}"), Method::PATCH, "", json!({"name": "platform"})),
        (format!("/api/v1/users/{user}"), Method::PATCH, "", json!({"name": "Ann"})),
        (
            format!("/api/v1/workflows/{workflow}"),
            Method::PUT,
            "",
            json!({"name": "weekly", "actions": [action]}),
        ),
        (tunnel.to_owned(), Method::PATCH, "", json!({"display_name": "HQ"})),
        (tunnel.to_owned(), Method::PUT, "/access", json!({"mode": "teams", "teams": []})),
    ] {
        let before = owner.get(&shown).await;
        let etag = before.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(before.expect(200)["etag"], etag, "{shown}");
        let path = format!("{shown}{changed}");
        let saved = change_if(owner, (method.clone(), &path), &etag, &body).await;
        assert_ne!(saved.headers["etag"], etag, "{path}");
        saved.expect(200);
        let after = owner.get(&shown).await.expect(200);
        assert_eq!(after["updated_by_name"], "owner@localhost", "{shown}");
        assert!(after["updated_at"].as_str() >= after["created_at"].as_str());
        let late = change_if(owner, (method.clone(), &path), &etag, &body).await;
        let problem = late.expect_problem(412, "stale");
        assert!(problem["detail"].as_str().unwrap().contains("owner@localhost"), "{problem}");
        assert_eq!(owner.get(&shown).await.expect(200), after, "nothing was changed");
        let list = format!("\"0\", {}", text(&after["etag"]));
        change_if(owner, (method.clone(), &path), &list, &body).await.expect(200);
        change_if(owner, (method.clone(), &path), "*", &body).await.expect(200);
        owner.send(method, &path, Some(body.to_string())).await.expect(200);
    }
}

#[tokio::test]
async fn a_workflow_moves_to_another_team_with_its_runs_and_tokens() {
    let world = World::start().await;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    let (ann, member) = world.user("ann@example.com", &[]).await;
    world.owner.put(&format!("/api/v1/teams/{dev}/members/{ann}"), &json!({})).await.expect(204);
    let id = workflow(&world, &ops, "office").await;
    let token = json!({"name": "n8n", "workflow": id});
    world.owner.post("/api/v1/proxy-tokens", &token).await.expect(201);
    let path = format!("/api/v1/workflows/{id}");
    let run = world.owner.post(&format!("{path}/runs?wait=20"), &json!({})).await.expect(200);
    member.get(&path).await.expect_problem(403, "forbidden");

    let action = json!({"type": "http", "name": "ask", "url": "http://wiki/"});
    let body = json!({"team": dev, "name": "report", "actions": [action]});
    member.put(&path, &body).await.expect_problem(403, "forbidden");
    let moved = world.owner.put(&path, &body).await.expect(200);
    assert_eq!((&moved["team"], &moved["team_name"]), (&json!(dev), &json!("dev")));
    member.get(&path).await.expect(200);
    member.get(&format!("/api/v1/runs/{}", text(&run["id"]))).await.expect(200);
    let tokens = member.get("/api/v1/proxy-tokens").await.expect(200);
    let token = &tokens["items"][0];
    assert_eq!(token["team_name"], "dev");
    assert_eq!(token["workflow_name"], "report");
    assert_eq!(token["created_by_name"], "owner@localhost");
    let back = json!({"team": ops, "name": "report", "actions": [action]});
    member.put(&path, &back).await.expect_problem(403, "forbidden");
}

#[tokio::test]
async fn a_disabled_user_comes_in_by_no_way_until_enabled_again() {
    let world = World::start().await;
    let (id, ann) = world.user("ann@example.com", &[]).await;
    let path = format!("/api/v1/users/{id}");
    let key = ann.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect(201);
    let program = world.anonymous().with_key(key["key"].as_str().unwrap());
    program.get("/api/v1/me").await.expect(200);
    let renamed = world.owner.patch(&path, &json!({"name": "Ann"})).await.expect(200);
    assert_eq!(renamed["name"], "Ann");
    assert!(renamed["last_login_at"].is_string());
    assert_eq!(ann.get("/api/v1/me").await.expect(200)["name"], "Ann", "the session goes on");

    let disabled = world.owner.patch(&path, &json!({"disabled": true})).await.expect(200);
    assert!(disabled["disabled_at"].is_string());
    ann.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
    program.get("/api/v1/me").await.expect_problem(403, "disabled");
    let login = ann.try_log_in("ann@example.com", "correct horse").await;
    login.expect_problem(403, "disabled");
    let wrong = world.anonymous().try_log_in("ann@example.com", "wrong").await;
    wrong.expect_problem(401, "bad_login");
    let listed = world.owner.get("/api/v1/users?is_disabled=true&search=ann").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);

    let body = json!({"disabled": false, "email": "anna@example.com"});
    world.owner.patch(&path, &body).await.expect(200);
    program.get("/api/v1/me").await.expect(200);
}

#[tokio::test]
async fn an_owner_who_can_come_in_is_always_left() {
    let world = World::start().await;
    let me = text(&world.owner.get("/api/v1/me").await.expect(200)["id"]);
    let path = format!("/api/v1/users/{me}");
    for body in [json!({"is_owner": false}), json!({"disabled": true})] {
        world.owner.patch(&path, &body).await.expect_problem(409, "conflict");
    }
    let (ann, _) = world.user("ann@example.com", &[]).await;
    let other = format!("/api/v1/users/{ann}");
    world.owner.patch(&other, &json!({"is_owner": true, "disabled": true})).await.expect(200);
    let still = world.owner.patch(&path, &json!({"is_owner": false})).await;
    still.expect_problem(409, "conflict");
    world.owner.patch(&other, &json!({"disabled": false})).await.expect(200);
    world.owner.patch(&path, &json!({"is_owner": false})).await.expect(200);
}

#[tokio::test]
async fn members_and_subjects_of_the_log_have_names() {
    let world = World::start().await;
    let team = world.team("ops").await;
    let (ann, member) = world.user("ann@example.com", &[]).await;
    world.owner.put(&format!("/api/v1/teams/{team}/members/{ann}"), &json!({})).await.expect(204);
    let shown = member.get(&format!("/api/v1/teams/{team}")).await.expect(200);
    let expected = json!([{"id": ann, "email": "ann@example.com", "name": ""}]);
    assert_eq!(shown["member_users"], expected);
    world.owner.patch(&format!("/api/v1/teams/{team}"), &json!({"name": "x"})).await.expect(200);
    let log = world.owner.get(&format!("/api/v1/audit?subject={team}")).await.expect(200);
    let names: Vec<_> =
        log["items"].as_array().unwrap().iter().map(|e| &e["subject_name"]).collect();
    assert_eq!(names, ["x", "x", "x"], "what it is called now");
    world.owner.delete(&format!("/api/v1/teams/{team}")).await.expect(204);
    let log = world.owner.get(&format!("/api/v1/audit?subject={team}")).await.expect(200);
    assert_eq!(log["items"][0]["subject_name"], "x", "what it was called");
}

#[tokio::test]
async fn what_is_used_is_removed_by_force_only_and_says_who_uses_it() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let owner = &world.owner;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    let access = json!({"mode": "teams", "teams": [ops]});
    let body = json!({"name": "office", "access": access});
    owner.post("/api/v1/admin/tunnel", &body).await.expect(201);
    let (of_ops, of_dev) =
        (workflow(&world, &ops, "office").await, workflow(&world, &dev, "office").await);
    let token = json!({"name": "n8n", "team": ops});
    let token = text(&owner.post("/api/v1/proxy-tokens", &token).await.expect(201)["id"]);

    let usage = owner.get("/api/v1/admin/tunnel/office/usage").await.expect(200);
    let reports = |id: &str| json!([{"id": id, "name": "report"}]);
    let expected = json!({"is_complete": true, "teams": [
        {"id": dev, "name": "dev", "is_allowed": false, "workflows": reports(&of_dev),
            "proxy_tokens": []},
        {"id": ops, "name": "ops", "is_allowed": true, "workflows": reports(&of_ops),
            "proxy_tokens": [{"id": token, "name": "n8n"}]},
    ]});
    assert_eq!(usage, expected);

    let tunnel = "/api/v1/admin/tunnel/office";
    let problem = owner.delete(tunnel).await.expect_problem(409, "in_use");
    let mut used: Vec<_> =
        problem["used_by"].as_array().unwrap().iter().map(|u| text(&u["id"])).collect();
    used.sort();
    let mut both = [of_ops.clone(), of_dev];
    both.sort();
    assert_eq!(used, both);

    let team = format!("/api/v1/teams/{ops}");
    let forced = format!("{team}?force=true");
    let problem = owner.delete(&forced).await.expect_problem(409, "in_use");
    assert_eq!(problem["used_by"][0]["kind"], "workflow", "workflows are never lost with a team");
    owner.delete(&format!("/api/v1/workflows/{of_ops}")).await.expect(204);
    let problem = owner.delete(&team).await.expect_problem(409, "in_use");
    let kinds: Vec<_> =
        problem["used_by"].as_array().unwrap().iter().map(|used| text(&used["kind"])).collect();
    assert_eq!(kinds, ["proxy_token", "tunnel"]);
    owner.delete(&forced).await.expect(204);
    owner.delete(&format!("{tunnel}?force=true")).await.expect(200);
}

#[tokio::test]
async fn a_body_is_an_object_and_the_scheme_of_a_key_has_any_case() {
    let world = World::start().await;
    for body in ["[\"ops\"]", "\"ops\"", "null", ""] {
        let path = "/api/v1/teams";
        let answer = world.owner.send(Method::POST, path, Some(body.to_owned())).await;
        answer.expect_problem(422, "invalid");
    }
    let key = world.owner.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect(201);
    let key = key["key"].as_str().unwrap();
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let mut client = world.anonymous();
        client.headers = vec![("authorization", format!("{scheme} {key}"))];
        client.get("/api/v1/me").await.expect(200);
    }
    let mut client = world.anonymous();
    client.headers = vec![("authorization", format!("Basic {key}"))];
    client.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_is_asked_twice_under_one_key_is_done_once() {
    let world = World::start().await;
    let with_key = |client: &Client, key: &str| {
        let mut client = client.clone();
        client.headers.push(("idempotency-key", key.to_owned()));
        client
    };
    let first = with_key(&world.owner, "a");
    let made = first.post("/api/v1/teams", &json!({"name": "ops"})).await.expect(201);
    let again = first.post("/api/v1/teams", &json!({"name": "ops"})).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(201), made);
    let other = first.post("/api/v1/teams", &json!({"name": "dev"})).await;
    other.expect_problem(422, "key_reused");
    let elsewhere = first.post("/api/v1/api-keys", &json!({"name": "ops"})).await;
    elsewhere.expect_problem(422, "key_reused");

    // What was refused may be sent again.
    let second = with_key(&world.owner, "b");
    second.post("/api/v1/teams", &json!({"name": "ops"})).await.expect_problem(409, "conflict");
    let path = format!("/api/v1/teams/{}", text(&made["id"]));
    world.owner.delete(&path).await.expect(204);
    second.post("/api/v1/teams", &json!({"name": "ops"})).await.expect(201);

    // Secrets are shown once, and are not kept to be shown again.
    let third = with_key(&world.owner, "c");
    let key = third.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect(201);
    assert!(key["key"].is_string());
    third.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect_problem(409, "done_before");
    let keys = world.owner.get("/api/v1/api-keys").await.expect(200);
    assert_eq!(keys["items"].as_array().unwrap().len(), 1);

    // A key is its user's own.
    let (_, ann) = world.user("ann@example.com", &[]).await;
    with_key(&ann, "c").post("/api/v1/api-keys", &json!({"name": "hers"})).await.expect(201);
    let nobody = with_key(&world.anonymous(), "d");
    nobody
        .post("/api/v1/teams", &json!({"name": "x"}))
        .await
        .expect_problem(401, "unauthenticated");
    let long = with_key(&world.owner, &"x".repeat(200));
    long.post("/api/v1/teams", &json!({"name": "x"})).await.expect_problem(422, "invalid");
}

#[tokio::test]
async fn requests_under_one_key_at_the_same_time_are_done_once() {
    let world = World::start().await;
    let mut client = world.owner.clone();
    client.headers.push(("idempotency-key", "k".to_owned()));
    let body = json!({"name": "ops"});
    let answers = tokio::join!(
        client.post("/api/v1/teams", &body),
        client.post("/api/v1/teams", &body),
        client.post("/api/v1/teams", &body),
    );
    for answer in <[Answer; 3]>::from(answers) {
        match answer.status {
            201 => {}
            _ => drop(answer.expect_problem(409, "key_in_use")),
        }
    }
    let teams = world.owner.get("/api/v1/teams").await.expect(200);
    assert_eq!(teams["items"].as_array().unwrap().len(), 1);
}
