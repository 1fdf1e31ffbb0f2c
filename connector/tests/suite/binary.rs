//! `postern-connector` as a process: what it says, how it exits, and what it never shows.

use std::process::{Output, Stdio};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use protocol::secret::PREFIX;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use crate::{
    deployment::{Edges, file, free_port, patiently, send_whole, status},
    origins::{Origin, head},
};

pub fn connector() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern-connector"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

pub async fn output(command: &mut Command) -> Output {
    patiently(command.output()).await.unwrap()
}

/// The one line with which it ends.
async fn complaint(command: &mut Command) -> String {
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_told_in_one_line() {
    let none = complaint(&mut connector()).await;
    assert!(none.contains("TUNNEL_SECRET_FILE"), "{none}");

    let mistyped = format!("{PREFIX}c2VjcmV0");
    let mistyped = complaint(connector().env("TUNNEL_SECRET", &mistyped)).await;
    assert!(mistyped.contains("checksum") && !mistyped.contains("c2VjcmV0"), "{mistyped}");

    let unknown = complaint(connector().env("TUNNEL_SECERT", "x")).await;
    assert!(unknown.contains("did you mean TUNNEL_SECRET?"), "{unknown}");

    for (variable, value) in [
        ("TUNNEL_METRICS_PORT", "high"),
        ("TUNNEL_LOGLEVEL", "loud"),
        ("TUNNEL_LOG_FORMAT", "xml"),
        ("TUNNEL_TRANSPORT_PROTOCOL", "tcp"),
        ("TUNNEL_REGION", "Not A Region"),
        ("TUNNEL_EDGE", "nowhere"),
        ("TUNNEL_GRACE_PERIOD", "soon"),
        ("TUNNEL_ORIGIN_CA_FILE", "/no/such/file"),
    ] {
        let text = complaint(connector().env(variable, value)).await;
        assert!(text.contains(variable) && text.contains(value), "{text}");
    }
}

#[tokio::test]
async fn the_secret_is_no_argument() {
    let output = output(connector().args(["--secret", "x"])).await;
    assert_eq!(output.status.code(), Some(2));
    let help = self::output(connector().arg("--help")).await;
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--secret-file") && !help.contains("--secret "), "{help}");
}

#[tokio::test]
async fn the_version_is_told() {
    let output = output(connector().arg("version")).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim(), format!("postern-connector {}", env!("CARGO_PKG_VERSION")));
}

fn signal(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    let status = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn its_life_is_told_in_json_and_never_the_secret() {
    let Edges { edges, secret } = Edges::start(&["eu", "us"], None).await;
    let port = free_port();
    let mut command = connector();
    command
        .env("TUNNEL_SECRET", format!("{secret}\n"))
        .env("TUNNEL_METRICS_PORT", port.to_string())
        .env("TUNNEL_LOGLEVEL", "trace")
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = tokio::spawn(async move {
        let mut log = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            log.push(line);
        }
        log
    });
    for edge in &edges {
        edge.until(|links| links.len() == 2).await;
    }

    let mut health = connector();
    health.arg("healthcheck").env("TUNNEL_METRICS_PORT", port.to_string());
    assert!(output(&mut health).await.status.success());
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", child.id().unwrap())).unwrap();
    let mut shown = vec![String::from_utf8_lossy(&cmdline).into_owned()];
    for path in ["/metrics", "/ready", "/status", "/healthz"] {
        shown.push(status(port, path).await.unwrap().1);
    }

    signal(&child, "-TERM");
    assert!(patiently(child.wait()).await.unwrap().success());
    assert!(!output(&mut health).await.status.success());
    let log = patiently(reader).await.unwrap();
    for line in &log {
        let line: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    let count = |message: &str| {
        log.iter().filter(|line| line.contains(&format!("\"message\":\"{message}\""))).count()
    };
    assert_eq!(count("connector starts"), 1);
    assert_eq!(count("link is up"), 4);
    assert_eq!(count("connector has left"), 1);
    shown.extend(log);
    let body = secret.strip_prefix(PREFIX).unwrap();
    assert!(shown.iter().all(|text| !text.contains(body)), "the secret is shown");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let Edges { edges, secret } = Edges::start(&["eu"], None).await;
    edges[0].hold.send_replace(true);
    let secret = file(&secret);
    let mut command = connector();
    command
        .env("TUNNEL_SECRET_FILE", secret.path())
        .env("TUNNEL_METRICS_PORT", free_port().to_string())
        .env("TUNNEL_GRACE_PERIOD", "1h")
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    edges[0].until(|links| links.len() == 4).await;
    signal(&child, "-INT");
    edges[0].until(|links| links.iter().all(|link| link.said_goodbye)).await;
    signal(&child, "-INT");
    assert!(patiently(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_request_that_outlives_the_grace_period_is_cut_and_the_edge_is_told() {
    let Edges { edges, secret } = Edges::start(&["eu"], None).await;
    edges[0].hold.send_replace(true);
    let (begun, mut seen) = tokio::sync::mpsc::channel(1);
    let origin = Origin::raw(move |mut stream| {
        let begun = begun.clone();
        async move {
            head(&mut stream).await;
            begun.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let mut command = connector();
    command
        .env("TUNNEL_SECRET", &secret)
        .env("TUNNEL_METRICS_PORT", free_port().to_string())
        .env("TUNNEL_GRACE_PERIOD", "100ms")
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let links = edges[0].until(|links| links.len() == 4).await;
    let url = origin.url("/");
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
        send_whole(&links[0].session, request, |_| {}).await.map(drop)
    });
    patiently(seen.recv()).await.unwrap();
    signal(&child, "-TERM");
    assert!(patiently(child.wait()).await.unwrap().success());
    let error = patiently(sending.join_next()).await.unwrap().unwrap().unwrap_err();
    assert!(!error.is_not_delivered(), "the origin has seen it");
    edges[0].until(Vec::is_empty).await;
}
