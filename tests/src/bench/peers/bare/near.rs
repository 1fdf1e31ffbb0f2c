//! The clients' end: an HTTP/1.1 server that sends each request over the link of its thread.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use protocol::presence::Transport;
use tokio::{net::TcpSocket, task::JoinSet};
use tokio_rustls::rustls::ServerConfig;

use super::{Body, http2, quic};

/// What hyper buffers for a client, in bytes, as at the gateway.
const BUFFER: usize = 128 * 1024;
/// Clients that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A link, as the end that sends requests has it.
enum Link {
    Quic(quinn::Connection),
    Http2(h2::client::SendRequest<Bytes>),
}

pub(super) async fn run(
    carrier: Transport,
    link: SocketAddr,
    tls: ServerConfig,
    clients: SocketAddr,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let link = Arc::new(match carrier {
        Transport::Quic => Link::Quic(quic::accept(link, tls).await?),
        Transport::Http2 => Link::Http2(http2::accept(link, tls, &mut tasks).await?),
    });
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(clients)?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let link = link.clone();
        tasks.spawn(async move {
            let service = service_fn(|request| link.send(request));
            let mut server = http1::Builder::new();
            let served =
                server.max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service);
            // A client that goes away is nobody's concern; one without its answer notices.
            let _ = served.await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

impl Link {
    async fn send(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        // How a body is cut up belongs to the client's connection; HTTP/2 does not even let it pass.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        match self {
            Self::Quic(connection) => quic::send(connection, request).await,
            Self::Http2(requests) => http2::send(requests.clone(), request).await,
        }
    }
}
