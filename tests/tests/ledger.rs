//! Thousands of exchanges of every shape whose clients, edge, link, connector or origin vanish at random
//! points: within seconds after the last one, whatever was held for them has been let go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use nix::sys::signal::Signal;
use postern_tests::{
    chaos::stage::{Deployment, Length, STATUS_PORT, Stage},
    process::{open_files, usage},
    vanish::{
        Plan,
        client::{Gateway, Outcome},
        origin::Origin,
    },
};
use protocol::presence::Transport;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// How many exchanges there are over each carrier, if the variable does not say otherwise.
const EXCHANGES: u32 = 1_500;
const EXCHANGES_VARIABLE: &str = "POSTERN_EXCHANGES";
/// What chance depends on, if the variable does not say otherwise: the clock.
const SEED_VARIABLE: &str = "POSTERN_SEED";
/// For how long laps follow one another, in minutes; one lap, if it is not set.
const MINUTES_VARIABLE: &str = "POSTERN_LEDGER_MINUTES";
/// The first share of them lets every buffer and table have its first use.
const WARM_UP: u32 = 5;
/// Exchanges under way at once.
const AT_ONCE: usize = 32;
/// All must have been let go by then.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);
/// What TCP cannot tell is ended by a limit: a client that closes its end behind an upload that the origin does not
/// take. Two minutes are its default.
const UPLOADS: [(&str, &str); 1] = [("TUNNEL_UPLOAD_TIMEOUT", "5s")];
/// Most that a part may have grown by, in bytes: what allocators keep for later.
const GROWTH: u64 = 16 * 1024 * 1024;
/// So many exchanges are between two deaths of a part.
const BETWEEN_DEATHS: u32 = 300;
/// Longer than a link outlives a silence.
const SILENCE: Duration = Duration::from_secs(4);
/// The links of an edge: half of those of two connectors.
const LINKS: f64 = 4.0;
/// The parts that live throughout, and the ones that die.
const LIVES: usize = 0;
const DIES: usize = 1;

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    links: f64,
    in_flight: f64,
    clients: f64,
    files: usize,
    rss: u64,
}

struct Books {
    stage: Stage,
    origin: Origin,
    gateways: [Gateway; 2],
}

impl Books {
    async fn open(carrier: Transport) -> Self {
        let stage = Stage::set(Deployment::Spread, Some(carrier), Length::Short, &UPLOADS).await;
        let stage = stage.unwrap();
        let origin = Origin::start(&stage.inside).await.unwrap();
        let credentials = stage.credentials.to_str().unwrap().to_owned();
        let gateways = [0, 1].map(|region| Gateway {
            address: stage.world.gateway(region).parse().unwrap(),
            credentials: credentials.clone(),
            origin: origin.address,
        });
        Self { stage, origin, gateways }
    }

    /// So many exchanges, while parts die; tells how many came through whole.
    async fn lap(&mut self, exchanges: u32, random: &mut StdRng) -> u32 {
        let plans: Vec<(usize, Plan)> =
            (0..exchanges).map(|n| (n as usize % 2, Plan::random(random))).collect();
        let (done, whole, are_done) =
            (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let gateways = &self.gateways;
        let exchanges = stream::iter(plans).map(async |(gateway, plan)| {
            if gateways[gateway].exchange(&plan).await.unwrap() == Outcome::Whole {
                whole.fetch_add(1, Ordering::SeqCst);
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        let exchanging = async {
            exchanges.buffer_unordered(AT_ONCE).collect::<()>().await;
            are_done.store(true, Ordering::SeqCst);
        };
        let stage = &mut self.stage;
        let dying = async {
            for death in 1.. {
                while done.load(Ordering::SeqCst) < death * BETWEEN_DEATHS {
                    if are_done.load(Ordering::SeqCst) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                die(stage, random.random_range(0..4)).await;
            }
        };
        tokio::join!(exchanging, dying);
        whole.into_inner()
    }

    /// What the parts that live hold, once that is nothing, and no more files are open than `before`.
    async fn settle(&self, before: Option<[Held; 3]>) -> [Held; 3] {
        self.stage.links.all_up().await.unwrap();
        let began = Instant::now();
        loop {
            let held = self.held().await;
            let is_few = |held: &Held, before: &Held| held.files <= before.files;
            let is_let_go = held.iter().all(|held| held.in_flight == 0.0 && held.clients == 0.0)
                && held.iter().map(|held| held.links).sum::<f64>() == LINKS
                && before.is_none_or(|before| held.iter().zip(&before).all(|(a, b)| is_few(a, b)))
                && self.origin.busy() == 0;
            let is_due = began.elapsed() > LET_GO_WITHIN;
            if is_let_go && (before.is_some() || is_due) {
                println!("    all was let go after {:.1?}", began.elapsed());
                return held;
            }
            assert!(
                !is_due,
                "edge, connector, control plane: {held:#?}\nat first {before:#?}\nat the origin {}",
                self.origin.busy()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn held(&self) -> [Held; 3] {
        let stage = &self.stage;
        let edge = format!("http://{}:{}/metrics", stage.network.host(), 9001 + LIVES);
        let connector =
            format!("http://{}:{}/metrics", stage.network.inside(), STATUS_PORT + LIVES as u16);
        let edge = reqwest::get(&edge).await.unwrap().text().await.unwrap();
        let connector = reqwest::get(&connector).await.unwrap().text().await.unwrap();
        let part = |pid: u32, links, in_flight, clients| Held {
            links,
            in_flight,
            clients,
            files: open_files(pid).unwrap(),
            rss: usage(pid).unwrap().rss,
        };
        [
            part(
                stage.world.edges[LIVES].id().unwrap(),
                value(&edge, "postern_edge_links{"),
                value(&edge, "postern_edge_requests_in_flight"),
                value(&edge, "postern_edge_worker_clients"),
            ),
            part(
                stage.connectors[LIVES].id().unwrap(),
                0.0,
                value(&connector, "postern_connector_requests_in_flight"),
                0.0,
            ),
            part(stage.world.postern.id().unwrap(), 0.0, 0.0, 0.0),
        ]
    }
}

/// The sum of a metric over its labels.
fn value(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()).map(|n| n.parse::<f64>().unwrap()).sum()
}

/// Something dies, and comes back.
async fn die(stage: &mut Stage, what: u32) {
    match what {
        0 => {
            stage.end_edge(DIES, Signal::SIGKILL).await.unwrap();
            stage.start_edge(DIES).await.unwrap();
        }
        1 => {
            stage.end_connector(DIES, Signal::SIGKILL).await.unwrap();
            stage.start_connector(DIES).unwrap();
        }
        2 => {
            stage.connectors[DIES].signal(Signal::SIGSTOP).unwrap();
            tokio::time::sleep(SILENCE).await;
            stage.connectors[DIES].signal(Signal::SIGCONT).unwrap();
        }
        _ => {
            // The links to the edge that lives, while both their ends do.
            let cut = ["tcp", "udp"].map(|protocol| {
                stage.network.add_rule(&format!("-p {protocol} --dport 7844 -j DROP")).unwrap()
            });
            tokio::time::sleep(SILENCE).await;
            cut.into_iter().for_each(|rule| rule.lift().unwrap());
        }
    }
}

async fn the_books_are_even(carrier: Transport) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let exchanges = number(EXCHANGES_VARIABLE).map_or(EXCHANGES, |n| n as u32);
    let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let seed = number(SEED_VARIABLE).unwrap_or_else(clock);
    println!("{SEED_VARIABLE}={seed}, {exchanges} exchanges over {}", carrier.as_str());
    let mut random = StdRng::seed_from_u64(seed);

    let mut books = Books::open(carrier).await;
    books.lap(exchanges / WARM_UP, &mut random).await;
    let before = books.settle(None).await;
    books.origin.hang_up();
    let minutes = number(MINUTES_VARIABLE).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    loop {
        let began = Instant::now();
        let whole = books.lap(exchanges, &mut random).await;
        println!("    {whole} of {exchanges} came through whole, in {:.1?}", began.elapsed());
        // A third vanishes never, and a third of those who may come to their end before.
        assert!(whole > exchanges / 5, "hardly anything came through");
        let after = books.settle(Some(before)).await;
        books.origin.hang_up();
        for (n, name) in ["edge", "connector", "control plane"].into_iter().enumerate() {
            let (before, after) = (before[n], after[n]);
            let [kib, kib_after] = [before.rss, after.rss].map(|rss| rss / 1024);
            println!(
                "    {name}: {} -> {} open files, {kib} -> {kib_after} KiB",
                before.files, after.files
            );
            assert!(after.rss < before.rss + GROWTH, "{name} has grown");
        }
        if Instant::now() >= until {
            return;
        }
    }
}

#[tokio::test]
async fn whoever_vanishes_leaves_nothing_behind_over_quic() {
    the_books_are_even(Transport::Quic).await;
}

#[tokio::test]
async fn whoever_vanishes_leaves_nothing_behind_over_http2() {
    the_books_are_even(Transport::Http2).await;
}
