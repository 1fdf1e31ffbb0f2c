//! Lists: pages, order, filters, and what a query may say.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{client::Client, test_edge::TestEdge, world::World};

/// All items of a list, a few at a time.
async fn all(client: &Client, path: &str, limit: usize) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = client.get(&format!("{path}{sign}limit={limit}{cursor}")).await.expect(200);
        let page_items = page["items"].as_array().unwrap();
        assert!(page_items.len() <= limit, "{page}");
        items.extend(page_items.iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        assert_eq!(page_items.len(), limit, "a page that is not the last is full");
        cursor = format!("&cursor={next}");
    }
}

fn texts(items: &[Value], field: &str) -> Vec<String> {
    items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

/// A workflow whose actions use these tunnels, or none.
async fn workflow(world: &World, team: &str, name: &str, tunnels: &[Option<&str>]) -> String {
    let action = |tunnel: &Option<&str>| {
        let mut action = json!({"type": "http", "name": "ask", "url": "http://127.0.0.1:9/"});
        if let Some(tunnel) = tunnel {
            action["use_tunnel"] = json!(tunnel);
        }
        action
    };
    let actions: Vec<_> = tunnels.iter().map(action).collect();
    let body = json!({"team": team, "name": name, "actions": actions});
    let made = world.owner.post("/api/v1/workflows", &body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pages_leave_nothing_out_and_show_nothing_twice_while_items_come_and_go() {
    let world = World::start().await;
    for name in ["bee", "Ant", "cow", "dog", "eel"] {
        world.team(name).await;
    }
    let names = texts(&all(&world.owner, "/api/v1/teams", 2).await, "name");
    assert_eq!(names, ["Ant", "bee", "cow", "dog", "eel"], "in the order of people");
    let names = texts(&all(&world.owner, "/api/v1/teams?sort=-created_at", 2).await, "name");
    assert_eq!(names, ["eel", "dog", "cow", "Ant", "bee"]);

    let first = world.owner.get("/api/v1/teams?limit=2").await.expect(200);
    let bee = first["items"][1]["id"].as_str().unwrap();
    world.owner.delete(&format!("/api/v1/teams/{bee}")).await.expect(204);
    world.team("aardvark").await;
    world.team("crow").await;
    let next = first["next"].as_str().unwrap();
    let rest = world.owner.get(&format!("/api/v1/teams?cursor={next}")).await.expect(200);
    assert_eq!(texts(rest["items"].as_array().unwrap(), "name"), ["cow", "crow", "dog", "eel"]);
    assert!(rest["next"].is_null());
}

#[tokio::test]
async fn whatever_a_query_does_not_have_is_refused_with_what_it_has() {
    let world = World::start().await;
    let owner = &world.owner;
    let problem = owner.get("/api/v1/teams?serach=x").await.expect_problem(400, "bad_query");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("serach"), "{detail}");
    assert!(detail.contains("cursor, limit, search, sort"), "{detail}");
    let made = owner.send(http::Method::POST, "/api/v1/teams?x=1", Some("{}".to_owned())).await;
    made.expect_problem(400, "bad_query");
    let first = owner.get("/api/v1/teams?limit=1").await.expect(200);
    assert!(first["next"].is_null());
    world.team("a").await;
    world.team("b").await;
    let first = owner.get("/api/v1/teams?limit=1").await.expect(200);
    let cursor = first["next"].as_str().unwrap();
    for query in [
        "limit=0",
        "limit=501",
        "limit=many",
        "limit=1&limit=2",
        "cursor=nonsense",
        "sort=colour",
        &format!("sort=-name&cursor={cursor}"),
        &format!("search={}", "x".repeat(200)),
    ] {
        let answer = owner.get(&format!("/api/v1/teams?{query}")).await;
        answer.expect_problem(400, "bad_query");
    }
    let users = owner.get(&format!("/api/v1/users?sort=created_at&cursor={cursor}")).await;
    users.expect_problem(400, "bad_query");
    owner.get("/api/v1/workflows?team=ops").await.expect_problem(400, "bad_query");
}

#[tokio::test]
async fn workflows_are_listed_without_their_actions_and_found_by_team_tunnel_and_name() {
    let world = World::start().await;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    let office = Some("office");
    let first = workflow(&world, &ops, "Nightly report", &[office, None, office]).await;
    let second = workflow(&world, &dev, "100%_sure", &[Some("lab"), office]).await;
    workflow(&world, &dev, "plain", &[None]).await;

    let listed = world.owner.get("/api/v1/workflows").await.expect(200);
    let names = texts(listed["items"].as_array().unwrap(), "name");
    assert_eq!(names, ["100%_sure", "Nightly report", "plain"]);
    let summary = &listed["items"][1];
    assert_eq!(summary["action_count"], 3);
    assert_eq!(summary["tunnels"], json!(["office"]));
    assert_eq!(summary["team"], json!(ops));
    assert_eq!(summary["team_name"], "ops");
    assert!(summary["actions"].is_null());
    assert_eq!(listed["items"][0]["tunnels"], json!(["lab", "office"]));

    let find = async |query: &str| {
        let path = format!("/api/v1/workflows?{query}");
        texts(&all(&world.owner, &path, 1).await, "id").into_iter().collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from([first.clone(), second.clone()]);
    assert_eq!(find("tunnel=office").await, both);
    assert_eq!(find("tunnel=lab").await, BTreeSet::from([second.clone()]));
    assert_eq!(find(&format!("team={ops}")).await, BTreeSet::from([first.clone()]));
    assert_eq!(find("search=REPORT").await, BTreeSet::from([first.clone()]));
    assert_eq!(find("search=%25_").await, BTreeSet::from([second.clone()]), "no wildcards");
    assert!(find("tunnel=nowhere").await.is_empty());

    let body = json!({"name": "Nightly report", "actions": [
        {"type": "http", "name": "ask", "url": "http://127.0.0.1:9/"}]});
    world.owner.put(&format!("/api/v1/workflows/{first}"), &body).await.expect(200);
    assert_eq!(find("tunnel=office").await, BTreeSet::from([second]), "it uses none any more");
}

#[tokio::test]
async fn members_page_through_what_their_teams_own_and_nothing_else() {
    let world = World::start().await;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    let (ann, client) = world.user("ann@example.com", &[]).await;
    world.owner.put(&format!("/api/v1/teams/{ops}/members/{ann}"), &json!({})).await.expect(204);
    for n in 0..3 {
        for team in [&ops, &dev] {
            workflow(&world, team, &format!("w{n}"), &[None]).await;
            let body = json!({"name": format!("t{n}"), "team": team});
            world.owner.post("/api/v1/proxy-tokens", &body).await.expect(201);
        }
    }
    for path in ["/api/v1/workflows", "/api/v1/proxy-tokens"] {
        let seen = all(&client, path, 2).await;
        assert_eq!(seen.len(), 3, "{path}");
        assert!(seen.iter().all(|item| item["team"] == json!(ops)), "{path}");
        assert_eq!(all(&world.owner, path, 4).await.len(), 6, "{path}");
        assert!(all(&client, &format!("{path}?team={dev}"), 2).await.is_empty(), "{path}");
    }
    assert_eq!(texts(&all(&client, "/api/v1/teams", 1).await, "name"), ["ops"]);
}

#[tokio::test]
async fn what_was_revoked_leaves_the_default_view() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let owner = &world.owner;
    let team = world.team("ops").await;
    owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await.expect(201);
    let secrets = "/api/v1/admin/tunnel/office/secrets";
    for (list, create, body, id) in [
        ("/api/v1/api-keys", "/api/v1/api-keys", json!({"name": "k"}), "id"),
        ("/api/v1/proxy-tokens", "/api/v1/proxy-tokens", json!({"name": "t", "team": team}), "id"),
        ("/api/v1/edges/join-tokens", "/api/v1/edges/join-tokens", json!({}), "id"),
        (secrets, secrets, json!({}), "key"),
    ] {
        let before = all(owner, list, 3).await.len();
        let made = owner.post(create, &body).await.expect(201);
        assert_eq!(all(owner, list, 3).await.len(), before + 1, "{list}");
        let path = format!("{list}/{}", made[id].as_str().unwrap());
        let status = owner.delete(&path).await.status;
        assert!(matches!(status, 200 | 204), "{list}: {status}");
        assert_eq!(all(owner, list, 3).await.len(), before, "{list}");
        let ended = all(owner, &format!("{list}?state=ended"), 3).await;
        assert_eq!(texts(&ended, id), [made[id].as_str().unwrap()], "{list}");
        assert_eq!(all(owner, &format!("{list}?state=all"), 3).await.len(), before + 1, "{list}");
    }
}

#[tokio::test]
async fn tunnels_are_found_by_name_health_region_and_team() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let (ops, dev) = (world.team("ops").await, world.team("dev").await);
    for (name, display_name, access) in [
        ("a", "Zurich", json!({"mode": "any_team"})),
        ("b", "Basel", json!({"mode": "teams", "teams": [ops]})),
        ("c", "basel 2", json!({"mode": "teams", "teams": [dev]})),
    ] {
        let body = json!({"name": name, "display_name": display_name, "access": access});
        world.owner.post("/api/v1/admin/tunnel", &body).await.expect(201);
    }
    let find = async |query: &str| {
        texts(&all(&world.owner, &format!("/api/v1/admin/tunnel?{query}"), 1).await, "name")
    };
    assert_eq!(find("sort=-name").await, ["c", "b", "a"]);
    assert_eq!(find("sort=display_name").await, ["b", "c", "a"]);
    assert_eq!(find("sort=health").await, ["a", "b", "c"]);
    assert_eq!(find("search=BASEL").await, ["b", "c"]);
    assert_eq!(find(&format!("team={ops}")).await, ["a", "b"]);
    assert_eq!(find("health=Inactive").await, ["a", "b", "c"]);
    assert!(find("health=Down").await.is_empty());
    assert!(find("region=east").await.is_empty(), "no link is up");
    let usable = format!("/api/v1/tunnels?team={dev}&search=base");
    assert_eq!(texts(&all(&world.owner, &usable, 1).await, "name"), ["c"]);
}

#[tokio::test]
async fn the_log_is_found_by_actor_action_and_time_a_page_at_a_time() {
    let world = World::start().await;
    for n in 0..7 {
        world.team(&format!("team-{n}")).await;
    }
    let (ann, mut client) = world.user("ann@example.com", &[]).await;
    client.log_in("ann@example.com", "correct horse").await;
    let found = all(&world.owner, "/api/v1/audit?action=team", 3).await;
    assert_eq!(found.len(), 7);
    let sequences: Vec<_> = found.iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted_by(|a, b| a > b), "newest first: {sequences:?}");
    let by_ann = all(&world.owner, "/api/v1/audit?actor=ann%40", 1).await;
    assert_eq!(by_ann.len(), 2);
    let made = all(&world.owner, &format!("/api/v1/audit?subject={ann}"), 2).await;
    assert_eq!(texts(&made, "action"), ["user.create"]);
    let at = made[0]["at"].as_str().unwrap();
    let later = all(&world.owner, &format!("/api/v1/audit?action=team&from={at}"), 2).await;
    assert!(later.len() < 7);
}
