//! What it takes to hold things: memory of an idle deployment, of each open stream and of each link,
//! and how fast an edge takes links.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};
use link::dial::{Dialer, Dialled, Identity, Target};
use protocol::{
    control::{Facts, FromConnector},
    id::ConnectorId,
    presence::Transport,
    secret::TunnelSecret,
};
use tokio::{net::lookup_host, task::JoinSet};

use super::{
    client::Client,
    metric::Metric,
    postern::{Postern, REGION},
    results::Results,
    way::Way,
    work::Work,
};
use crate::{
    process,
    world::{REGIONS, World},
};

const KIB: f64 = 1024.0;
/// Streams that are held open.
const STREAMS: usize = 256;
/// Links that an edge takes.
const LINKS: u32 = 1_000;
/// Handshakes under way at once.
const AT_ONCE: usize = 16;
/// Those of them that are timed.
const TIMED: usize = LINKS as usize - AT_ONCE;
/// A connector whose dial is not answered dials again, and so do these, so often.
const DIALS: usize = 5;
/// Until a dial counts as not answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
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
    let crowd = Crowd::of(&world, carrier).await?;
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

/// Connectors that want nothing but links, four each, to one edge.
struct Crowd {
    dialer: Dialer,
    secret: TunnelSecret,
    target: Target,
}

impl Crowd {
    async fn of(world: &World, transport: Transport) -> anyhow::Result<Self> {
        let secret = TunnelSecret::decode(&world.secret)?;
        let pin = secret.ca_pin.context("a secret of this deployment holds a pin")?;
        let mut edges = secret.edges.iter();
        let edge = edges.find(|edge| edge.region.as_str() == REGIONS[REGION]);
        let address = &edge.context("the secret does not name the edge")?.address;
        let server_name = address.host.clone();
        let address = lookup_host((server_name.as_str(), address.port)).await?.next();
        let address = address.context("the edge has no address")?;
        let target = Target { transport, address, server_name, slot: 0 };
        Ok(Self { dialer: Dialer::new(&link::tls::Trust::Pinned(pin))?, secret, target })
    }

    async fn dial(&self, n: u32) -> anyhow::Result<Dialled> {
        let connector = u128::from(n / u32::from(protocol::SLOTS));
        let identity = Identity {
            tunnel: self.secret.tunnel,
            key: self.secret.key,
            seed: self.secret.seed.clone(),
            connector: ConnectorId::from_bytes(connector.to_be_bytes()),
            facts: Facts::default(),
        };
        let slot = (n % u32::from(protocol::SLOTS)) as u8;
        let target = Target { slot, ..self.target.clone() };
        let mut last = anyhow::anyhow!("no dial was answered");
        for _ in 0..DIALS {
            let dial = self.dialer.dial(&target, &identity);
            match tokio::time::timeout(ANSWER_WITHIN, dial).await {
                Ok(Ok(dialled)) => return Ok(dialled),
                Ok(Err(error)) => last = error.into(),
                Err(_) => {}
            }
        }
        Err(last)
    }
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
