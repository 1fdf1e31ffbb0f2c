//! An edge that is started beside the one before it, with the same data directory, takes over its ports: the
//! older one hands its sockets out through a Unix socket in that directory, and then drains. No client finds
//! the ports closed, and a port that anybody else holds is taken all the same.
//!
//! ```text
//! newer                            older
//!   │ ── Ask ──────────────────────► │  Refused, unless it leaves anyway or is to be replaced
//!   │ ◄── Offer, and its sockets ─── │  it still serves; the newer one prepares
//!   │ ── Go, and pipes ────────────► │  it accepts and reads no more, closes its gateway, drains
//!   │ ◄── Done ───────────────────── │  the newer one begins
//!   │          until one is gone     │
//! ```
//!
//! TCP sockets are the same in both processes, so that what waits to be accepted is not lost. Packets of links
//! that the older one still has come through the pipes (`link::listen`).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use link::listen::{Generation, QuicListener};
use serde::{Deserialize, Serialize};
use tokio::{net::UnixListener, runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{control_plane::feed, core::Core, gateway::Gateway, served};

pub(crate) use inheritance::{Inheritance, Older};

use channel::Channel;

mod channel;
mod inheritance;

/// In the data directory, which is the edge's alone.
const SOCKET: &str = "successor.sock";
/// The older edge answers at once, even where it is busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What the newer edge needs to prepare: it has joined before, and waits for nobody.
const PREPARED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromNewer {
    Ask { replace: bool },
    Go,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromOlder {
    Refused,
    Offer(Box<Offer>),
    Done,
}

/// What is handed over; the sockets follow in this order.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    generation: Generation,
    /// Addresses for links, UDP and TCP.
    links: SocketAddr,
    quic: usize,
    http2: Option<Listening>,
    fallback: Option<Listening>,
    gateway: Option<Listening>,
    metrics: Option<Listening>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Listening {
    address: SocketAddr,
    sockets: usize,
}

/// Sockets that listen at one TCP address.
#[derive(Debug)]
pub(crate) struct Listeners {
    address: SocketAddr,
    sockets: Vec<OwnedFd>,
}

impl Listeners {
    /// The same sockets once more.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(crate) fn share<S: std::os::fd::AsFd>(
        address: SocketAddr,
        sockets: &[S],
    ) -> io::Result<Self> {
        let sockets = sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned());
        Ok(Self { address, sockets: sockets.collect::<io::Result<_>>()? })
    }

    fn listening(&self) -> Listening {
        Listening { address: self.address, sockets: self.sockets.len() }
    }
}

/// What an edge can hand over: its TCP sockets once more.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    pub(crate) http2: Option<Listeners>,
    pub(crate) fallback: Option<Listeners>,
    pub(crate) gateway: Option<Listeners>,
    pub(crate) metrics: Option<Listeners>,
}

/// Waits for an edge that is to take over.
pub(crate) struct Succession {
    pub(crate) core: Arc<Core>,
    pub(crate) data_dir: PathBuf,
    pub(crate) links: SocketAddr,
    pub(crate) generation: Generation,
    /// With the runtime that polls it.
    pub(crate) quic: Vec<(Handle, Arc<QuicListener>)>,
    pub(crate) legacy: Arc<Mutex<Legacy>>,
    pub(crate) gateway: Arc<Gateway>,
    /// The edge leaves, or its parent is gone: whoever comes may take over.
    pub(crate) leaving: CancellationToken,
    pub(crate) orphaned: CancellationToken,
}

/// Where an edge with this data directory waits for its successor.
///
/// # Errors
/// When the path is too long, or the directory cannot be written.
pub(crate) fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    let path = data_dir.join(SOCKET);
    // The edge that has left it behind is gone, or has handed over: the ports are ours.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

impl Succession {
    /// Serves until the future is dropped.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let mut listener = listener;
        loop {
            let mut newer = self.hand_over(&listener).await;
            drop(listener);
            newer.ended().await;
            // It is gone, and if none has come after it, the packets of the links that are left are ours.
            if Channel::connect(&self.data_dir.join(SOCKET)).await.is_ok() {
                return;
            }
            match listen(&self.data_dir) {
                Ok(again) => listener = again,
                Err(_) => return,
            }
            self.quic.iter().for_each(|(_, quic)| quic.take_back());
        }
    }

    /// Resolves when another edge has taken over.
    async fn hand_over(&self, listener: &UnixListener) -> Channel {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Too many open files: others need them more.
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let Ok(mut newer) = Channel::new(stream) else { continue };
            match self.negotiate(&mut newer).await {
                Ok(true) => return newer,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "an edge that was to take over has given up"),
            }
        }
    }

    async fn negotiate(&self, newer: &mut Channel) -> io::Result<bool> {
        let FromNewer::Ask { replace } = timeout(ANSWER_WITHIN, newer.receive()).await?? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let is_to_stay = !self.leaving.is_cancelled() && !self.orphaned.is_cancelled();
        if is_to_stay && !replace {
            newer.send(&FromOlder::Refused, &[]).await?;
            return Ok(false);
        }
        self.offer(newer).await?;
        let FromNewer::Go = timeout(PREPARED_WITHIN, newer.receive()).await?? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let pipes = newer.sockets_of(self.quic.len()).await?;
        for ((runtime, quic), pipe) in self.quic.iter().zip(pipes) {
            let _entered = runtime.enter();
            quic.hand_over(pipe.into())?;
        }
        let is_first = !self.core.superseded.is_cancelled();
        // Nobody else writes in the directory from now on.
        self.core.superseded.cancel();
        if is_first {
            feed::save_now(&self.core, &self.data_dir).await;
        }
        // When an edge begins to leave, it saves them as they are then.
        if is_first && !self.leaving.is_cancelled() {
            served::save(&self.data_dir, &self.core.registry.served()).await;
        }
        self.gateway.close();
        *self.legacy() = Legacy::default();
        newer.send(&FromOlder::Done, &[]).await?;
        Ok(true)
    }

    async fn offer(&self, newer: &mut Channel) -> io::Result<()> {
        let (offer, sockets) = {
            let legacy = self.legacy();
            let listening =
                |listeners: &Option<Listeners>| listeners.as_ref().map(Listeners::listening);
            let offer = Offer {
                generation: self.generation,
                links: self.links,
                quic: self.quic.len(),
                http2: listening(&legacy.http2),
                fallback: listening(&legacy.fallback),
                gateway: listening(&legacy.gateway),
                metrics: listening(&legacy.metrics),
            };
            let mut sockets = Vec::new();
            for (_, quic) in &self.quic {
                sockets.push(quic.share()?);
            }
            let all = [&legacy.http2, &legacy.fallback, &legacy.gateway, &legacy.metrics];
            for socket in all.into_iter().flatten().flat_map(|listeners| &listeners.sockets) {
                sockets.push(socket.try_clone()?);
            }
            (offer, sockets)
        };
        newer.send(&FromOlder::Offer(Box::new(offer)), &[]).await?;
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(OwnedFd::as_fd).collect();
        newer.send_sockets(&sockets).await
    }

    fn legacy(&self) -> std::sync::MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
