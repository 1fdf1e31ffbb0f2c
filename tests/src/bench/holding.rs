//! What it takes to hold things: memory of an idle deployment, of each open stream and of each link,
//! and how fast an edge takes links.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt as _, stream};
use link::dial::Dialled;
use protocol::{control::FromConnector, presence::Transport};
use tokio::task::JoinSet;

use super::{
    client::Client,
    metric::Metric,
    postern::{Postern, REGION},
    results::Results,
    way::Way,
    work::Work,
};
use crate::{crowd::Crowd, process, world::World};

const KIB: f64 = 1024.0;
/// Streams that are held open.
const STREAMS: usize = 256;
/// Links that an edge takes.
const LINKS: u32 = 1_000;
/// Handshakes under way at once.
const AT_ONCE: usize = 16;
/// Those of them that are timed.
const TIMED: usize = LINKS as usize - AT_ONCE;
/// Half of what an edge waits for.
const PING_EVERY: Duration = Duration::from_secs(4);
/// Until what was needed only on the way has been given back.
const SETTLED: Duration = Duration::from_secs(2);

/// Memory of an idle deployment, and for each of many open streams.
///
/// # Errors
/// If the deployment does not come up, or a stream does not open.
pub async fn memory(
    work: &Work,
    carrier: Transport,
    origin: &str,
    results: &mut Results,
) -> anyhow::Result<()> {
    let postern = Postern::start(carrier, origin).await?;
    let resident = || anyhow::Ok((memory_of(&postern.way.near)?, memory_of(&postern.way.far)?));
    let (edge, connector) = resident()?;
    let mut add = |metric, value| results.add(work, carrier.as_str(), metric, value);
    add(Metric::EdgeIdle, edge / KIB);
    add(Metric::ConnectorIdle, connector / KIB);
    let held = hold_streams(&postern.way).await?;
    let (edge_after, connector_after) = resident()?;
    add(Metric::EdgePerStream, (edge_after - edge) / held.len() as f64);
    add(Metric::ConnectorPerStream, (connector_after - connector) / held.len() as f64);
    Ok(())
}

/// Resident memory, in KiB.
fn memory_of(pids: &[u32]) -> anyhow::Result<f64> {
    let all = pids.iter().map(|pid| Ok(process::usage(*pid)?.rss as f64 / KIB));
    all.sum()
}

async fn hold_streams(way: &Way) -> anyhow::Result<Vec<Client>> {
    let request = way.request("GET", "/hold", "");
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        let mut client = Client::connect(way, 0).await?;
        client.begin(&request).await?;
        held.push(client);
    }
    tokio::time::sleep(SETTLED).await;
    Ok(held)
}

/// Brings up many links to one edge: how fast it takes them, and its memory for each.
///
/// # Errors
/// If the deployment does not come up, or a link does not.
pub async fn links(work: &Work, carrier: Transport, results: &mut Results) -> anyhow::Result<()> {
    let world = World::start().await?;
    tokio::time::sleep(SETTLED).await;
    let edge = world.edge(REGION)?;
    let crowd = Crowd::of(&world.secret, REGION, carrier).await?;
    let before = process::usage(edge)?;
    let start = Instant::now();
    let mut dials = stream::iter(0..LINKS).map(|n| crowd.dial(n)).buffer_unordered(AT_ONCE);
    let mut held = JoinSet::new();
    let mut under_way = (before.cpu, 0.0);
    while let Some(dialled) = dials.next().await {
        held.spawn(hold(dialled?));
        // One that must dial again may be late: it would make all the others look slow.
        if held.len() == TIMED {
            under_way = (process::usage(edge)?.cpu, start.elapsed().as_secs_f64());
        }
    }
    let (cpu, elapsed) = under_way;
    tokio::time::sleep(SETTLED).await;
    ensure!(held.try_join_next().is_none(), "a link went down again");
    let idle = process::usage(edge)?;
    let mut add = |metric, value| results.add(work, carrier.as_str(), metric, value);
    let timed = TIMED as f64;
    add(Metric::Handshakes, timed / elapsed);
    add(Metric::CpuPerHandshake, (cpu - before.cpu).as_secs_f64() * 1e6 / timed);
    add(Metric::EdgePerLink, (idle.rss as f64 - before.rss as f64) / KIB / f64::from(LINKS));
    Ok(())
}

/// Keeps a link up until it is lost, and serves nothing.
async fn hold(link: Dialled) {
    let Dialled { mut inbound, mut control_sender, mut control_receiver, .. } = link;
    let mut pace = tokio::time::interval(PING_EVERY);
    pace.reset();
    let mut sequence = 0;
    loop {
        tokio::select! {
            arrival = inbound.accept() => match arrival {
                Some(arrival) => arrival.reject(),
                None => return,
            },
            heard = control_receiver.receive() => {
                if !matches!(heard, Ok(Some(_))) {
                    return;
                }
            }
            _ = pace.tick() => {
                sequence += 1;
                let ping = FromConnector::Ping { sequence, rtt_us: None };
                if control_sender.send(&ping).await.is_err() {
                    return;
                }
            }
        }
    }
}
