//! The API over TLS, as the control plane speaks it itself.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use control_plane::{ControlPlane, Options};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::generate_simple_self_signed;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use serde_json::json;
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    client::Client,
    world::{PATIENCE, eventually, options, serve},
};

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";
const PASSWORD: &str = "correct horse battery";

struct Secure {
    dir: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Secure {
    /// With a certificate of the deployment's own authority.
    async fn start() -> Self {
        Self::start_with(|options, _| options.tls_host = vec!["postern.example".to_owned()]).await
    }

    /// With a certificate in files, which lie in the directory.
    async fn start_with_files() -> Self {
        Self::start_with(|options, dir| {
            write_certificate(dir);
            options.tls_cert = Some(dir.join("tls.crt"));
            options.tls_key = Some(dir.join("tls.key"));
        })
        .await
    }

    async fn start_with(change: impl FnOnce(&mut Options, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&dir.path().join("data"));
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        options.owner_password_file = Some(password);
        change(&mut options, dir.path());
        let (control_plane, _) = ControlPlane::open(options).await.unwrap();
        assert_eq!(control_plane.scheme(), "https");
        let (address, stop, task) = serve(control_plane);
        Self { dir, address, stop, task }
    }

    fn authority(&self) -> String {
        fs::read_to_string(self.dir.path().join("data/ca.crt")).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// A connection of a client that trusts an authority (PEM).
    async fn connect(
        &self,
        trusted: &str,
        version: &'static SupportedProtocolVersion,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "postern.example".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends a request over HTTP/1.1; the connection stays with the sender.
    async fn http1(&self, trusted: &str) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let stream = self.connect(trusted, &TLS13, HTTP1).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// Writes a fresh pair into a directory, and returns the certificate.
fn write_certificate(dir: &Path) -> String {
    let made = generate_simple_self_signed(["postern.example".to_owned()]).unwrap();
    fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    made.cert.pem()
}

fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header(header::HOST, "postern.example");
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn either_version_of_tls_carries_either_version_of_http() {
    let server = Secure::start().await;
    let authority = server.authority();
    for version in [&TLS12, &TLS13] {
        let stream = server.connect(&authority, version, HTTP1).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(HTTP1));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(sender.send_request(get("/healthz")).await.unwrap().status(), 200);

        let stream = server.connect(&authority, version, HTTP2).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(HTTP2));
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://postern.example/healthz");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok\n");
    }
    server.end().await;
}

#[tokio::test]
async fn cookies_are_bound_to_their_host_and_to_https() {
    let server = Secure::start().await;
    let authority = server.authority();
    let mut sender = server.http1(&authority).await;
    let body = json!({"email": "owner@localhost", "password": PASSWORD}).to_string();
    let log_in = Request::post("/api/v1/session")
        .header(header::HOST, "postern.example")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))
        .unwrap();
    let response = sender.send_request(log_in).await.unwrap();
    assert_eq!(response.status(), 200);
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    drop(response);
    assert!(cookie.starts_with("__Host-postern="), "{cookie}");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let mut request = get("/api/v1/me");
    let pair = cookie.split(';').next().unwrap().parse().unwrap();
    request.headers_mut().insert(header::COOKIE, pair);
    let mut sender = server.http1(&authority).await;
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    server.end().await;
}

#[tokio::test]
async fn plain_http_is_sent_to_https_if_a_browser_opens_a_page_and_told_otherwise() {
    let server = Secure::start().await;
    let mut browser = Client::new(server.address);
    browser.headers = vec![("accept", "text/html,application/xhtml+xml,*/*;q=0.8".to_owned())];
    let answer = browser.get("/admin/tunnel?health=down").await;
    assert_eq!(answer.status, 308);
    let location = |headers: &HeaderMap| headers.get(header::LOCATION).cloned();
    assert_eq!(location(&answer.headers).unwrap(), "https://test/admin/tunnel?health=down");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");

    let told = browser.post("/api/v1/session", &json!({})).await;
    assert_eq!(location(&told.headers), None);
    told.expect_problem(400, "https_required");
    let program = Client::new(server.address);
    let log_in = program.try_log_in("owner@localhost", PASSWORD).await;
    assert!(!log_in.headers.contains_key(header::SET_COOKIE));
    log_in.expect_problem(400, "https_required");
    program.get("/api/v1/me").await.expect_problem(400, "https_required");
    server.end().await;
}

#[tokio::test]
async fn new_files_are_taken_and_no_connection_is_lost() {
    let server = Secure::start_with_files().await;
    let (dir, mut trusted) = (server.dir.path(), Vec::new());
    trusted.push(fs::read_to_string(dir.join("tls.crt")).unwrap());
    let mut before = server.http1(&trusted[0]).await;
    assert_eq!(before.send_request(get("/healthz")).await.unwrap().status(), 200);

    // The API's connections end after 10 s without a request, so there is one each time.
    let mut is_alive = async || {
        before.ready().await.unwrap();
        assert_eq!(before.send_request(get("/healthz")).await.unwrap().status(), 200);
    };
    for _ in 0..2 {
        trusted.push(write_certificate(dir));
        let [.., older, newer] = &trusted[..] else { unreachable!() };
        eventually("the new certificate is shown", || async {
            server.connect(newer, &TLS13, HTTP1).await.ok()
        })
        .await;
        assert!(server.connect(older, &TLS13, HTTP1).await.is_err());
        is_alive().await;
    }
    server.end().await;
}

#[tokio::test]
async fn stalled_handshakes_keep_nobody_out_and_end() {
    let server = Secure::start().await;
    let mut stalled = Vec::new();
    for _ in 0..100 {
        stalled.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut sender = server.http1(&server.authority()).await;
    assert_eq!(sender.send_request(get("/healthz")).await.unwrap().status(), 200);
    for mut stream in stalled {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        assert_eq!(read.expect("the server ends it").unwrap_or(0), 0);
    }
    server.end().await;
}

#[tokio::test]
async fn plain_http_beyond_this_machine_must_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    let opened = async |change: &dyn Fn(&mut Options)| {
        let mut options = options(&dir.path().join("data"));
        options.listen = "0.0.0.0:0".parse().unwrap();
        change(&mut options);
        match ControlPlane::open(options).await {
            Ok((control_plane, _)) => Ok(control_plane.scheme()),
            Err(error) => Err(format!("{error:#}")),
        }
    };
    let said = opened(&|_| {}).await.unwrap_err();
    for flag in ["0.0.0.0:0", "--tls-cert", "--tls-key", "--tls-host", "--insecure-http"] {
        assert!(said.contains(flag), "{flag}: {said}");
    }
    assert_eq!(opened(&|options| options.insecure_http = true).await.unwrap(), "http");
    let hosts = |options: &mut Options| options.tls_host = vec!["postern.example".to_owned()];
    assert_eq!(opened(&hosts).await.unwrap(), "https");

    let missing = dir.path().join("missing.crt");
    let files = |options: &mut Options| {
        options.tls_cert = Some(missing.clone());
        options.tls_key = Some(missing.clone());
    };
    let said = opened(&files).await.unwrap_err();
    assert!(said.contains(&missing.display().to_string()), "{said}");
    let said = opened(&|options| options.tls_cert = Some(missing.clone())).await.unwrap_err();
    assert!(said.contains("--tls-key"), "{said}");
}
