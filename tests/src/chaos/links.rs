//! How many links take requests, as both ends tell it: while one of them has not noticed what happened, or an
//! edge has not its share, the links are not all well. Links that leave may take longer: they finish what is
//! under way.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use protocol::SLOTS;
use serde_json::Value;

use super::stage::{CONNECTORS, STATUS_PORT};
use crate::{
    network::{Inside, Task},
    process::PATIENCE,
};

/// Between two looks.
const PACE: Duration = Duration::from_millis(50);
/// Until a part that does not answer counts as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long all of them must have been up to count as back.
const STEADY: Duration = Duration::from_millis(500);
/// Stands for a part that does not answer.
const GONE: u64 = u64::MAX;

/// Watches until it is dropped.
pub struct Links {
    started: Instant,
    /// When one was last missing, in milliseconds after the start.
    last_missing: Arc<AtomicU64>,
    /// Of each connector.
    connectors: Arc<[AtomicU64]>,
    /// Of each edge.
    edges: Arc<[AtomicU64]>,
    _inside: Vec<Task>,
    watching: tokio::task::JoinSet<()>,
}

impl Links {
    /// Watches the connectors inside and the edges that tell at these addresses.
    pub fn watch(inside: &Inside, edges: Vec<SocketAddr>) -> Self {
        let counts = |n| (0..n).map(|_| AtomicU64::new(GONE)).collect::<Arc<[AtomicU64]>>();
        let mut links = Self {
            started: Instant::now(),
            last_missing: Arc::default(),
            connectors: counts(CONNECTORS),
            edges: counts(edges.len()),
            _inside: Vec::new(),
            watching: tokio::task::JoinSet::new(),
        };
        for n in 0..CONNECTORS {
            let address = (Ipv4Addr::LOCALHOST, STATUS_PORT + n as u16).into();
            let watched = links.connectors.clone();
            links
                ._inside
                .push(inside.keep(async move { watch(address, "links", &watched[n]).await }));
        }
        for (n, address) in edges.into_iter().enumerate() {
            let watched = links.edges.clone();
            links.watching.spawn(async move { watch(address, "serving_links", &watched[n]).await });
        }
        let (connectors, edges) = (links.connectors.clone(), links.edges.clone());
        let (last_missing, started) = (links.last_missing.clone(), links.started);
        links.watching.spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            loop {
                pace.tick().await;
                if !are_all_up(&connectors, &edges) {
                    let now = started.elapsed().as_millis() as u64;
                    last_missing.store(now, Ordering::Relaxed);
                }
            }
        });
        links
    }

    /// Waits until all of them are up, and have been for a moment.
    ///
    /// # Errors
    /// If they do not come up.
    pub async fn all_up(&self) -> anyhow::Result<()> {
        let up = async {
            while self.last_missing().elapsed() < STEADY {
                tokio::time::sleep(PACE).await;
            }
        };
        let counts = || {
            let count = |count: &AtomicU64| match count.load(Ordering::Relaxed) {
                GONE => "-".to_owned(),
                count => count.to_string(),
            };
            let all = |counts: &[AtomicU64]| counts.iter().map(count).collect::<Vec<_>>().join("+");
            format!("connectors {}, edges {}", all(&self.connectors), all(&self.edges))
        };
        let up = tokio::time::timeout(PATIENCE, up).await;
        up.with_context(|| format!("links are missing: {}", counts()))
    }

    /// The last moment at which one was missing.
    pub fn last_missing(&self) -> Instant {
        self.started + Duration::from_millis(self.last_missing.load(Ordering::Relaxed))
    }
}

fn are_all_up(connectors: &[AtomicU64], edges: &[AtomicU64]) -> bool {
    let counts =
        |of: &[AtomicU64]| of.iter().map(|n| n.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let all = u64::from(SLOTS) * CONNECTORS as u64;
    let edges = counts(edges);
    counts(connectors).iter().all(|links| *links == u64::from(SLOTS))
        && edges.iter().all(|links| *links == all / edges.len() as u64)
}

async fn watch(address: SocketAddr, field: &str, links: &AtomicU64) {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build();
    let Ok(client) = client else { return };
    let url = format!("http://{address}/ready");
    let mut pace = tokio::time::interval(PACE);
    loop {
        pace.tick().await;
        let answer = async { client.get(&url).send().await?.json::<Value>().await };
        let told = answer.await.ok().and_then(|answer| answer[field].as_u64());
        links.store(told.unwrap_or(GONE), Ordering::Relaxed);
    }
}
