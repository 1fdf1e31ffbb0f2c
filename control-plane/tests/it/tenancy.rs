//! Tenants cannot see one another: every operation of the OpenAPI document, asked by another tenant's
//! owner for what is not theirs, answers that there is no such thing.

use std::collections::BTreeMap;

use http::Method;
use protocol::{presence::Report, secret::TunnelSecret};
use serde_json::{Value, json};

use crate::{
    test_edge::{TestEdge, link},
    world::{World, eventually},
};

/// Operations of the deployment, for its operators only: another tenant's owner may not, whatever the
/// address.
const OPERATORS: &[&str] = &["/api/v1/edges/{id}", "/api/v1/edges/join-tokens/{id}"];

#[tokio::test]
async fn whatever_belongs_to_another_tenant_does_not_exist() {
    let world = World::start().await;
    let edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let owner = &world.owner;
    let team = world.team("ops").await;
    let (user, _) = world.user("ann@example.com", &[]).await;
    let tunnel = owner.post("/api/v1/admin/tunnel", &json!({"name": "office"})).await.expect(201);
    let shown = owner.get("/api/v1/admin/tunnel/office").await.expect(200);
    let key = shown["secrets"][0]["key"].as_str().unwrap().to_owned();
    let action = json!({"type": "http", "name": "ask", "url": "http://127.0.0.1:9/"});
    let workflow = json!({"team": team, "name": "w", "actions": [action]});
    let workflow = text(&owner.post("/api/v1/workflows", &workflow).await.expect(201)["id"]);
    let runs = format!("/api/v1/workflows/{workflow}/runs?wait=20");
    let run = text(&owner.post(&runs, &json!({})).await.expect(200)["id"]);
    let sessions = owner.get("/api/v1/me/sessions").await.expect(200);
    let session = text(&sessions["items"][0]["id"]);
    let api_key = owner.post("/api/v1/api-keys", &json!({"name": "ci"})).await.expect(201);
    let token = json!({"name": "n8n", "team": team});
    let token = text(&owner.post("/api/v1/proxy-tokens", &token).await.expect(201)["id"]);
    let secret = TunnelSecret::decode(tunnel["secret"].as_str().unwrap()).unwrap();
    let presence = edge.presence();
    let up = vec![link(secret.tunnel, secret.key, 2, 0)];
    presence.report(Report { reset: true, up, ..Report::default() }).await;
    let connector = eventually("the connector is known", || async {
        let shown = owner.get("/api/v1/admin/tunnel/office").await.expect(200);
        shown["connectors"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let of_connector = vec![("name", "office".to_owned()), ("connector", connector)];
    let of_link = [of_connector.clone(), vec![("slot", "0".to_owned())]].concat();

    let stranger = world.other_tenant().await;
    let ids = BTreeMap::from([
        ("/api/v1/users/{id}", vec![("id", user.clone())]),
        ("/api/v1/teams/{id}", vec![("id", team.clone())]),
        ("/api/v1/teams/{id}/members/{user}", vec![("id", team.clone()), ("user", user)]),
        ("/api/v1/api-keys/{id}", vec![("id", text(&api_key["id"]))]),
        ("/api/v1/admin/tunnel/{name}", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/access", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/traffic", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/failures", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/usage", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/health", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/health/history", vec![("name", "office".into())]),
        ("/api/v1/admin/tunnel/{name}/secrets", vec![("name", "office".into())]),
        (
            "/api/v1/admin/tunnel/{name}/secrets/{key}",
            vec![("name", "office".into()), ("key", key)],
        ),
        ("/api/v1/admin/tunnel/{name}/connectors/{connector}", of_connector.clone()),
        ("/api/v1/admin/tunnel/{name}/connectors/{connector}/log-level", of_connector),
        ("/api/v1/admin/tunnel/{name}/connectors/{connector}/links/{slot}", of_link.clone()),
        ("/api/v1/admin/tunnel/{name}/connectors/{connector}/links/{slot}/drain", of_link),
        ("/api/v1/admin/tunnel/{name}/audit", vec![("name", "office".into())]),
        ("/api/v1/me/sessions/{id}", vec![("id", session)]),
        ("/api/v1/workflows/{id}", vec![("id", workflow.clone())]),
        ("/api/v1/workflows/{id}/runs", vec![("id", workflow)]),
        ("/api/v1/runs/{id}", vec![("id", run)]),
        ("/api/v1/proxy-tokens/{id}", vec![("id", token)]),
        ("/api/v1/edges/{id}", vec![("id", edge.id.to_string())]),
        ("/api/v1/edges/join-tokens/{id}", vec![("id", world.join_token.id.to_string())]),
    ]);
    let bodies = BTreeMap::from([
        (("PATCH", "/api/v1/users/{id}"), json!({"permissions": []})),
        (("PATCH", "/api/v1/teams/{id}"), json!({"name": "mine"})),
        (("PATCH", "/api/v1/admin/tunnel/{name}"), json!({"display_name": "mine"})),
        (("PUT", "/api/v1/admin/tunnel/{name}/access"), json!({"mode": "any_team"})),
        (
            ("PUT", "/api/v1/admin/tunnel/{name}/connectors/{connector}/log-level"),
            json!({"level": "debug"}),
        ),
        (("PUT", "/api/v1/workflows/{id}"), json!({"name": "w", "actions": [action]})),
    ]);
    let document = serde_json::to_value(control_plane::openapi()).unwrap();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            if !path.contains('{') {
                // The stream of events has no end; `events.rs` sees what it tells.
                if method == Method::GET && path != "/api/v1/events" {
                    let answer = stranger.get(path).await;
                    assert!(!answer.body.to_string().contains("office"), "{path}");
                }
                continue;
            }
            let ids = ids.get(path.as_str()).unwrap_or_else(|| panic!("no example for {path}"));
            let concrete = ids
                .iter()
                .fold(path.clone(), |path, (name, id)| path.replace(&format!("{{{name}}}"), id));
            let body = bodies.get(&(method.as_str(), path.as_str())).cloned().unwrap_or(json!({}));
            let answer = stranger.send(method.clone(), &concrete, Some(body.to_string())).await;
            if OPERATORS.contains(&path.as_str()) {
                answer.expect_problem(403, "forbidden");
            } else {
                answer.expect_problem(404, "not_found");
            }
            let nobody = world.anonymous().send(method, &concrete, Some(body.to_string())).await;
            nobody.expect_problem(401, "unauthenticated");
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked}");
    owner.get("/api/v1/admin/tunnel/office").await.expect(200);
}

#[tokio::test]
async fn two_tenants_may_have_tunnels_of_the_same_name() {
    let world = World::start().await;
    let _edge = TestEdge::join(&world, "east", "127.0.0.1:3128".parse().unwrap()).await;
    let stranger = world.other_tenant().await;
    let body = json!({"name": "office"});
    let ours = world.owner.post("/api/v1/admin/tunnel", &body).await.expect(201);
    let theirs = stranger.post("/api/v1/admin/tunnel", &body).await.expect(201);
    assert_ne!(ours["id"], theirs["id"]);
    let team = world.team("ops").await;
    let foreign = json!({"mode": "teams", "teams": [team]});
    let path = "/api/v1/admin/tunnel/office/access";
    stranger.put(path, &foreign).await.expect_problem(422, "invalid");
    let action = json!({"type": "http", "name": "ask", "url": "http://example.com/"});
    let workflow = json!({"team": team, "name": "w", "actions": [action]});
    stranger.post("/api/v1/workflows", &workflow).await.expect_problem(404, "not_found");
    stranger
        .post(
            "/api/v1/tenants",
            &json!({"name": "x", "owner_email": "a@b.c", "owner_password": "12345678"}),
        )
        .await
        .expect_problem(403, "forbidden");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
