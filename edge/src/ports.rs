//! The edge's ports: taken when it starts and held from then on, with sockets for each worker. Joining
//! must know them, and only then is there a certificate to listen with.

use std::{
    io, iter,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use link::{
    listen::{Http2Listener, QuicListener},
    tls::ServerIdentity,
    workers::Workers,
};

use crate::{edge::StartError, options::Options};

use sockets::Sharded;

mod sockets;

/// Ports that nobody else can take.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) addresses: Addresses,
    /// For each worker.
    sockets: Vec<Sockets>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) links: SocketAddr,
    pub(crate) fallback: Option<SocketAddr>,
    pub(crate) gateway: SocketAddr,
}

#[derive(Debug)]
struct Sockets {
    quic: Option<Sharded>,
    http2: Vec<TcpListener>,
    gateway: TcpListener,
}

/// What one worker listens on.
pub(crate) struct Doors {
    /// Missing where the system cannot share packets out among workers, and this is not the first.
    pub(crate) quic: Option<Arc<QuicListener>>,
    pub(crate) http2: Vec<Http2Listener>,
    pub(crate) gateway: tokio::net::TcpListener,
}

impl Ports {
    /// Takes them for `count` workers.
    ///
    /// # Errors
    /// When one is taken.
    pub(crate) fn take(options: &Options, count: u8) -> Result<Self, StartError> {
        let failed = |what, address| move |source| StartError::Listen { what, address, source };
        let tcp = |what, wanted| {
            let take = || {
                let sockets = sockets::tcp(wanted, count)?;
                Ok((sockets[0].local_addr()?, sockets))
            };
            take().map_err(failed(what, wanted))
        };
        let (gateway, gateways) = tcp("gateway", options.gateway_listen)?;
        let taken = sockets::links(options.listen, count);
        let (links, http2, quic) = taken.map_err(failed("links", options.listen))?;
        let fallback = options.fallback_listen.map(|wanted| tcp("links", wanted)).transpose()?;
        let (fallback, fallbacks) = fallback.unzip();

        let (mut quic, mut fallbacks) = (quic.into_iter(), fallbacks.into_iter().flatten());
        let sockets = http2.into_iter().zip(gateways).map(|(http2, gateway)| {
            let http2 = iter::once(http2).chain(fallbacks.next()).collect();
            Sockets { quic: quic.next(), http2, gateway }
        });
        let sockets = sockets.collect();
        Ok(Self { addresses: Addresses { links, fallback, gateway }, sockets })
    }

    /// Has each worker poll its own.
    ///
    /// # Errors
    /// When the system, or the identity, does not allow it.
    pub(crate) fn open(
        self,
        workers: &Workers,
        identity: &ServerIdentity,
    ) -> Result<Vec<Doors>, StartError> {
        let address = self.addresses.links;
        let opened = workers.iter().zip(self.sockets).map(|(worker, sockets)| {
            let _entered = worker.runtime.enter();
            sockets.open(identity)
        });
        let opened: io::Result<_> = opened.collect();
        opened.map_err(|source| StartError::Listen { what: "links", address, source })
    }
}

impl Sockets {
    fn open(self, identity: &ServerIdentity) -> io::Result<Doors> {
        let quic = self.quic.map(|(socket, shard)| QuicListener::new(socket, identity, shard));
        let http2 = self
            .http2
            .into_iter()
            .map(|socket| Http2Listener::new(tokio::net::TcpListener::from_std(socket)?, identity));
        Ok(Doors {
            quic: quic.transpose()?.map(Arc::new),
            http2: http2.collect::<io::Result<_>>()?,
            gateway: tokio::net::TcpListener::from_std(self.gateway)?,
        })
    }
}
