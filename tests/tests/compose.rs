//! The compose files as people use them, in a real Docker engine in a private network behind a router.
//! Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{collections::BTreeSet, fs};

use postern_tests::{
    api::Api,
    docker::{Docker, repository, secret_file},
    origin::{HELLO, Origin},
    postgres::Postgres,
    process::Process,
    world::{TUNNEL, World, program},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

const HEALTH: &str = "{{.State.Health.Status}}";
const EXIT_CODE: &str = "{{.State.ExitCode}}";
const OWNER: &str = "owner@localhost";

#[tokio::test]
async fn compose_runs_a_connector_with_its_secret_in_a_variable() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let world = World::start_at(docker.network.host()).await.unwrap();
    let dir = compose_files();
    let variables = [("TUNNEL_SECRET", world.secret.as_str())];
    let compose = |verb: &str| format!("--file connector.yml {verb}");
    docker.compose(dir.path(), &variables, &compose("up --detach")).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
    let id = docker.compose(dir.path(), &variables, &compose("ps --quiet")).await.unwrap();
    let log = docker.inspect(id.trim(), "{{json .HostConfig.LogConfig}}").await.unwrap();
    assert_eq!(log, r#"{"Type":"json-file","Config":{"max-file":"3","max-size":"10m"}}"#);
    docker.compose(dir.path(), &variables, &compose("stop")).await.unwrap();
    assert_eq!(docker.inspect(id.trim(), EXIT_CODE).await.unwrap(), "0");
}

#[tokio::test]
async fn compose_runs_two_replicas_with_their_secret_in_a_file_and_one_may_die() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let world = World::start_at(docker.network.host()).await.unwrap();
    let dir = compose_files();
    secret_file(&dir.path().join("secrets"), "tunnel_secret.txt", &world.secret).unwrap();
    let compose = |verb: &str| format!("--file connector-secrets.yml {verb}");
    docker.compose(dir.path(), &[], &compose("up --detach")).await.unwrap();
    let path = format!("/api/v1/admin/tunnel/{TUNNEL}");
    let replicas = |tunnel: &Value| {
        let connectors = tunnel["connectors"].as_array().into_iter().flatten();
        connectors.filter(|c| c["links"].as_array().is_some_and(|l| l.len() == 4)).count()
    };
    world.wait_for(&path, |tunnel| replicas(tunnel) == 2).await.unwrap();

    let ids = docker.compose(dir.path(), &[], &compose("ps --quiet")).await.unwrap();
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 2);
    for id in &ids {
        assert!(!docker.docker(["inspect", id]).await.unwrap().contains(&world.secret));
    }
    // Nobody is to start it again before the other has shown that it suffices.
    docker.docker(["update", "--restart", "no", ids[0]]).await.unwrap();
    docker.docker(["kill", ids[0]]).await.unwrap();
    world.wait_for(&path, |tunnel| replicas(tunnel) == 1).await.unwrap();
    for _ in 0..20 {
        let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
        assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
    }
}

#[tokio::test]
async fn the_quick_start_leads_to_a_workflow_that_reaches_a_private_server() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    docker.image_of_this_postern().await.unwrap();
    let inside = docker.network.inside().to_string();
    let dir = compose_files();
    let mut variables = vec![("POSTERN_PUBLISH", inside.as_str())];
    let up = "--file quickstart.yml --project-name quick up --detach";
    docker.compose(dir.path(), &variables, up).await.unwrap();
    let log = docker.follow("quick_postern_1").unwrap();
    let secret = |line: &str| Some(line.split_once("/setup#")?.1.trim().to_owned());
    let secret = log.find(secret).await.unwrap();
    log.find(|line| line.starts_with("Postern is up.").then_some(())).await.unwrap();
    let base = format!("http://{inside}:8080");
    let api = Api::set_up(&base, OWNER, &secret, "chosen by the link").await.unwrap();

    let secret = new_tunnel(&api).await;
    variables.push(("TUNNEL_SECRET", secret.as_str()));
    let compose = "--file quickstart.yml --project-name quick --profile connector";
    docker.compose(dir.path(), &variables, &format!("{compose} up --detach")).await.unwrap();
    docker.wait_for("quick_connector_1", HEALTH, "healthy").await.unwrap();
    a_workflow_reaches_a_private_server(&docker, &api).await;

    docker.compose(dir.path(), &variables, &format!("{compose} stop")).await.unwrap();
    for container in ["quick_connector_1", "quick_postern_1"] {
        assert_eq!(docker.inspect(container, EXIT_CODE).await.unwrap(), "0", "{container}");
    }
}

/// All of it but PostgreSQL, Prometheus and Grafana, whose images come from elsewhere. PostgreSQL runs
/// outside.
#[tokio::test]
async fn in_production_four_edges_join_and_either_control_plane_may_go() {
    let Some(docker) = Docker::start().await.unwrap() else { return };
    docker.image_of_this_postern().await.unwrap();
    let inside = docker.network.inside().to_string();
    let dir = compose_files();
    let secrets = dir.path().join("secrets");
    let password = "chosen by whoever runs it";
    let host = docker.network.host();
    let database = Postgres::start_at(dir.path(), Some(host)).await.unwrap();
    let url = fs::read_to_string(database.url_file()).unwrap();
    for (file, text) in [
        ("owner_password.txt", password),
        ("database_password.txt", ""),
        ("database_url.txt", &url),
        ("join_token.txt", ""),
    ] {
        secret_file(&secrets, file, text).unwrap();
    }
    let variables = [("POSTERN_PUBLISH", inside.as_str()), ("POSTERN_HOST", inside.as_str())];
    let up = "--file production.yml --project-name production up --detach";
    let control_planes = format!("{up} control-plane-1 control-plane-2");
    docker.compose(dir.path(), &variables, &control_planes).await.unwrap();
    for control_plane in ["production_control-plane-1_1", "production_control-plane-2_1"] {
        let log = docker.follow(control_plane).unwrap();
        log.find(|line| line.contains("the control plane serves").then_some(())).await.unwrap();
    }
    let api = Api::log_in(&format!("http://{inside}:8080"), OWNER, password).await.unwrap();

    let token = api.post("/api/v1/edges/join-tokens", &json!({})).await.unwrap();
    secret_file(&secrets, "join_token.txt", token["token"].as_str().unwrap()).unwrap();
    let edges = ["edge-a1", "edge-a2", "edge-b1", "edge-b2"];
    let up = format!("{up} {}", edges.join(" "));
    docker.compose(dir.path(), &variables, &up).await.unwrap();
    for edge in edges {
        let log = docker.follow(&format!("production_{edge}_1")).unwrap();
        log.find(|line| line.contains("the edge is up").then_some(())).await.unwrap();
    }
    // On another machine, as connectors are.
    let mut connector = Command::new(program("postern-connector").unwrap());
    connector.env("TUNNEL_SECRET", new_tunnel(&api).await).env("TUNNEL_METRICS_PORT", "0");
    let connector = Process::start("connector", connector).unwrap();
    connector.find(|line| line.contains("\"links\":4").then_some(())).await.unwrap();
    let links = connector.said_on_stdout();
    let links = links.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let edges = links.filter_map(|line| Some(line.get("link.edge")?.to_string()));
    assert_eq!(edges.collect::<BTreeSet<_>>().len(), 4, "{}", connector.said());

    docker.docker(["kill", "production_control-plane-1_1"]).await.unwrap();
    let api = Api::log_in(&format!("http://{inside}:8081"), OWNER, password).await.unwrap();
    a_workflow_reaches_a_private_server(&docker, &api).await;
}

/// The secret of a new tunnel.
async fn new_tunnel(api: &Api) -> String {
    let tunnel = api.post("/api/v1/admin/tunnel", &json!({ "name": TUNNEL })).await.unwrap();
    tunnel["secret"].as_str().unwrap().to_owned()
}

async fn a_workflow_reaches_a_private_server(docker: &Docker, api: &Api) {
    let origin = Origin::start(docker.network.host()).await.unwrap();
    let action = json!({
        "type": "http", "name": "get", "url": origin.url("/hello"), "use_tunnel": TUNNEL
    });
    let team = api.post("/api/v1/teams", &json!({ "name": "automation" })).await.unwrap();
    let workflow = json!({ "team": team["id"], "name": "first", "actions": [action] });
    let workflow = api.post("/api/v1/workflows", &workflow).await.unwrap();
    let runs = format!("/api/v1/workflows/{}/runs?wait=60", workflow["id"].as_str().unwrap());
    let run = api.post(&runs, &Value::Null).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
}

/// The compose files, in a directory of a test's own.
fn compose_files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["connector.yml", "connector-secrets.yml", "quickstart.yml", "production.yml"] {
        fs::copy(repository().join("compose").join(file), dir.path().join(file)).unwrap();
    }
    dir
}
