//! How long Postern takes to serve: after a connector's start, an edge's death, and the loss of UDP.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use protocol::presence::Transport;

use super::{
    client::Client,
    metric::Metric,
    postern::{self, Postern},
    results::Results,
    way::Way,
    work::Work,
};
use crate::{
    network::Network,
    process::PATIENCE,
    world::{Link, REGIONS, World},
};

/// The region whose edge is killed: not the one whose processes are measured by other works.
const KILLED: usize = 1;
/// An edge that dies sooner than this is started again the more slowly.
const EDGE_IS_WELL: Duration = Duration::from_secs(11);
/// Between two tries to reach the origin.
const PACE: Duration = Duration::from_millis(2);
const UDP_IS_DROPPED: &str = "-p udp -j DROP";

/// Starts connectors, one after the other, each until the first answer through it.
///
/// # Errors
/// If the deployment does not come up, or a connector does not.
pub async fn cold_start(
    work: &Work,
    carriers: &[Transport],
    origin: &str,
    results: &mut Results,
) -> anyhow::Result<()> {
    let world = World::start().await?;
    // The same gateway for both: what carries the links is the connector's choice.
    let way = postern::way(&world, Transport::Quic, origin, Vec::new()).await?;
    for _ in 0..results.rounds {
        for carrier in carriers {
            answers(&way, 503).await?;
            let start = Instant::now();
            let connector = world.start_connector(carrier.as_str())?;
            answers(&way, 200).await.with_context(|| connector.said())?;
            let took = start.elapsed().as_secs_f64() * 1e3;
            results.add(work, carrier.as_str(), Metric::ColdStart, took);
            connector.end().await?;
        }
    }
    Ok(())
}

/// Asks until the answer has this status.
async fn answers(way: &Way, status: u16) -> anyhow::Result<()> {
    let request = way.request("GET", "/bytes/1", "");
    let asking = async {
        loop {
            let mut client = Client::connect(way, 0).await?;
            if client.ask(&request).await?.status == status {
                return anyhow::Ok(());
            }
            tokio::time::sleep(PACE).await;
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.with_context(|| format!("no answer with status {status}"))?
}

/// Kills an edge of a deployment that starts it again, until its links are there again.
///
/// # Errors
/// If they do not come back.
pub async fn edge_death(
    work: &Work,
    deployment: &mut Postern,
    results: &mut Results,
) -> anyhow::Result<()> {
    tokio::time::sleep_until(deployment.since + EDGE_IS_WELL).await;
    let world = &deployment.world;
    let before = world.links().await?;
    ensure!(before.len() == 4, "there are {} links", before.len());
    let start = Instant::now();
    kill(Pid::from_raw(world.edge(KILLED)? as i32), Signal::SIGKILL)?;
    let is_new = |link: &&Link| link.region == REGIONS[KILLED] && !before.contains(link);
    world.wait_for_links(|links| links.iter().filter(is_new).count() == 2).await?;
    let took = start.elapsed().as_secs_f64();
    results.add(work, deployment.way.key, Metric::Recovery, took);
    world.wait_for_health("Healthy").await?;
    deployment.since = tokio::time::Instant::now();
    Ok(())
}

/// Drops all UDP packets between a connector and its edges, until it has four links over HTTP/2.
///
/// # Errors
/// If the deployment does not come up, or the links do not come.
pub async fn udp_death(
    work: &Work,
    network: &Network,
    results: &mut Results,
) -> anyhow::Result<()> {
    let world = World::start_at(network.host()).await?;
    let _connector = world.start_connector_in(network, "auto")?;
    let over = |transport: Transport| {
        move |links: &[Link]| links.iter().all(|link| link.transport == transport.as_str())
    };
    world.wait_for_links(over(Transport::Quic)).await?;
    world.wait_for_health("Healthy").await?;
    let start = Instant::now();
    let _udp = network.add_rule(UDP_IS_DROPPED)?;
    world.wait_for_links(over(Transport::Http2)).await?;
    let took = start.elapsed().as_secs_f64();
    results.add(work, Transport::Quic.as_str(), Metric::Recovery, took);
    Ok(())
}
