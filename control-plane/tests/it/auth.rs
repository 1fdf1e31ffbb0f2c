//! Sessions, CSRF, API keys, permissions.

use std::time::Duration;

use control_plane::Clock;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_sound_the_same() {
    let world = World::start().await;
    let client = world.anonymous();
    let wrong = client.try_log_in("owner@localhost", "wrong").await;
    let unknown = client.try_log_in("nobody@localhost", "wrong").await;
    let wrong = wrong.expect_problem(401, "bad_login");
    assert_eq!(wrong, unknown.expect_problem(401, "bad_login"));
    let again = client.try_log_in("nobody@localhost", "wrong").await;
    assert!(again.headers.contains_key("retry-after"));
    again.expect_problem(429, "too_many_logins");
    let right = client.try_log_in("owner@localhost", &world.password).await;
    right.expect_problem(429, "too_many_logins");
}

#[tokio::test]
async fn owners_who_remove_each_other_at_once_leave_one() {
    let world = World::start().await;
    let mut owner = world.owner.clone();
    for round in 0..10 {
        let email = format!("owner-{round}@example.com");
        let body = json!({"email": &email, "password": "correct horse", "is_owner": true});
        let other_id = owner.post("/api/v1/users", &body).await.expect(201)["id"].clone();
        let users = owner.get("/api/v1/users").await.expect(200);
        let users = users["items"].as_array().unwrap().iter();
        let id = users.map(|user| &user["id"]).find(|id| **id != other_id).unwrap();
        let path = |id: &serde_json::Value| format!("/api/v1/users/{}", id.as_str().unwrap());
        let mut other = world.anonymous();
        other.log_in(&email, "correct horse").await;
        let (path, other_path) = (path(id), path(&other_id));
        tokio::join!(owner.delete(&other_path), other.delete(&path));
        let mut left = Vec::new();
        for client in [owner, other] {
            if client.get("/api/v1/users").await.status == 200 {
                left.push(client);
            }
        }
        assert_eq!(left.len(), 1, "round {round}");
        owner = left.remove(0);
    }
}

#[tokio::test]
async fn a_session_needs_its_csrf_token_for_whatever_changes_something() {
    let world = World::start().await;
    world.owner.get("/api/v1/me").await.expect(200);
    let mut forged = world.owner.clone();
    forged.headers.retain(|(name, _)| *name != "postern-csrf");
    let team = json!({"name": "ops"});
    forged.get("/api/v1/me").await.expect(200);
    forged.post("/api/v1/teams", &team).await.expect_problem(403, "bad_csrf");
    forged.headers.push(("postern-csrf", "x".repeat(43)));
    forged.post("/api/v1/teams", &team).await.expect_problem(403, "bad_csrf");
    world.owner.post("/api/v1/teams", &team).await.expect(201);
}

#[tokio::test]
async fn a_session_is_over_when_it_idles_grows_old_or_is_ended() {
    let clock = Clock::manual(1_800_000_000_000);
    let mut world = World::start_with(clock.clone(), |_| {}).await;
    clock.advance(Duration::from_secs(29 * 60));
    world.owner.get("/api/v1/me").await.expect(200);
    clock.advance(Duration::from_secs(29 * 60));
    world.owner.get("/api/v1/me").await.expect(200);
    clock.advance(Duration::from_secs(31 * 60));
    world.owner.get("/api/v1/me").await.expect_problem(401, "unauthenticated");

    let password = world.password.clone();
    world.owner.log_in("owner@localhost", &password).await;
    for _ in 0..25 {
        world.owner.get("/api/v1/me").await.expect(200);
        clock.advance(Duration::from_secs(29 * 60));
    }
    world.owner.get("/api/v1/me").await.expect_problem(401, "unauthenticated");

    world.owner.log_in("owner@localhost", &password).await;
    world.owner.delete("/api/v1/session").await.expect(204);
    world.owner.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn behind_https_the_cookie_is_bound_to_its_host() {
    let world = World::start_with(Clock::system(), |options| options.secure_cookies = true).await;
    let answer = world.anonymous().try_log_in("owner@localhost", &world.password).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-postern="), "{cookie}");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    world.owner.get("/api/v1/me").await.expect(200);
}

#[tokio::test]
async fn an_api_key_acts_as_its_user_until_it_is_revoked() {
    let world = World::start().await;
    let created = world.owner.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect(201);
    let program = world.anonymous().with_key(created["key"].as_str().unwrap());
    assert_eq!(program.get("/api/v1/me").await.expect(200)["email"], "owner@localhost");
    program.post("/api/v1/teams", &json!({"name": "ops"})).await.expect(201);

    let listed = world.owner.get("/api/v1/api-keys").await.expect(200);
    assert_eq!(listed["items"][0]["name"], "ci");
    assert!(listed["items"][0]["last_used_at"].is_string());
    assert!(listed["items"][0]["key"].is_null(), "shown once");

    let (_, other) = world.user("ann@example.com", &[]).await;
    let path = format!("/api/v1/api-keys/{}", created["id"].as_str().unwrap());
    other.delete(&path).await.expect_problem(404, "not_found");
    world.owner.delete(&path).await.expect(204);
    program.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
    world
        .anonymous()
        .with_key("ptk1_nonsense")
        .get("/api/v1/me")
        .await
        .expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn users_may_do_what_they_were_granted_and_no_more() {
    let world = World::start().await;
    let (id, mut ann) = world.user("Ann@Example.com", &[]).await;
    ann.get("/api/v1/admin/tunnel").await.expect_problem(403, "forbidden");
    ann.get("/api/v1/users").await.expect_problem(403, "forbidden");
    ann.get("/api/v1/edges/join-tokens").await.expect_problem(403, "forbidden");
    let path = format!("/api/v1/users/{id}");
    let grant = json!({"permissions": ["TUNNEL_MANAGE"]});
    world.owner.patch(&path, &grant).await.expect(200);
    ann.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
    ann.log_in("ann@example.com", "correct horse").await;
    assert_eq!(ann.get("/api/v1/me").await.expect(200)["permissions"], json!(["TUNNEL_MANAGE"]));
    ann.get("/api/v1/admin/tunnel").await.expect(200);
    ann.patch(&path, &grant).await.expect_problem(403, "forbidden");
    world.owner.patch(&path, &json!({"permissions": ["ALL"]})).await.expect_problem(422, "invalid");

    let change = json!({"current": "correct horse", "new": "a better one"});
    ann.put("/api/v1/me/password", &change).await.expect(204);
    ann.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
    ann.log_in("ann@example.com", "a better one").await;
    world.owner.delete(&path).await.expect(204);
    ann.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn whatever_is_malformed_is_refused_clearly() {
    let world = World::start().await;
    let owner = &world.owner;
    owner
        .post("/api/v1/teams", &json!({"name": "a", "colour": "red"}))
        .await
        .expect_problem(422, "invalid");
    owner.post("/api/v1/teams", &json!({"name": ""})).await.expect_problem(422, "invalid");
    owner
        .post("/api/v1/teams", &json!({"name": "x".repeat(2 << 20)}))
        .await
        .expect_problem(413, "too_large");
    owner.get("/api/v1/nothing").await.expect_problem(404, "not_found");
    owner.put("/api/v1/teams", &json!({})).await.expect_problem(405, "method_not_allowed");
    owner.get("/api/v1/teams/not-an-id").await.expect_problem(404, "not_found");
    owner.get("/api/v1/audit?beforee=1").await.expect_problem(400, "bad_query");
    world.anonymous().get("/api/v1/teams").await.expect_problem(401, "unauthenticated");
    owner.post("/api/v1/teams", &json!({"name": "a"})).await.expect(201);
    owner.post("/api/v1/teams", &json!({"name": "a"})).await.expect_problem(409, "conflict");
    assert_eq!(world.anonymous().get("/healthz").await.expect(200), "ok\n");
}
