//! QUIC endpoints: every figure that shapes a link over QUIC.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    EndpointConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{
    quic::shard::{Ids, Shard},
    tls::ServerIdentity,
};

/// How much of one stream may wait for its reader, in bytes: the bandwidth-delay product of 100 Mbit/s
/// over 40 ms.
const STREAM_WINDOW: u32 = 512 * 1024;
/// Most requests under way on one link. The connection's window is left open: it may never be smaller
/// than the streams' windows together, or stalled readers would exhaust it.
const STREAMS: u32 = 1024;
/// How much may be sent and not yet acknowledged, in bytes.
const SEND_WINDOW: u64 = 16 * 1024 * 1024;
/// A link without any packet for this long is gone. Heartbeats notice much earlier; this is for the
/// end that does not send them.
const IDLE: Duration = Duration::from_secs(20);

fn transport(streams: u32) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0u32.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IDLE.try_into().expect("20 s fit a varint of milliseconds")));
    Arc::new(config)
}

/// The edge's end: never lets a connector open a stream.
fn server_config(identity: &ServerIdentity) -> Result<ServerConfig, crate::TlsError> {
    let tls = identity.server_config(protocol::ALPN_QUIC)?;
    let tls = QuicServerConfig::try_from(tls)
        .map_err(|_| crate::TlsError::Missing("cipher suite that QUIC can start with"))?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport(0)).migration(true);
    Ok(config)
}

/// The edge's endpoint. Its reset and connection-id keys come from its identity, so that after a
/// restart it can tell connectors at once that their links are gone, instead of keeping silent.
pub(crate) fn server_endpoint(
    socket: UdpSocket,
    identity: &ServerIdentity,
    shard: Shard,
) -> io::Result<quinn::Endpoint> {
    let server = server_config(identity).map_err(io::Error::other)?;
    let reset_key = identity.derive_key(b"postern quic stateless reset");
    let reset_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &reset_key);
    let cid_key = identity.derive_key(b"postern quic connection id");
    let cid_key = u64::from_be_bytes(*cid_key.first_chunk().expect("32 bytes hold 8"));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(Ids::new(cid_key, shard)));
    quinn::Endpoint::new(config, Some(server), socket, Arc::new(quinn::TokioRuntime))
}

/// The connector's endpoint.
pub(crate) fn client_endpoint(address: SocketAddr) -> io::Result<quinn::Endpoint> {
    quinn::Endpoint::client(address)
}

/// The connector's end: the edge opens one stream a request.
pub(crate) fn client_config(
    tls: rustls::ClientConfig,
) -> Result<quinn::ClientConfig, crate::TlsError> {
    let tls = QuicClientConfig::try_from(tls)
        .map_err(|_| crate::TlsError::Missing("cipher suite that QUIC can start with"))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport(STREAMS));
    Ok(config)
}
