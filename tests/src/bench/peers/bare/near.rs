//! The clients' end: an HTTP/1.1 server that sends each request over the next link.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use protocol::presence::Transport;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::rustls::ServerConfig;

use super::{Body, http2, quic};

/// What hyper buffers for a client, in bytes, as at the gateway.
const BUFFER: usize = 128 * 1024;

/// A link, as the end that sends requests has it.
enum Link {
    Quic(quinn::Connection),
    Http2(h2::client::SendRequest<Bytes>),
}

struct Near {
    links: Vec<Link>,
    turn: AtomicUsize,
}

pub(super) async fn run(
    carrier: Transport,
    link: SocketAddr,
    tls: ServerConfig,
    clients: SocketAddr,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let links = match carrier {
        Transport::Quic => quic::accept(link, tls).await?.into_iter().map(Link::Quic).collect(),
        Transport::Http2 => {
            let links = http2::accept(link, tls, &mut tasks).await?;
            links.into_iter().map(Link::Http2).collect()
        }
    };
    let near = Arc::new(Near { links, turn: AtomicUsize::new(0) });
    let listener = TcpListener::bind(clients).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let near = near.clone();
        tasks.spawn(async move {
            let service = service_fn(|request| near.send(request));
            let mut server = http1::Builder::new();
            let served =
                server.max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service);
            // A client that goes away is nobody's concern; one without its answer notices.
            let _ = served.await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

impl Near {
    async fn send(&self, mut request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        // How a body is cut up belongs to the client's connection; HTTP/2 does not even let it pass.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match &self.links[turn % self.links.len()] {
            Link::Quic(connection) => quic::send(connection, request).await,
            Link::Http2(requests) => http2::send(requests.clone(), request).await,
        }
    }
}
