//! A connector that runs, and the edges that it dials.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use connector::Options;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use link::{
    BoxError, CloseReason, Opened, SendError, Session,
    control::{ControlReceiver, ControlSender},
    listen::{Http2Listener, Pending, QuicListener},
    tls::ServerIdentity,
};
use protocol::{
    address::{CaPin, EdgeAddress},
    control::{Facts, FromConnector, FromEdge, LinkRefusal},
    id::{EdgeId, KeyId, TunnelId},
    key::Seed,
    presence::Transport,
    secret::TunnelSecret,
};
use tempfile::NamedTempFile;
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Bounds every wait; no test relies on its length.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens within 30 seconds")
}

/// A certificate authority of the test's own.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
    pub pin: CaPin,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let pin = CaPin::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&key));
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), certificate, pin }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Chain and key for this host, PEM.
    pub fn issue(&self, host: &str) -> (String, String) {
        self.issue_until(host, 4_000)
    }

    /// The same, valid until the beginning of a year.
    pub fn issue_until(&self, host: &str, year: i32) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (leaf.pem() + &self.certificate.pem(), key.serialize_pem())
    }
}

/// Links so far.
static LINKS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone)]
pub struct Up {
    /// No two links of a test run have the same one.
    pub number: u64,
    pub slot: u8,
    pub transport: Transport,
    pub session: Session,
    /// The connector wants no new requests on it.
    pub said_goodbye: bool,
    /// What the connector tells of itself.
    pub facts: Facts,
    /// Was its first message a ping? None before there is one.
    pub pinged_first: Option<bool>,
}

/// An edge: both listeners on one port.
pub struct Edge {
    pub address: EdgeAddress,
    links: watch::Receiver<Vec<Up>>,
    /// Says something on every link.
    pub say: watch::Sender<Option<FromEdge>>,
    /// Set to keep links open after a goodbye, as if requests were under way.
    pub hold: watch::Sender<bool>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    edge: EdgeId,
    address: EdgeAddress,
    links: watch::Sender<Vec<Up>>,
    say: watch::Receiver<Option<FromEdge>>,
    hold: watch::Receiver<bool>,
    refusal: Option<LinkRefusal>,
}

impl Edge {
    async fn start(
        number: u8,
        region: &str,
        authority: &Authority,
        refusal: Option<LinkRefusal>,
    ) -> Self {
        let (chain, key) = authority.issue("127.0.0.1");
        let identity = ServerIdentity::from_pem(&chain, &key).unwrap();
        let (quic, http2) = Self::bind(&identity).await;
        let address = EdgeAddress {
            region: region.parse().unwrap(),
            address: quic.local_addr().to_string().parse().unwrap(),
            fallback_port: None,
        };
        let (links_sender, links) = watch::channel(Vec::new());
        let (say, heard) = watch::channel(None);
        let (hold, held) = watch::channel(false);
        let shared = Arc::new(Shared {
            edge: EdgeId::from_bytes([number; 16]),
            address: address.clone(),
            links: links_sender,
            say: heard,
            hold: held,
            refusal,
        });
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let pending = tokio::select! {
                    pending = quic.accept() => pending.unwrap(),
                    pending = http2.accept() => pending.unwrap(),
                };
                tasks.spawn(shared.clone().link(pending));
            }
        });
        Self { address, links, say, hold, _task: AbortOnDropHandle::new(task) }
    }

    /// One port for both; another test may have taken the TCP one, then the next is as good.
    async fn bind(identity: &ServerIdentity) -> (QuicListener, Http2Listener) {
        loop {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let quic = QuicListener::bind(any, identity).unwrap();
            if let Ok(http2) = Http2Listener::bind(quic.local_addr(), identity).await {
                return (quic, http2);
            }
        }
    }

    pub fn links(&self) -> Vec<Up> {
        self.links.borrow().clone()
    }

    /// Waits until the edge's links are as `expected` says.
    pub async fn until(&self, expected: impl FnMut(&Vec<Up>) -> bool) -> Vec<Up> {
        patiently(self.links.clone().wait_for(expected)).await.unwrap().clone()
    }
}

impl Shared {
    async fn link(self: Arc<Self>, pending: Pending) {
        let transport = pending.transport();
        let region = self.address.region.clone();
        // The loser of a race between carriers goes away in the middle of it.
        let Ok(candidate) = pending.handshake(self.edge, region).await else { return };
        assert!(candidate.is_proven_by(&seed().public_key()));
        if let Some(refusal) = &self.refusal {
            return candidate.refuse(refusal.clone()).await;
        }
        let (slot, is_probe) = (candidate.hello().slot, candidate.hello().probe);
        let facts = candidate.hello().facts.clone();
        let Ok((session, sender, receiver)) = candidate.register(vec![]).await else { return };
        if is_probe {
            return drop(session.closed().await);
        }
        let session_of_link = session.clone();
        let up = Up {
            number: LINKS.fetch_add(1, Ordering::Relaxed),
            slot,
            transport,
            session: session_of_link,
            said_goodbye: false,
            facts,
            pinged_first: None,
        };
        self.links.send_modify(|links| links.push(up));
        tokio::select! {
            () = self.control(slot, &session, sender, receiver) => {}
            _ = session.closed() => {}
        }
        self.links.send_modify(|links| {
            links.retain(|link| (link.slot, link.transport) != (slot, transport));
        });
    }

    fn change(&self, slot: u8, change: impl FnOnce(&mut Up)) {
        self.links.send_modify(|links| {
            change(links.iter_mut().find(|link| link.slot == slot).unwrap());
        });
    }

    /// Answers pings, passes on what the test says, and closes the link after a goodbye.
    async fn control(
        &self,
        slot: u8,
        session: &Session,
        mut sender: ControlSender<FromEdge>,
        mut receiver: ControlReceiver<FromConnector>,
    ) {
        let (mut say, mut hold) = (self.say.clone(), self.hold.clone());
        let mut said_goodbye = false;
        let mut is_first = true;
        loop {
            tokio::select! {
                message = receiver.receive() => {
                    if std::mem::take(&mut is_first) {
                        let is_ping = matches!(message, Ok(Some(FromConnector::Ping { .. })));
                        self.change(slot, |link| link.pinged_first = Some(is_ping));
                    }
                    match message {
                    Ok(Some(FromConnector::Ping { sequence, .. })) => {
                        if sender.send(&FromEdge::Pong { sequence }).await.is_err() {
                            return;
                        }
                    }
                    Ok(Some(FromConnector::Goodbye)) => {
                        said_goodbye = true;
                        self.change(slot, |link| link.said_goodbye = true);
                    }
                    Ok(Some(FromConnector::Facts(facts))) => {
                        self.change(slot, |link| link.facts = facts);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return,
                    }
                }
                () = async { drop(hold.wait_for(|hold| !hold).await) }, if said_goodbye => {
                    session.close(CloseReason::Drained);
                    return;
                }
                Ok(()) = say.changed() => {
                    let message = say.borrow_and_update().clone();
                    if let Some(message) = message && sender.send(&message).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn seed() -> Seed {
    Seed::from_bytes([7; 32])
}

/// Edges that run, and a secret that leads to them.
pub struct Edges {
    pub edges: Vec<Edge>,
    pub secret: String,
}

impl Edges {
    /// One edge in each of `regions`; all of them refuse links if there is a `refusal`.
    pub async fn start(regions: &[&str], refusal: Option<LinkRefusal>) -> Self {
        let authority = Authority::new();
        let mut edges = Vec::new();
        for (number, region) in regions.iter().enumerate() {
            let number = number as u8 + 1;
            edges.push(Edge::start(number, region, &authority, refusal.clone()).await);
        }
        let secret = TunnelSecret {
            tunnel: TunnelId::from_bytes([1; 16]),
            key: KeyId::from_bytes([2; 16]),
            seed: seed(),
            edges: edges.iter().map(|edge| edge.address.clone()).collect(),
            ca_pin: Some(authority.pin),
        };
        let secret = secret.encode().to_string();
        Self { edges, secret }
    }
}

/// A connector in this process, and its edges.
pub struct Deployment {
    pub edges: Vec<Edge>,
    pub shutdown: CancellationToken,
    pub connector: JoinHandle<anyhow::Result<()>>,
    pub metrics_port: u16,
    pub secret: String,
    _file: NamedTempFile,
}

impl Deployment {
    /// One edge, one transport, all links up.
    pub async fn over(transport: Transport) -> Self {
        Self::with(Options {
            transport_protocol: Some(transport.as_str().into()),
            ..Options::default()
        })
        .await
    }

    /// One edge, all links up.
    pub async fn with(options: Options) -> Self {
        let edges = Edges::start(&["eu"], None).await;
        let deployment = Self::start(edges, options).await;
        deployment.edges[0].until(|links| links.len() == 4).await;
        deployment
    }

    pub async fn start(edges: Edges, options: Options) -> Self {
        let Edges { edges, secret } = edges;
        let file = file(&format!("{secret}\n"));
        let metrics_port = free_port();
        let shutdown = CancellationToken::new();
        let options = Options {
            secret_file: Some(file.path().to_str().unwrap().into()),
            metrics_port: options.metrics_port.or(Some(metrics_port.to_string())),
            prometheus: Some(prometheus()),
            ..options
        };
        let connector = tokio::spawn(connector::run(options, shutdown.clone()));
        Self { edges, shutdown, connector, metrics_port, secret, _file: file }
    }

    /// A link of the first edge.
    pub fn session(&self) -> Session {
        self.edges[0].links()[0].session.clone()
    }

    pub async fn status(&self, path: &str) -> (u16, String) {
        status(self.metrics_port, path).await.unwrap()
    }

    /// Asks it until the answer is as `expected` says.
    pub async fn status_until(&self, path: &str, expected: impl Fn(&str) -> bool) -> (u16, String) {
        let mut last = None;
        let asking = async {
            loop {
                // The server comes up beside the first dials, so it may not be there yet.
                match status(self.metrics_port, path).await {
                    Ok((code, body)) if expected(&body) => return (code, body),
                    other => last = Some(other),
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("{path} does not come to say what is expected: {last:?}"),
        }
    }
}

/// Asks the status server of a connector.
pub async fn status(port: u16, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let request = http::Request::get(path).header("host", "localhost");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answer = async {
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    // The connection ends with its answer.
    let (answer, _) = tokio::join!(patiently(answer), connection);
    Ok(answer)
}

/// A file that holds `text`.
pub fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// A port of which nobody makes use: below those that the system gives out by itself, so that no other test is
/// given it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

/// One recorder for all tests of the process, as `metrics` wants it.
fn prometheus() -> metrics_exporter_prometheus::PrometheusHandle {
    static HANDLE: std::sync::OnceLock<metrics_exporter_prometheus::PrometheusHandle> =
        std::sync::OnceLock::new();
    let install = || {
        let recorder = connector::metrics::recorder().unwrap();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).unwrap();
        handle
    };
    HANDLE.get_or_init(install).clone()
}

/// [`Session::send`] for a request in one piece.
pub async fn send_whole<B>(
    session: &Session,
    request: Request<B>,
    informational: impl FnMut(Response<()>),
) -> Result<Response<link::Body>, SendError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    session.send(&head, body, informational).await
}

/// [`Session::open`] for a request in one piece.
pub async fn open_whole(session: &Session, request: Request<()>) -> Result<Opened, SendError> {
    session.open(&request.into_parts().0, Bytes::new()).await
}
