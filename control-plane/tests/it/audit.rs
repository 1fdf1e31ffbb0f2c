//! The audit log: complete, and every edit or deletion in the middle shows.

use serde_json::json;

use crate::world::World;

async fn tampered(sql: &'static str) -> serde_json::Value {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.team(name).await;
    }
    let verdict = world.owner.get("/api/v1/audit/verify").await.expect(200);
    assert_eq!(verdict["intact"], true);
    assert_eq!(world.database.execute(sql).await, 1);
    world.owner.get("/api/v1/audit/verify").await.expect(200)
}

#[tokio::test]
async fn an_edited_entry_is_found() {
    let sql =
        "UPDATE audit SET entry = replace(entry, '\"b\"', '\"x\"') WHERE entry LIKE '%\"b\"%'";
    let verdict = tampered(sql).await;
    assert_eq!(verdict["intact"], false);
    assert!(verdict["broken_at"].as_u64().unwrap() > 1);
}

#[tokio::test]
async fn a_deleted_entry_is_found() {
    let verdict = tampered("DELETE FROM audit WHERE entry LIKE '%\"b\"%'").await;
    assert_eq!(verdict["intact"], false);
}

#[tokio::test]
async fn every_change_is_recorded_with_who_did_it_and_its_generation() {
    let world = World::start().await;
    for n in 0..120 {
        world.team(&format!("team-{n}")).await;
    }
    let page = world.owner.get("/api/v1/audit").await.expect(200);
    let newest = &page["items"][0];
    assert_eq!(newest["action"], "team.create");
    assert_eq!(newest["actor"]["email"], "owner@localhost");
    assert_eq!(newest["detail"], json!({"name": "team-119"}));
    let next = page["next"].as_str().unwrap();
    let rest = world.owner.get(&format!("/api/v1/audit?cursor={next}")).await.expect(200);
    assert!(rest["next"].is_null());
    let entries: Vec<_> = [&page, &rest]
        .into_iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|entry| (entry["sequence"].as_u64().unwrap(), entry["generation"].as_u64().unwrap()))
        .collect();
    assert_eq!(entries.len() as u64, entries[0].0);
    assert!(entries.windows(2).all(|pair| pair[0].0 == pair[1].0 + 1), "no gap");
    assert!(entries.windows(2).all(|pair| pair[0].1 >= pair[1].1), "generations grow");
    let changes = [&page, &rest].into_iter().flat_map(|page| page["items"].as_array().unwrap());
    // Sessions are nothing that edges hear of.
    let changes = changes.filter(|entry| entry["action"] != "session.begin");
    let changes: Vec<_> = changes.map(|entry| entry["generation"].as_u64().unwrap()).collect();
    assert!(changes.windows(2).all(|pair| pair[0] > pair[1]), "each change has its own");
    let (_, ann) = world.user("ann@example.com", &[]).await;
    ann.get("/api/v1/audit").await.expect_problem(403, "forbidden");
}
