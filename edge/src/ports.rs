//! The edge's ports: taken when it starts and held from then on, with sockets for each worker. Joining
//! must know them, and only then is there a certificate to listen with.
//!
//! Where an edge before this one hands its sockets over ([`Inheritance`]), they are used, whatever number of
//! workers that one had.

use std::{
    io, iter,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    sync::Arc,
};

use link::{
    listen::{Generation, Http2Listener, QuicListener},
    tls::ServerIdentity,
    workers::Workers,
};

use crate::{
    accept,
    edge::StartError,
    handover::{Inheritance, Legacy, Listeners},
    options::Options,
};

use sockets::Sharded;

mod sockets;

/// Ports that nobody else can take.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) addresses: Addresses,
    /// UDP sockets for links, and whether they were another edge's.
    pub(crate) quic: Vec<Sharded>,
    pub(crate) is_inherited: bool,
    /// The TCP sockets once more, for an edge that takes over.
    pub(crate) legacy: Legacy,
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
    http2: Vec<TcpListener>,
    gateway: TcpListener,
}

/// What one worker listens on.
pub(crate) struct Doors {
    /// One, or none where the system cannot share packets out among workers. There may be more, or none,
    /// where the edge before this one had another number of workers.
    pub(crate) quic: Vec<Arc<QuicListener>>,
    pub(crate) http2: Vec<Http2Listener>,
    pub(crate) gateway: tokio::net::TcpListener,
}

impl Ports {
    /// Takes them for `count` workers.
    ///
    /// # Errors
    /// When one is taken.
    pub(crate) fn take(
        options: &Options,
        count: u8,
        mut inherited: Option<&mut Inheritance>,
    ) -> Result<Self, StartError> {
        let failed = |what, address| move |source| StartError::Listen { what, address, source };
        let tcp = |what, wanted, inherited: Option<Vec<OwnedFd>>| {
            let take = || {
                let sockets = match inherited {
                    Some(sockets) => for_each_worker(sockets, count)?,
                    None => sockets::tcp(wanted, count)?,
                };
                let address = sockets[0].local_addr()?;
                Ok((Listeners::share(address, &sockets)?, address, sockets))
            };
            take().map_err(failed(what, wanted))
        };
        let wanted = options.gateway_listen;
        let theirs = inherited.as_mut().and_then(|edge| edge.gateway(wanted));
        let (gateway_legacy, gateway, gateways) = tcp("gateway", wanted, theirs)?;

        let wanted = options.listen;
        let theirs =
            inherited.as_mut().and_then(|edge| Some((edge.quic(wanted)?, edge.http2(wanted))));
        let is_inherited = theirs.is_some();
        let (links, http2, quic) = match theirs {
            Some((quic, http2)) => {
                let http2 = tcp("links", wanted, http2)?;
                let sockets: Vec<UdpSocket> = quic.into_iter().map(UdpSocket::from).collect();
                (wanted, http2.2, sockets::inherited(sockets))
            }
            None => sockets::links(wanted, count).map_err(failed("links", wanted))?,
        };
        let http2_legacy = Listeners::share(links, &http2).map_err(failed("links", links))?;

        let fallback = options.fallback_listen.map(|wanted| {
            let theirs = inherited.as_mut().and_then(|edge| edge.fallback(wanted));
            tcp("links", wanted, theirs)
        });
        let fallback = fallback.transpose()?;
        let (fallback_legacy, fallback, fallbacks) = match fallback {
            Some((legacy, address, sockets)) => (Some(legacy), Some(address), sockets),
            None => (None, None, Vec::new()),
        };
        let legacy = Legacy {
            http2: Some(http2_legacy),
            fallback: fallback_legacy,
            gateway: Some(gateway_legacy),
            metrics: None,
        };

        let mut fallbacks = fallbacks.into_iter();
        let sockets = http2.into_iter().zip(gateways).map(|(http2, gateway)| {
            let http2 = iter::once(http2).chain(fallbacks.next()).collect();
            Sockets { http2, gateway }
        });
        let sockets = sockets.collect();
        let addresses = Addresses { links, fallback, gateway };
        Ok(Self { addresses, quic, is_inherited, legacy, sockets })
    }

    /// Has each worker poll its own. Where the UDP sockets were another edge's, `older` leads there, one for
    /// each.
    ///
    /// # Errors
    /// When the system, or the identity, does not allow it.
    pub(crate) fn open(
        self,
        workers: &Workers,
        identity: &ServerIdentity,
        generation: Generation,
        older: Vec<UnixDatagram>,
    ) -> Result<Vec<Doors>, StartError> {
        let address = self.addresses.links;
        let mut older = older.into_iter();
        let count = self.sockets.len();
        let mut quic: Vec<Vec<_>> = iter::repeat_with(Vec::new).take(count).collect();
        for (nth, sharded) in self.quic.into_iter().enumerate() {
            quic[nth % count].push((sharded, older.next()));
        }
        let opened = workers.iter().zip(self.sockets.into_iter().zip(quic));
        let opened = opened.map(|(worker, (sockets, quic))| {
            let _entered = worker.runtime.enter();
            let quic = quic.into_iter().map(|((socket, shard), older)| {
                QuicListener::new(socket, identity, shard, generation, older).map(Arc::new)
            });
            sockets.open(quic.collect::<io::Result<_>>()?, identity)
        });
        let opened: io::Result<_> = opened.collect();
        opened.map_err(|source| StartError::Listen { what: "links", address, source })
    }
}

/// As many listeners as there are workers; some may be one and the same.
fn for_each_worker(sockets: Vec<OwnedFd>, count: u8) -> io::Result<Vec<TcpListener>> {
    let mut sockets: Vec<TcpListener> = sockets.into_iter().map(TcpListener::from).collect();
    let had = sockets.len();
    for n in had..count.into() {
        sockets.push(sockets[n % had].try_clone()?);
    }
    // Those beyond are left to the edge that they were of, which closes them.
    sockets.truncate(count.into());
    Ok(sockets)
}

impl Sockets {
    fn open(self, quic: Vec<Arc<QuicListener>>, identity: &ServerIdentity) -> io::Result<Doors> {
        let http2 = self
            .http2
            .into_iter()
            .map(|socket| Http2Listener::new(tokio::net::TcpListener::from_std(socket)?, identity));
        let gateway = tokio::net::TcpListener::from_std(self.gateway)?;
        // The edge before this one may have begun to close it.
        accept::take_again(&gateway);
        Ok(Doors { quic, http2: http2.collect::<io::Result<_>>()?, gateway })
    }
}
