//! The connector dials: TCP or UDP, TLS, the proof, and a link is up.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use protocol::{
    EXPORTER_LABEL, LINK_VERSION,
    abilities::Abilities,
    control::{DirectoryEdge, Facts, FromConnector, FromEdge, Hello},
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
    key::{Binding, Seed},
    name::RegionName,
    presence::Transport,
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    control::{ControlReceiver, ControlSender, ReceiveCarrier, SendCarrier},
    error::{CloseReason, DialError, LinkError, TlsError},
    http2,
    inbound::Inbound,
    quic,
    tls::{Trust, client_configs},
    vitals::Vitals,
};

/// Who dials.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The tunnel to serve.
    pub tunnel: TunnelId,
    /// Which of its keys signs.
    pub key: KeyId,
    /// The key's seed.
    pub seed: Seed,
    /// This process.
    pub connector: ConnectorId,
    /// What it tells of itself.
    pub facts: Facts,
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The carrier.
    pub transport: Transport,
    /// The edge's address.
    pub address: SocketAddr,
    /// The name, or IP address, that its certificate must bear.
    pub server_name: String,
    /// Which link this is to be, from 0.
    pub slot: u8,
    /// Over QUIC, the first byte of the connection id that the link begins with: an edge with several
    /// workers goes by it. Links of different lanes come to different workers, as long as there are enough.
    /// All links from one [`Dialer`] to one address have the lane of the first.
    pub lane: u8,
}

/// An edge that would take a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The edge.
    pub edge: EdgeId,
    /// Where it stands.
    pub region: RegionName,
    /// All edges that it knows.
    pub directory: Vec<DirectoryEdge>,
}

/// A link that is up, at the connector.
pub struct Dialled {
    /// The edge at the other end.
    pub edge: EdgeId,
    /// Where it stands.
    pub region: RegionName,
    /// All edges that it knows.
    pub directory: Vec<DirectoryEdge>,
    /// The requests.
    pub inbound: Inbound,
    /// Says things to the edge.
    pub control_sender: ControlSender<FromConnector>,
    /// Hears what the edge says.
    pub control_receiver: ControlReceiver<FromEdge>,
    /// The edge's signs of life.
    pub vitals: Vitals,
}

/// Addresses whose lane is remembered: more than a connector finds its edges at.
const MAX_LANES: usize = 256;

/// Dials edges. Holds one UDP socket for each address family, made when first needed.
pub struct Dialer {
    quic: quinn::ClientConfig,
    tls: TlsConnector,
    v4: tokio::sync::OnceCell<quinn::Endpoint>,
    v6: tokio::sync::OnceCell<quinn::Endpoint>,
    lanes: Mutex<HashMap<SocketAddr, u8>>,
}

impl Dialer {
    /// A dialer that judges edges by `trust`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(trust: &Trust) -> Result<Self, TlsError> {
        let (quic, tls) = client_configs(trust)?;
        Ok(Self::with(quic::client_config(quic)?, TlsConnector::from(Arc::new(tls))))
    }

    fn with(quic: quinn::ClientConfig, tls: TlsConnector) -> Self {
        let (v4, v6, lanes) = Default::default();
        Self { quic, tls, v4, v6, lanes }
    }

    /// Another one that judges edges alike, with sockets of its own: for another worker.
    pub fn apart(&self) -> Self {
        Self::with(self.quic.clone(), self.tls.clone())
    }

    /// Dials, proves, registers. Has no deadline of its own; dropping the future gives up.
    ///
    /// # Errors
    /// Says how far it got; [`DialError::Refused`] is the edge's own answer.
    pub async fn dial(&self, target: &Target, identity: &Identity) -> Result<Dialled, DialError> {
        self.open(target).await?.register(target.slot, identity).await
    }

    /// The same over HTTP/2 on a connection that somebody else has made, such as one through a proxy.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn dial_on(
        &self,
        stream: TcpStream,
        server_name: &str,
        slot: u8,
        identity: &Identity,
    ) -> Result<Dialled, DialError> {
        self.open_on(stream, server_name).await?.register(slot, identity).await
    }

    /// Asks an edge whether it would take a link, and leaves: nothing is registered.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn probe(&self, target: &Target, identity: &Identity) -> Result<Probed, DialError> {
        self.open(target).await?.probe(target.slot, identity).await
    }

    /// [`Self::probe`] over HTTP/2 on a connection that somebody else has made.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn probe_on(
        &self,
        stream: TcpStream,
        server_name: &str,
        slot: u8,
        identity: &Identity,
    ) -> Result<Probed, DialError> {
        self.open_on(stream, server_name).await?.probe(slot, identity).await
    }

    async fn open(&self, target: &Target) -> Result<Opened, DialError> {
        match target.transport {
            Transport::Quic => self.open_quic(target).await,
            Transport::Http2 => {
                let stream = TcpStream::connect(target.address).await;
                let stream = stream.map_err(DialError::Connect)?;
                self.open_on(stream, &target.server_name).await
            }
        }
    }

    async fn open_quic(&self, target: &Target) -> Result<Opened, DialError> {
        let endpoint = self.endpoint(target.address).await.map_err(DialError::Connect)?;
        let connecting = endpoint
            .connect_with(
                quic::client_config_for(&self.quic, target.address, self.lane(target)),
                target.address,
                &target.server_name,
            )
            .map_err(|error| DialError::Connect(io::Error::other(error)))?;
        let connection = connecting.await.map_err(quic_dial_error)?;
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, b"")
            .map_err(|_| LinkError::Unexpected("no keying material"))?;
        let inbound = Inbound::quic(connection.clone());
        let (sending, receiving) = connection.accept_bi().await.map_err(LinkError::from)?;
        let receiving = quic::Receiving::new(receiving, protocol::frame::Role::Control);
        let control = Control {
            sender: ControlSender::new(SendCarrier::Quic(quic::Sending::new(sending).urgent())),
            receiver: ControlReceiver::new(ReceiveCarrier::Quic(receiving)),
        };
        let vitals = Vitals::quic(connection);
        Ok(Opened { inbound, control, exporter, vitals })
    }

    /// The lane that the address has here: an edge may be known by more than one name.
    fn lane(&self, target: &Target) -> u8 {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= MAX_LANES && !lanes.contains_key(&target.address) {
            lanes.clear();
        }
        *lanes.entry(target.address).or_insert(target.lane)
    }

    async fn open_on(&self, stream: TcpStream, server_name: &str) -> Result<Opened, DialError> {
        let stream = http2::buffered(stream).map_err(DialError::Connect)?;
        let (vitals, pace) = (Vitals::http2(stream.get_ref().traffic()), stream.get_ref().pace());
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| DialError::Tls(error.into()))?;
        let mut stream = self.tls.connect(name, stream).await.map_err(tls_dial_error)?;
        stream.get_mut().1.set_buffer_limit(Some(http2::TLS_BUFFER));
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .map_err(|_| LinkError::Unexpected("no keying material"))?;
        let handshaken = http2::server_builder().handshake(http2::Corked::new(stream)).await;
        let mut connection = handshaken.map_err(http2::stream_error)?;
        let first = connection.accept().await.ok_or(LinkError::ClosedByPeer)?;
        let (request, mut respond) = first.map_err(http2::stream_error)?;
        if request.uri().path() != http2::CONTROL_PATH {
            return Err(LinkError::Unexpected("no control stream").into());
        }
        let sending =
            respond.send_response(http::Response::new(()), false).map_err(http2::stream_error)?;
        let receiving = http2::Receiving::new(request.into_body());
        let control = Control {
            sender: ControlSender::new(SendCarrier::Http2(http2::Sending::new(
                sending,
                pace.clone(),
            ))),
            receiver: ControlReceiver::new(ReceiveCarrier::Http2(receiving)),
        };
        Ok(Opened { inbound: Inbound::http2(connection, pace), control, exporter, vitals })
    }

    async fn endpoint(&self, address: SocketAddr) -> io::Result<&quinn::Endpoint> {
        match address {
            SocketAddr::V4(_) => {
                let bind = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                self.v4.get_or_try_init(|| async { quic::client_endpoint(bind) }).await
            }
            SocketAddr::V6(_) => {
                let bind = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
                self.v6.get_or_try_init(|| async { quic::client_endpoint(bind) }).await
            }
        }
    }
}

struct Control {
    sender: ControlSender<FromConnector>,
    receiver: ControlReceiver<FromEdge>,
}

/// A connection on which the edge speaks first.
struct Opened {
    inbound: Inbound,
    control: Control,
    exporter: [u8; 32],
    vitals: Vitals,
}

impl Opened {
    async fn register(mut self, slot: u8, identity: &Identity) -> Result<Dialled, DialError> {
        let hello = Draft { identity, slot, probe: false };
        let Probed { edge, region, directory } = self.ask(hello).await?;
        let Self { inbound, control, vitals, .. } = self;
        let Control { sender: control_sender, receiver: control_receiver } = control;
        Ok(Dialled { edge, region, directory, inbound, control_sender, control_receiver, vitals })
    }

    async fn probe(mut self, slot: u8, identity: &Identity) -> Result<Probed, DialError> {
        let probed = self.ask(Draft { identity, slot, probe: true }).await?;
        self.inbound.close(CloseReason::Shutdown);
        Ok(probed)
    }

    async fn ask(&mut self, hello: Draft<'_>) -> Result<Probed, DialError> {
        let asked = self.inbound.drive(hello.exchange(&mut self.control, &self.exporter)).await;
        let (probed, abilities) = asked?;
        self.inbound.set_abilities(abilities);
        Ok(probed)
    }
}

/// A hello, as far as it can be written before the edge has spoken.
struct Draft<'a> {
    identity: &'a Identity,
    slot: u8,
    probe: bool,
}

impl Draft<'_> {
    async fn exchange(
        self,
        control: &mut Control,
        exporter: &[u8; 32],
    ) -> Result<(Probed, Abilities), DialError> {
        let (edge, region, abilities) = match control.receiver.receive().await? {
            Some(FromEdge::Welcome { edge, region, abilities, .. }) => (edge, region, abilities),
            Some(FromEdge::Refused(refusal)) => return Err(DialError::Refused(refusal)),
            Some(_) => return Err(LinkError::Unexpected("no welcome").into()),
            None => return Err(LinkError::ClosedByPeer.into()),
        };
        let Self { identity, slot, probe } = self;
        let Identity { tunnel, key, seed, connector, facts } = identity;
        let binding =
            Binding { exporter, edge, tunnel: *tunnel, key: *key, connector: *connector, slot };
        let hello = Hello {
            version: LINK_VERSION,
            tunnel: *tunnel,
            key: *key,
            connector: *connector,
            slot,
            proof: seed.prove(&binding),
            facts: facts.clone(),
            abilities: Abilities::OWN,
            probe,
        };
        control.sender.send(&FromConnector::Hello(hello)).await?;
        match control.receiver.receive().await? {
            Some(FromEdge::Registered { directory }) => {
                Ok((Probed { edge, region, directory }, abilities))
            }
            Some(FromEdge::Refused(refusal)) => Err(DialError::Refused(refusal)),
            Some(_) => Err(LinkError::Unexpected("no answer to the hello").into()),
            None => Err(LinkError::ClosedByPeer.into()),
        }
    }
}

fn quic_dial_error(error: quinn::ConnectionError) -> DialError {
    match error {
        // Code 0x100 + n is a TLS alert (RFC 9001 §4.8).
        quinn::ConnectionError::TransportError(error)
            if (0x100..0x200).contains(&u64::from(error.code)) =>
        {
            DialError::Tls(error.into())
        }
        quinn::ConnectionError::TimedOut => {
            DialError::Connect(io::Error::new(io::ErrorKind::TimedOut, "no answer over UDP"))
        }
        error => DialError::Link(error.into()),
    }
}

fn tls_dial_error(error: io::Error) -> DialError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => DialError::Tls(error.into()),
        Err(error) => DialError::Connect(error),
    }
}

#[cfg(test)]
mod tests {
    use protocol::address::CaPin;

    use super::*;

    #[test]
    fn an_address_has_one_lane_whatever_it_is_called() {
        let dialer = Dialer::new(&Trust::Pinned(CaPin::from_bytes([1; 32]))).unwrap();
        let target = |name: &str, port, lane| Target {
            transport: Transport::Quic,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            server_name: name.into(),
            slot: 0,
            lane,
        };
        let lanes = [target("a", 1, 3), target("b", 1, 4), target("a", 2, 4)];
        assert_eq!(lanes.map(|target| dialer.lane(&target)), [3, 3, 4]);
        assert_eq!(dialer.apart().lane(&target("a", 1, 9)), 9, "it has another socket");
        for port in 0..1_000 {
            dialer.lane(&target("a", port, 0));
        }
        assert!(dialer.lanes.lock().unwrap().len() <= MAX_LANES);
    }
}
