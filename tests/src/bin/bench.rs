//! `make bench`: the same work through a direct connection, through Postern over QUIC and over HTTP/2,
//! and through peers that are installed; interleaved in rounds, medians, ratios. Load stays on the
//! loopback interface.

use std::time::Duration;

use anyhow::Context as _;
use postern_tests::{
    load::{Outcome, Way, load},
    peers,
    process::Process,
    world::{TUNNEL, World},
};

/// Rounds of which medians are taken; BENCH_ROUNDS overrides.
const ROUNDS: usize = 3;
/// How long each measurement of a round takes.
const LENGTH: Duration = Duration::from_secs(3);
/// Clients at once.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];
const SMALL: &str = "/bytes/1024";
const LARGE: &str = "/bytes/1000000000";

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

struct Postern {
    world: World,
    connector: Process,
    way: Way,
}

async fn postern(transport: &str) -> anyhow::Result<Postern> {
    let world = World::start().await?;
    let connector = world.connect(transport).await?;
    let token = world.proxy_token().await?;
    let way = Way {
        name: format!("postern, {transport}"),
        address: world.gateway(0).parse()?,
        prefix: String::new(),
        authorization: Some(basic(TUNNEL, &token)),
        processes: vec![world.edge(0)?, connector.id()?],
    };
    Ok(Postern { world, connector, way })
}

async fn run() -> anyhow::Result<()> {
    let rounds = match std::env::var("BENCH_ROUNDS") {
        Ok(rounds) => rounds.parse().context("BENCH_ROUNDS is no number")?,
        Err(_) => ROUNDS,
    };
    let (quic, http2) = (postern("quic").await?, postern("http2").await?);
    let origin = quic.world.origin.address();
    let host = quic.world.host();
    let mut ways = vec![Way {
        name: "direct".to_owned(),
        address: origin,
        prefix: String::new(),
        authorization: None,
        processes: Vec::new(),
    }];
    for one in [&quic, &http2] {
        ways.push(Way { prefix: format!("http://{origin}"), ..one.way.clone() });
    }
    let peers = [peers::nginx(origin, host).await?, peers::rathole(origin, host).await?];
    for (peer, name) in peers.iter().zip(["nginx (with openssl)", "rathole"]) {
        match peer {
            Some(peer) => ways.push(peer.way.clone()),
            None => println!("Left out, since it is not installed: {name}"),
        }
    }
    println!("{rounds} rounds of {} s each, medians; 1 KB answers", LENGTH.as_secs());
    println!(
        "{:<16}{:>8}{:>12}{:>8}{:>12}{:>10}{:>10}",
        "way", "clients", "requests/s", "ratio", "CPU µs/req", "p50 µs", "p99 µs"
    );
    for clients in CLIENTS {
        let outcomes = measure(&ways, SMALL, clients, rounds).await?;
        let direct = outcomes[0].rate();
        for (way, outcome) in ways.iter().zip(outcomes) {
            println!(
                "{:<16}{clients:>8}{:>12.0}{:>8.2}{:>12.1}{:>10}{:>10}",
                way.name,
                outcome.rate(),
                outcome.rate() / direct,
                outcome.cpu_per_request_us(),
                outcome.p50.as_micros(),
                outcome.p99.as_micros()
            );
        }
    }
    println!("\nOne stream of 1 GB down");
    println!("{:<16}{:>10}{:>8}{:>14}", "way", "MB/s", "ratio", "CPU s/GB");
    let outcomes = measure(&ways, LARGE, 1, rounds).await?;
    let direct = outcomes[0].megabytes_per_second();
    for (way, outcome) in ways.iter().zip(outcomes) {
        let rate = outcome.megabytes_per_second();
        let cost = outcome.cpu_per_gigabyte_s();
        println!("{:<16}{rate:>10.0}{:>8.2}{cost:>14.2}", way.name, rate / direct);
    }
    println!("\nMemory at the end, MiB: ");
    for one in [&quic, &http2] {
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        let edge = postern_tests::process::usage(one.world.edge(0)?)?;
        let connector = one.connector.usage()?;
        println!(
            "{:<16} connector {:.1}, edge {:.1}",
            one.way.name,
            mib(connector.rss),
            mib(edge.rss)
        );
    }
    Ok(())
}

/// The median of each way, by rate.
async fn measure(
    ways: &[Way],
    path: &str,
    clients: usize,
    rounds: usize,
) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, outcomes) in ways.iter().zip(&mut outcomes) {
            let outcome = load(way, path, clients, LENGTH).await;
            outcomes.push(outcome.with_context(|| format!("{}, {path}", way.name))?);
        }
    }
    let median = |mut outcomes: Vec<Outcome>| {
        outcomes.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        outcomes[outcomes.len() / 2]
    };
    Ok(outcomes.into_iter().map(median).collect())
}

fn basic(user: &str, password: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
