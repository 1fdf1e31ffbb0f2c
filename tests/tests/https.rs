//! Console, API and gateways over HTTPS: certificates of the deployment's own authority and in files, and the
//! clients that people use, unchanged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Output,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use postern_tests::{
    origin::{HELLO, Origin},
    process::PATIENCE,
    way::shake_hands,
    world::{TUNNEL, World, own_address, program},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};
use tokio_rustls::rustls::version::{TLS12, TLS13};

/// An authority that the deployment knows nothing of.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a fresh pair for a host into a directory, and returns the certificate.
    fn certify(&self, host: IpAddr, dir: &Path) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_string()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
        certificate.der().to_vec()
    }
}

fn gateway(world: &World, region: usize) -> SocketAddr {
    world.gateway(region).parse().unwrap()
}

async fn curl(proxy: &str, arguments: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "--max-time", "60", "--proxy", proxy]);
    curl.args(arguments).output().await.unwrap()
}

#[tokio::test]
async fn clients_use_a_gateway_with_a_certificate_of_the_deployments_own_authority() {
    let world = World::start_https(own_address(), vec!["--tls".into()], None).await.unwrap();
    let ca = world.data_dir().join("ca.crt");
    let told = world.postern.said_on_stdout();
    assert!(told.contains(&format!("Trust     {}", ca.display())), "{told}");
    let edges = world.api.get("/api/v1/edges").await.unwrap();
    assert!(edges["items"].as_array().unwrap().iter().all(|edge| edge["gateway_tls"] == true));
    let _connector = world.connect("quic").await.unwrap();
    let (secure, secure_ca) = Origin::start_tls(world.host()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let secure_ca_file = dir.path().join("origin.crt");
    fs::write(&secure_ca_file, &secure_ca).unwrap();
    let (ca_text, secure_ca_text) = (ca.to_str().unwrap(), secure_ca_file.to_str().unwrap());
    let url = world.origin.url("/hello");
    let secure_url = format!("https://{}/hello", secure.address());

    // The runner: through the gateway, and in a tunnel of its own.
    let run = world.run(world.get_action(&url)).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");
    let mut action = world.get_action(&secure_url);
    action["ca_certificates"] = secure_ca.into();
    let run = world.run(action).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");

    let token = world.proxy_token().await.unwrap();
    let proxy = format!("https://{TUNNEL}:{token}@{}", gateway(&world, 0));
    for way in
        [&[url.as_str()][..], &["--proxytunnel", &url], &["--cacert", secure_ca_text, &secure_url]]
    {
        let output = curl(&proxy, &[&["--proxy-cacert", ca_text], way].concat()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), HELLO, "{way:?}: {said}");
    }
    let untrusting = curl(&proxy, &[&url]).await;
    assert_eq!(untrusting.status.code(), Some(60), "{untrusting:?}");
    let plain = curl(&proxy.replace("https://", "http://"), &["--include", &url]).await;
    let plain = String::from_utf8_lossy(&plain.stdout);
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("https://"), "{plain}");

    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/python");
    for (program, script) in
        [(python.as_path(), "https_proxy.py"), (Path::new("node"), "https_proxy.js")]
    {
        let output = Command::new(program)
            .arg(clients.join(script))
            .env("PROXY", &proxy)
            .env("PROXY_CA", &ca)
            .env("ORIGIN", world.origin.url(""))
            .env("SECURE_ORIGIN", format!("https://{}", secure.address()))
            .env("ORIGIN_CA", &secure_ca_file)
            .env("HELLO", HELLO)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}\n{said}", output.status);
    }
    either_version_of_tls_carries_either_version_of_http(&world, &ca, &token).await;
    world.end().await.unwrap();
}

async fn either_version_of_tls_carries_either_version_of_http(
    world: &World,
    ca: &Path,
    token: &str,
) {
    let authority = fs::read_to_string(ca).unwrap();
    let name = world.host().to_string();
    let credentials = format!("Basic {}", STANDARD.encode(format!("{TUNNEL}:{token}")));
    let request = || {
        Request::get(world.origin.url("/hello"))
            .header(header::PROXY_AUTHORIZATION, &credentials)
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    for version in [&TLS12, &TLS13] {
        let connect =
            |alpn: &'static [u8]| shake_hands(gateway(world, 1), &name, &authority, version, alpn);
        let stream = connect(b"http/1.1").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), HELLO);
        connection.abort();

        let stream = connect(b"h2").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), HELLO);
        connection.abort();
    }
}

#[tokio::test]
async fn certificates_in_files_are_exchanged_under_a_running_download() {
    const LENGTH: usize = 100_000_000;
    let (host, dir, authority) = (own_address(), TempDir::new().unwrap(), Authority::new());
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let first = authority.certify(host, dir.path());
    let arguments = vec![
        "--tls-cert".into(),
        certificate.clone().into(),
        "--tls-key".into(),
        key.clone().into(),
    ];
    let world = World::start_https(host, arguments, Some(&authority.pem)).await.unwrap();
    let _connector = world.connect("http2").await.unwrap();
    let name = host.to_string();
    let shown = async |port: SocketAddr| {
        let stream = shake_hands(port, &name, &authority.pem, &TLS13, b"http/1.1").await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let ports = [(host, 8080).into(), gateway(&world, 0), gateway(&world, 1)];
    for port in ports {
        assert_eq!(shown(port).await, first);
    }
    // The runner trusts the deployment's authority, whatever others are shown.
    let run = world.run(world.get_action(&world.origin.url("/hello"))).await.unwrap();
    assert_eq!(run["actions"][0]["response"]["text"], HELLO, "{run}");

    let token = world.proxy_token().await.unwrap();
    let credentials = STANDARD.encode(format!("{TUNNEL}:{token}"));
    let mut download =
        shake_hands(ports[1], &name, &authority.pem, &TLS13, b"http/1.1").await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: origin\r\nproxy-authorization: Basic {credentials}\r\n\
         connection: close\r\n\r\n",
        world.origin.url(&format!("/bytes/{LENGTH}"))
    );
    download.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    download.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");

    fs::write(&key, "no key at all").unwrap();
    // The control plane and two edges.
    let refused = |line: &str| {
        let is_it = line.contains("not reloaded") && line.contains(key.to_str().unwrap());
        is_it.then_some(())
    };
    world.postern.find(refused).await.unwrap();
    let all = async {
        while world.postern.said().lines().filter(|line| refused(line).is_some()).count() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    for port in ports {
        assert_eq!(shown(port).await, first);
    }

    let second = authority.certify(host, dir.path());
    for port in ports {
        let exchanged = async { while shown(port).await != second {} };
        tokio::time::timeout(PATIENCE, exchanged).await.unwrap();
    }
    let mut rest = Vec::new();
    download.read_to_end(&mut rest).await.unwrap();
    let body = rest.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(rest.len() - body, LENGTH);
    let said = world.postern.said();
    let secret = fs::read_to_string(&key).unwrap();
    assert!(!said.contains(secret.lines().nth(1).unwrap()));
    world.end().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_served_securely_is_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing.crt");
    let (host, missing) = (own_address().to_string(), missing.to_str().unwrap());
    for (arguments, expected) in [
        (&["control-plane", "--listen", "0.0.0.0:0"][..], "--insecure-http"),
        (&["up", "--bind", &host, "--tls-cert", missing, "--tls-key", missing], missing),
        (&["up", "--bind", &host, "--tls", "--insecure-http"], "--insecure-http"),
    ] {
        let mut command = Command::new(program("postern").unwrap());
        command.args(arguments).arg("--data-dir").arg(dir.path().join("data"));
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
