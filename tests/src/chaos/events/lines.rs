//! What happens to the line between connectors and edges.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Marks, Whose};
use crate::{
    chaos::{
        load::{Exchange, Kind, Target},
        stage::Stage,
    },
    network::Network,
};

/// How long a client waits for a transfer over a slow line: several times what the line needs.
const TRANSFER: Duration = Duration::from_secs(240);
/// Longer than a link outlives a silence that nobody asked about.
const OUTAGE: Duration = Duration::from_secs(3);
/// How long a link may seem well of which nothing is heard any more.
const SUSPECT_AFTER: Duration = Duration::from_millis(1_500);
const MTU: u16 = 1_280;

pub(super) async fn slow_eight(stage: &Stage, marks: &mut Marks) -> anyhow::Result<()> {
    let shape = stage.network.shape("2mbit", "2s")?;
    let transfers = [(Kind::Download, 1_000_000); 8];
    marks.exchanges.extend(transfer(&stage.target(), &transfers).await);
    shape.lift();
    Ok(())
}

pub(super) async fn slow_one(stage: &Stage, marks: &mut Marks) -> anyhow::Result<()> {
    let shape = stage.network.shape("1mbit", "500ms")?;
    marks.exchanges.extend(transfer(&stage.target(), &[(Kind::Download, 3_000_000)]).await);
    shape.lift();
    Ok(())
}

pub(super) async fn slow_quarter(stage: &Stage, marks: &mut Marks) -> anyhow::Result<()> {
    let shape = stage.network.shape("256kbit", "2s")?;
    let transfers = [(Kind::Download, 500_000), (Kind::Upload, 500_000)];
    marks.exchanges.extend(transfer(&stage.target(), &transfers).await);
    shape.lift();
    Ok(())
}

async fn transfer(target: &Target, transfers: &[(Kind, u64)]) -> Vec<Exchange> {
    let mut under_way = JoinSet::new();
    for (n, (kind, length)) in transfers.iter().copied().enumerate() {
        let target = target.clone();
        // Lengths differ by a byte, so that the two gateways take turns.
        let transfer = async move { target.transfer(kind, length + n as u64, TRANSFER).await };
        under_way.spawn(transfer);
    }
    under_way.join_all().await
}

/// Drops packets between connectors and edges; nothing else passes the router.
async fn drop_for(network: &Network, what: &str, length: Duration) -> anyhow::Result<()> {
    let rule = network.add_rule(&format!("{what} -j DROP"))?;
    tokio::time::sleep(length).await;
    rule.lift()
}

pub(super) async fn udp_dropped(
    stage: &mut Stage,
    marks: &mut Marks,
    away: Duration,
) -> anyhow::Result<()> {
    // Links that have come up over HTTP/2 in a round before return to QUIC later; a connector that starts tries it first.
    super::connectors::rolling(stage).await?;
    stage.links.all_up().await?;
    let at = Instant::now();
    let rule = stage.network.add_rule("-p udp -j DROP")?;
    marks.died_since(at, Whose::Links, SUSPECT_AFTER);
    // It heals by itself: links come up on what still passes.
    marks.heal();
    tokio::time::sleep(away).await;
    stage.links.all_up().await?;
    rule.lift()
}

pub(super) async fn outage(stage: &Stage) -> anyhow::Result<()> {
    drop_for(&stage.network, "", OUTAGE).await
}

pub(super) async fn loss(stage: &Stage, away: Duration) -> anyhow::Result<()> {
    drop_for(&stage.network, "-m statistic --mode random --probability 0.1", away).await
}

pub(super) async fn new_address(stage: &Stage, marks: &mut Marks) -> anyhow::Result<()> {
    marks.died(Whose::Links, SUSPECT_AFTER);
    stage.network.move_inside()?;
    Ok(())
}

/// Old links stay as they are, since what goes on meanwhile is small; new ones cannot even be made with
/// packets of full length.
pub(super) async fn narrow(stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
    let network = stage.network.clone();
    let narrow = network.narrow(MTU)?;
    super::connectors::rolling(stage).await?;
    let transfers = [(Kind::Download, 1_000_000), (Kind::Upload, 1_000_000)];
    marks.exchanges.extend(transfer(&stage.target(), &transfers).await);
    narrow.lift()
}
