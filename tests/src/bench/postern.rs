//! Postern as it is run: a deployment with two regions, an edge in each, and a connector with its four
//! links. Policy, phases, metrics and logs are as they are by default.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocol::presence::Transport;
use tokio::time::Instant;

use super::way::Way;
use crate::{
    process::Process,
    world::{TUNNEL, World},
};

/// Both carriers.
pub const CARRIERS: [Transport; 2] = [Transport::Quic, Transport::Http2];
/// The region whose gateway and edge are measured.
pub const REGION: usize = 0;
/// After this long nothing that belongs to the start is still going on.
const SETTLED: Duration = Duration::from_secs(2);

/// A deployment whose connector has four links over one carrier.
pub struct Postern {
    /// The deployment.
    pub world: World,
    /// The connector.
    pub connector: Process,
    /// The way through it.
    pub way: Way,
    /// When it was up.
    pub since: Instant,
}

/// What a way over `carrier` is called where people read.
pub fn name(carrier: Transport) -> &'static str {
    match carrier {
        Transport::Quic => "Postern, QUIC",
        Transport::Http2 => "Postern, HTTP/2",
    }
}

impl Postern {
    /// Starts one whose links are over `carrier`; `origin` is a URL without a path.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start(carrier: Transport, origin: &str) -> anyhow::Result<Self> {
        let world = World::start().await?;
        let connector = world.connect(carrier.as_str()).await?;
        let way = way(&world, carrier, origin, vec![connector.id()?]).await?;
        tokio::time::sleep(SETTLED).await;
        Ok(Self { world, connector, way, since: Instant::now() })
    }
}

/// The way through a world's gateway, with a token of its own.
///
/// # Errors
/// If the API makes no token, or the edge does not run.
pub async fn way(
    world: &World,
    carrier: Transport,
    origin: &str,
    far: Vec<u32>,
) -> anyhow::Result<Way> {
    let token = world.proxy_token().await?;
    let credentials = STANDARD.encode(format!("{TUNNEL}:{token}"));
    Ok(Way {
        key: carrier.as_str(),
        name: name(carrier),
        address: world.gateway(REGION).parse()?,
        prefix: origin.to_owned(),
        authorization: Some(format!("Basic {credentials}")),
        has_upgrades: true,
        near: vec![world.edge(REGION)?],
        far,
    })
}
