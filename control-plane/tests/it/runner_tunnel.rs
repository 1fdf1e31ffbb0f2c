//! Actions through a tunnel, by a gateway that behaves as an edge's: a small HTTP proxy of the test's
//! own, which verifies the capability as an edge would.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use protocol::{
    claims::{self, Capability},
    feed::FeedState,
    presence::Report,
    refusal::Code,
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    runner::{run, workflow},
    test_edge::{Presence, TestEdge},
    world::World,
};

/// What the gateway does with a request.
#[derive(Clone)]
enum Manner {
    Answer(&'static str),
    Refuse(Code),
    HangUp,
    /// Opens the way to a TLS origin with this certificate.
    Tls(Arc<rustls::ServerConfig>),
}

struct Gateway {
    address: SocketAddr,
    /// Heads of the requests, in order.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone(), seen.clone()));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, heads: Arc<Mutex<Vec<String>>>) {
    let head = read_head(&mut stream).await;
    heads.lock().unwrap().push(head);
    let answer = match manner {
        Manner::HangUp => return,
        Manner::Answer(body) => format!(
            "HTTP/1.1 200 OK\r\npostern-phases: policy=10, link=200, first_byte=300\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ),
        Manner::Refuse(code) => {
            let body =
                protocol::refusal::Refusal::new(code, "the test says so").to_problem().to_string();
            format!(
                "HTTP/1.1 {}\r\npostern-error: {code}\r\npostern-error-source: {}\r\n\
                 content-length: {}\r\n\r\n{body}",
                code.status(),
                code.source().as_str(),
                body.len()
            )
        }
        Manner::Tls(config) => {
            let opened = "HTTP/1.1 200 OK\r\npostern-phases: link=200, tcp=300\r\n\r\n";
            stream.write_all(opened.as_bytes()).await.unwrap();
            let Ok(mut tls) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else {
                return;
            };
            let head = read_head(&mut tls).await;
            heads.lock().unwrap().push(head);
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
            let _ = tls.shutdown().await;
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn read_head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

struct Scene {
    world: World,
    workflow: String,
    state: FeedState,
    _edges: Vec<(TestEdge, Presence)>,
}

impl Scene {
    /// A tunnel `office`, edges with these gateways, and a workflow that asks for the URL through it.
    async fn set(gateways: &[&Gateway], url: &str, extra: Value) -> Self {
        let world = World::start().await;
        let mut edges = Vec::new();
        let mut state = FeedState::default();
        for (n, gateway) in gateways.iter().enumerate() {
            let edge = TestEdge::join(&world, &format!("region-{n}"), gateway.address).await;
            let presence = edge.presence();
            // Obeys whatever may come, so that no answer waits for it.
            let applied_generation = u64::MAX;
            presence.report(Report { reset: true, applied_generation, ..Report::default() }).await;
            let mut feed = edge.feed(None).await;
            feed.next().await;
            state = feed.state;
            edges.push((edge, presence));
        }
        crate::edges::wait_until_live(&world, gateways.len()).await;
        let tunnel = json!({"name": "office"});
        world.owner.post("/api/v1/admin/tunnel", &tunnel).await.expect(201);
        let mut action = json!({"type": "http", "name": "ask", "url": url, "use_tunnel": "office"});
        action.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let workflow = workflow(&world, json!([action])).await;
        Self { world, workflow, state, _edges: edges }
    }

    async fn run(&self) -> Value {
        run(&self.world, &self.workflow).await["actions"][0].clone()
    }

    /// The order is drawn anew each time; every run gets its answer.
    async fn run_until_both_were_tried(&self) {
        for _ in 0..60 {
            let result = self.run().await;
            assert_eq!(result["response"]["text"], "private", "{result}");
            if result["gateways"].as_array().unwrap().len() == 2 {
                return;
            }
        }
        panic!("the order is always the same");
    }

    /// What the head's capability says, verified by the feed's key.
    fn capability(&self, head: &str) -> Capability {
        let line =
            head.lines().find(|line| line.starts_with("proxy-authorization: Basic ")).unwrap();
        let pair = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        let token = pair.strip_prefix("office:").unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(header.typ.as_deref(), Some(claims::TYPE));
        let key = &self.state.token_keys[&header.kid.unwrap()].public_key;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[claims::AUDIENCE]);
        let key = DecodingKey::from_ed_der(key.as_bytes());
        jsonwebtoken::decode::<Capability>(token, &key, &validation).unwrap().claims
    }
}

#[tokio::test]
async fn an_action_enters_by_the_gateway_with_a_capability_of_its_own() {
    let gateway = Gateway::start(Manner::Answer("private")).await;
    let extra = json!({"method": "POST", "payload": {"a": 1}, "headers": {"X-Custom": "1", "Postern-Error": "x", "Connection": "close"}});
    let scene = Scene::set(&[&gateway], "http://wiki.corp:8080/page?x=1", extra).await;
    let result = scene.run().await;
    assert_eq!(result["response"]["text"], "private", "{result}");
    let phases: Vec<_> =
        result["phases"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["policy", "link", "first_byte", "body"]);
    assert_eq!(result["phases"][1]["microseconds"], 200);
    assert!(!result["response"]["headers"].to_string().contains("postern-"));
    let head = gateway.heads()[0].clone();
    assert!(head.starts_with("POST http://wiki.corp:8080/page?x=1 HTTP/1.1\r\n"), "{head}");
    for field in [
        "host: wiki.corp:8080",
        "x-custom: 1",
        "content-type: application/json",
        "content-length: 7",
    ] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field}: {head}");
    }
    assert!(!head.contains("postern-error"));
    let capability = scene.capability(&head);
    let workflow = scene.workflow.rsplit('/').next().unwrap();
    assert_eq!(capability.sub.to_string(), workflow);
    assert!(capability.is_valid_at(capability.iat, 0));
    let form = json!({"name": "ask", "actions": [{
        "type": "http", "name": "ask", "url": "http://wiki.corp/", "use_tunnel": "office",
        "method": "POST", "content_type": "form", "payload": {"a": "b c", "n": 7},
    }]});
    scene.world.owner.put(&scene.workflow, &form).await.expect(200);
    scene.run().await;
    let second = &gateway.heads()[1];
    assert!(second.contains("\r\ncontent-type: application/x-www-form-urlencoded\r\n"), "{second}");
    assert!(second.contains("\r\ncontent-length: 9\r\n"), "a=b+c&n=7: {second}");
    let again = scene.capability(&gateway.heads()[1]);
    assert_ne!(again.jti, capability.jti);
}

#[tokio::test]
async fn https_goes_end_to_end_through_the_gateway() {
    let certified = rcgen::generate_simple_self_signed(["wiki.corp".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let gateway = Gateway::start(Manner::Tls(Arc::new(config))).await;
    let extra = json!({"ca_certificates": certified.cert.pem()});
    let scene = Scene::set(&[&gateway], "https://wiki.corp/page", extra).await;
    let result = scene.run().await;
    assert_eq!(result["response"]["text"], "secret", "{result}");
    let heads = gateway.heads();
    assert!(heads[0].starts_with("CONNECT wiki.corp:443 HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[1].starts_with("GET /page HTTP/1.1\r\n"), "{}", heads[1]);
    assert!(!heads[1].contains("authorization"), "the origin sees no capability");
    let phases: Vec<_> =
        result["phases"].as_array().unwrap().iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["link", "tcp", "tls", "first_byte", "body"]);
    scene.capability(&heads[0]);

    let plain = json!([{"type": "http", "name": "ask", "url": "https://wiki.corp/", "use_tunnel": "office"}]);
    let body = json!({"name": "ask", "actions": plain});
    scene.world.owner.put(&scene.workflow, &body).await.expect(200);
    let refusal = scene.run().await["refusal"].clone();
    assert_eq!(refusal["code"], "origin_tls");
    assert!(refusal["fix"].as_str().unwrap().contains("ca_certificates"));
}

#[tokio::test]
async fn another_gateway_is_tried_only_if_nothing_reached_the_origin() {
    let good = Gateway::start(Manner::Answer("private")).await;
    for code in [Code::NoLink, Code::NotDelivered, Code::EdgeUnavailable] {
        let bad = Gateway::start(Manner::Refuse(code)).await;
        let scene = Scene::set(&[&bad, &good], "http://wiki.corp/", json!({})).await;
        scene.run_until_both_were_tried().await;
        assert_eq!(bad.heads().len(), 1, "{code}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = Gateway { address: closed, heads: Arc::default() };
    let scene = Scene::set(&[&closed, &good], "http://wiki.corp/", json!({})).await;
    scene.run_until_both_were_tried().await;

    for manner in
        [Manner::Refuse(Code::LinkLost), Manner::Refuse(Code::OriginRefused), Manner::HangUp]
    {
        let (one, two) = (Gateway::start(manner.clone()).await, Gateway::start(manner).await);
        let scene = Scene::set(&[&one, &two], "http://wiki.corp/", json!({"method": "POST"})).await;
        let result = scene.run().await;
        assert!(result["refusal"]["code"].is_string());
        assert_eq!(one.heads().len() + two.heads().len(), 1, "sent once: {result}");
    }
}

#[tokio::test]
async fn a_refusal_says_who_and_why_and_what_to_do() {
    let gateway = Gateway::start(Manner::Refuse(Code::OriginDns)).await;
    let scene = Scene::set(&[&gateway], "http://wiki.corp/", json!({})).await;
    let refusal = scene.run().await["refusal"].clone();
    assert_eq!(refusal["code"], "origin_dns");
    assert_eq!(refusal["source"], "origin");
    assert_eq!(refusal["retryable"], false);
    assert_eq!(refusal["detail"], "the test says so");
    assert_eq!(refusal["fix"], Code::OriginDns.fix());
}

#[tokio::test]
async fn access_is_judged_before_anything_is_sent() {
    let gateway = Gateway::start(Manner::Answer("private")).await;
    let scene = Scene::set(&[&gateway], "http://wiki.corp/", json!({})).await;
    let other = scene.world.team("dev").await;
    let path = "/api/v1/admin/tunnel/office/access";
    let access = json!({"mode": "teams", "teams": [other]});
    scene.world.owner.put(path, &access).await.expect(200);
    let result = scene.run().await;
    assert_eq!(result["refusal"]["code"], "access_denied");
    assert_eq!(result["refusal"]["source"], "client");
    scene.world.owner.delete("/api/v1/admin/tunnel/office?force=true").await.expect(200);
    assert_eq!(scene.run().await["refusal"]["code"], "unknown_tunnel");
    assert!(gateway.heads().is_empty());
}
