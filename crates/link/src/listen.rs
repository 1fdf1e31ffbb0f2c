//! The edge listens: UDP and TCP, TLS, the connector's hello, and the decision whether a link is to be.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    sync::Arc,
    time::Duration,
};

use http::Request;
use protocol::{
    EXPORTER_LABEL, LINK_VERSION,
    abilities::Abilities,
    control::{DirectoryEdge, FromConnector, FromEdge, Hello, LinkRefusal},
    frame::Role,
    id::EdgeId,
    key::{Binding, PublicKey},
    name::RegionName,
    presence::Transport,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    control::{ControlReceiver, ControlSender, ReceiveCarrier, SendCarrier},
    error::{CloseReason, LinkError},
    http2, quic,
    session::{Http2Driver, Session},
    tls::ServerIdentity,
};

pub use crate::quic::{Generation, Shard, pipe};

/// TLS, welcome and hello together may take this long.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Longest hello, in bytes: a real one has some 600.
const MAX_HELLO: u64 = 16 * 1024;
/// A refusal is worth this long a wait for the connector to have read it.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(2);

/// Accepts links over QUIC.
#[derive(Debug)]
pub struct QuicListener {
    served: quic::Served,
    config: Arc<quinn::ServerConfig>,
    address: SocketAddr,
    shard: Shard,
}

/// Accepts links over HTTP/2.
pub struct Http2Listener {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

/// A connection that has just begun; nothing is known of who is at the other end.
pub struct Pending {
    remote: SocketAddr,
    stage: Stage,
}

enum Stage {
    Quic(Box<quinn::Incoming>, Arc<quinn::ServerConfig>),
    Http2(TcpStream, TlsAcceptor),
}

/// A connector that has said its hello; whether the proof holds is for [`Candidate::is_proven_by`].
pub struct Candidate {
    hello: Hello,
    edge: EdgeId,
    connection: Secured,
}

/// A connection with TLS and a control stream.
struct Secured {
    exporter: [u8; 32],
    session: Session,
    sender: ControlSender<FromEdge>,
    receiver: ControlReceiver<FromConnector>,
}

impl QuicListener {
    /// Listens on a UDP address.
    ///
    /// # Errors
    /// When the address cannot be bound, or the identity cannot be used.
    pub fn bind(address: SocketAddr, identity: &ServerIdentity) -> io::Result<Self> {
        Self::new(UdpSocket::bind(address)?, identity, Shard::WHOLE, Generation::default(), None)
    }

    /// Listens on a socket. The current runtime polls it. Where another process has had the socket, packets
    /// of its links go to `older`.
    ///
    /// # Errors
    /// When the socket or the identity cannot be used.
    pub fn new(
        socket: UdpSocket,
        identity: &ServerIdentity,
        shard: Shard,
        generation: Generation,
        older: Option<UnixDatagram>,
    ) -> io::Result<Self> {
        let served = quic::server_endpoint(socket, identity, shard, generation, older)?;
        let address = served.endpoint.local_addr()?;
        Ok(Self { config: Arc::new(served.config.clone()), served, address, shard })
    }

    /// The socket, for another process.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.served.share()
    }

    /// Leaves the socket to another process. What that passes on comes through `pipe`, which the current
    /// runtime watches; what is sent still leaves through the socket.
    ///
    /// # Errors
    /// When the pipe cannot be watched.
    pub fn hand_over(&self, pipe: UnixDatagram) -> io::Result<()> {
        self.served.hand_over(pipe)
    }

    /// Reads the socket again, as the other process is gone.
    pub fn take_back(&self) {
        self.served.take_back();
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Which packets come here.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The next connection whose address is known to be real; `None` once closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Pending> {
        loop {
            let incoming = self.served.endpoint.accept().await?;
            if !incoming.remote_address_validated() && incoming.may_retry() {
                // A stranger may have lied about its address: nothing is spent on it, and nothing
                // large is sent there, before it has answered from there.
                let _ = incoming.retry();
                continue;
            }
            let remote = incoming.remote_address();
            let stage = Stage::Quic(Box::new(incoming), self.config.clone());
            return Some(Pending { remote, stage });
        }
    }

    /// Closes every link and waits until the peers have been told.
    pub async fn close(&self) {
        self.served.endpoint.close(0u32.into(), b"");
        self.served.endpoint.wait_idle().await;
    }
}

impl Http2Listener {
    /// Listens on a TCP address.
    ///
    /// # Errors
    /// When the address cannot be bound, or the identity cannot be used.
    pub async fn bind(address: SocketAddr, identity: &ServerIdentity) -> io::Result<Self> {
        Self::new(TcpListener::bind(address).await?, identity)
    }

    /// Listens on a socket.
    ///
    /// # Errors
    /// When the socket or the identity cannot be used.
    pub fn new(listener: TcpListener, identity: &ServerIdentity) -> io::Result<Self> {
        let tls = identity.server_config(protocol::ALPN_HTTP2).map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let address = listener.local_addr()?;
        Ok(Self { listener, address, acceptor })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Cancel-safe.
    ///
    /// # Errors
    /// What the operating system says, such as too many open files; the listener itself lives on.
    pub async fn accept(&self) -> io::Result<Pending> {
        let (stream, remote) = self.listener.accept().await?;
        Ok(Pending { remote, stage: Stage::Http2(stream, self.acceptor.clone()) })
    }
}

impl Pending {
    /// The address at the other end.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// How the link would be carried.
    pub fn transport(&self) -> Transport {
        match self.stage {
            Stage::Quic(..) => Transport::Quic,
            Stage::Http2(..) => Transport::Http2,
        }
    }

    /// Shakes hands in TLS, introduces this edge, and hears the connector's hello: all in five seconds.
    /// The link then lives on the current runtime, whichever one has accepted it.
    ///
    /// # Errors
    /// When the other end is no connector, too slow, or gone.
    pub async fn handshake(self, edge: EdgeId, region: RegionName) -> Result<Candidate, LinkError> {
        let candidate = async {
            let mut connection = match self.stage {
                Stage::Quic(incoming, config) => secure_quic(*incoming, &config).await?,
                Stage::Http2(stream, acceptor) => {
                    secure_http2(stream, acceptor, self.remote).await?
                }
            };
            let abilities = Abilities::OWN;
            let welcome = FromEdge::Welcome { version: LINK_VERSION, edge, region, abilities };
            connection.sender.send(&welcome).await?;
            match connection.receiver.receive().await? {
                Some(FromConnector::Hello(hello)) => {
                    let hello = Hello { facts: hello.facts.clean(), ..hello };
                    Ok(Candidate { hello, edge, connection })
                }
                Some(_) => Err(LinkError::Unexpected("no hello")),
                None => Err(LinkError::ClosedByPeer),
            }
        };
        tokio::time::timeout(HANDSHAKE_DEADLINE, candidate)
            .await
            .unwrap_or(Err(LinkError::TimedOut))
    }
}

async fn secure_quic(
    incoming: quinn::Incoming,
    config: &quinn::ServerConfig,
) -> Result<Secured, LinkError> {
    let connection = quic::accept(incoming, config)?.await?;
    // A stranger may fill this much and no more; raised once it has proven itself.
    connection.set_receive_window(quinn::VarInt::from_u32(MAX_HELLO as u32));
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
        .map_err(|_| LinkError::Unexpected("no keying material"))?;
    let (sending, receiving) = connection.open_bi().await?;
    let receiving = quic::Receiving::new(receiving, Role::Control);
    Ok(Secured::new(
        exporter,
        Session::quic(connection),
        SendCarrier::Quic(quic::Sending::new(sending).urgent()),
        ReceiveCarrier::Quic(receiving),
    ))
}

async fn secure_http2(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    remote: SocketAddr,
) -> Result<Secured, LinkError> {
    // The runtime that it was accepted on may be another one than this.
    let stream = TcpStream::from_std(stream.into_std()?)?;
    let stream = http2::buffered(stream)?;
    let (traffic, pace) = (stream.get_ref().traffic(), stream.get_ref().pace());
    let mut stream = acceptor.accept(stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(http2::TLS_BUFFER));
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .map_err(|_| LinkError::Unexpected("no keying material"))?;
    let handshaken = http2::client_builder().handshake(http2::Corked::new(stream)).await;
    let (mut requests, connection) = handshaken.map_err(http2::stream_error)?;
    let driver = Http2Driver::spawn(connection);
    std::future::poll_fn(|cx| requests.poll_ready(cx)).await.map_err(http2::stream_error)?;
    let opening = Request::post(format!("https://edge{}", http2::CONTROL_PATH))
        .version(http::Version::HTTP_2)
        .body(())
        .expect("a constant request is valid");
    let (response, sending) = requests.send_request(opening, false).map_err(http2::stream_error)?;
    let receiving = response.await.map_err(http2::stream_error)?.into_body();
    Ok(Secured::new(
        exporter,
        Session::http2(remote, requests, driver, traffic, pace.clone()),
        SendCarrier::Http2(http2::Sending::new(sending, pace)),
        ReceiveCarrier::Http2(http2::Receiving::new(receiving)),
    ))
}

impl Secured {
    fn new(
        exporter: [u8; 32],
        session: Session,
        sending: SendCarrier,
        receiving: ReceiveCarrier,
    ) -> Self {
        let mut receiver = ControlReceiver::new(receiving);
        receiver.set_limit(MAX_HELLO);
        Self { exporter, session, sender: ControlSender::new(sending), receiver }
    }
}

impl Candidate {
    /// What the connector claims.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Did the holder of `key` make the hello's proof, for this very connection?
    pub fn is_proven_by(&self, key: &PublicKey) -> bool {
        let Hello { tunnel, key: key_id, connector, slot, proof, .. } = &self.hello;
        let binding = Binding {
            exporter: &self.connection.exporter,
            edge: self.edge,
            tunnel: *tunnel,
            key: *key_id,
            connector: *connector,
            slot: *slot,
        };
        binding.verify(key, proof)
    }

    /// The address at the other end.
    pub fn remote(&self) -> SocketAddr {
        self.connection.session.remote()
    }

    /// How the link would be carried.
    pub fn transport(&self) -> Transport {
        self.connection.session.transport()
    }

    /// Takes the link.
    ///
    /// # Errors
    /// When the connection is gone meanwhile.
    pub async fn register(
        self,
        directory: Vec<DirectoryEdge>,
    ) -> Result<(Session, ControlSender<FromEdge>, ControlReceiver<FromConnector>), LinkError> {
        let Secured { session, mut sender, mut receiver, .. } = self.connection;
        let session = session.with_abilities(self.hello.abilities);
        session.open_window();
        receiver.set_limit(protocol::frame::MAX_CONTROL);
        sender.send(&FromEdge::Registered { directory }).await?;
        Ok((session, sender, receiver))
    }

    /// Does not take it: says why, gives the connector two seconds to read it, and closes.
    pub async fn refuse(self, refusal: LinkRefusal) {
        let Secured { session, mut sender, .. } = self.connection;
        if sender.send(&FromEdge::Refused(refusal)).await.is_ok() {
            // The connector closes once it has read the refusal; one that does not is cut.
            let _ = tokio::time::timeout(REFUSAL_DEADLINE, session.closed()).await;
        }
        session.close(CloseReason::Refused);
    }
}
