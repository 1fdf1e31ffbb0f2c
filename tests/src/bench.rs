//! `make bench`: the same work through a direct connection, through Postern over QUIC and over HTTP/2,
//! through its libraries alone, and through other software that is installed. One machine, loopback only;
//! interleaved in rounds, so that a noisy minute hurts all ways alike; medians and ratios. Nothing fails
//! because it is slow.
//!
//! | module | holds |
//! |---|---|
//! | [`work`], [`metric`] | what is measured |
//! | [`postern`], [`peers`], [`way`] | what it is measured on |
//! | [`load`], [`client`], [`websocket`], [`origin`] | load over a way |
//! | [`holding`], [`recovery`] | works of Postern's own |
//! | [`results`], [`goals`], [`machine`] | what came of it |
//! | [`report`], [`table`], [`plot`] | how it is told |

use anyhow::ensure;
use rand::seq::SliceRandom as _;

pub mod client;
pub mod goals;
pub mod holding;
pub mod load;
pub mod machine;
pub mod metric;
pub mod options;
pub mod origin;
pub mod peers;
pub mod plot;
pub mod postern;
pub mod recovery;
pub mod report;
pub mod results;
pub mod table;
pub mod way;
pub mod websocket;
pub mod work;

use crate::{
    network::Network,
    world::{own_address, program},
};
use load::{Ask, load};
use machine::Machine;
use options::Options;
use origin::Origin;
use peers::Peer;
use postern::{CARRIERS, Postern};
use results::Results;
use way::Way;
use work::{Kind, WORKS, Work};

/// Runs the benchmark and tells what came of it.
///
/// # Errors
/// If Postern does not do what is measured; slowness is no error, and neither is a peer's failure.
pub async fn run(options: Options) -> anyhow::Result<()> {
    if options.list {
        for work in WORKS {
            println!("{:<14}{}", work.key, work.title);
        }
        println!("ways: {}", options::ways().collect::<Vec<_>>().join(", "));
        return Ok(());
    }
    options.check()?;
    let mut bench = Bench::start(options).await?;
    let works = bench.results.works.clone();
    for (n, work) in works.iter().enumerate() {
        eprintln!("[{}/{}] {}: {}", n + 1, works.len(), work.key, work.title);
        bench.measure(work).await;
        if let Some(table) = report::work(&bench.results, work) {
            println!("\n{} ({})\n{}", work.title, work.key, table.text());
        }
    }
    bench.tell()?;
    bench.end().await
}

struct Bench {
    options: Options,
    results: Results,
    origin: Origin,
    deployments: Vec<Postern>,
    peers: Vec<Peer>,
    ways: Vec<Way>,
    /// Works that Postern did not do.
    failures: usize,
}

impl Bench {
    /// Starts the origin and, if any work needs it, everything on the way to it.
    async fn start(options: Options) -> anyhow::Result<Self> {
        let mut machine = Machine::this();
        machine.note("postern", std::process::Command::new(program("postern")?).arg("--version"));
        machine.by_profile = options.by_profile;
        let results = Results::new(machine, options.rounds, options.seconds, options.works());
        let origin = Origin::start(own_address())?;
        let (deployments, peers, ways) = Default::default();
        let mut bench = Self { options, results, origin, deployments, peers, ways, failures: 0 };
        let kinds: Vec<Kind> = bench.results.works.iter().map(|work| work.kind).collect();
        let has_load = kinds.iter().any(|kind| matches!(kind, Kind::Load { .. }));
        if has_load && bench.options.wants("direct") {
            bench.open(Way::direct(bench.origin.address()));
        }
        for carrier in bench.carriers() {
            if has_load || kinds.contains(&Kind::EdgeDeath) {
                eprintln!("starting {}", postern::name(carrier));
                let deployment = Postern::start(carrier, &bench.url()).await?;
                bench.open(deployment.way.clone());
                bench.deployments.push(deployment);
            } else {
                bench.results.ways.push((carrier.as_str(), postern::name(carrier)));
            }
        }
        if has_load {
            bench.start_peers().await;
        }
        Ok(bench)
    }

    async fn start_peers(&mut self) {
        let origin = self.origin.address();
        for kind in peers::KINDS {
            if !self.options.wants(kind.key()) {
                continue;
            }
            eprintln!("starting {}", kind.key());
            match kind.start(origin, origin.ip(), &mut self.results.machine).await {
                Ok(peer) => {
                    self.open(peer.way.clone());
                    self.peers.push(peer);
                }
                Err(error) => self.leave_out(kind.key(), &error),
            }
        }
    }

    fn open(&mut self, way: Way) {
        self.results.ways.push((way.key, way.name));
        self.ways.push(way);
    }

    /// The origin's URL, without a path.
    fn url(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    async fn measure(&mut self, work: &Work) {
        let rounds = self.options.rounds;
        match work.kind {
            Kind::Load { ask, clients, until } => {
                let mut ways = self.ways.clone();
                ways.retain(|way| way.has_upgrades || ask != Ask::Echo);
                for round in 1..=rounds {
                    eprintln!("  round {round} of {rounds}");
                    let mut well = Vec::new();
                    for way in ways {
                        match load(&way, ask, clients, until, self.options.length()).await {
                            Ok(outcome) => {
                                self.results.add_load(work, way.key, &outcome);
                                well.push(way);
                            }
                            Err(error) => self.failed(work, way.key, &error),
                        }
                    }
                    ways = well;
                    // What one way leaves behind should not always fall to the same one.
                    ways.shuffle(&mut rand::rng());
                }
            }
            Kind::Memory | Kind::Links => {
                let url = self.url();
                for carrier in self.carriers() {
                    let measured = match work.kind {
                        Kind::Memory => {
                            holding::memory(work, carrier, &url, &mut self.results).await
                        }
                        _ => holding::links(work, carrier, &mut self.results).await,
                    };
                    if let Err(error) = measured {
                        self.failed(work, carrier.as_str(), &error);
                    }
                }
            }
            Kind::ColdStart => {
                let (url, carriers) = (self.url(), self.carriers());
                let started = recovery::cold_start(work, &carriers, &url, &mut self.results).await;
                if let Err(error) = started {
                    self.failed(work, "postern", &error);
                }
            }
            Kind::EdgeDeath => {
                for _ in 0..rounds {
                    for n in 0..self.deployments.len() {
                        let deployment = &mut self.deployments[n];
                        let way = deployment.way.key;
                        let died = recovery::edge_death(work, deployment, &mut self.results).await;
                        if let Err(error) = died {
                            self.failed(work, way, &error);
                        }
                    }
                }
            }
            Kind::UdpDeath => match Network::new() {
                Ok(network) => {
                    let died = recovery::udp_death(work, &network, &mut self.results).await;
                    if let Err(error) = died {
                        self.failed(work, "quic", &error);
                    }
                }
                Err(error) => {
                    let error = error.context("it takes root, ip and iptables");
                    self.leave_out(work.key, &error);
                }
            },
        }
    }

    fn carriers(&self) -> Vec<protocol::presence::Transport> {
        CARRIERS.into_iter().filter(|carrier| self.options.wants(carrier.as_str())).collect()
    }

    fn failed(&mut self, work: &Work, way: &str, error: &anyhow::Error) {
        let is_peer = peers::KINDS.iter().any(|kind| kind.key() == way);
        self.failures += usize::from(!is_peer);
        self.leave_out(&format!("{}, {way}", work.key), error);
    }

    fn leave_out(&mut self, what: &str, error: &anyhow::Error) {
        let why = format!("{error:#}");
        eprintln!("left out: {what}: {why}");
        self.results.leave_out(what, why);
    }

    /// Ends what was started, in good order: a program that counts what it does writes it down at its end.
    async fn end(self) -> anyhow::Result<()> {
        for Postern { connector, world, .. } in self.deployments {
            connector.end().await?;
            world.end().await?;
        }
        for peer in self.peers {
            if let Err(error) = peer.end().await {
                eprintln!("a peer does not end: {error:#}");
            }
        }
        Ok(())
    }

    fn tell(&self) -> anyhow::Result<()> {
        let (goals, summary) = report::goals(&self.results);
        println!("\nGoals\n{}\n{summary}\n{}", goals.text(), report::conditions(&self.results));
        if !self.results.left_out.is_empty() {
            println!("\nLeft out\n{}", report::left_out(&self.results));
        }
        if let Some(directory) = &self.options.out {
            report::write(&self.results, directory)?;
            println!("Written to {}", directory.display());
        }
        ensure!(self.failures == 0, "Postern failed at something, see what was left out");
        Ok(())
    }
}
