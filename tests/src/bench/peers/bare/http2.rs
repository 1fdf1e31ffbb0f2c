//! Links over HTTP/2 on TLS, with the figures of Postern's own links
//! (`crates/link/src/http2/connection.rs`). The far end, which dials, is the HTTP/2 server.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{ClientConfig, ServerConfig},
};

use super::{Body, SERVER_NAME, Source, far::Origins, upload, waiting_at};

const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const STREAMS: u32 = 1024;
const HEADER_LIST: u32 = protocol::frame::MAX_HEAD as u32;
const FRAME: u32 = 128 * 1024;
const READ: usize = 64 * 1024;
const TLS_BUFFER: usize = 256 * 1024;
const SEND_BUFFER: usize = 128 * 1024;

/// Near: a link, once the other end has dialled it. `tasks` moves its bytes.
pub(super) async fn accept(
    address: SocketAddr,
    tls: ServerConfig,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<h2::client::SendRequest<Bytes>> {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(address).await?;
    println!("{}", waiting_at(address));
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(BufReader::with_capacity(READ, stream)).await?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    let (requests, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS as usize)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(stream)
        .await?;
    tasks.spawn(async { drop(connection.await) });
    Ok(requests)
}

/// Near: sends a request, and waits for the head of the answer.
pub(super) async fn send(
    link: h2::client::SendRequest<Bytes>,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let mut head = Request::from_parts(parts, ());
    *head.version_mut() = Version::HTTP_2;
    let is_whole = body.is_end_stream();
    let (response, stream) = link.ready().await?.send_request(head, is_whole)?;
    let upload = (!is_whole).then(|| upload(write(stream, body)));
    let (mut parts, stream) = response.await?.into_parts();
    parts.version = Version::HTTP_11;
    let body = Body { source: Source::Http2(stream), _upload: upload };
    Ok(Response::from_parts(parts, body))
}

/// Far: dials a link and serves what comes over it.
pub(super) async fn dial(
    address: SocketAddr,
    tls: ClientConfig,
    origins: Origins,
) -> anyhow::Result<()> {
    let connector = TlsConnector::from(Arc::new(tls));
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = BufReader::with_capacity(READ, stream);
    let mut stream = connector.connect(SERVER_NAME.try_into()?, stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    let mut link = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(stream)
        .await?;
    let mut exchanges = JoinSet::new();
    loop {
        let (request, respond) = link.accept().await.context("the link ended")??;
        exchanges.spawn(exchange(origins.clone(), request, respond));
        while exchanges.try_join_next().is_some() {}
    }
}

async fn exchange(
    origins: Origins,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> anyhow::Result<()> {
    let request = request.map(|stream| Body::from(Source::Http2(stream)));
    let (response, lent) = origins.ask(request).await?;
    let (parts, body) = response.into_parts();
    let is_whole = body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(parts, ()), is_whole)?;
    if !is_whole {
        write(stream, body).await?;
    }
    origins.give_back(lent).await
}

async fn write(mut stream: h2::SendStream<Bytes>, mut body: Incoming) -> anyhow::Result<()> {
    let mut is_over = false;
    while !is_over && let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else { continue };
        let is_last = body.is_end_stream();
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            while stream.capacity() == 0 {
                let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                capacity.context("nobody reads any more")??;
            }
            let piece = data.split_to(stream.capacity().min(data.len()));
            is_over = is_last && data.is_empty();
            stream.send_data(piece, is_over)?;
        }
    }
    if !is_over {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// What is taken makes room in the stream's window.
pub(super) fn poll_data(
    stream: &mut h2::RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<anyhow::Result<Bytes>>> {
    loop {
        let Some(data) = ready!(stream.poll_data(cx)) else { return Poll::Ready(None) };
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        // An empty frame only carries the end.
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(data)));
        }
    }
}
