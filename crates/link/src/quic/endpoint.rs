//! QUIC endpoints: every figure that shapes a link over QUIC.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    sync::Arc,
    time::Duration,
};

use quinn::{
    EndpointConfig, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use socket2::SockRef;

use crate::{
    quic::{
        shard::{self, Ids, Shard},
        socket::{self, Socket},
        succession::{Generation, Succession},
    },
    session,
    tls::ServerIdentity,
};

/// How much of one stream may wait for its reader, in bytes: the bandwidth-delay product of 100 Mbit/s
/// over 40 ms.
const STREAM_WINDOW: u32 = 512 * 1024;
/// How much may be sent and not yet acknowledged, in bytes.
const SEND_WINDOW: u64 = 4 * 1024 * 1024;
/// A link without any packet for this long is gone. Heartbeats notice much earlier; this is for the
/// end that does not send them.
const IDLE: Duration = Duration::from_secs(20);

/// What the system may hold of datagrams until this process reads them, in bytes: as much as one sender may
/// have under way. Linux gives `net.core.rmem_max` at most. Its default is a twentieth of this, and whatever
/// comes beyond is lost, as if the network had dropped it.
const RECEIVE_BUFFER: usize = SEND_WINDOW as usize;
/// Largest datagram, in bytes of UDP payload, over Ethernet's usual frames.
const ETHERNET: u16 = 1_452;
/// Largest datagram where the way takes longer ones (jumbo frames, or one and the same host): ten of
/// them, which leave in one system call, still fit into what one may hold.
const JUMBO: u16 = 6_500;

/// How long datagrams to `remote` may become, as far as this host knows: a search for more than the
/// first network on the way takes would only be slow.
fn longest_datagram(remote: SocketAddr) -> u16 {
    #[cfg(target_os = "linux")]
    if remote.is_ipv4() {
        use nix::sys::socket::{getsockopt, sockopt::IpMtu};
        const HEADERS: i32 = 28;
        let probe = UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
            socket.connect(remote)?;
            Ok(getsockopt(&socket, IpMtu)?)
        });
        let known = probe.map_or(ETHERNET, |mtu| u16::try_from(mtu - HEADERS).unwrap_or(u16::MAX));
        return known.clamp(ETHERNET, JUMBO);
    }
    let _ = remote;
    ETHERNET
}

fn transport(streams: u32, remote: SocketAddr) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(longest_datagram(remote));
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0u32.into())
        .stream_receive_window(STREAM_WINDOW.into())
        // Never smaller than the streams' windows together, or stalled readers would exhaust it.
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IDLE.try_into().expect("20 s fit a varint of milliseconds")));
    Arc::new(config)
}

/// The edge's end.
fn server_config(identity: &ServerIdentity) -> Result<ServerConfig, crate::TlsError> {
    let tls = identity.server_config(protocol::ALPN_QUIC)?;
    let tls = QuicServerConfig::try_from(tls)
        .map_err(|_| crate::TlsError::Missing("cipher suite that QUIC can start with"))?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.migration(true);
    Ok(config)
}

/// The same for one connector, which may never open a stream.
pub(crate) fn accept(
    incoming: quinn::Incoming,
    config: &ServerConfig,
) -> Result<quinn::Connecting, quinn::ConnectionError> {
    let mut config = config.clone();
    config.transport_config(transport(0, incoming.remote_address()));
    incoming.accept_with(Arc::new(config))
}

/// The edge's endpoint, with its socket.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) config: ServerConfig,
    socket: Arc<Socket>,
}

impl Served {
    /// The same socket for another process.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.share()
    }

    /// Leaves the socket to another process, which passes on what is this one's.
    pub(crate) fn hand_over(&self, pipe: UnixDatagram) -> io::Result<()> {
        self.socket.succession().map_or(Ok(()), |succession| succession.hand_over(pipe))
    }

    /// Reads the socket again.
    pub(crate) fn take_back(&self) {
        self.socket.succession().into_iter().for_each(Succession::take_back);
    }
}

/// The edge's endpoint. Its reset key comes from its identity, so that after a restart it can tell
/// connectors at once that their links are gone, instead of keeping silent. What another process may still
/// have links of goes there through `older`.
pub(crate) fn server_endpoint(
    socket: UdpSocket,
    identity: &ServerIdentity,
    shard: Shard,
    generation: Generation,
    older: Option<UnixDatagram>,
) -> io::Result<Served> {
    let server = server_config(identity).map_err(io::Error::other)?;
    let reset_key = identity.derive_key(b"postern quic stateless reset");
    let reset_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &reset_key);
    make_room(&socket);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(Ids::new(shard, generation)));
    takes_jumbo(&mut config);
    let socket = Arc::new(Socket::new(socket, Some(Succession::new(generation, older)))?);
    let endpoint = quinn::Endpoint::new_with_abstract_socket(
        config,
        Some(server.clone()),
        socket.clone(),
        Arc::new(socket::Runtime),
    )?;
    Ok(Served { endpoint, config: server, socket })
}

/// The connector's endpoint.
pub(crate) fn client_endpoint(address: SocketAddr) -> io::Result<quinn::Endpoint> {
    let mut config = EndpointConfig::default();
    takes_jumbo(&mut config);
    let socket = UdpSocket::bind(address)?;
    make_room(&socket);
    quinn::Endpoint::new(config, None, socket, Arc::new(socket::Runtime))
}

fn make_room(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    if socket.recv_buffer_size().is_ok_and(|size| size < RECEIVE_BUFFER) {
        // A socket that cannot have as much still works.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
}

fn takes_jumbo(config: &mut EndpointConfig) {
    config.max_udp_payload_size(JUMBO).expect("above QUIC's least, 1200 bytes");
}

/// The connector's end, towards any edge.
pub(crate) fn client_config(
    tls: rustls::ClientConfig,
) -> Result<quinn::ClientConfig, crate::TlsError> {
    let tls = QuicClientConfig::try_from(tls)
        .map_err(|_| crate::TlsError::Missing("cipher suite that QUIC can start with"))?;
    Ok(quinn::ClientConfig::new(Arc::new(tls)))
}

/// The same towards one edge, which opens one stream a request.
pub(crate) fn client_config_for(
    config: &quinn::ClientConfig,
    remote: SocketAddr,
    lane: u8,
) -> quinn::ClientConfig {
    let mut config = config.clone();
    config.transport_config(transport(session::STREAMS, remote));
    config.initial_dst_cid_provider(Arc::new(move || shard::beginning(lane)));
    config
}
