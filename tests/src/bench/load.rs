//! Load from many clients at once, each of which asks again as soon as it was answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use super::{
    client::Client,
    way::{Usage, Way},
};
use crate::process::{self, Cores};

/// Most that clients may need beyond the time that was set for them.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// So many bytes, on the client's one connection.
    Download(u64),
    /// So many bytes, on a new connection each time.
    Reconnect(u64),
    /// That so many bytes be taken.
    Upload(u64),
    /// A stream; what counts is how long its first bytes take.
    FirstByte,
    /// The echo of a WebSocket message.
    Echo,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Once for each client.
    Once,
    /// As long as measurements are to take.
    Elapsed,
}

/// What came of some load.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Bytes of body that were moved.
    pub bytes: u64,
    /// How long all of it took.
    pub elapsed: Duration,
    /// How long each request took; sorted, never empty.
    pub latencies: Vec<Duration>,
    /// What both ends of the way used; CPU time for this load alone.
    pub usage: Usage,
    /// CPU time of clients and origin.
    pub own_cpu: Duration,
    /// The share of all cores that nobody used, from 0 to 1.
    pub idle: f64,
}

impl Outcome {
    /// Requests that were answered.
    pub fn requests(&self) -> f64 {
        self.latencies.len() as f64
    }

    /// So large a share of the requests took no longer than this.
    pub fn quantile(&self, share: f64) -> Duration {
        self.latencies[((self.latencies.len() - 1) as f64 * share) as usize]
    }
}

/// Lets `clients` ask over `way`; whatever has begun when `length` is over is finished.
///
/// # Errors
/// If a request fails or its answer is not what it must be: who loses requests measures nothing.
pub async fn load(
    way: &Way,
    ask: Ask,
    clients: usize,
    until: Until,
    length: Duration,
) -> anyhow::Result<Outcome> {
    let mut ready = JoinSet::new();
    for _ in 0..clients {
        let way = way.clone();
        ready.spawn(async move { Asking::prepare(way, ask).await });
    }
    let mut askers = Vec::with_capacity(clients);
    while let Some(asking) = ready.join_next().await {
        askers.push(asking??);
    }
    way.forget_peaks()?;
    let (before, own_before) = (way.usage()?, process::usage(std::process::id())?);
    let cores_before = Cores::now()?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut asking in askers {
        tasks.spawn(async move {
            let (mut latencies, mut bytes) = (Vec::new(), 0);
            loop {
                let (latency, more) = asking.trip().await?;
                latencies.push(latency);
                bytes += more;
                if until == Until::Once || start.elapsed() >= length {
                    return anyhow::Ok((latencies, bytes));
                }
            }
        });
    }
    let (mut latencies, mut bytes) = (Vec::new(), 0);
    let finished = async {
        while let Some(task) = tasks.join_next().await {
            let (some, more) = task??;
            latencies.extend(some);
            bytes += more;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(length + PATIENCE, finished).await.context("it does not end")??;
    let elapsed = start.elapsed();
    let (after, own_after) = (way.usage()?, process::usage(std::process::id())?);
    let idle = Cores::now()?.idle_since(&cores_before);
    latencies.sort_unstable();
    Ok(Outcome {
        bytes,
        elapsed,
        latencies,
        usage: Usage { cpu: after.cpu.saturating_sub(before.cpu), ..after },
        own_cpu: own_after.cpu.saturating_sub(own_before.cpu),
        idle,
    })
}

/// A client with what it asks for.
struct Asking {
    way: Way,
    ask: Ask,
    request: Vec<u8>,
    client: Client,
}

impl Asking {
    /// Connects, and opens the rest of the way by a first request that does not count.
    async fn prepare(way: Way, ask: Ask) -> anyhow::Result<Self> {
        let (request, length) = match ask {
            Ask::Download(length) | Ask::Reconnect(length) => {
                (way.request("GET", &format!("/bytes/{length}"), ""), length)
            }
            Ask::Upload(length) => {
                let more = format!("content-length: {length}\r\n");
                (way.request("POST", "/upload", &more), 0)
            }
            Ask::FirstByte => (way.request("GET", "/stream", ""), 0),
            Ask::Echo => (Vec::new(), 0),
        };
        let mut client = Client::connect(&way, length).await?;
        let answer = client.ask(&way.request("GET", "/bytes/1", "")).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        if ask == Ask::Echo {
            client.switch(&way).await?;
        }
        Ok(Self { way, ask, request, client })
    }

    /// Asks once; how long it took, and how many bytes of body were moved.
    async fn trip(&mut self) -> anyhow::Result<(Duration, u64)> {
        let begun = Instant::now();
        let (answer, moved) = match self.ask {
            Ask::Download(length) => (self.client.ask(&self.request).await?, length),
            Ask::Reconnect(length) => {
                self.client = Client::connect(&self.way, length).await?;
                (self.client.ask(&self.request).await?, length)
            }
            Ask::Upload(length) => (self.client.upload(&self.request, length).await?, length),
            Ask::FirstByte => {
                let answer = self.client.ask(&self.request).await?;
                ensure!(answer.status == 200 && answer.length > 0, "status {}", answer.status);
                return Ok((answer.first_byte - begun, answer.length));
            }
            Ask::Echo => {
                self.client.echo().await?;
                return Ok((begun.elapsed(), 0));
            }
        };
        let took = begun.elapsed();
        ensure!(answer.status == 200, "status {}", answer.status);
        let is_whole = match self.ask {
            Ask::Upload(length) => answer.length == length.to_string().len() as u64,
            _ => answer.length == moved,
        };
        ensure!(is_whole, "an answer of {} bytes", answer.length);
        Ok((took, moved))
    }
}
