//! The newer edge's side.

use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
};

use link::listen::{Generation, pipe};
use tokio::time::timeout;

use super::{ANSWER_WITHIN, FromNewer, FromOlder, Listeners, Listening, SOCKET, channel::Channel};

/// What an edge gets from the one before it, and how it tells that one to let go.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) generation: Generation,
    quic: Option<Listeners>,
    http2: Option<Listeners>,
    fallback: Option<Listeners>,
    gateway: Option<Listeners>,
    metrics: Option<Listeners>,
    older: Older,
}

/// The edge before this one.
#[derive(Debug)]
pub(crate) struct Older(Channel);

impl Inheritance {
    /// What the edge that has this data directory hands over; nothing if there is none, or it is to stay.
    pub(crate) async fn ask(data_dir: &Path, replace: bool) -> Option<Self> {
        let asked = timeout(ANSWER_WITHIN, Self::try_ask(data_dir, replace)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(inheritance) => inheritance,
            // None has been here, or it is gone.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                None
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take over from the edge that was here before");
                None
            }
        }
    }

    async fn try_ask(data_dir: &Path, replace: bool) -> io::Result<Option<Self>> {
        let mut older = Channel::connect(&data_dir.join(SOCKET)).await?;
        older.send(&FromNewer::Ask { replace }, &[]).await?;
        let offer = match older.receive().await? {
            FromOlder::Offer(offer) => *offer,
            FromOlder::Refused => {
                tracing::warn!(
                    "an edge with this data directory is running; --replace takes over from it"
                );
                return Ok(None);
            }
            FromOlder::Done => return Err(io::ErrorKind::InvalidData.into()),
        };
        let links = Listening { address: offer.links, sockets: offer.quic };
        let quic = older.sockets(Some(links)).await?;
        let http2 = older.sockets(offer.http2).await?;
        let fallback = older.sockets(offer.fallback).await?;
        let gateway = older.sockets(offer.gateway).await?;
        let metrics = older.sockets(offer.metrics).await?;
        let generation = offer.generation.next();
        let older = Older(older);
        Ok(Some(Self { generation, quic, http2, fallback, gateway, metrics, older }))
    }

    /// Sockets for links over UDP at this address.
    pub(crate) fn quic(&mut self, address: SocketAddr) -> Option<Vec<OwnedFd>> {
        at(&mut self.quic, address)
    }

    /// Sockets for links over TCP at this address.
    pub(crate) fn http2(&mut self, address: SocketAddr) -> Option<Vec<OwnedFd>> {
        at(&mut self.http2, address)
    }

    /// Sockets of the fallback port.
    pub(crate) fn fallback(&mut self, address: SocketAddr) -> Option<Vec<OwnedFd>> {
        at(&mut self.fallback, address)
    }

    /// Sockets of the gateway.
    pub(crate) fn gateway(&mut self, address: SocketAddr) -> Option<Vec<OwnedFd>> {
        at(&mut self.gateway, address)
    }

    /// The socket for metrics.
    pub(crate) fn metrics(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        at(&mut self.metrics, address)?.pop()
    }

    /// Has the older edge let go; `quic` is the number of UDP sockets, for each of which the way to the older
    /// edge is returned.
    ///
    /// # Errors
    /// When the older edge is gone: then there is no such way, and its sockets are this edge's all the same.
    pub(crate) async fn take_over(self, quic: usize) -> io::Result<(Vec<UnixDatagram>, Older)> {
        let Older(mut older) = self.older;
        let pipes: Vec<_> = (0..quic).map(|_| pipe()).collect::<io::Result<_>>()?;
        let (outlets, inlets): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let taken = async {
            let ends: Vec<BorrowedFd<'_>> = inlets.iter().map(|inlet| inlet.as_fd()).collect();
            older.send(&FromNewer::Go, &ends).await?;
            match older.receive().await? {
                FromOlder::Done => Ok(()),
                FromOlder::Refused | FromOlder::Offer(_) => {
                    Err(io::Error::from(io::ErrorKind::InvalidData))
                }
            }
        };
        timeout(ANSWER_WITHIN, taken).await??;
        Ok((outlets, Older(older)))
    }
}

impl Older {
    /// Resolves when the older edge has left.
    pub(crate) async fn left(&mut self) {
        self.0.ended().await;
    }
}

fn at(listeners: &mut Option<Listeners>, address: SocketAddr) -> Option<Vec<OwnedFd>> {
    let sockets = listeners.take_if(|listeners| listeners.address == address)?.sockets;
    (!sockets.is_empty()).then_some(sockets)
}
