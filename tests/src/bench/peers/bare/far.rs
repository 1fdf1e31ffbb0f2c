//! The origin's end: an HTTP/1.1 client with a pool of kept connections for each origin.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use http::{Request, Response, Uri, Version, header, uri::Authority};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use protocol::presence::Transport;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::rustls::ClientConfig;

use super::{Body, http2, quic};

/// What hyper buffers of an answer, in bytes, as at the connector.
const BUFFER: usize = 64 * 1024;

/// The origins.
#[derive(Clone, Default)]
pub(super) struct Origins(Arc<Inner>);

#[derive(Default)]
struct Inner {
    resting: Mutex<HashMap<Authority, Vec<SendRequest<Body>>>>,
    connections: Mutex<JoinSet<()>>,
}

/// A connection whose answer is being read.
pub(super) struct Lent(Authority, SendRequest<Body>);

pub(super) async fn run(
    carrier: Transport,
    link: SocketAddr,
    tls: ClientConfig,
) -> anyhow::Result<()> {
    let origins = Origins::default();
    match carrier {
        Transport::Quic => quic::dial(link, tls, origins).await,
        Transport::Http2 => http2::dial(link, tls, origins).await,
    }
}

impl Origins {
    /// Sends a request whose URI is absolute to its origin, and waits for the head of the answer.
    pub(super) async fn ask(
        &self,
        request: Request<Body>,
    ) -> anyhow::Result<(Response<Incoming>, Lent)> {
        let (mut head, body) = request.into_parts();
        let uri = head.uri.into_parts();
        let origin = uri.authority.context("a request without an authority")?;
        head.uri = uri.path_and_query.map_or_else(|| Uri::from_static("/"), Uri::from);
        head.version = Version::HTTP_11;
        let mut sender = match self.take(&origin) {
            Some(sender) => sender,
            None => self.connect(&origin).await?,
        };
        let mut response = sender.send_request(Request::from_parts(head, body)).await?;
        response.headers_mut().remove(header::TRANSFER_ENCODING);
        Ok((response, Lent(origin, sender)))
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(super) async fn give_back(&self, lent: Lent) -> anyhow::Result<()> {
        let Lent(origin, mut sender) = lent;
        sender.ready().await?;
        let mut resting = self.0.resting.lock().expect("no panic while locked");
        resting.entry(origin).or_default().push(sender);
        Ok(())
    }

    fn take(&self, origin: &Authority) -> Option<SendRequest<Body>> {
        let mut resting = self.0.resting.lock().expect("no panic while locked");
        let resting = resting.get_mut(origin)?;
        std::iter::from_fn(|| resting.pop()).find(SendRequest::is_ready)
    }

    async fn connect(&self, origin: &Authority) -> anyhow::Result<SendRequest<Body>> {
        let stream = TcpStream::connect(origin.as_str()).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::Builder::new()
            .max_header_size(BUFFER)
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut connections = self.0.connections.lock().expect("no panic while locked");
        while connections.try_join_next().is_some() {}
        // Whoever waits for an answer on it hears of the error.
        connections.spawn(async { drop(connection.await) });
        Ok(sender)
    }
}
