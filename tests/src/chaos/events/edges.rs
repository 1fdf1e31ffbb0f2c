//! What happens to edges and the control plane.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::{Marks, Whose};
use crate::{
    chaos::{
        client::Failure,
        load::{Exchange, Kind, Target},
        stage::Stage,
    },
    world::REGIONS,
};

/// How soon something starts an edge again.
const PAUSE: Duration = Duration::from_secs(1);
/// Clients that ask without a pause.
const CLIENTS: usize = 48;
/// How long they do before the edge is asked to leave.
const BUSY: Duration = Duration::from_secs(1);

pub(super) async fn killed(stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
    let at = Instant::now();
    stage.end_edge(0, Signal::SIGKILL).await?;
    marks.died_since(at, Whose::Edge(0), Duration::ZERO);
    tokio::time::sleep(PAUSE).await;
    stage.start_edge(0).await?;
    marks.heal();
    Ok(())
}

pub(super) async fn drained(stage: &mut Stage, region: usize) -> anyhow::Result<()> {
    stage.end_edge(region, Signal::SIGTERM).await?;
    stage.start_edge(region).await
}

pub(super) async fn rolling(stage: &mut Stage) -> anyhow::Result<()> {
    for region in 0..REGIONS.len() {
        drained(stage, region).await?;
        stage.edge_is_ready(region).await?;
    }
    Ok(())
}

/// Every client holds one connection, and has always a POST under way.
pub(super) async fn busy_drain(stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
    let target = stage.target();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Arc::new(target.client.of_gateway(0));
        clients.spawn(ask_until_told_to_leave(Target { client, ..target.clone() }));
    }
    tokio::time::sleep(BUSY).await;
    drained(stage, 0).await?;
    marks.heal();
    marks.exchanges.extend(clients.join_all().await.into_iter().flatten());
    stage.edge_is_ready(0).await
}

async fn ask_until_told_to_leave(target: Target) -> Vec<Exchange> {
    let mut done = Vec::new();
    loop {
        let exchange = target.exchange(Kind::Post, 0).await;
        let leaves = match &exchange.outcome {
            Ok(()) => false,
            Err(Failure::NoGateway) => return done,
            Err(Failure::Refused(code)) if code == "edge_unavailable" => return done,
            Err(_) => true,
        };
        done.push(exchange);
        if leaves {
            return done;
        }
    }
}

pub(super) async fn stopped(
    stage: &mut Stage,
    marks: &mut Marks,
    away: Duration,
) -> anyhow::Result<()> {
    // Its links are given up by those at their other ends, and so it finds them when it goes on.
    marks.died(Whose::Links, Duration::ZERO);
    marks.died(Whose::Edge(0), Duration::ZERO);
    stage.world.edges[0].signal(Signal::SIGSTOP)?;
    tokio::time::sleep(away).await;
    stage.world.edges[0].signal(Signal::SIGCONT)?;
    marks.heal();
    Ok(())
}

pub(super) async fn control_plane_away(stage: &mut Stage, away: Duration) -> anyhow::Result<()> {
    stage.world.postern.signal(Signal::SIGKILL)?;
    stage.world.postern.ended().await?;
    tokio::time::sleep(away).await;
    stage.world.start_postern().await
}

/// Its edges go on until others take over from them.
pub(super) async fn up_killed(stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
    stage.world.postern.signal(Signal::SIGKILL)?;
    stage.world.postern.ended().await?;
    marks.heal();
    stage.world.start_postern().await
}

pub(super) async fn up_restarted(stage: &mut Stage) -> anyhow::Result<()> {
    stage.world.restart_postern_in_place().await
}
