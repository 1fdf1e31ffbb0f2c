//! Where things happen: a deployment on this machine, and a private network with two connectors and their
//! origin behind a router of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use nix::sys::signal::Signal;
use protocol::presence::Transport;

use super::{client::Client, links::Links, load::Target, origin::Origin};
use crate::{
    network::{Inside, Network},
    process::Process,
    world::{REGIONS, Site, TUNNEL, World},
};

/// Replicas of the connector.
pub const CONNECTORS: usize = 2;
/// The status port of the first one, in a network of its own; the next one's is one higher.
pub const STATUS_PORT: u16 = 9000;
/// The first edge's port for metrics; the next one's is one higher.
const METRICS_PORT: u16 = 9001;

/// How the cloud side runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// Control plane and edges are processes of their own.
    Spread,
    /// `postern up`.
    Up,
}

/// How long the events last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As `make test` has time for.
    Short,
    /// As they were seen to do harm.
    Long,
}

/// Names and values of environment variables.
pub type Settings = &'static [(&'static str, &'static str)];

/// The stage. What is used by what follows stands behind it, so that it is dropped last.
pub struct Stage {
    /// The connectors.
    pub connectors: Vec<Process>,
    /// The cloud side.
    pub world: World,
    /// How many links there are.
    pub links: Links,
    /// The private server.
    pub origin: Origin,
    /// How links are carried; `None` lets connectors choose.
    pub carrier: Option<Transport>,
    /// How long events last.
    pub length: Length,
    /// The value of Proxy-Authorization.
    pub credentials: HeaderValue,
    /// What connectors are told besides, as environment variables.
    settings: Settings,
    client: Arc<Client>,
    /// Runs what stands beside the connectors.
    pub inside: Inside,
    /// The private network.
    pub network: Arc<Network>,
}

impl Stage {
    /// Sets everything up.
    ///
    /// # Errors
    /// If something does not come up, or this is not root.
    pub async fn set(
        deployment: Deployment,
        carrier: Option<Transport>,
        length: Length,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let host = network.host();
        let world = match deployment {
            Deployment::Up => World::start_at(host).await?,
            Deployment::Spread => {
                World::start_spread_over(host, [Site::at(host), Site::at(host)]).await?
            }
        };
        let inside = Inside::enter(&network)?;
        let origin = Origin::start(&inside).await?;
        let token = world.proxy_token().await?;
        let credentials = format!("Basic {}", STANDARD.encode(format!("{TUNNEL}:{token}")));
        let gateways = [0, 1].map(|region| world.gateway(region).parse::<SocketAddr>());
        let [first, second] = gateways;
        let credentials = HeaderValue::try_from(credentials)?;
        let client = Client::new(&[first?, second?], credentials.clone());
        let metrics = (0..REGIONS.len() as u16).map(|n| (host, METRICS_PORT + n).into()).collect();
        let mut stage = Self {
            connectors: Vec::new(),
            world,
            links: Links::watch(&inside, metrics),
            origin,
            carrier,
            length,
            credentials,
            settings,
            client: Arc::new(client),
            inside,
            network: Arc::new(network),
        };
        for n in 0..CONNECTORS {
            stage.connectors.push(stage.connector(n)?);
        }
        stage.links.all_up().await.with_context(|| stage.said())?;
        Ok(stage)
    }

    /// Where the load goes.
    pub fn target(&self) -> Target {
        let origin = format!("http://{}", self.origin.address);
        Target { client: self.client.clone(), origin: origin.into() }
    }

    /// What the parts have said.
    pub fn said(&self) -> String {
        let parts = self.world.edges.iter().chain(&self.connectors).chain([&self.world.postern]);
        parts.map(Process::said).collect::<Vec<_>>().join("\n---\n")
    }

    /// Starts a connector in place of one that has ended.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_connector(&mut self, n: usize) -> anyhow::Result<()> {
        self.connectors[n] = self.connector(n)?;
        Ok(())
    }

    /// Has a connector leave in good order, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub async fn end_connector(&mut self, n: usize, signal: Signal) -> anyhow::Result<()> {
        self.connectors[n].signal(signal)?;
        self.connectors[n].ended().await.map(drop)
    }

    /// Ends an edge by a signal, and waits until it has ended.
    ///
    /// # Errors
    /// If the edges are not spread, or it does not end.
    pub async fn end_edge(&mut self, region: usize, signal: Signal) -> anyhow::Result<()> {
        let edge = self.world.edges.get_mut(region).context("the edges are not spread")?;
        edge.signal(signal)?;
        edge.ended().await.map(drop)
    }

    /// Starts an edge that has ended again.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start_edge(&mut self, region: usize) -> anyhow::Result<()> {
        self.world.start_edge(region, &Site::at(self.network.host())).await
    }

    /// Waits until an edge says that it is ready.
    ///
    /// # Errors
    /// If it does not.
    pub async fn edge_is_ready(&self, region: usize) -> anyhow::Result<()> {
        let url = format!("http://{}:{}/ready", self.network.host(), METRICS_PORT + region as u16);
        let ready = async {
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            loop {
                pace.tick().await;
                let answer = reqwest::get(&url).await;
                if answer.is_ok_and(|answer| answer.status() == 200) {
                    return;
                }
            }
        };
        tokio::time::timeout(crate::process::PATIENCE, ready).await.context("an edge is not ready")
    }

    fn connector(&self, n: usize) -> anyhow::Result<Process> {
        let transport = self.carrier.map_or("auto", Transport::as_str);
        let mut command = self.network.enter(self.world.connector(transport)?);
        command.env("TUNNEL_METRICS_PORT", (STATUS_PORT + n as u16).to_string());
        command.envs(self.settings.iter().copied());
        Process::start("connector", command)
    }
}
