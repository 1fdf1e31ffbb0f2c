//! An edge and a connector that hold one link.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use link::{
    BoxError, Exchange, Inbound, Opened, SendError, Session,
    control::{ControlReceiver, ControlSender},
    dial::{Dialer, Identity, Target},
    listen::{Candidate, Http2Listener, Pending, QuicListener},
    tls::{ServerIdentity, Trust},
};
use protocol::{
    address::CaPin,
    control::{Facts, FromConnector, FromEdge},
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
    key::Seed,
    presence::Transport,
};
use tokio::task::{JoinHandle, JoinSet};

pub const EDGE: EdgeId = EdgeId::from_bytes([0xed; 16]);

/// Bounds every wait; no test relies on its length.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens within 30 seconds")
}

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

    pub fn identity(&self) -> ServerIdentity {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let chain = leaf.pem() + &self.certificate.pem();
        ServerIdentity::from_pem(&chain, &key.serialize_pem()).unwrap()
    }
}

pub enum Listener {
    Quic(Box<QuicListener>),
    Http2(Http2Listener),
}

impl Listener {
    pub async fn bind(transport: Transport, identity: &ServerIdentity) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        match transport {
            Transport::Quic => Self::Quic(Box::new(QuicListener::bind(any, identity).unwrap())),
            Transport::Http2 => Self::Http2(Http2Listener::bind(any, identity).await.unwrap()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Quic(listener) => listener.local_addr(),
            Self::Http2(listener) => listener.local_addr(),
        }
    }

    pub async fn accept(&self) -> Pending {
        match self {
            Self::Quic(listener) => listener.accept().await.unwrap(),
            Self::Http2(listener) => listener.accept().await.unwrap(),
        }
    }

    pub async fn candidate(&self) -> Candidate {
        self.accept().await.handshake(EDGE, "eu".parse().unwrap()).await.unwrap()
    }
}

pub fn seed() -> Seed {
    Seed::from_bytes([7; 32])
}

pub fn identity() -> Identity {
    Identity {
        tunnel: TunnelId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        seed: seed(),
        connector: ConnectorId::from_bytes([3; 16]),
        facts: Facts { version: "0.1.0".into(), host: "office".into(), ..Facts::default() },
    }
}

pub fn target(transport: Transport, address: SocketAddr) -> Target {
    Target { transport, address, server_name: "localhost".into(), slot: 0, lane: 0 }
}

/// Both ends of one link.
pub struct World {
    pub session: Session,
    pub edge_sender: ControlSender<FromEdge>,
    pub edge_receiver: ControlReceiver<FromConnector>,
    pub inbound: Inbound,
    pub connector_sender: ControlSender<FromConnector>,
    pub connector_receiver: ControlReceiver<FromEdge>,
    /// They own the sockets.
    pub _listener: Listener,
    pub _dialer: Dialer,
}

impl World {
    pub async fn new(transport: Transport) -> Self {
        Self::by(transport, async |edge| edge).await
    }

    /// The connector dials what `way` makes of the edge's address.
    pub async fn by(transport: Transport, way: impl AsyncFnOnce(SocketAddr) -> SocketAddr) -> Self {
        let authority = Authority::new();
        let listener = Listener::bind(transport, &authority.identity()).await;
        let dialer = Dialer::new(&Trust::Pinned(authority.pin)).unwrap();
        let target = target(transport, way(listener.address()).await);
        let identity = identity();
        let edge = async {
            let candidate = listener.candidate().await;
            assert!(candidate.is_proven_by(&seed().public_key()));
            candidate.register(vec![]).await.unwrap()
        };
        let (edge, dialled) =
            patiently(async { tokio::join!(edge, dialer.dial(&target, &identity)) }).await;
        let (session, edge_sender, edge_receiver) = edge;
        let dialled = dialled.unwrap();
        assert_eq!(dialled.edge, EDGE);
        Self {
            session,
            edge_sender,
            edge_receiver,
            inbound: dialled.inbound,
            connector_sender: dialled.control_sender,
            connector_receiver: dialled.control_receiver,
            _listener: listener,
            _dialer: dialer,
        }
    }

    /// Gives every request to `handler`; returns the edge's handle and what keeps the rest alive.
    pub async fn serving<F, Fut>(transport: Transport, handler: F) -> (Session, Serving)
    where
        F: Fn(Exchange) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::new(transport).await.serve(handler)
    }

    /// Gives every request to `handler` from now on.
    pub fn serve<F, Fut>(self, handler: F) -> (Session, Serving)
    where
        F: Fn(Exchange) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let Self { session, mut inbound, edge_sender, edge_receiver, .. } = self;
        let handler = std::sync::Arc::new(handler);
        let task = tokio::spawn(async move {
            let mut exchanges = JoinSet::new();
            while let Some(arrival) = inbound.accept().await {
                let handler = handler.clone();
                exchanges.spawn(async move {
                    if let Ok(exchange) = arrival.exchange().await {
                        handler(*exchange).await;
                    }
                });
            }
        });
        let serving = Serving {
            task,
            _parts: (
                edge_sender,
                edge_receiver,
                self.connector_sender,
                self.connector_receiver,
                self._listener,
                self._dialer,
            ),
        };
        (session, serving)
    }
}

type Parts = (
    ControlSender<FromEdge>,
    ControlReceiver<FromConnector>,
    ControlSender<FromConnector>,
    ControlReceiver<FromEdge>,
    Listener,
    Dialer,
);

/// A connector that serves until this is dropped.
pub struct Serving {
    task: JoinHandle<()>,
    _parts: Parts,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub type TestBody = BoxBody<Bytes, BoxError>;

pub fn empty() -> TestBody {
    full(Bytes::new())
}

pub fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that the test feeds piece by piece.
pub fn channel() -> (tokio::sync::mpsc::Sender<Result<http_body::Frame<Bytes>, BoxError>>, TestBody)
{
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, http_body_util::StreamBody::new(stream).boxed())
}

pub fn ignore(_: http::Response<()>) {}

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
