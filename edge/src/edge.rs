//! One edge, from its first bind to its last goodbye.

use std::{
    io,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use link::{
    TlsError,
    listen::{Generation, QuicListener},
    workers::Workers,
};
use protocol::{
    address::{HostPort, InvalidHostPort},
    id::EdgeId,
};
use rustls::ClientConfig;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    control_plane::{self, feed},
    core::Core,
    disk,
    gateway::{Gateway, Terms},
    handover::{self, Inheritance, Legacy, Listeners, Older, Succession},
    join::JoinError,
    knowledge::Knowledge,
    links::{Links, monitor},
    metrics::Metrics,
    observe,
    options::Options,
    ports::{Addresses, Doors, Ports},
    registry::{Registry, strain},
    served,
    tasks::Tasks,
};
use tls::GatewayTls;

mod identity;
mod tls;

/// How long what was cut at the end of the grace period has to leave.
const HARD_STOP_WITHIN: Duration = Duration::from_secs(2);
/// How long connectors have to bring up replacements elsewhere: they are asked to dial within 3 s. Where that
/// fails, waiting longer would help nobody.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory")]
    DataDir(#[source] io::Error),
    /// An address is taken, or not this machine's.
    #[error("cannot listen on {address} ({what})")]
    Listen {
        /// What was to be offered there.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The address to tell others is missing or not valid.
    #[error("tell where others reach this edge: --address HOST:PORT")]
    Address(#[from] InvalidHostPort),
    /// The edge has not joined yet and has no token.
    #[error(
        "this edge has not joined yet: set POSTERN_JOIN_TOKEN, or POSTERN_JOIN_TOKEN_FILE, to the \
         token that the control plane gave out"
    )]
    NoToken,
    /// The edge's address is not the one that it joined with.
    #[error(
        "this edge joined as {joined}, and its certificate is for that address: start it with that \
         address, or with a new join token"
    )]
    Moved {
        /// The address that it joined with.
        joined: HostPort,
    },
    /// The token file cannot be read.
    #[error("cannot read the join token's file")]
    TokenFile(#[source] io::Error),
    /// Joining failed for good.
    #[error("cannot join")]
    Join(#[from] JoinError),
    /// The identity in the data directory cannot be used.
    #[error("the edge's certificate or key cannot be used")]
    Identity(#[from] TlsError),
    /// The gateway's certificate cannot be used.
    #[error("cannot use the gateway's TLS certificate")]
    GatewayCertificate(#[from] https::Error),
    /// The gateway's TLS settings contradict one another.
    #[error(
        "give --gateway-tls-cert and --gateway-tls-key together, and neither they nor --gateway-tls with \
         --gateway-insecure-http"
    )]
    GatewayTlsOptions,
    /// TLS towards the control plane cannot be set up.
    #[error("cannot set up TLS towards the control plane")]
    Tls(#[from] rustls::Error),
    /// The workers cannot be started.
    #[error("cannot start the threads that serve clients and links")]
    Workers(#[source] io::Error),
    /// The metrics cannot be set up.
    #[error("cannot set up metrics")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// An edge that has joined and holds its ports, but serves nothing yet.
pub struct Edge {
    options: Options,
    core: Arc<Core>,
    /// One at least.
    control_planes: Vec<HostPort>,
    tls: Arc<ClientConfig>,
    /// `None` where the gateway speaks plain HTTP.
    gateway_tls: Option<GatewayTls>,
    /// One for each worker.
    doors: Vec<Doors>,
    workers: Workers,
    addresses: Addresses,
    metrics: (SocketAddr, TcpListener),
    generation: Generation,
    /// The edge whose ports these were.
    older: Option<Older>,
    legacy: Legacy,
}

impl Edge {
    /// Takes the ports and joins the deployment, if that has not happened before. While the control
    /// plane is away a first start waits for it; a later one does not need it. The current runtime
    /// becomes the first worker's, so it is also where the edge must run.
    ///
    /// # Errors
    /// What only the operator can mend.
    pub async fn bind(options: Options) -> Result<Self, StartError> {
        disk::create_directory(&options.data_dir).map_err(StartError::DataDir)?;
        let count = options.workers();
        let mut inherited = Inheritance::ask(&options.data_dir, options.replace).await;
        let mut ports = Ports::take(&options, count, inherited.as_mut())?;
        let metrics = metrics_listener(options.metrics_listen, inherited.as_mut()).await?;
        ports.legacy.metrics =
            Some(Listeners::share(metrics.0, &[&metrics.1]).map_err(|source| {
                StartError::Listen { what: "metrics", address: metrics.0, source }
            })?);
        let addresses = ports.addresses;
        let identity = identity::obtain(&options, addresses).await?;
        let workers = Workers::start(count).map_err(StartError::Workers)?;
        let generation = inherited.as_ref().map_or(Generation::default(), |edge| edge.generation);
        let server_identity = identity.server_identity()?;
        let gateway_tls = tls::set_up(&options, &identity, addresses)?;
        // From here on the older edge accepts nothing more: this one must not fail any more.
        let (pipes, older) = take_over(inherited, &ports).await;
        let legacy = std::mem::take(&mut ports.legacy);
        let doors = ports.open(&workers, &server_identity, generation, pipes)?;
        let (feed, heard_at) = feed::load(&options.data_dir);
        let core = Core {
            edge: identity.edge,
            region: options.region.clone(),
            knowledge: Knowledge::new(feed, heard_at, options.feed_max_age),
            registry: Registry::new(options.max_links, options.max_streams_per_tunnel),
            unreported: Default::default(),
            directory: Default::default(),
            metrics: Metrics::new(count)?,
            gateway_tls: gateway_tls.is_some(),
            superseded: CancellationToken::new(),
        };
        core.begin();
        core.registry.miss(served::load(&options.data_dir));
        Ok(Self {
            tls: control_plane::mutual_tls(&identity)?,
            gateway_tls,
            control_planes: match options.control_planes.is_empty() {
                true => vec![identity.control_plane],
                false => options.control_planes.clone(),
            },
            core: Arc::new(core),
            doors,
            workers,
            addresses,
            metrics,
            generation,
            older,
            legacy,
            options,
        })
    }

    /// The edge's identity.
    pub fn id(&self) -> EdgeId {
        self.core.edge
    }

    /// Where links are accepted, over UDP and TCP.
    pub fn link_addr(&self) -> SocketAddr {
        self.addresses.links
    }

    /// Where the gateway is.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.addresses.gateway
    }

    /// Where metrics and probes are.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics.0
    }

    /// Serves until `shutdown`; then asks connectors to go elsewhere, closes the gateway once they have,
    /// lets requests under way finish within the grace period, and leaves.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            options,
            core,
            doors,
            workers,
            addresses,
            metrics: (metrics_address, metrics),
            generation,
            older,
            legacy,
            control_planes,
            tls,
            gateway_tls,
        } = self;
        let grace = options.grace_period;
        let (requests, link_tasks, background) =
            (Tasks::default(), Tasks::default(), Tasks::default());
        let _stop = [&requests, &link_tasks, &background].map(Tasks::stop_on_drop);
        let links = Links::new(core.clone(), link_tasks.clone(), &workers, grace);
        let (https, files) = match gateway_tls {
            None => (None, None),
            Some(GatewayTls { port, files }) => (Some(Arc::new(port)), files),
        };
        let gateway =
            Gateway::new(core.clone(), requests.clone(), Terms::of(&options), https.clone());
        let legacy = Arc::new(Mutex::new(legacy));
        let mut quic = Vec::new();
        for (worker, doors) in workers.iter().zip(doors) {
            for listener in doors.quic {
                quic.push((worker.runtime.clone(), listener.clone()));
                let accept = links.clone().accept_quic(listener, worker.id);
                link_tasks.spawn_on(&worker.runtime, accept);
            }
            for listener in doors.http2 {
                let accept = links.clone().accept_http2(listener);
                background.spawn_on(&worker.runtime, accept);
            }
            let serve = gateway.clone().serve(doors.gateway, worker.id);
            let legacy = legacy.clone();
            requests.spawn_on(&worker.runtime, async move {
                serve.await;
                forget_gateway(&legacy);
            });
        }
        background.spawn(control_plane::run(core.clone(), control_planes, tls));
        background.spawn({
            let (core, data_dir) = (core.clone(), options.data_dir.clone());
            async move {
                let saving = feed::save_changes(&core, &data_dir);
                core.superseded.run_until_cancelled(saving).await;
            }
        });
        let saved = CancellationToken::new();
        background.spawn({
            let (core, data_dir) = (core.clone(), options.data_dir.clone());
            let stopping = shutdown.clone();
            let saved = saved.clone().drop_guard();
            async move {
                let saving = served::save_changes(&core, &data_dir, &stopping);
                core.superseded.run_until_cancelled(saving).await;
                drop(saved);
            }
        });
        background.spawn({
            let core = core.clone();
            async move { core.registry.tidy().await }
        });
        background.spawn({
            let core = core.clone();
            async move { core.metrics.tidy(&core.registry).await }
        });
        background.spawn(monitor::run(core.clone()));
        background.spawn(strain::run(core.clone()));
        if let (Some(https), Some(files)) = (https, files) {
            background.spawn(async move { https.follow(&files).await });
        }
        let (tasks, stopping) = (background.clone(), shutdown.clone());
        background.spawn(observe::serve(core.clone(), metrics, tasks, stopping));
        match handover::listen(&options.data_dir) {
            Ok(listener) => {
                let succession = Succession {
                    core: core.clone(),
                    data_dir: options.data_dir,
                    links: addresses.links,
                    generation,
                    quic: quic.clone(),
                    legacy: legacy.clone(),
                    gateway: gateway.clone(),
                    leaving: shutdown.clone(),
                    orphaned: options.orphaned,
                };
                background.spawn(succession.serve(listener));
            }
            Err(error) => {
                tracing::warn!(%error, "another edge cannot take over from this one");
            }
        }
        tracing::info!(
            edge.id = %core.edge,
            edge.region = %core.region,
            links = %addresses.links,
            gateway = %addresses.gateway,
            gateway_tls = core.gateway_tls,
            metrics = %metrics_address,
            workers = workers.iter().count(),
            "the edge is up"
        );

        tokio::select! {
            () = shutdown.cancelled() => {}
            () = core.superseded.cancelled() => {}
            // It has panicked, and what it served hangs: the process must not live on like this.
            () = workers.lost() => return workers.stop(),
        }
        let links_left = core.registry.count();
        tracing::info!(
            links = links_left,
            superseded = core.superseded.is_cancelled(),
            "the edge is leaving"
        );
        // `/ready` says no from now on; whoever shares requests out among edges has time to see that.
        core.superseded.run_until_cancelled(tokio::time::sleep(options.leave_delay)).await;
        let _ = tokio::time::timeout(HARD_STOP_WITHIN, saved.cancelled()).await;
        let now = Instant::now();
        let (deadline, replaced_by) = (now + grace, now + REPLACED_WITHIN.min(grace));
        // The gateway goes on until the connectors have their replacements; if another process has taken this
        // edge's place, clients are sent there at once, and the connectors later.
        links.drain();
        let others = core.directory.borrow().iter().any(|other| other.edge != core.edge);
        let replaced = async {
            while others && core.registry.serving() > 0 {
                core.registry.changed().await;
            }
        };
        let replaced = tokio::time::timeout_at(replaced_by, replaced);
        core.superseded.run_until_cancelled(replaced).await;
        core.registry.leave();
        gateway.close();
        requests.finish(deadline).await;
        forget_gateway(&legacy);
        // Connectors leave once their replacements are up. Nothing is under way any more on those that
        // stay, so cutting them harms nobody.
        let all_gone = async {
            while core.registry.count() > 0 {
                core.registry.changed().await;
            }
        };
        let _ = tokio::time::timeout_at(replaced_by, all_gone).await;
        for link in core.registry.links() {
            link.session.close(link::CloseReason::Shutdown);
        }
        // Packets for an edge that is older still come through this one.
        if let Some(mut older) = older {
            let _ = tokio::time::timeout_at(deadline, older.left()).await;
        }
        let close = |(_, listener): (_, Arc<QuicListener>)| async move { listener.close().await };
        let closing: JoinSet<()> = quic.into_iter().map(close).collect();
        let _ = tokio::time::timeout(HARD_STOP_WITHIN, closing.join_all()).await;
        link_tasks.stop().await;
        background.stop().await;
        workers.stop();
        tracing::info!("the edge has left");
    }
}

/// Nobody can take the gateway over any more, so that its port is free.
fn forget_gateway(legacy: &Mutex<Legacy>) {
    legacy.lock().unwrap_or_else(PoisonError::into_inner).gateway = None;
}

/// Has the edge before this one let go; returns the ways to it.
async fn take_over(
    inherited: Option<Inheritance>,
    ports: &Ports,
) -> (Vec<UnixDatagram>, Option<Older>) {
    let Some(inherited) = inherited else { return Default::default() };
    let sockets = if ports.is_inherited { ports.quic.len() } else { 0 };
    match inherited.take_over(sockets).await {
        Ok((pipes, older)) => (pipes, Some(older)),
        Err(error) => {
            tracing::warn!(%error, "the edge that was here before is gone");
            Default::default()
        }
    }
}

async fn metrics_listener(
    address: SocketAddr,
    inherited: Option<&mut Inheritance>,
) -> Result<(SocketAddr, TcpListener), StartError> {
    let theirs = inherited.and_then(|edge| edge.metrics(address));
    let listen = async || {
        let listener = match theirs {
            Some(theirs) => TcpListener::from_std(std::net::TcpListener::from(theirs))?,
            None => TcpListener::bind(address).await?,
        };
        Ok((listener.local_addr()?, listener))
    };
    listen().await.map_err(|source| StartError::Listen { what: "metrics", address, source })
}
