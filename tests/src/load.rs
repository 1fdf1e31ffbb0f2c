//! Load from many clients at once, each with one kept-alive HTTP/1.1 connection, and what it costs the
//! processes in between.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::process;

/// A way to the origin.
#[derive(Debug, Clone)]
pub struct Way {
    /// What it is called.
    pub name: String,
    /// Where clients connect.
    pub address: SocketAddr,
    /// What they put before the path: nothing, or the origin's address for a proxy.
    pub prefix: String,
    /// `Proxy-Authorization`, for a proxy.
    pub authorization: Option<String>,
    /// Processes between client and origin.
    pub processes: Vec<u32>,
}

/// What came of some load.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes of body that came back.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of the processes in between.
    pub cpu: Duration,
    /// Half of the requests took no longer.
    pub p50: Duration,
    /// 99 of 100 requests took no longer.
    pub p99: Duration,
}

impl Outcome {
    /// Answered requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU time a request, in microseconds.
    pub fn cpu_per_request_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    /// Megabytes of body a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64()
    }

    /// CPU seconds a gigabyte of body.
    pub fn cpu_per_gigabyte_s(&self) -> f64 {
        self.cpu.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}

/// Sends GETs for `path` from `clients` connections for `duration`; a request that has begun is
/// finished.
///
/// # Errors
/// If a request fails: a benchmark that loses requests measures nothing.
pub async fn load(
    way: &Way,
    path: &str,
    clients: usize,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Client::connect(way, path).await?);
    }
    let cpu_before = cpu(way)?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in connections {
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut bytes = 0;
            while start.elapsed() < duration {
                let begun = Instant::now();
                bytes += client.request().await?;
                latencies.push(begun.elapsed());
            }
            anyhow::Ok((latencies, bytes))
        });
    }
    let mut latencies = Vec::new();
    let mut bytes = 0;
    while let Some(task) = tasks.join_next().await {
        let (some, more) = task??;
        latencies.extend(some);
        bytes += more;
    }
    let elapsed = start.elapsed();
    let cpu = cpu(way)?.saturating_sub(cpu_before);
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    ensure!(!latencies.is_empty(), "no request was answered");
    Ok(Outcome {
        requests: latencies.len() as u64,
        bytes,
        elapsed,
        cpu,
        p50: at(0.5),
        p99: at(0.99),
    })
}

fn cpu(way: &Way) -> anyhow::Result<Duration> {
    way.processes.iter().map(|pid| Ok(process::usage(*pid)?.cpu)).sum()
}

struct Client {
    requests: SendRequest<Empty<Bytes>>,
    request: Request<()>,
    /// Moves the connection's bytes.
    _driver: JoinSet<()>,
}

impl Client {
    async fn connect(way: &Way, path: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(way.address).await.context(way.name.clone())?;
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        let mut request = Request::get(format!("{}{path}", way.prefix)).body(())?;
        let host = HeaderValue::from_str(way.prefix.trim_start_matches("http://"))?;
        let host = if host.is_empty() { HeaderValue::from_static("origin") } else { host };
        request.headers_mut().insert(header::HOST, host);
        if let Some(authorization) = &way.authorization {
            let authorization = HeaderValue::from_str(authorization)?;
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        Ok(Self { requests, request, _driver: driver })
    }

    /// One request; the length of its answer's body.
    async fn request(&mut self) -> anyhow::Result<u64> {
        self.requests.ready().await?;
        let request = self.request.clone().map(|()| Empty::new());
        let mut response = self.requests.send_request(request).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        let mut bytes = 0;
        while let Some(frame) = response.frame().await {
            bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }
}
