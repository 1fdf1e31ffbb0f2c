//! Links over QUIC: one bidirectional stream a request, with the figures of Postern's own links
//! (`crates/link/src/quic/endpoint.rs`) and its encoding.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use anyhow::{Context as _, anyhow, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protocol::{
    frame::{self, Decoder, Frame, Kind, Role},
    head::{self, Follows},
};
use quinn::{
    Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream, SendStream,
    TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use socket2::SockRef;
use tokio::task::JoinSet;
use tokio_rustls::rustls;

use super::{Body, SERVER_NAME, Source, far::Origins, upload, waiting_at};

const STREAM_WINDOW: u32 = 512 * 1024;
const SEND_WINDOW: u64 = 4 * 1024 * 1024;
const RECEIVE_BUFFER: usize = SEND_WINDOW as usize;
const STREAMS: u32 = 1024;
/// As long as datagrams of Postern's links become over the loopback interface, in bytes.
const DATAGRAM: u16 = 6_500;
/// Most bytes taken off a stream at once.
const CHUNK: usize = 64 * 1024;
/// Room for a usual head, in bytes.
const HEAD: usize = 512;
/// Pieces of a body up to this length, in bytes, are copied behind one another.
const COPY: usize = 4 * 1024;
/// Copied pieces are written once they reach this length together.
const FLUSH: usize = 16 * 1024;

/// Without an idle timeout: Postern's links have heartbeats, these have nothing.
fn transport(streams: u32) -> Arc<TransportConfig> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(DATAGRAM);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(0u32.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(VarInt::MAX)
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(None);
    Arc::new(config)
}

fn endpoint(address: SocketAddr, server: Option<quinn::ServerConfig>) -> anyhow::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(DATAGRAM)?;
    let socket = UdpSocket::bind(address)?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    Ok(Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))?)
}

/// Near: a link, once the other end has dialled it.
pub(super) async fn accept(
    address: SocketAddr,
    tls: rustls::ServerConfig,
) -> anyhow::Result<Connection> {
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(transport(0));
    let endpoint = endpoint(address, Some(server))?;
    println!("{}", waiting_at(address));
    Ok(endpoint.accept().await.context("no longer listening")?.await?)
}

/// Near: sends a request, and waits for the head of the answer.
pub(super) async fn send(
    link: &Connection,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Body>> {
    let (sending, receiving) = link.open_bi().await?;
    let mut receiving = Receiving::new(receiving, Role::Response);
    let (request, body) = request.into_parts();
    let (mut head, follows) = prepare(&body);
    head::encode_request(&request, follows, &mut head);
    let sending = write(sending, head, body);
    let upload = match follows {
        Follows::Nothing => {
            sending.await?;
            None
        }
        Follows::More => Some(upload(sending)),
    };
    let (response, follows) = head::decode_response(receiving.head().await?)?;
    let body = Body { source: receiving.into_source(follows), _upload: upload };
    Ok(response.map(|()| body))
}

/// Far: dials a link and serves what comes over it.
pub(super) async fn dial(
    address: SocketAddr,
    tls: rustls::ClientConfig,
    origins: Origins,
) -> anyhow::Result<()> {
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(transport(STREAMS));
    let endpoint = endpoint((Ipv4Addr::UNSPECIFIED, 0).into(), None)?;
    let link = endpoint.connect_with(client, address, SERVER_NAME)?.await?;
    let mut exchanges = JoinSet::new();
    loop {
        let (sending, receiving) = link.accept_bi().await?;
        exchanges.spawn(exchange(origins.clone(), sending, receiving));
        while exchanges.try_join_next().is_some() {}
    }
}

async fn exchange(
    origins: Origins,
    sending: SendStream,
    receiving: RecvStream,
) -> anyhow::Result<()> {
    let mut receiving = Receiving::new(receiving, Role::Request);
    let (request, follows) = head::decode_request(receiving.head().await?)?;
    let body = Body::from(receiving.into_source(follows));
    let (response, lent) = origins.ask(request.map(|()| body)).await?;
    let (mut head, follows) = prepare(response.body());
    head::encode_response(&response, follows, &mut head);
    write(sending, head, response.into_body()).await?;
    origins.give_back(lent).await
}

/// A buffer for a head, with room for a short body, and what comes behind the head.
fn prepare(body: &Incoming) -> (BytesMut, Follows) {
    let short = usize::try_from(body.size_hint().lower()).ok().filter(|length| *length <= COPY);
    let follows = if body.is_end_stream() { Follows::Nothing } else { Follows::More };
    (BytesMut::with_capacity(HEAD + short.unwrap_or(0)), follows)
}

/// Writes a head that is encoded already, and the body; pieces that are there together leave together.
async fn write(
    mut stream: SendStream,
    mut head: BytesMut,
    mut body: Incoming,
) -> anyhow::Result<()> {
    while !body.is_end_stream() {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                flush(&mut stream, &mut head).await?;
                body.frame().await
            }
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame?.into_data() else { continue };
        frame::encode_header(Kind::Data, data.len(), &mut head);
        if data.len() > COPY {
            stream.write_all_chunks(&mut [head.split().freeze(), data]).await?;
        } else {
            head.put(data);
            if head.len() >= FLUSH {
                flush(&mut stream, &mut head).await?;
            }
        }
    }
    flush(&mut stream, &mut head).await?;
    Ok(stream.finish()?)
}

async fn flush(stream: &mut SendStream, buffer: &mut BytesMut) -> anyhow::Result<()> {
    if !buffer.is_empty() {
        stream.write_chunk(buffer.split().freeze()).await?;
    }
    Ok(())
}

/// The receiving direction of a stream.
pub(super) struct Receiving {
    stream: RecvStream,
    decoder: Decoder,
    is_ended: bool,
}

impl Receiving {
    fn new(stream: RecvStream, role: Role) -> Self {
        Self { stream, decoder: Decoder::new(role), is_ended: false }
    }

    async fn head(&mut self) -> anyhow::Result<Bytes> {
        match std::future::poll_fn(|cx| self.poll_frame(cx)).await? {
            Some(Frame::Head(head)) => Ok(head),
            _ => bail!("no head"),
        }
    }

    fn into_source(mut self, follows: Follows) -> Source {
        match follows {
            Follows::Nothing => {
                self.see_end();
                Source::Empty
            }
            Follows::More => Source::Quic(self),
        }
    }

    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<anyhow::Result<Bytes>>> {
        Poll::Ready(match ready!(self.poll_frame(cx)) {
            Ok(Some(Frame::Data(data))) => {
                self.see_end();
                Some(Ok(data))
            }
            Ok(None) => None,
            Ok(Some(_)) => Some(Err(anyhow!("no body"))),
            Err(error) => Some(Err(error)),
        })
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended && self.decoder.finish().is_ok()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<Option<Frame>>> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.is_ended {
                self.decoder.finish()?;
                return Poll::Ready(Ok(None));
            }
            ready!(self.poll_bytes(cx))?;
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), quinn::ReadError>> {
        match ready!(pin!(self.stream.read_chunk(CHUNK, true)).poll(cx))? {
            Some(chunk) => self.decoder.push(chunk.bytes),
            None => self.is_ended = true,
        }
        Poll::Ready(Ok(()))
    }

    /// A stream that is dropped with its end unread costs a packet each way to say that nobody minds.
    fn see_end(&mut self) {
        if self.decoder.is_drained() && !self.is_ended {
            // Whoever reads on registers a waker of its own, and hears of an error.
            let _ = self.poll_bytes(&mut Context::from_waker(Waker::noop()));
        }
    }
}
