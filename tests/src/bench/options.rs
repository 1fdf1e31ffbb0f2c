//! What of the benchmark to run, and how long.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;

use super::{
    peers, postern,
    work::{WORKS, Work},
};

/// Compares a direct connection, Postern on both carriers, and other software that is installed.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "bench")]
pub struct Options {
    /// Rounds of which medians are taken.
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 7)]
    pub rounds: usize,
    /// How long each measurement of a round takes, in seconds.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 0.6)]
    pub seconds: f64,
    /// Works to do, by name or family (`small,100k`); all of them, unless some are named.
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Ways to compare (`direct,quic,rathole`); all that can be had, unless some are named.
    #[arg(long, env = "BENCH_WAYS", value_delimiter = ',')]
    pub ways: Vec<String>,
    /// Directory for results.json, results.md and the plots; none are written unless it is named.
    #[arg(long, env = "BENCH_OUT")]
    pub out: Option<PathBuf>,
    /// Say in the results that the programs are built by a profile (`make profile`).
    #[arg(long)]
    pub by_profile: bool,
    /// Print the names of all works and ways, and end.
    #[arg(long)]
    pub list: bool,
}

impl Options {
    /// Are they ones that can be run?
    ///
    /// # Errors
    /// Says which one cannot.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.rounds > 0, "BENCH_ROUNDS must be 1 or more");
        ensure!(self.seconds > 0.0 && self.seconds < 3600.0, "BENCH_SECONDS must be positive");
        for name in &self.only {
            let is_known = WORKS.iter().any(|work| work.is_named(name));
            ensure!(is_known, "BENCH_ONLY: there is no work {name}; --list names them");
        }
        for name in &self.ways {
            let is_known = ways().any(|way| way == name);
            ensure!(is_known, "BENCH_WAYS: there is no way {name}; --list names them");
        }
        Ok(())
    }

    /// The works to do.
    pub fn works(&self) -> Vec<Work> {
        let is_wanted =
            |work: &&Work| self.only.is_empty() || self.only.iter().any(|name| work.is_named(name));
        WORKS.iter().filter(is_wanted).copied().collect()
    }

    /// Is this way to be compared?
    pub fn wants(&self, way: &str) -> bool {
        self.ways.is_empty() || self.ways.iter().any(|wanted| wanted == way)
    }

    /// How long each measurement takes.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// The names of all ways.
pub fn ways() -> impl Iterator<Item = &'static str> {
    let postern = postern::CARRIERS.into_iter().map(|carrier| carrier.as_str());
    let peers = peers::KINDS.into_iter().map(peers::Kind::key);
    ["direct"].into_iter().chain(postern).chain(peers)
}
