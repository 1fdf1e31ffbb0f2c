//! What breaks, breaks for as few as possible, and heals by itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use postern_tests::{
    origin::HELLO,
    traffic::Traffic,
    world::{Link, TUNNEL, World, program},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
    task::JoinSet,
};

async fn an_edge_is_killed(transport: &str) {
    let world = World::start().await.unwrap();
    let _connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let mut other_region = Traffic::start(&world, 1, &token).unwrap();
    other_region.goes_on_for(100).await;

    let before = world.links().await.unwrap();
    let killed = world.edge(0).unwrap();
    let since = Instant::now();
    kill(Pid::from_raw(killed as i32), Signal::SIGKILL).unwrap();
    // Until its threads have ended, the system goes on to accept connections in its name.
    while kill(Pid::from_raw(killed as i32), None).is_ok() {
        tokio::task::yield_now().await;
    }
    // A workflow finds its way at once, whichever gateway it would have taken.
    for _ in 0..10 {
        let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
        assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
    }
    other_region.goes_on_for(100).await;

    // The edge is started again, and all four links are spread as before.
    let back = |links: &[Link]| {
        let fresh = |link: &&Link| link.region == "region-a" && !before.contains(link);
        links.len() == 4 && links.iter().filter(fresh).count() == 2
    };
    while !back(&world.links().await.unwrap()) {
        other_region.goes_on_for(10).await;
    }
    println!("4/4 links {} ms after the kill", since.elapsed().as_millis());
    assert_ne!(world.edge(0).unwrap(), killed);
    world.wait_for_health("Healthy").await.unwrap();
    let answer = world.client(0, &token).unwrap().get(world.origin.url("/hello")).send();
    assert_eq!(answer.await.unwrap().text().await.unwrap(), HELLO);
    println!("{} requests through the other region, none failed", other_region.stop().await);
}

#[tokio::test]
async fn an_edge_is_killed_and_requests_go_on_over_quic() {
    an_edge_is_killed("quic").await;
}

#[tokio::test]
async fn an_edge_is_killed_and_requests_go_on_over_http2() {
    an_edge_is_killed("http2").await;
}

#[tokio::test]
async fn the_control_plane_is_away_and_requests_go_on() {
    let mut world = World::start_spread().await.unwrap();
    let _connector = world.connect("auto").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let mut traffic = Traffic::start(&world, 0, &token).unwrap();
    traffic.goes_on_for(100).await;
    world.postern.signal(Signal::SIGKILL).unwrap();
    world.postern.ended().await.unwrap();
    traffic.goes_on_for(500).await;
    // A connector that starts now is served as well: edges judge its secret by themselves.
    let second = world.start_connector("auto").unwrap();
    second.find(|line| line.contains("\"links\":4").then_some(())).await.unwrap();
    traffic.goes_on_for(100).await;
    println!("{} requests, none failed", traffic.stop().await);
}

/// A server that says the same to everybody who has asked for something, and hangs up.
async fn origin_that_says(host: IpAddr, words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(words).await;
        }
    });
    address
}

#[tokio::test]
async fn the_connector_of_a_deleted_tunnel_is_told_so_and_stays_up() {
    let world = World::start().await.unwrap();
    let connector = world.connect("auto").await.unwrap();
    world.api.delete(&format!("/api/v1/admin/tunnel/{TUNNEL}?force=true")).await.unwrap();
    connector.find(|line| line.contains("does not exist any more").then_some(())).await.unwrap();
    assert!(connector.id().is_ok());
}

#[tokio::test]
async fn bad_requests_each_get_their_own_answer_and_harm_nobody() {
    let world = World::start().await.unwrap();
    let connector = world.connect("auto").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let client = world.client(0, &token).unwrap();
    let closed = {
        let listener = std::net::TcpListener::bind((world.host(), 0)).unwrap();
        listener.local_addr().unwrap()
    };
    let garbage = origin_that_says(world.host(), b"SSH-2.0-OpenSSH\r\n").await;
    for (url, status, code, source) in [
        (format!("http://{closed}/"), 502, "origin_refused", "origin"),
        (format!("http://{garbage}/"), 502, "origin_garbage", "origin"),
        ("http://no-such-host.invalid/".to_owned(), 502, "origin_dns", "origin"),
        ("http://169.254.169.254/".to_owned(), 403, "destination_refused", "connector"),
    ] {
        let refused = client.get(&url).send().await.unwrap();
        assert_eq!(refused.status(), status, "{url}");
        assert_eq!(refused.headers()["postern-error"], code, "{url}");
        assert_eq!(refused.headers()["postern-error-source"], source, "{url}");
    }
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it";
    let half = origin_that_says(world.host(), half).await;
    let broken = client.get(format!("http://{half}/")).send().await.unwrap();
    if broken.status() == 502 {
        // It broke before its head had left the connector's link.
        assert_eq!(broken.headers()["postern-error"], "origin_reset");
    } else {
        assert!(broken.bytes().await.is_err(), "half a body must not look whole");
    }
    let elsewhere = reqwest::Proxy::all(format!("http://{}", world.gateway(0))).unwrap();
    let elsewhere = elsewhere.basic_auth("elsewhere", &token);
    let elsewhere = reqwest::Client::builder().proxy(elsewhere).build().unwrap();
    let unknown = elsewhere.get(world.origin.url("/hello")).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.headers()["postern-error"], "unknown_tunnel");
    let large = client.get(world.origin.url("/hello")).header("x-large", "x".repeat(100_000));
    assert_eq!(large.send().await.unwrap().status(), 431);
    let stranger = world.client(0, "ptp1_nonsense").unwrap();
    let refused = stranger.get(world.origin.url("/hello")).send().await.unwrap();
    assert_eq!(refused.status(), 407);
    assert!(refused.headers().contains_key("proxy-authenticate"));

    let answer = client.get(world.origin.url("/hello")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), HELLO);
    assert!(connector.id().is_ok() && world.edge(0).is_ok());
}

/// More than an edge's two links take, and far more than one origin may have of them.
async fn a_tunnel_is_not_healthy_while_requests_hang(transport: &str) {
    const HANGING: usize = 2_300;
    let world = World::start().await.unwrap();
    let _connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let healthy = world.wait_for_health("Healthy").await.unwrap();
    assert_eq!(healthy["causes"], json!([]));
    let client = world.client(0, &token).unwrap();
    let mut hanging = JoinSet::new();
    for _ in 0..HANGING {
        hanging.spawn(client.get(world.origin.url("/hang")).send());
    }
    let refused = hanging.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(refused.headers()["postern-error"], "origin_busy");
    let since = Instant::now();
    let degraded = world.wait_for_health("Degraded").await.unwrap();
    let shown = since.elapsed();
    println!("{transport}: shown {} ms after the first refusal", shown.as_millis());
    assert!(shown < Duration::from_secs(15), "{shown:?}");
    assert_eq!(degraded["causes"], json!(["crowded"]));
    assert!(degraded["reason"].as_str().unwrap().contains("too many are under way"), "{degraded}");
    hanging.shutdown().await;
    world.wait_for_health("Healthy").await.unwrap();
    let answer = client.get(world.origin.url("/hello")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), HELLO);
}

#[tokio::test]
async fn a_tunnel_is_not_healthy_while_requests_hang_over_quic() {
    a_tunnel_is_not_healthy_while_requests_hang("quic").await;
}

#[tokio::test]
async fn a_tunnel_is_not_healthy_while_requests_hang_over_http2() {
    a_tunnel_is_not_healthy_while_requests_hang("http2").await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let world = World::start().await.unwrap();
    let second = Command::new(program("postern").unwrap())
        .arg("up")
        .arg("--data-dir")
        .arg(world.data_dir().join("second"))
        .args(["--bind", &world.host().to_string()])
        .output()
        .await
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("8080") && said.contains("in use"), "{said}");
}
