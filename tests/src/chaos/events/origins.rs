//! What happens at origins.

use std::time::Duration;

use tokio::{task::JoinSet, time::interval};

use crate::chaos::{load, stage::Stage};

/// Requests a second to the origin that does not answer.
const RATE: f64 = 150.0;

/// The origin listens on every loopback address, and is another one by each of them.
pub(super) async fn silent(stage: &Stage, length: Duration) {
    let mut target = stage.target();
    target.origin = format!("http://127.0.0.2:{}", stage.origin.address.port()).into();
    let mut hanging = JoinSet::new();
    let mut pace = interval(Duration::from_secs_f64(1.0 / RATE));
    let ask = async {
        for n in 0.. {
            pace.tick().await;
            let target = target.clone();
            hanging.spawn(async move { load::hang(&target, n % 2).await });
        }
    };
    // All clients leave at once when the time is over.
    let _ = tokio::time::timeout(length, ask).await;
}
