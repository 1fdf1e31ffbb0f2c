//! The connector as people run it: its image in a real Docker engine, in a private network behind a
//! router. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use nix::sys::signal::Signal;
use postern_tests::{
    docker::{CONNECTOR, Docker, announce, secret_file},
    origin::HELLO,
    process::{Process, usage},
    world::{Link, World},
};
use serde_json::Value;
use tokio::process::Command;

const MEBIBYTE: u64 = 1024 * 1024;
const STATUS: &str = "{{.State.Status}}";
const HEALTH: &str = "{{.State.Health.Status}}";
const EXIT_CODE: &str = "{{.State.ExitCode}}";
/// More than fits the windows: it is under way for as long as nobody reads it.
const DOWNLOAD: u64 = 50_000_000;

/// A deployment that the engine's network can reach.
async fn world(docker: &Docker) -> World {
    World::start_at(docker.network.host()).await.unwrap()
}

async fn get(world: &World, url: &str) -> String {
    let client = world.client(0, &world.proxy_token().await.unwrap()).unwrap();
    let answer = client.get(url).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

/// Each line is a JSON object, and none holds what must stay secret.
fn are_proper_logs(logs: &str, world: &World) {
    assert!(!logs.is_empty());
    for line in logs.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    let seed = world.secret.split_once('_').unwrap().1;
    assert!(!logs.contains(seed));
}

#[tokio::test]
async fn the_image_is_one_small_program_and_no_shell() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let size: u64 = docker.inspect(CONNECTOR, "{{.Size}}").await.unwrap().parse().unwrap();
    announce(&format!("the connector's image: {} KiB", size / 1024));
    assert!(size <= 20 * MEBIBYTE, "{size} bytes");
    let labels = "{{json .Config.Labels}}";
    let labels = docker.inspect(CONNECTOR, labels).await.unwrap();
    let labels: Value = serde_json::from_str(&labels).unwrap();
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    for (field, wanted) in [
        ("{{.Config.User}}", "65532:65532"),
        ("{{.Config.StopSignal}}", "SIGTERM"),
        ("{{json .Config.Entrypoint}}", r#"["/postern-connector"]"#),
        ("{{json .Config.Healthcheck.Test}}", r#"["CMD","/postern-connector","healthcheck"]"#),
        ("{{len .RootFS.Layers}}", "1"),
    ] {
        assert_eq!(docker.inspect(CONNECTOR, field).await.unwrap(), wanted, "{field}");
    }
    let version = docker.docker(["run", "--rm", CONNECTOR, "version"]).await.unwrap();
    assert_eq!(version.trim(), concat!("postern-connector ", env!("CARGO_PKG_VERSION")));
    let shell = docker.docker(["run", "--rm", "--entrypoint", "/bin/sh", CONNECTOR]).await;
    assert!(shell.unwrap_err().to_string().contains("no such file"));
}

#[tokio::test]
async fn a_container_without_a_secret_ends_and_says_what_it_lacks() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let error = docker.docker(["run", "--rm", CONNECTOR]).await.unwrap_err().to_string();
    assert!(error.contains("exit status: 2"), "{error}");
    assert!(error.contains("no secret: set TUNNEL_SECRET"), "{error}");
}

#[tokio::test]
async fn the_secret_is_all_that_a_container_needs() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let mut world = world(&docker).await;
    let run = format!(
        "--name connector --publish 9000:9000 --health-interval 1s --env TUNNEL_SECRET={} {CONNECTOR}",
        world.secret
    );
    docker.run(&run).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    assert_eq!(world.links().await.unwrap().len(), 4);
    assert_eq!(get(&world, &world.origin.url("/hello")).await, HELLO);
    docker.wait_for("connector", HEALTH, "healthy").await.unwrap();

    let pid = docker.inspect("connector", "{{.State.Pid}}").await.unwrap().parse().unwrap();
    let rss = usage(pid).unwrap().rss;
    announce(&format!(
        "the connector's container with four idle links: {} KiB resident",
        rss / 1024
    ));
    assert!(rss <= 32 * MEBIBYTE, "{rss} bytes");
    let metrics = format!("http://{}:9000/metrics", docker.network.inside());
    let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("postern_connector_links{"), "{metrics}");

    world.postern.signal(Signal::SIGTERM).unwrap();
    world.postern.ended().await.unwrap();
    docker.wait_for("connector", HEALTH, "unhealthy").await.unwrap();
    docker.docker(["stop", "connector"]).await.unwrap();
    assert_eq!(docker.inspect("connector", EXIT_CODE).await.unwrap(), "0");
    are_proper_logs(&docker.logs("connector").await.unwrap(), &world);
}

#[tokio::test]
async fn a_container_with_no_rights_serves_and_comes_back_when_it_is_killed() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let world = world(&docker).await;
    let dir = tempfile::tempdir().unwrap();
    let secret = secret_file(dir.path(), "tunnel_secret.txt", &world.secret).unwrap();
    let secret = secret.display();
    let run = format!(
        "--name connector --restart unless-stopped --read-only --cap-drop ALL \
         --security-opt no-new-privileges --user 4711:4711 --memory 64m --pids-limit 64 \
         --network host --volume {secret}:/run/secrets/TUNNEL_SECRET:ro {CONNECTOR}"
    );
    docker.run(&run).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    assert_eq!(get(&world, &world.origin.url("/hello")).await, HELLO);
    let inspected = docker.docker(["inspect", "connector"]).await.unwrap();
    assert!(!inspected.contains(&world.secret));

    let before = world.links().await.unwrap();
    let started = docker.inspect("connector", "{{.State.Pid}}").await.unwrap();
    let pid = started.parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    docker.wait_for("connector", "{{.RestartCount}}", "1").await.unwrap();
    docker.wait_for("connector", STATUS, "running").await.unwrap();
    let is_new = |link: &Link| before.iter().all(|old| old.since != link.since);
    world.wait_for_links(|links| links.iter().all(is_new)).await.unwrap();
    assert_eq!(get(&world, &world.origin.url("/hello")).await, HELLO);
}

#[tokio::test]
async fn names_mean_what_the_container_was_told_they_mean() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let world = world(&docker).await;
    let host = world.host();
    let _server = name_server(&docker, "wiki.corp.example");
    let run = format!(
        "--name connector --env TUNNEL_SECRET={} --dns {host} --dns-search corp.example \
         --add-host files.corp.example:{host} {CONNECTOR}",
        world.secret
    );
    docker.run(&run).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    let port = world.origin.address().port();
    // By the server's word, with the search domain's help, and as /etc/hosts has it.
    for name in ["wiki.corp.example", "wiki", "files.corp.example"] {
        assert_eq!(get(&world, &format!("http://{name}:{port}/hello")).await, HELLO, "{name}");
    }
    let client = world.client(0, &world.proxy_token().await.unwrap()).unwrap();
    let answer = client.get(format!("http://nobody.corp.example:{port}/")).send().await.unwrap();
    assert_eq!(answer.headers()["postern-error"], "origin_dns");
}

#[tokio::test]
async fn docker_stop_lets_a_download_finish() {
    let Some(docker) = Docker::start_with_connector().await.unwrap() else { return };
    let world = world(&docker).await;
    let run = format!("--name connector --env TUNNEL_SECRET={} {CONNECTOR}", world.secret);
    docker.run(&run).await.unwrap();
    world.wait_for_health("Healthy").await.unwrap();
    let client = world.client(0, &world.proxy_token().await.unwrap()).unwrap();
    let download = client.get(world.origin.url(&format!("/bytes/{DOWNLOAD}"))).send();
    let download = download.await.unwrap();

    let log = docker.follow("connector").unwrap();
    let finish = async {
        log.find(|line| line.contains("shutting down").then_some(())).await.unwrap();
        download.bytes().await.unwrap().len() as u64
    };
    let stop = docker.docker(["stop", "--time", "60", "connector"]);
    let (downloaded, stopped) = tokio::join!(finish, stop);
    stopped.unwrap();
    assert_eq!(downloaded, DOWNLOAD);
    assert_eq!(docker.inspect("connector", EXIT_CODE).await.unwrap(), "0");
}

/// A DNS server that knows one name and no other.
fn name_server(docker: &Docker, name: &str) -> Process {
    let host = docker.network.host();
    let mut server = Command::new("dnsmasq");
    server
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args([&format!("--listen-address={host}"), "--bind-interfaces", "--user=root"])
        .args([&format!("--host-record={name},{host}"), "--local=/#/"]);
    Process::start("dnsmasq", server).unwrap()
}
