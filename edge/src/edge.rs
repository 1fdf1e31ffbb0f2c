//! One edge, from its first bind to its last goodbye.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use link::{TlsError, listen::QuicListener, workers::Workers};
use protocol::{
    address::{EdgeAddress, HostPort, InvalidHostPort},
    id::EdgeId,
};
use rustls::ClientConfig;
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    control_plane::{self, feed},
    core::Core,
    disk,
    gateway::Gateway,
    identity::Identity,
    join::{self, JoinError},
    knowledge::Knowledge,
    links::{Links, monitor},
    metrics::Metrics,
    observe,
    options::{JOIN_TOKEN_VARIABLE, JoinTokenText, Options},
    ports::{Addresses, Doors, Ports},
    registry::Registry,
    tasks::Tasks,
};

/// How long what was cut at the end of the grace period has to leave.
const HARD_STOP_WITHIN: Duration = Duration::from_secs(2);
/// How long connectors have to bring up replacements elsewhere, if nothing else keeps the edge: they are
/// asked to dial within 3 s. Where there is no other edge, waiting longer would help nobody.
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
    /// One for each worker.
    doors: Vec<Doors>,
    workers: Workers,
    addresses: Addresses,
    metrics: (SocketAddr, TcpListener),
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
        let ports = Ports::take(&options, count)?;
        let metrics = metrics_listener(options.metrics_listen).await?;
        let addresses = ports.addresses;
        let identity = identity(&options, addresses).await?;
        let workers = Workers::start(count).map_err(StartError::Workers)?;
        let doors = ports.open(&workers, &identity.server_identity()?)?;
        let (feed, heard_at) = feed::load(&options.data_dir);
        let core = Core {
            edge: identity.edge,
            region: options.region.clone(),
            knowledge: Knowledge::new(feed, heard_at, options.feed_max_age),
            registry: Registry::new(options.max_links, options.max_streams_per_tunnel),
            unreported: Default::default(),
            directory: Default::default(),
            metrics: Metrics::new(count)?,
        };
        core.begin();
        Ok(Self {
            tls: control_plane::mutual_tls(&identity)?,
            control_planes: match options.control_planes.is_empty() {
                true => vec![identity.control_plane],
                false => options.control_planes.clone(),
            },
            core: Arc::new(core),
            doors,
            workers,
            addresses,
            metrics,
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

    /// Serves until `shutdown`; then asks connectors to go elsewhere, lets requests under way finish
    /// within the grace period, and leaves.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            options,
            core,
            doors,
            workers,
            addresses,
            metrics: (metrics_address, metrics),
            ..
        } = self;
        let grace = options.grace_period;
        let (requests, link_tasks, background) =
            (Tasks::default(), Tasks::default(), Tasks::default());
        let _stop = [&requests, &link_tasks, &background].map(Tasks::stop_on_drop);
        let links = Links::new(core.clone(), link_tasks.clone(), &workers, grace);
        let gateway = Gateway::new(
            core.clone(),
            requests.clone(),
            options.max_clients,
            options.max_request_body,
        );
        let mut quic = Vec::new();
        for (worker, doors) in workers.iter().zip(doors) {
            if let Some(listener) = doors.quic {
                quic.push(listener.clone());
                let accept = links.clone().accept_quic(listener, worker.id);
                link_tasks.spawn_on(&worker.runtime, accept);
            }
            for listener in doors.http2 {
                let accept = links.clone().accept_http2(listener);
                background.spawn_on(&worker.runtime, accept);
            }
            let serve = gateway.clone().serve(doors.gateway, worker.id);
            requests.spawn_on(&worker.runtime, serve);
        }
        background.spawn(control_plane::run(core.clone(), self.control_planes, self.tls));
        background.spawn({
            let core = core.clone();
            async move { feed::save_changes(&core, &options.data_dir).await }
        });
        background.spawn({
            let core = core.clone();
            async move { core.metrics.tidy().await }
        });
        background.spawn(monitor::run(core.clone()));
        let (tasks, stopping) = (background.clone(), shutdown.clone());
        background.spawn(observe::serve(core.clone(), metrics, tasks, stopping));
        tracing::info!(
            edge.id = %core.edge,
            edge.region = %core.region,
            links = %addresses.links,
            gateway = %addresses.gateway,
            metrics = %metrics_address,
            workers = workers.iter().count(),
            "the edge is up"
        );

        tokio::select! {
            () = shutdown.cancelled() => {}
            // It has panicked, and what it served hangs: the process must not live on like this.
            () = workers.lost() => return workers.stop(),
        }
        tracing::info!(links = core.registry.count(), "the edge is leaving");
        let now = Instant::now();
        let (deadline, replaced_by) = (now + grace, now + REPLACED_WITHIN.min(grace));
        links.drain();
        gateway.close();
        requests.finish(deadline).await;
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
        let close = |listener: Arc<QuicListener>| async move { listener.close().await };
        let closing: JoinSet<()> = quic.into_iter().map(close).collect();
        let _ = tokio::time::timeout(HARD_STOP_WITHIN, closing.join_all()).await;
        link_tasks.stop().await;
        background.stop().await;
        workers.stop();
        tracing::info!("the edge has left");
    }
}

async fn identity(options: &Options, bound: Addresses) -> Result<Identity, StartError> {
    let data_dir = &options.data_dir;
    let address = match &options.address {
        Some(address) => address.clone(),
        None => HostPort::new(reachable(bound.links.ip())?, bound.links.port())?,
    };
    let fallback_port = options.fallback_port.or(bound.fallback.map(|fallback| fallback.port()));
    let link = EdgeAddress { region: options.region.clone(), address, fallback_port };
    let gateway = match &options.gateway_address {
        Some(gateway) => gateway.clone(),
        None => HostPort::new(link.address.host.clone(), bound.gateway.port())?,
    };
    let known = Identity::load(data_dir).map_err(StartError::DataDir)?;
    let joined = match known {
        Some(identity) if identity.link == link && identity.gateway == gateway => {
            return Ok(identity);
        }
        Some(identity) => Some(identity.link.address),
        None => None,
    };
    let token = match (token(options)?, joined) {
        (Some(token), _) => token,
        (None, Some(joined)) => return Err(StartError::Moved { joined }),
        (None, None) => return Err(StartError::NoToken),
    };
    let identity = join::join(&token, link, gateway, &options.control_planes).await?;
    identity.save(data_dir).map_err(StartError::DataDir)?;
    Ok(identity)
}

fn token(options: &Options) -> Result<Option<JoinTokenText>, StartError> {
    if let Some(token) = &options.join_token {
        return Ok(Some(token.clone()));
    }
    if let Some(file) = &options.join_token_file {
        let text = std::fs::read_to_string(file).map_err(StartError::TokenFile)?;
        return Ok(Some(Zeroizing::new(text).into()));
    }
    let text = std::env::var(JOIN_TOKEN_VARIABLE).ok().filter(|text| !text.is_empty());
    Ok(text.map(|text| Zeroizing::new(text).into()))
}

/// The host under which others reach a listening address: itself, unless it stands for all.
fn reachable(listen: IpAddr) -> Result<String, StartError> {
    if listen.is_unspecified() { Err(InvalidHostPort.into()) } else { Ok(listen.to_string()) }
}

async fn metrics_listener(address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let listen = async || {
        let listener = TcpListener::bind(address).await?;
        Ok((listener.local_addr()?, listener))
    };
    listen().await.map_err(|source| StartError::Listen { what: "metrics", address, source })
}
