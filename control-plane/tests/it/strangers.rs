//! What people without credentials can do to those who have some: little, and it is written down.

use control_plane::Clock;
use http::Method;
use protocol::{
    address::EdgeAddress,
    credential::{ApiKey, CredentialSecret},
    join::JoinToken,
};
use serde_json::{Value, json};

use crate::{
    test_edge,
    world::{World, eventually},
};

const OWNER: &str = "owner@localhost";
/// Of the year 2027.
const NOW_MS: u64 = 1_800_000_000_000;

fn address() -> EdgeAddress {
    EdgeAddress {
        region: "east".parse().unwrap(),
        address: "edge.example.com:7844".parse().unwrap(),
        fallback_port: None,
    }
}

#[tokio::test]
async fn strangers_keep_no_owner_out() {
    let world = World::start_with(Clock::manual(NOW_MS), |_| {}).await;
    for _ in 0..2 {
        for n in 0..150 {
            world.stranger(n).try_log_in(OWNER, "wrong").await;
        }
    }
    let again = world.stranger(0).try_log_in(OWNER, "wrong").await;
    again.expect_problem(429, "too_many_logins");
    // From everywhere together they have failed so often that an address which nobody has used waits, too.
    let fresh = world.stranger(200).try_log_in(OWNER, &world.password).await;
    assert!(fresh.headers.contains_key("retry-after"));
    fresh.expect_problem(429, "too_many_logins");
    // The owner has come from this address before.
    world.anonymous().try_log_in(OWNER, &world.password).await.expect(200);
    let body = json!({"current": &world.password, "new": "another horse"});
    world.owner.put("/api/v1/me/password", &body).await.expect(204);
    world.anonymous().try_log_in(OWNER, "another horse").await.expect(200);
}

#[tokio::test]
async fn a_source_that_an_account_has_used_is_known_after_a_restart() {
    let world = World::start_with(Clock::manual(NOW_MS), |_| {}).await;
    world.stranger(200).try_log_in(OWNER, &world.password).await.expect(200);
    let world = world.restart().await;
    for n in 0..120 {
        world.stranger(n).try_log_in(OWNER, "wrong").await;
    }
    world
        .stranger(201)
        .try_log_in(OWNER, &world.password)
        .await
        .expect_problem(429, "too_many_logins");
    world.stranger(200).try_log_in(OWNER, &world.password).await.expect(200);
}

#[tokio::test]
async fn a_wrong_current_password_keeps_no_login_out() {
    let world = World::start_with(Clock::manual(NOW_MS), |_| {}).await;
    let body = json!({"current": "wrong", "new": "another horse"});
    world.owner.put("/api/v1/me/password", &body).await.expect_problem(401, "bad_login");
    world.owner.put("/api/v1/me/password", &body).await.expect_problem(429, "too_many_logins");
    world.anonymous().try_log_in(OWNER, &world.password).await.expect(200);
}

/// The one entry that comes to be with this action.
async fn recorded(world: &World, action: &str) -> Value {
    let path = format!("/api/v1/audit?action={action}");
    eventually("it is recorded", || async {
        let page = world.owner.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 1, "{page}");
        items.first().cloned()
    })
    .await
}

#[tokio::test]
async fn whoever_could_not_come_in_is_in_the_audit_log_with_account_and_address() {
    let world = World::start().await;
    let created = world.owner.post("/api/v1/api-keys", &json!({"name": "mine"})).await.expect(201);
    let key = ApiKey::decode(created["key"].as_str().unwrap()).unwrap();
    let key = ApiKey { secret: CredentialSecret::from_bytes([7; 32]), ..key };
    let forged = world.stranger(2).with_key(&key.encode());
    let token = JoinToken::decode(&world.join_token.encode()).unwrap();
    let token = JoinToken { secret: CredentialSecret::from_bytes([7; 32]), ..token };

    world.stranger(1).try_log_in(OWNER, "wrong").await.expect_problem(401, "bad_login");
    forged.get("/api/v1/me").await.expect_problem(401, "unauthenticated");
    let gateway = "127.0.0.1:3128".parse().unwrap();
    assert_eq!(test_edge::join(&token, address(), gateway).await.1, Err(401));
    let link = json!({"secret": "wrong"});
    world.stranger(3).post("/api/v1/session/link", &link).await.expect_problem(410, "bad_link");

    for (action, subject, address, reason) in [
        ("session.fail", OWNER.to_owned(), "127.66.0.1", "wrong_password"),
        ("api_key.fail", key.id.to_string(), "127.66.0.2", "wrong_secret"),
        ("edge.join_fail", token.id.to_string(), "127.0.0.1", "wrong_secret"),
        ("one_time_link.fail", String::new(), "127.66.0.3", "unknown_or_used"),
    ] {
        let entry = recorded(&world, action).await;
        assert_eq!(entry["subject"], subject, "{action}");
        assert_eq!(entry["actor"], json!({"kind": "stranger", "address": address}), "{action}");
        assert_eq!(entry["detail"], json!({"reason": reason, "count": 1}), "{action}");
    }
    let verdict = world.owner.get("/api/v1/audit/verify").await.expect(200);
    assert_eq!(verdict["intact"], true);
}

#[tokio::test]
async fn a_flood_of_failures_is_a_bounded_number_of_entries() {
    let world = World::start_with(Clock::manual(NOW_MS), |_| {}).await;
    for n in 0..200 {
        world.stranger(1).try_log_in(&format!("user-{n}@example.com"), "wrong").await;
    }
    recorded_at_least(&world, 1).await;
    let page = world.owner.get("/api/v1/audit?action=session.fail&limit=200").await.expect(200);
    let entries = page["items"].as_array().unwrap().len();
    // A burst, and one for each ten seconds that this test may have taken.
    assert!(entries <= 70, "{entries}");
}

async fn recorded_at_least(world: &World, count: usize) {
    eventually("failures are recorded", || async {
        let page = world.owner.get("/api/v1/audit?action=session.fail").await.expect(200);
        (page["items"].as_array().unwrap().len() >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_stranger_waits_for_the_write_lock_or_takes_it() {
    let world = World::start().await;
    let token = JoinToken::decode(&world.join_token.encode()).unwrap();
    let token = JoinToken { secret: CredentialSecret::from_bytes([7; 32]), ..token };
    let lock = world.database.lock().await;
    let gateway = "127.0.0.1:3128".parse().unwrap();
    assert_eq!(test_edge::join(&token, address(), gateway).await.1, Err(401));
    let link = json!({"secret": "wrong"});
    world.stranger(1).post("/api/v1/session/link", &link).await.expect_problem(410, "bad_link");
    world.stranger(2).try_log_in(OWNER, "wrong").await.expect_problem(401, "bad_login");
    drop(lock);
}

#[tokio::test]
async fn a_login_is_no_change_that_edges_hear_of() {
    let world = World::start().await;
    let before = world.team("ops").await;
    let newest = || async {
        let page = world.owner.get("/api/v1/audit").await.expect(200);
        (page["items"][0]["action"].clone(), page["items"][0]["generation"].clone())
    };
    let (_, generation) = newest().await;
    world.anonymous().try_log_in(OWNER, &world.password).await.expect(200);
    assert_eq!(newest().await, (json!("session.begin"), generation), "{before}");
}

#[tokio::test]
async fn a_login_is_small() {
    let world = World::start().await;
    let body = json!({"email": OWNER, "password": "x".repeat(20_000)}).to_string();
    let answer = world.stranger(1).send(Method::POST, "/api/v1/session", Some(body)).await;
    answer.expect_problem(413, "too_large");
}
