//! `postern-connector doctor` and the other verbs that ask: in a world where all is well, and in those
//! where it is not.

use std::process::Output;

use connector::Options;
use link::{CloseReason, listen::Http2Listener, tls::ServerIdentity};
use protocol::{
    address::EdgeAddress,
    control::{FromEdge, LinkRefusal, LinkRefusalCode},
    id::{EdgeId, KeyId, TunnelId},
    key::Seed,
    order::LogLevel,
    secret::TunnelSecret,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    binary::{self, output},
    deployment::{Authority, Deployment, Edges, Up, file, free_port, status},
};

/// What it found, and its exit code.
struct Diagnosis {
    code: i32,
    report: Value,
    text: String,
}

impl Diagnosis {
    fn check(&self, name: &str) -> &Value {
        let checks = self.report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["check"].as_str().unwrap().contains(name));
        found.unwrap_or_else(|| panic!("no {name}: {:#}", self.report))
    }

    fn expect(&self, name: &str, verdict: &str, detail: &str) {
        let check = self.check(name);
        assert_eq!(check["verdict"], verdict, "{check:#}");
        let told = format!("{} {}", check["detail"], check["fix"]);
        assert!(told.contains(detail), "{check:#}");
    }
}

fn doctor(secret: &str, port: u16) -> Command {
    let mut command = binary::connector();
    command.arg("doctor").env("TUNNEL_SECRET", secret);
    command.env("TUNNEL_METRICS_PORT", port.to_string());
    command
}

/// Both forms of the report must be free of the secret.
async fn diagnose(mut command: Command, secret: &str) -> Diagnosis {
    let table = output(&mut command).await;
    let json = output(command.arg("--json")).await;
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let (table, json) = ((text(&table), table.status), (text(&json), json.status));
    assert_eq!(table.1, json.1, "{}{}", table.0, json.0);
    let body = secret.strip_prefix(protocol::secret::PREFIX).unwrap_or(secret);
    assert!(!(table.0.contains(body) || json.0.contains(body)), "the secret is shown");
    let report = serde_json::from_str(&json.0).unwrap();
    Diagnosis { code: json.1.code().unwrap(), report, text: table.0 }
}

#[tokio::test]
async fn where_all_is_well_the_doctor_says_so_and_registers_nothing() {
    let Edges { edges, secret } = Edges::start(&["eu", "us"], None).await;
    let diagnosis = diagnose(doctor(&secret, free_port()), &secret).await;
    assert_eq!((diagnosis.code, &diagnosis.report["transport"]), (0, &"quic".into()));
    for name in
        ["secret", "(eu): QUIC", "(eu): HTTP/2", "(us): QUIC", "(us): HTTP/2", "TLS", "clock"]
    {
        diagnosis.expect(name, "ok", "");
    }
    diagnosis.expect("status port", "ok", "free");
    assert!(diagnosis.text.contains("Links come up over QUIC on UDP"), "{}", diagnosis.text);
    for edge in &edges {
        assert!(edge.links().is_empty());
    }
}

#[tokio::test]
async fn beside_a_running_connector_the_doctor_tells_how_it_fares() {
    let deployment = Deployment::start(Edges::start(&["eu"], None).await, Default::default()).await;
    deployment.edges[0].until(|links| links.len() == 4).await;
    deployment.status_until("/status", |body| body.contains("\"links\":4")).await;
    let secret = &deployment.secret;
    let diagnosis = diagnose(doctor(secret, deployment.metrics_port), secret).await;
    assert_eq!(diagnosis.code, 0);
    diagnosis.expect("status port", "ok", "4 of 4 links");
    assert_eq!(deployment.edges[0].links().len(), 4);
}

#[tokio::test]
async fn a_secret_that_the_edge_refuses_is_found_out() {
    let refusal = LinkRefusal { code: LinkRefusalCode::RevokedSecret, retry_after_ms: None };
    let Edges { edges: _edges, secret } = Edges::start(&["eu"], Some(refusal)).await;
    let diagnosis = diagnose(doctor(&secret, free_port()), &secret).await;
    assert_eq!(diagnosis.code, 1);
    diagnosis.expect("UDP", "fail", "revoked");
    diagnosis.expect("TLS", "ok", "");
}

#[tokio::test]
async fn an_edge_that_shows_another_certificate_is_called_inspection() {
    let expected = Edges::start(&["eu"], None).await;
    let Edges { edges, .. } = Edges::start(&["eu"], None).await;
    let edge = edges[0].address.address.to_string();
    let options = Options { edge: Some(edge.clone()), ..Options::default() };
    let deployment = Deployment::start(expected, options).await;
    let is_told = |body: &str| body.contains("something on the way opens TLS");
    assert_eq!(deployment.status_until("/ready", is_told).await.0, 503);

    let secret = deployment.secret;
    let mut command = doctor(&secret, free_port());
    command.env("TUNNEL_EDGE", edge);
    let diagnosis = diagnose(command, &secret).await;
    assert_eq!(diagnosis.code, 1);
    diagnosis.expect("TCP", "fail", "something on the way opens TLS");
    diagnosis.expect("TLS", "fail", "exempt the edges' hosts from TLS inspection");
    diagnosis.expect("clock", "skipped", "");
}

#[tokio::test]
async fn a_certificate_that_is_over_is_called_a_wrong_clock() {
    let authority = Authority::new();
    let (chain, key) = authority.issue_until("127.0.0.1", 2020);
    let identity = ServerIdentity::from_pem(&chain, &key).unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    let listener = Http2Listener::bind(any, &identity).await.unwrap();
    let secret = TunnelSecret {
        tunnel: TunnelId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        seed: Seed::from_bytes([7; 32]),
        edges: vec![EdgeAddress {
            region: "eu".parse().unwrap(),
            address: listener.local_addr().to_string().parse().unwrap(),
            fallback_port: None,
        }],
        ca_pin: Some(authority.pin),
    };
    let secret = secret.encode().to_string();
    let _edge = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok(pending) = listener.accept().await {
            let _ = pending.handshake(EdgeId::from_bytes([1; 16]), "eu".parse().unwrap()).await;
        }
    }));
    let diagnosis = diagnose(doctor(&secret, free_port()), &secret).await;
    assert_eq!(diagnosis.code, 1);
    diagnosis.expect("clock", "fail", "days after the end of a certificate");
    diagnosis.expect("TLS", "skipped", "clock");
}

#[tokio::test]
async fn names_and_ports_that_lead_nowhere_are_told_apart() {
    let Edges { edges: _edges, secret } = Edges::start(&["eu"], None).await;
    let closed = free_port();
    let mut command = doctor(&secret, free_port());
    command.env("TUNNEL_EDGE", format!("no-such-host.invalid:7844,127.0.0.1:{closed}"));
    let diagnosis = diagnose(command, &secret).await;
    assert_eq!(diagnosis.code, 1);
    diagnosis.expect("no-such-host.invalid (unnamed): name", "fail", "resolve");
    diagnosis.expect(&format!("TCP {closed}"), "fail", "refused");
    diagnosis.expect(&format!("UDP {closed}"), "fail", &format!("let UDP {closed} out"));
    assert!(diagnosis.text.contains("No link can come up"), "{}", diagnosis.text);
}

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_the_whole_diagnosis() {
    let diagnosis = diagnose(doctor("ptn1_nonsense", 0), "nonsense").await;
    assert_eq!(diagnosis.code, 2);
    diagnosis.expect("settings", "fail", "TUNNEL_SECRET");
}

#[tokio::test]
async fn a_status_port_that_somebody_else_holds_is_a_warning() {
    let Edges { edges: _edges, secret } = Edges::start(&["eu"], None).await;
    let taken = TcpListener::bind("[::]:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let _rude = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = taken.accept().await {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
        }
    }));
    let diagnosis = diagnose(doctor(&secret, port), &secret).await;
    assert_eq!(diagnosis.code, 0);
    diagnosis.expect("status port", "warn", "TUNNEL_METRICS_PORT");
}

/// A proxy that answers every CONNECT with `answer`.
async fn proxy(answer: &'static str) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("127.0.0.1:{}", address.port()), AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn what_a_proxy_says_is_told_with_what_to_do_and_never_its_password() {
    let Edges { edges: _edges, secret } = Edges::start(&["eu"], None).await;
    let login = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\
                 Content-Length: 0\r\n\r\n";
    let ntlm = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\n\
                Proxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";
    let forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let away = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    for (answer, user, told) in [
        (login, "", "wants a login; put it into HTTPS_PROXY"),
        (login, "me:hush@", "does not accept the user and password in HTTPS_PROXY"),
        (ntlm, "me:hush@", "offers NTLM, Negotiate"),
        (forbidden, "me:hush@", "let its administrator allow CONNECT"),
        (away, "me:hush@", "does not get through to edge.invalid:7844"),
        ("220 mail.example ESMTP\r\n", "me:hush@", "does not behave like a proxy"),
    ] {
        let (address, _proxy) = proxy(answer).await;
        let mut command = doctor(&secret, free_port());
        command.env("TUNNEL_EDGE", "edge.invalid:7844");
        command.env("HTTPS_PROXY", format!("http://{user}{address}"));
        let diagnosis = diagnose(command, &secret).await;
        assert_eq!(diagnosis.code, 1);
        diagnosis.expect("proxy", "ok", &address);
        diagnosis.expect("TCP", "fail", told);
        assert!(!diagnosis.text.contains("hush"), "{}", diagnosis.text);
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_by_connector_and_doctor() {
    let Edges { edges: _edges, secret } = Edges::start(&["eu"], None).await;
    let (gone, port) = (free_port(), free_port());
    let url = format!("socks5h://me:hush@127.0.0.1:{gone}");
    let mut command = doctor(&secret, free_port());
    command.env("TUNNEL_EDGE", "edge.invalid:7844").env("ALL_PROXY", &url);
    let diagnosis = diagnose(command, &secret).await;
    diagnosis.expect("proxy", "fail", "cannot be reached; check ALL_PROXY");

    let secret = file(&secret);
    let mut command = binary::connector();
    command
        .env("TUNNEL_SECRET_FILE", secret.path())
        .env("TUNNEL_METRICS_PORT", port.to_string())
        .env("TUNNEL_EDGE", "edge.invalid:7844")
        .env("ALL_PROXY", &url)
        .stdout(std::process::Stdio::null());
    let _running = command.spawn().unwrap();
    let ready = crate::deployment::patiently(async {
        loop {
            match status(port, "/ready").await {
                Ok((503, body)) if body.contains("ALL_PROXY") => return body,
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert!(!ready.await.contains("hush"));
}

#[tokio::test]
async fn the_log_level_of_a_running_connector_can_be_changed_from_its_host() {
    let Edges { edges, secret } = Edges::start(&["eu"], None).await;
    let port = free_port();
    let mut command = binary::connector();
    command
        .env("TUNNEL_SECRET", &secret)
        .env("TUNNEL_METRICS_PORT", port.to_string())
        .stdout(std::process::Stdio::null());
    let _running = command.spawn().unwrap();
    edges[0].until(|links| links.len() == 4).await;
    let loglevel = |level: &'static [&'static str]| async move {
        let mut command = binary::connector();
        command.arg("loglevel").args(level).env("TUNNEL_METRICS_PORT", port.to_string());
        let output = output(&mut command).await;
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(loglevel(&[]).await, (0, "info\n".into()));
    assert_eq!(loglevel(&["debug"]).await, (0, "debug\n".into()));
    assert_eq!(loglevel(&[]).await, (0, "debug\n".into()));
    assert_eq!(loglevel(&["loud"]).await.0, 2);
    assert!(status(port, "/status").await.unwrap().1.contains("\"loglevel\":\"debug\""));
    let links = edges[0]
        .until(|links| links.iter().all(|up| up.facts.log_level.as_deref() == Some("debug")))
        .await;
    // A link that comes up later has told it already, and its first message says that it is kept.
    links.iter().for_each(|up| up.session.close(CloseReason::Cut));
    let last = links.iter().map(|up| up.number).max().unwrap();
    let is_new = |up: &Up| up.number > last && up.pinged_first.is_some();
    let links = edges[0].until(|links| links.len() == 4 && links.iter().all(is_new)).await;
    assert!(links.iter().all(|up| up.pinged_first == Some(true)));
    assert!(links.iter().all(|up| up.facts.log_level.as_deref() == Some("debug")));
}

#[tokio::test]
async fn the_cloud_changes_the_log_level_where_the_connectors_own_setting_lets_it() {
    for (setting, expected) in [(None, "info"), (Some("false"), "info"), (Some("TRUE"), "debug")] {
        let Edges { edges, secret } = Edges::start(&["eu"], None).await;
        let port = free_port();
        let mut command = binary::connector();
        command
            .env("TUNNEL_SECRET", &secret)
            .env("TUNNEL_METRICS_PORT", port.to_string())
            .stdout(std::process::Stdio::null());
        if let Some(setting) = setting {
            command.env("TUNNEL_LOGLEVEL_FROM_CLOUD", setting);
        }
        let _running = command.spawn().unwrap();
        let links = edges[0].until(|links| links.len() == 4).await;
        let may = expected == "debug";
        assert!(links.iter().all(|up| up.facts.log_level_from_cloud == may));
        assert!(links.iter().all(|up| up.facts.log_level.as_deref() == Some("info")));
        assert!(links.iter().all(|up| up.facts.started_ms.is_some()));
        let order = FromEdge::LogLevel { level: LogLevel::Debug, order: 7 };
        edges[0].say.send_replace(Some(order));
        if may {
            let is_debug = |up: &Up| up.facts.log_level.as_deref() == Some("debug");
            edges[0].until(|links| links.iter().all(is_debug)).await;
        }
        let loglevel = format!("\"loglevel\":\"{expected}\"");
        assert!(status(port, "/status").await.unwrap().1.contains(&loglevel), "{setting:?}");
    }
}
