//! An edge as far as the control plane can tell: it joins, reads the feed and reports presence over
//! real mutual TLS.

use std::{net::SocketAddr, sync::Arc};

use futures_util::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::{
    address::{EdgeAddress, HostPort},
    control::Facts,
    feed::{FEED_PATH, FeedMessage, FeedState},
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
    join::{JOIN_PATH, JoinRequest, JoinResponse, JoinToken},
    presence::{LinkPresence, PRESENCE_PATH, Report, Transport},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

use crate::world::{PATIENCE, World};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

pub struct TestEdge {
    pub id: EdgeId,
    tls: ClientConfig,
    sender: SendRequest<Body>,
    driver: AbortHandle,
}

impl Drop for TestEdge {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl TestEdge {
    /// Joins and connects.
    pub async fn join(world: &World, region: &str, gateway: SocketAddr) -> Self {
        let link = EdgeAddress {
            region: region.parse().unwrap(),
            address: format!("127.0.0.1:{}", 10_000 + gateway.port() % 50_000).parse().unwrap(),
            fallback_port: None,
        };
        let (key, response) = join(&world.join_token, link, gateway).await;
        let response: JoinResponse = serde_json::from_slice(&response.unwrap()).unwrap();
        let tls = client_config(&response, Some(&key));
        let (sender, driver) = connect(&world.join_token.control_plane, tls.clone()).await.unwrap();
        Self { id: response.edge, tls, sender, driver }
    }

    /// The same edge, with a connection to another control plane.
    pub async fn at(&self, world: &World) -> Self {
        let tls = self.tls.clone();
        let (sender, driver) = connect(&world.join_token.control_plane, tls.clone()).await.unwrap();
        Self { id: self.id, tls, sender, driver }
    }

    /// Reads the feed and obeys nothing by itself.
    pub async fn feed(&self, after: Option<u64>) -> Feed {
        let query = after.map(|n| format!("?after={n}")).unwrap_or_default();
        let response = self.request(Method::GET, &format!("{FEED_PATH}{query}"), empty()).await;
        assert_eq!(response.status(), 200);
        Feed {
            body: BodyStream::new(response.into_body()),
            buffer: Vec::new(),
            state: FeedState::default(),
        }
    }

    /// Begins to report presence.
    pub fn presence(&self) -> Presence {
        let (reports, mut queue) = mpsc::channel::<Report>(16);
        let lines = async_stream(move |cx| queue.poll_recv(cx));
        let request = Request::post(format!("https://edge.port{PRESENCE_PATH}"))
            .body(StreamBody::new(lines).boxed_unsync())
            .unwrap();
        let mut sender = self.sender.clone();
        let answer = tokio::spawn(async move {
            sender.send_request(request).await.map(|response| response.status().as_u16()).ok()
        });
        Presence { reports, answer }
    }

    /// Obeys the feed and says so, until dropped.
    pub async fn obey(&self) -> Obedient {
        let (mut feed, presence) = (self.feed(None).await, self.presence());
        feed.next().await;
        presence
            .report(Report {
                reset: true,
                applied_generation: feed.state.generation,
                ..Report::default()
            })
            .await;
        let task = tokio::spawn(async move {
            loop {
                feed.next().await;
                let applied_generation = feed.state.generation;
                presence.report(Report { applied_generation, ..Report::default() }).await;
            }
        });
        Obedient(task.abort_handle())
    }

    pub async fn request(&self, method: Method, path: &str, body: Body) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://edge.port{path}"))
            .body(body)
            .unwrap();
        self.sender.clone().send_request(request).await.unwrap()
    }
}

pub struct Obedient(AbortHandle);

impl Drop for Obedient {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub struct Presence {
    reports: mpsc::Sender<Report>,
    pub answer: JoinHandle<Option<u16>>,
}

impl Presence {
    pub async fn report(&self, report: Report) {
        let _ = self.reports.send(report).await;
    }
}

pub struct Feed {
    body: BodyStream<Incoming>,
    buffer: Vec<u8>,
    pub state: FeedState,
}

impl Feed {
    /// The next line, applied to the state.
    pub async fn next(&mut self) -> FeedMessage {
        let message =
            tokio::time::timeout(PATIENCE, self.line()).await.expect("the feed is silent");
        let message = message.expect("the feed has ended");
        self.state.apply(message.clone());
        message
    }

    /// The next line that is no sign of life.
    pub async fn news(&mut self) -> FeedMessage {
        loop {
            match self.next().await {
                FeedMessage::Alive { .. } => {}
                message => return message,
            }
        }
    }

    /// Waits until the control plane ends it.
    pub async fn end(&mut self) {
        let ended = async { while self.line().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the feed goes on");
    }

    async fn line(&mut self) -> Option<FeedMessage> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.next().await?.ok()?;
            self.buffer.extend_from_slice(&frame.into_data().ok()?);
        }
    }
}

/// A link that is up.
pub fn link(tunnel: TunnelId, key: KeyId, connector: u8, slot: u8) -> LinkPresence {
    LinkPresence {
        tunnel,
        connector: ConnectorId::from_bytes([connector; 16]),
        slot,
        key,
        transport: if slot.is_multiple_of(2) { Transport::Quic } else { Transport::Http2 },
        since_ms: 1_700_000_000_000,
        rtt_us: Some(1_250),
        remote: "198.51.100.7:40000".parse().unwrap(),
        facts: Facts {
            version: "0.1.0".to_owned(),
            host: format!("host-{connector}"),
            platform: "linux/x86_64".to_owned(),
            policy: Some("0123456789abcdef".repeat(4)),
            log_level: Some("info".to_owned()),
            log_level_from_cloud: connector == 2,
            ..Facts::default()
        },
        strain: None,
    }
}

/// Asks to join, without a certificate yet.
pub async fn join(
    token: &JoinToken,
    link: EdgeAddress,
    gateway: SocketAddr,
) -> (rcgen::KeyPair, Result<Vec<u8>, u16>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = JoinRequest {
        token: token.encode(),
        link,
        gateway: gateway.to_string().parse().unwrap(),
        certificate_request: request.pem().unwrap(),
    };
    let tls = joining_config(token);
    let (mut sender, driver) = connect(&token.control_plane, tls).await.unwrap();
    let body = Full::new(Bytes::from(serde_json::to_vec(&request).unwrap())).boxed_unsync();
    let request = Request::post(format!("https://edge.port{JOIN_PATH}")).body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    driver.abort();
    (key, if status == 200 { Ok(body) } else { Err(status.as_u16()) })
}

/// Connects without any certificate.
pub async fn connect_anonymously(token: &JoinToken) -> (SendRequest<Body>, AbortHandle) {
    connect(&token.control_plane, joining_config(token)).await.unwrap()
}

pub fn empty() -> Body {
    Full::new(Bytes::new()).boxed_unsync()
}

async fn connect(
    address: &HostPort,
    tls: ClientConfig,
) -> std::io::Result<(SendRequest<Body>, AbortHandle)> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let name = ServerName::try_from(address.host.clone()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
    let driver = tokio::spawn(async move { drop(connection.await) });
    Ok((sender, driver.abort_handle()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client_config(response: &JoinResponse, key: Option<&rcgen::KeyPair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(response.ca_certificate.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let certificate = CertificateDer::from_pem_slice(response.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(key.unwrap().serialize_der()).unwrap();
    let mut config = builder.with_client_auth_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn joining_config(token: &JoinToken) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(token.ca_pin)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Trusts whoever is certified by the authority with the pin.
#[derive(Debug)]
struct Pinned(protocol::address::CaPin);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates.first().expect("the authority's certificate is sent along");
        let spki = webpki::EndEntityCert::try_from(ca).unwrap().subject_public_key_info();
        assert_eq!(protocol::address::CaPin::of_spki(&spki), self.0, "the pin fits");
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned()).unwrap();
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .unwrap()
            .verify_server_cert(end_entity, intermediates, server_name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn async_stream(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Report>>
    + Send
    + 'static,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send {
    futures_util::stream::poll_fn(move |cx| {
        poll(cx).map(|report| {
            let mut line = serde_json::to_vec(&report?).unwrap();
            line.push(b'\n');
            Some(Ok(Frame::data(Bytes::from(line))))
        })
    })
}
