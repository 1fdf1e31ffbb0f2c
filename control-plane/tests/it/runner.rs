//! Workflows and their runs: actions without a tunnel, the destination guard, bounds.

use std::{net::SocketAddr, sync::Arc};

use control_plane::Clock;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::world::{World, eventually};

/// Answers every request with the same bytes.
pub async fn origin(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = Arc::new(answer.into());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 16 * 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
            });
        }
    });
    address
}

pub async fn open_world() -> World {
    World::start_with(Clock::system(), |options| options.allow_private_destinations = true).await
}

/// Makes a workflow of the team `ops` with these actions; returns its path.
pub async fn workflow(world: &World, actions: Value) -> String {
    let team = world.team("ops").await;
    let body = json!({"team": team, "name": "ask", "actions": actions});
    let workflow = world.owner.post("/api/v1/workflows", &body).await.expect(201);
    format!("/api/v1/workflows/{}", workflow["id"].as_str().unwrap())
}

pub async fn run(world: &World, workflow: &str) -> Value {
    world.owner.post(&format!("{workflow}/runs?wait=30"), &json!({})).await.expect(200)
}

fn ask(url: &str) -> Value {
    json!([{"type": "http", "name": "ask", "url": url}])
}

#[tokio::test]
async fn a_run_keeps_the_answer_and_how_long_each_phase_took() {
    let world = open_world().await;
    let origin =
        origin("HTTP/1.1 201 Created\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 5\r\n\r\nhello")
            .await;
    let workflow = workflow(&world, ask(&format!("http://{origin}/x?y=1"))).await;
    let finished = run(&world, &workflow).await;
    assert_eq!(finished["status"], "succeeded");
    let action = &finished["actions"][0];
    let response = &action["response"];
    assert_eq!((&response["status"], &response["text"]), (&json!(201), &json!("hello")));
    assert_eq!(response["headers"][1], json!(["x-two", "b"]));
    assert_eq!(response["truncated"], false);
    let phases: Vec<_> =
        action["phases"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["dns", "tcp", "first_byte", "body"]);
    let path = format!("/api/v1/runs/{}", finished["id"].as_str().unwrap());
    assert_eq!(world.owner.get(&path).await.expect(200), finished);
    let listed = world.owner.get(&format!("{workflow}/runs")).await.expect(200);
    let summary = &listed["items"][0];
    assert_eq!(summary["outcomes"], json!([{"name": "ask", "status": 201}]));
    assert_eq!(summary["status"], "succeeded");
    assert!(summary["actions"].is_null(), "no answers: {summary}");
}

#[tokio::test]
async fn a_run_ends_with_its_first_action_that_gets_no_answer() {
    let world = open_world().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let origin = origin("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
    let action = |name: &str, address: SocketAddr| json!({"type": "http", "name": name, "url": format!("http://{address}/")});
    let actions = json!([action("one", origin), action("two", closed), action("three", origin)]);
    let workflow = workflow(&world, actions).await;
    let finished = run(&world, &workflow).await;
    assert_eq!(finished["status"], "failed");
    let actions = finished["actions"].as_array().unwrap();
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[0]["response"]["status"], 500, "an answer, if a bad one");
    let refusal = &actions[1]["refusal"];
    assert_eq!(
        (&refusal["code"], &refusal["source"]),
        (&json!("origin_refused"), &json!("origin"))
    );
    assert_eq!(refusal["retryable"], true);
    assert!(
        refusal["fix"].is_string() && refusal["detail"].as_str().unwrap().contains("127.0.0.1")
    );
}

#[tokio::test]
async fn each_way_in_which_an_origin_fails_has_its_own_code() {
    let world = open_world().await;
    let garbage = origin("SSH-2.0-OpenSSH_9.9\r\n").await;
    let silent = origin("").await;
    let cut = origin("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let cases = [
        (format!("http://{garbage}/"), "origin_garbage"),
        (format!("http://{silent}/"), "origin_reset"),
        (format!("http://{cut}/"), "origin_reset"),
        (format!("https://{garbage}/"), "origin_tls"),
        ("http://nowhere.invalid/".to_owned(), "origin_dns"),
    ];
    let actions = json!([{"type": "http", "name": "ask", "url": "http://example.com/"}]);
    let workflow = workflow(&world, actions).await;
    for (url, code) in cases {
        world.owner.put(&workflow, &json!({"name": "ask", "actions": ask(&url)})).await.expect(200);
        let finished = run(&world, &workflow).await;
        assert_eq!(finished["actions"][0]["refusal"]["code"], code, "{url}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_text_or_too_long_is_kept_as_far_as_allowed() {
    let world = open_world().await;
    let binary = origin(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\x01").await;
    let long = origin("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\näöüäx").await;
    let actions = json!([
        {"type": "http", "name": "binary", "url": format!("http://{binary}/")},
        {"type": "http", "name": "long", "url": format!("http://{long}/"), "response_limit": 3},
    ]);
    let workflow = workflow(&world, actions).await;
    let finished = run(&world, &workflow).await;
    assert_eq!(finished["actions"][0]["response"]["base64"], "//4AAQ==");
    let cut = &finished["actions"][1]["response"];
    assert_eq!((&cut["text"], &cut["truncated"]), (&json!("ä"), &json!(true)));
}

#[tokio::test]
async fn private_destinations_are_refused_however_they_are_spelt() {
    let world = World::start().await;
    let port = origin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.port();
    let placeholder = ask("http://example.com/");
    let workflow = workflow(&world, placeholder).await;
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
    ] {
        let url = format!("http://{host}:{port}/");
        world.owner.put(&workflow, &json!({"name": "ask", "actions": ask(&url)})).await.expect(200);
        let refusal = run(&world, &workflow).await["actions"][0]["refusal"].clone();
        assert_eq!(refusal["code"], "destination_refused", "{url}");
        assert!(refusal["fix"].as_str().unwrap().contains("tunnel"));
    }
}

#[tokio::test]
async fn an_action_that_cannot_work_is_not_accepted() {
    let world = World::start().await;
    let team = world.team("ops").await;
    let action = |change: Value| {
        let mut action = json!({"type": "http", "name": "ask", "url": "http://example.com/"});
        action.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        action
    };
    for bad in [
        json!({"url": "/path"}),
        json!({"url": "ftp://example.com/"}),
        json!({"url": "http://user:secret@example.com/"}),
        json!({"url": "http:///"}),
        json!({"method": "GE T"}),
        json!({"method": "CONNECT"}),
        json!({"timeout": 0}),
        json!({"timeout": 301}),
        json!({"headers": {"a b": "c"}}),
        json!({"headers": {"a": "b\r\nc: d"}}),
        json!({"name": ""}),
        json!({"use_tunnel": "Not A Name"}),
        json!({"response_limit": 1u64 << 40}),
        json!({"type": "telepathy"}),
        json!({"follow": true}),
        json!({"content_type": "form", "payload": {"a": [1]}}),
        json!({"content_type": "form"}),
    ] {
        let body = json!({"team": team, "name": "w", "actions": [action(bad.clone())]});
        let answer = world.owner.post("/api/v1/workflows", &body).await;
        assert_eq!(answer.status, 422, "{bad}");
        answer.expect_problem(422, "invalid");
    }
    let none = json!({"team": team, "name": "w", "actions": []});
    world.owner.post("/api/v1/workflows", &none).await.expect_problem(422, "invalid");
}

#[tokio::test]
async fn only_members_run_their_teams_workflows() {
    let world = World::start().await;
    let (id, ann) = world.user("ann@example.com", &["TUNNEL_MANAGE"]).await;
    let workflow = workflow(&world, ask("http://127.0.0.1:9/")).await;
    ann.get(&workflow).await.expect_problem(403, "forbidden");
    ann.post(&format!("{workflow}/runs"), &json!({})).await.expect_problem(403, "forbidden");
    assert_eq!(ann.get("/api/v1/workflows").await.expect(200)["items"], json!([]));
    let team = world.owner.get(&workflow).await.expect(200)["team"].clone();
    let team = team.as_str().unwrap();
    world.owner.put(&format!("/api/v1/teams/{team}/members/{id}"), &json!({})).await.expect(204);
    let started = ann.post(&format!("{workflow}/runs"), &json!({})).await.expect(202);
    let path = format!("/api/v1/runs/{}", started["id"].as_str().unwrap());
    eventually("the run ends", || async {
        (ann.get(&path).await.expect(200)["status"] == "failed").then_some(())
    })
    .await;
    world.owner.delete(&format!("/api/v1/teams/{team}")).await.expect_problem(409, "in_use");
    world.owner.delete(&workflow).await.expect(204);
    ann.get(&path).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn runs_are_bounded_and_those_that_a_stop_cuts_are_told() {
    let world = open_world().await;
    // Connections are accepted by the system, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let workflow = workflow(&world, ask(&url)).await;
    let path = format!("{workflow}/runs");
    let mut accepted = 0;
    let refused = loop {
        let answer = world.owner.post(&path, &json!({})).await;
        match answer.status {
            202 => accepted += 1,
            _ => break answer,
        }
    };
    assert_eq!(accepted, 32 + 256);
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect_problem(429, "too_many_runs");

    let world = world.restart().await;
    let mut before = String::new();
    let mut seen = 0;
    loop {
        let page = world.owner.get(&format!("{path}{before}")).await.expect(200);
        for run in page["items"].as_array().unwrap() {
            assert_eq!(run["status"], "interrupted");
            seen += 1;
        }
        let Some(next) = page["next"].as_str() else { break };
        before = format!("?cursor={next}");
    }
    assert_eq!(seen, accepted);
    world.owner.post(&path, &json!({})).await.expect(202);
}
