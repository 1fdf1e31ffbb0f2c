//! Origins that a file describes: who is trusted there, who the connector is, what they are told, and
//! which HTTP they are spoken to in.

use std::{
    convert::Infallible, fs, io::Write as _, path::Path, process::Command, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use connector::Options;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Incoming;
use link::Session;
use protocol::{fields, presence::Transport, refusal::Code};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    deployment::{Authority, Deployment, file, patiently, send_whole},
    origins::{Answer, Origin, body},
    over_both_carriers,
};

over_both_carriers!(
    grpc_finds_http2_without_being_told,
    grpc_streams_both_ways_over_tls,
    an_origin_that_does_not_answer_is_waited_for_as_long_as_its_file_says,
);

async fn with(origins: &tempfile::NamedTempFile, transport: Transport) -> Deployment {
    Deployment::with(Options {
        origins_file: Some(origins.path().to_str().unwrap().into()),
        transport_protocol: Some(transport.as_str().into()),
        ..Options::default()
    })
    .await
}

async fn get(session: &Session, url: &str) -> Response<link::Body> {
    let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
    patiently(send_whole(session, request, |_| {})).await.unwrap()
}

pub async fn text(response: Response<link::Body>) -> String {
    let body = patiently(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

fn der(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// TLS for 127.0.0.1 under `authority`; asks for a certificate under `clients`, if there is one.
pub fn server(authority: &Authority, clients: Option<&Authority>) -> ServerConfig {
    let (chain, key) = authority.issue("127.0.0.1");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(der(&clients.pem()));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(der(&chain), key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Says what it was asked over, and the fields that matter here.
pub async fn describe(request: Request<Incoming>) -> Answer {
    let fields = ["authorization", "x-api-key", "x_api_key", "host"].map(|name| {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("+")
    });
    let said = format!("{:?} {}", request.version(), fields.join(" "));
    Response::new(body(Full::from(said)))
}

fn https(origin: &Origin) -> String {
    origin.url("/").replace("http:", "https:")
}

#[tokio::test]
async fn credentials_stay_home_and_go_to_the_named_origin_alone() {
    let (named, other) = (Origin::http(describe).await, Origin::http(describe).await);
    let (token, key) = (file("Bearer private\n"), file("k-1"));
    let origins = file(&format!(
        "[[origin]]\nhosts = ['127.0.0.1']\nports = [{}]\nplaintext = true\n\
         headers = {{ Authorization = '{}', X-Api-Key = '{}' }}\n",
        named.address.port(),
        token.path().display(),
        key.path().display(),
    ));
    let deployment = with(&origins, Transport::Quic).await;
    let session = deployment.session();
    let ask = async |origin: &Origin| {
        let request = Request::get(origin.url("/")).header("authorization", "Bearer forged");
        let request = request.header("x-api-key", "forged").header("x_api_key", "twin");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        text(patiently(send_whole(&session, request, |_| {})).await.unwrap()).await
    };
    let said = ask(&named).await;
    assert_eq!(said, format!("HTTP/1.1 Bearer private k-1  {}", named.address));
    let said = ask(&other).await;
    assert_eq!(said, format!("HTTP/1.1 Bearer forged forged twin {}", other.address));

    let (_, status) = deployment.status("/status").await;
    let (_, metrics) = deployment.status("/metrics").await;
    assert!(!status.contains("private") && !metrics.contains("private"));

    // A rotated credential is used without a restart.
    fs::write(token.path(), "Bearer rotated").unwrap();
    patiently(async { while !ask(&named).await.contains("rotated") {} }).await;
}

#[tokio::test]
async fn a_file_that_hangs_holds_up_no_request() {
    let origin = Origin::http(describe).await;
    let port = origin.address.port();
    let text_of = |token: &Path| {
        format!(
            "[[origin]]\nhosts = ['127.0.0.1']\nports = [{port}]\nplaintext = true\n\
             headers = {{ Authorization = '{}' }}\n",
            token.display()
        )
    };
    let token = file("Bearer first");
    let origins = file(&text_of(token.path()));
    let deployment = with(&origins, Transport::Quic).await;
    let session = deployment.session();

    // A pipe hangs from when it is opened until its writer lets go: when a request was answered, or never
    // will be.
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("token");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (hangs, hung) = oneshot::channel();
    let (answered, wait) = std::sync::mpsc::channel();
    let path = pipe.clone();
    let writer = std::thread::spawn(move || {
        let mut writer = fs::File::options().write(true).open(&path).unwrap();
        hangs.send(()).unwrap();
        let was_answered = wait.recv_timeout(Duration::from_secs(20)).is_ok();
        let next = path.with_extension("next");
        fs::write(&next, "Bearer second").unwrap();
        fs::rename(&next, &path).unwrap();
        writer.write_all(b"Bearer second").unwrap();
        was_answered
    });
    fs::write(origins.path(), text_of(&pipe)).unwrap();
    patiently(hung).await.unwrap();
    assert!(text(get(&session, &origin.url("/")).await).await.contains("first"));
    // It has stopped waiting if it took too long.
    let _ = answered.send(());
    assert!(writer.join().unwrap(), "the answer came while the file hung");
    let ask = async || text(get(&session, &origin.url("/")).await).await;
    patiently(async { while !ask().await.contains("second") {} }).await;
}

async fn an_origin_that_does_not_answer_is_waited_for_as_long_as_its_file_says(
    transport: Transport,
) {
    let silent = Origin::http(|_| std::future::pending::<Answer>()).await;
    let other = Origin::http(|_| std::future::pending::<Answer>()).await;
    let origins = file(&format!(
        "[[origin]]\nhosts = ['127.0.0.1']\nports = [{}]\nresponse_timeout = 1\n",
        silent.address.port(),
    ));
    let deployment = with(&origins, transport).await;
    let session = deployment.session();
    let request = Request::get(other.url("/")).body(Empty::<Bytes>::new()).unwrap();
    let patient = send_whole(&session, request, |_| {});
    tokio::pin!(patient);
    let url = silent.url("/");
    tokio::select! {
        _ = &mut patient => panic!("the other origin is waited for much longer"),
        response = get(&session, &url) => {
            assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(response.headers()[fields::ERROR], Code::OriginTimeout.as_str());
            let said = text(response).await;
            assert!(said.contains("took more than 1 s"), "{said}");
        }
    }
}

#[tokio::test]
async fn credentials_go_over_tls_alone_unless_a_file_says_otherwise() {
    let authority = Authority::new();
    let plain = Origin::http(describe).await;
    let tls = Origin::https(server(&authority, None), describe).await;
    let token = file("Bearer private");
    let origins = file(&format!(
        "[[origin]]\nhosts = ['127.0.0.1']\nverify = false\nheaders = {{ Authorization = '{}' }}\n",
        token.path().display(),
    ));
    let deployment = with(&origins, Transport::Quic).await;
    let session = deployment.session();
    assert!(text(get(&session, &https(&tls)).await).await.contains("Bearer private"));
    assert!(!text(get(&session, &plain.url("/")).await).await.contains("private"));
}

#[tokio::test]
async fn an_origin_that_wants_to_know_who_asks_is_told() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let origin = Origin::https(server(&authority, Some(&clients)), describe).await;
    let (ca, (chain, key)) = (file(&authority.pem()), clients.issue("connector.corp"));
    let (chain, key) = (file(&chain), file(&key));
    let trust = format!("[[origin]]\nhosts = ['127.0.0.1']\nca_file = '{}'\n", ca.path().display());
    let own = format!(
        "client_certificate = '{}'\nclient_key = '{}'\n",
        chain.path().display(),
        key.path().display()
    );
    let known = with(&file(&(trust.clone() + &own)), Transport::Quic).await;
    let response = get(&known.session(), &https(&origin)).await;
    assert_eq!(response.status(), StatusCode::OK);

    let unknown = with(&file(&trust), Transport::Quic).await;
    let response = get(&unknown.session(), &https(&origin)).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_certificate_goes_unverified_only_where_a_file_says_so_and_metrics_show_it() {
    let authority = Authority::new();
    let [lax, strict] = [
        Origin::https(server(&authority, None), describe).await,
        Origin::https(server(&authority, None), describe).await,
    ];
    let port = lax.address.port();
    let origins = format!("[[origin]]\nhosts = ['127.0.0.1']\nports = [{port}]\nverify = false\n");
    let deployment = with(&file(&origins), Transport::Quic).await;
    assert_eq!(get(&deployment.session(), &https(&lax)).await.status(), StatusCode::OK);
    let refused = get(&deployment.session(), &https(&strict)).await;
    assert_eq!(refused.headers()[fields::ERROR], Code::OriginTls.as_str());
    let (_, metrics) = deployment.status("/metrics").await;
    assert!(metrics.contains("postern_connector_unverified_handshakes_total"), "{metrics}");
    assert!(deployment.status("/status").await.1.contains("\"unverified\":1"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_line() {
    for (text, expected) in [
        ("[[orign]]", "line 1: \"orign\" is not known here: did you mean origin?"),
        ("[[origin]]\nhosts = ['10.0.0.0/8']", "line 1: 10.0.0.0/8: an origin is a name"),
        ("[[origin]]\nhosts = ['*']\nheaders = { A = '/x' }", "line 1: credentials for every host"),
        (
            "[[origin]]\nhosts = ['a']\nclient_key = '/x'",
            "line 1: client_certificate and client_key",
        ),
        ("[[origin]]\nhosts = ['a']\nheaders = { Host = '/x' }", "line 1: \"Host\" is no header"),
        (
            "[[origin]]\nhosts = ['a']\nheaders = { Upgrade = '/x' }",
            "line 1: \"Upgrade\" is no header",
        ),
        ("[[origin]]\nhosts = ['a']\nplaintext = true", "line 1: plaintext means nothing"),
        ("[[origin]]\nhosts = ['a']\nhttp2 = 'yes'", "line 3: unknown variant `yes`"),
        ("[[origin]]\nhosts = ['a']\nheaders = { A = '/no/such' }", "cannot read /no/such"),
        ("[[origin]]\nhosts = ['a']\nca_file = '/dev/null'", "/dev/null: expected PEM"),
        (
            "[[origin]]\nhosts = ['a']\nheaders = { A = '/dev/null' }",
            "/dev/null: expected the value",
        ),
    ] {
        let origins = file(text);
        let secret = file(&crate::deployment::Edges::start(&["eu"], None).await.secret);
        let path = |file: &tempfile::NamedTempFile| Some(file.path().to_str().unwrap().to_owned());
        let options = Options {
            secret_file: path(&secret),
            origins_file: path(&origins),
            ..Options::default()
        };
        let error = patiently(connector::run(options, Default::default())).await.unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("TUNNEL_ORIGINS_FILE: ") && error.contains(expected), "{error}");
    }
}

pub fn grpc<B>(url: &str, body: B) -> Request<B> {
    let request = Request::post(url).header("content-type", "application/grpc+proto");
    request.header("te", "trailers").body(body).unwrap()
}

/// Sends the request's body back as it comes, and how it went in trailers.
async fn chat(request: Request<Incoming>) -> Answer {
    assert_eq!(request.version(), Version::HTTP_2);
    assert_eq!(request.headers()["te"], "trailers");
    assert!(request.uri().authority().is_some());
    let frames = stream::unfold(Some(request.into_body()), |body| async {
        let mut body = body?;
        match body.frame().await {
            Some(frame) => Some((Ok::<_, Infallible>(frame.ok()?), Some(body))),
            None => {
                let status = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
                Some((Ok(Frame::trailers(HeaderMap::from_iter([status]))), None))
            }
        }
    });
    Response::new(body(StreamBody::new(Box::pin(frames))))
}

async fn talk(session: &Session, url: &str) {
    let (say, said) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(said, |mut said| async {
        Some((Ok::<_, Infallible>(Frame::data(said.recv().await?)), said))
    });
    let request = grpc(url, StreamBody::new(Box::pin(frames)));
    let response = patiently(send_whole(session, request, |_| {})).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    for n in 0..10 {
        let piece = Bytes::from(format!("message {n}"));
        say.send(piece.clone()).await.unwrap();
        let frame = patiently(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece, "it comes back before the next is sent");
    }
    drop(say);
    let trailers = patiently(body.frame()).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

async fn grpc_finds_http2_without_being_told(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let session = deployment.session();
    let origin = Origin::either(chat).await;
    talk(&session, &origin.url("/test.Origin/Chat")).await;
    // Many at once share what the first one opened.
    let url = origin.url("/test.Origin/Chat");
    futures_util::future::join_all((0..20).map(|_| talk(&session, &url))).await;
    let plain = Origin::either(describe).await;
    assert!(text(get(&session, &plain.url("/")).await).await.starts_with("HTTP/1.1"));
}

async fn grpc_streams_both_ways_over_tls(transport: Transport) {
    let authority = Authority::new();
    let ca = file(&authority.pem());
    let origins =
        file(&format!("[[origin]]\nhosts = ['127.0.0.1']\nca_file = '{}'\n", ca.path().display()));
    let deployment = with(&origins, transport).await;
    let origin = Origin::https(server(&authority, None), chat).await;
    talk(&deployment.session(), &https(&origin)).await;
    let plain = Origin::https(server(&authority, None), describe).await;
    let said = text(get(&deployment.session(), &https(&plain)).await).await;
    assert!(said.starts_with("HTTP/1.1"), "{said}");
}

#[tokio::test]
async fn a_file_says_which_http_an_origin_is_spoken_to_in() {
    let authority = Authority::new();
    let mut old = server(&authority, None);
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (plain, tls, old) = (
        Origin::either(describe).await,
        Origin::https(server(&authority, None), describe).await,
        Origin::https(old, describe).await,
    );
    let never = Origin::either(describe).await;
    let origins = file(&format!(
        "[[origin]]\nhosts = ['127.0.0.1']\nports = [{}]\nhttp2 = 'never'\n\
         [[origin]]\nhosts = ['127.0.0.1']\nhttp2 = 'always'\nverify = false\n",
        never.address.port()
    ));
    let deployment = with(&origins, Transport::Quic).await;
    let session = deployment.session();
    for (url, version) in [
        (plain.url("/"), "HTTP/2.0"),
        (https(&tls), "HTTP/2.0"),
        (https(&old), "HTTP/1.1"),
        (never.url("/"), "HTTP/1.1"),
    ] {
        for _ in 0..3 {
            let said = text(get(&session, &url).await).await;
            assert!(said.starts_with(version), "{url}: {said}");
        }
    }
    let request = grpc(&never.url("/"), Empty::<Bytes>::new());
    let said = text(patiently(send_whole(&session, request, |_| {})).await.unwrap()).await;
    assert!(said.starts_with("HTTP/1.1"), "{said}");
}

#[tokio::test]
async fn the_example_can_be_used_as_it_stands() {
    let (chain, key) = Authority::new().issue("connector.corp");
    let (chain, key, header) = (file(&chain), file(&key), file("Bearer x"));
    let example = include_str!("../../../compose/origins.example.toml")
        .replace("/run/secrets/corp-ca.pem", chain.path().to_str().unwrap())
        .replace("/run/secrets/bank-client.pem", chain.path().to_str().unwrap())
        .replace("/run/secrets/bank-client.key", key.path().to_str().unwrap())
        .replace("/run/secrets/tickets-authorization", header.path().to_str().unwrap());
    let deployment = with(&file(&example), Transport::Quic).await;
    let (_, status) = deployment.status("/status").await;
    assert!(status.contains("\"entries\":4"), "{status}");
}
