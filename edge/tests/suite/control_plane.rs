//! A control plane that fits into a test: the real protocol over real mutual TLS, the state in a map.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::{
    address::{CaPin, HostPort},
    credential::CredentialSecret,
    feed::{FEED_PATH, FeedEdge, FeedMessage, Item, ItemKey},
    id::{ConnectorId, EdgeId, JoinTokenId, TunnelId},
    join::{JOIN_PATH, JoinRequest, JoinResponse, JoinToken},
    presence::{LinkPresence, PRESENCE_PATH, Report},
};
use rcgen::{CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::world::patiently;

type Links = HashMap<(TunnelId, ConnectorId, u8), LinkPresence>;

/// What the edge has reported.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    pub applied: u64,
    pub resets: usize,
    pub links: Links,
    pub goodbyes: usize,
}

#[derive(Default)]
struct Known {
    generation: u64,
    items: BTreeMap<ItemKey, Item>,
    followers: Vec<mpsc::UnboundedSender<Bytes>>,
    joined: usize,
}

struct Shared {
    issuer: rcgen::Issuer<'static, KeyPair>,
    ca_certificate: String,
    known: Mutex<Known>,
    heard: watch::Sender<Heard>,
}

pub struct ControlPlane {
    shared: Arc<Shared>,
    tls: TlsAcceptor,
    pub address: SocketAddr,
    pub pin: CaPin,
    serving: Option<JoinSet<()>>,
}

pub fn line(message: &FeedMessage) -> Bytes {
    let mut line = serde_json::to_vec(message).unwrap();
    line.push(b'\n');
    line.into()
}

pub fn key_of(item: &Item) -> ItemKey {
    match item {
        Item::Tunnel(tunnel) => ItemKey::Tunnel(tunnel.id),
        Item::TokenKey(key) => ItemKey::TokenKey(key.kid.clone()),
        Item::ProxyToken(token) => ItemKey::ProxyToken(token.id),
        Item::Edge(edge) => ItemKey::Edge(edge.id),
    }
}

impl ControlPlane {
    pub async fn start(items: Vec<Item>) -> Self {
        let key = KeyPair::generate().unwrap();
        let pin = CaPin::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&key));
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);

        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![leaf.der().clone(), certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];

        let items = items.into_iter().map(|item| (key_of(&item), item)).collect();
        let known = Known { generation: 1, items, ..Known::default() };
        let shared = Shared {
            issuer,
            ca_certificate: certificate.pem(),
            known: Mutex::new(known),
            heard: watch::Sender::default(),
        };
        let mut control_plane = Self {
            shared: Arc::new(shared),
            tls: TlsAcceptor::from(Arc::new(tls)),
            address: ([127, 0, 0, 1], 0).into(),
            pin,
            serving: None,
        };
        control_plane.resume().await;
        control_plane
    }

    /// Listens, at the same address as before.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (shared, tls) = (self.shared.clone(), self.tls.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (shared.clone(), tls.clone());
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let is_edge = stream.get_ref().1.peer_certificates().is_some();
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(shared.answer(request, is_edge).await) }
                    });
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        self.serving = Some(serving);
    }

    /// Goes away, with every connection.
    pub async fn pause(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
        }
        self.shared.known.lock().unwrap().followers.clear();
    }

    pub fn join_token(&self) -> String {
        let token = JoinToken {
            id: JoinTokenId::from_bytes([1; 16]),
            secret: CredentialSecret::from_bytes([2; 32]),
            control_plane: HostPort::new("127.0.0.1".into(), self.address.port()).unwrap(),
            ca_pin: self.pin,
        };
        token.encode().to_string()
    }

    pub fn joined(&self) -> usize {
        self.shared.known.lock().unwrap().joined
    }

    pub fn generation(&self) -> u64 {
        self.shared.known.lock().unwrap().generation
    }

    /// Changes what there is, and waits until the edge obeys.
    pub async fn put(&self, item: Item) {
        let generation = self.announce(vec![item], vec![]);
        self.until(|heard| heard.applied >= generation).await;
    }

    /// Likewise.
    pub async fn remove(&self, key: ItemKey) {
        let generation = self.announce(vec![], vec![key]);
        self.until(|heard| heard.applied >= generation).await;
    }

    /// Changes what there is, and tells the edge if it is there.
    pub fn announce(&self, put: Vec<Item>, remove: Vec<ItemKey>) -> u64 {
        let mut known = self.shared.known.lock().unwrap();
        known.generation += 1;
        for item in &put {
            known.items.insert(key_of(item), item.clone());
        }
        for key in &remove {
            known.items.remove(key);
        }
        let message = FeedMessage::Change { generation: known.generation, put, remove };
        let line = line(&message);
        known.followers.retain(|follower| follower.send(line.clone()).is_ok());
        known.generation
    }

    /// Says something to the edge that need not be true.
    pub fn say(&self, line: impl Into<Bytes>) {
        let line = line.into();
        let known = self.shared.known.lock().unwrap();
        known.followers.iter().for_each(|follower| drop(follower.send(line.clone())));
    }

    /// Waits until what the edge has reported is as it should be.
    pub async fn until(&self, is_so: impl FnMut(&Heard) -> bool) -> Heard {
        let mut heard = self.shared.heard.subscribe();
        patiently(heard.wait_for(is_so)).await.unwrap().clone()
    }
}

impl Shared {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        is_edge: bool,
    ) -> Response<BoxBody<Bytes, Infallible>> {
        match (request.method().clone(), request.uri().path()) {
            (Method::POST, JOIN_PATH) => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let request: JoinRequest = serde_json::from_slice(&body).unwrap();
                let Ok(token) = JoinToken::decode(&request.token) else {
                    return status(StatusCode::BAD_REQUEST, "");
                };
                if token.id != JoinTokenId::from_bytes([1; 16]) {
                    return status(StatusCode::FORBIDDEN, r#"{"detail":"the token was used"}"#);
                }
                let response = serde_json::to_vec(&self.join(&request)).unwrap();
                status(StatusCode::OK, response)
            }
            _ if !is_edge => status(StatusCode::UNAUTHORIZED, ""),
            (Method::GET, FEED_PATH) => self.feed(),
            (Method::POST, PRESENCE_PATH) => {
                self.hear(request.into_body()).await;
                status(StatusCode::OK, "")
            }
            _ => status(StatusCode::NOT_FOUND, ""),
        }
    }

    fn join(&self, request: &JoinRequest) -> JoinResponse {
        let mut known = self.known.lock().unwrap();
        known.joined += 1;
        let edge = EdgeId::from_bytes([known.joined as u8; 16]);
        let mut csr =
            CertificateSigningRequestParams::from_pem(&request.certificate_request).unwrap();
        let names = &mut csr.params.subject_alt_names;
        names.push(rcgen::SanType::URI(format!("postern:edge:{edge}").try_into().unwrap()));
        csr.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = csr.signed_by(&self.issuer).unwrap().pem();
        let item = Item::Edge(FeedEdge {
            id: edge,
            link: request.link.clone(),
            gateway: request.gateway.clone(),
        });
        known.generation += 1;
        known.items.insert(key_of(&item), item);
        JoinResponse { edge, certificate, ca_certificate: self.ca_certificate.clone() }
    }

    fn feed(&self) -> Response<BoxBody<Bytes, Infallible>> {
        let (follower, messages) = mpsc::unbounded_channel();
        let mut known = self.known.lock().unwrap();
        let items = known.items.values().cloned().collect();
        let snapshot = FeedMessage::Snapshot { generation: known.generation, items };
        follower.send(line(&snapshot)).unwrap();
        known.followers.push(follower);
        let lines = stream::unfold(messages, |mut messages| async move {
            Some((Ok(Frame::data(messages.recv().await?)), messages))
        });
        Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(lines)))))
    }

    async fn hear(&self, mut body: Incoming) {
        let mut buffer = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            buffer.extend_from_slice(frame.data_ref().unwrap());
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let report: Report = serde_json::from_slice(&line).unwrap();
                self.heard.send_modify(|heard| heard.take(report));
            }
        }
    }
}

impl Heard {
    fn take(&mut self, report: Report) {
        self.applied = report.applied_generation;
        if report.reset {
            self.resets += 1;
            self.links.clear();
        }
        for link in report.up {
            self.links.insert((link.tunnel, link.connector, link.slot), link);
        }
        for link in report.down {
            self.links.remove(&(link.tunnel, link.connector, link.slot));
            self.goodbyes += usize::from(link.goodbye);
        }
    }
}

fn status(status: StatusCode, body: impl Into<Bytes>) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(BodyExt::boxed(Full::new(body.into())));
    *response.status_mut() = status;
    response
}

/// A stream that is only ever polled by one owner.
struct SyncStream<S>(std::pin::Pin<Box<S>>);

impl<S: futures_util::Stream> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}
