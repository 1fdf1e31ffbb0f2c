//! What happens to connectors.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use protocol::presence::Transport;

use super::{Marks, Whose};
use crate::chaos::stage::{CONNECTORS, Stage};

/// How soon something starts a connector again.
const PAUSE: Duration = Duration::from_secs(1);
/// Longer than a link outlives its silence.
const STOPPED: Duration = Duration::from_secs(5);
/// How long a link may seem well of which nothing is heard any more.
const SUSPECT_AFTER: Duration = Duration::from_millis(1_500);
/// How long it takes until everybody has read that a connection is reset.
const RESET_READ_AFTER: Duration = Duration::from_millis(250);

pub(super) async fn killed(stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
    // The kernel resets the dead's TCP connections; of a UDP socket nobody says that it is gone.
    let unknown_for = match stage.carrier {
        Some(Transport::Http2) => RESET_READ_AFTER,
        Some(Transport::Quic) | None => SUSPECT_AFTER,
    };
    let at = Instant::now();
    stage.end_connector(0, Signal::SIGKILL).await?;
    marks.died_since(at, Whose::Links, unknown_for);
    tokio::time::sleep(PAUSE).await;
    stage.start_connector(0)?;
    marks.heal();
    Ok(())
}

pub(super) async fn stopped(stage: &mut Stage, marks: &mut Marks) -> anyhow::Result<()> {
    marks.died(Whose::Links, SUSPECT_AFTER);
    stage.connectors[0].signal(Signal::SIGSTOP)?;
    tokio::time::sleep(STOPPED).await;
    stage.connectors[0].signal(Signal::SIGCONT)?;
    marks.heal();
    Ok(())
}

pub(super) async fn rolling(stage: &mut Stage) -> anyhow::Result<()> {
    for n in 0..CONNECTORS {
        stage.end_connector(n, Signal::SIGTERM).await?;
        stage.start_connector(n)?;
        stage.connectors[n].find(|line| line.contains("\"links\":4").then_some(())).await?;
    }
    Ok(())
}
