//! `make conformance`: asks Postern, HAProxy and a direct connection what the standards say of HTTP/1.1,
//! HTTP/2 and WebSocket, and writes it down. `--help` tells how to run a part.

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::Parser;
use postern_tests::{
    bench::postern::CARRIERS,
    conformance::{
        Stage,
        autobahn::Autobahn,
        haproxy, report,
        way::{Kind, Way},
    },
};

#[derive(Debug, Parser)]
struct Options {
    /// Cases of the HTTP/1.1 corpus whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
    /// Ways, by commas: direct, quic, http2, haproxy. All, if none is named.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<String>,
    /// Leave Autobahn out.
    #[arg(long)]
    without_autobahn: bool,
    /// Where to write the page.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    let all = [Kind::Direct].into_iter().chain(CARRIERS.map(Kind::Postern)).chain([Kind::Haproxy]);
    let wants =
        |kind: &Kind| options.ways.is_empty() || options.ways.iter().any(|way| way == kind.key());
    let kinds: Vec<Kind> = all.filter(wants).collect();
    if kinds.contains(&Kind::Haproxy) {
        haproxy::program()?;
    }
    let stage = Stage::set(|name| name.contains(&options.only)).await?;
    let mut tables = stage.tables();
    let mut versions = Vec::new();
    let autobahn = if options.without_autobahn {
        Err("left out".to_owned())
    } else {
        Autobahn::install().await.map_err(|error| format!("{error:#}"))
    };
    let mut reports = Vec::new();
    for kind in kinds {
        eprintln!("{}", kind.name());
        let way: Way = stage.open(kind).await?;
        stage.run(&way, &mut tables).await?;
        if let Some(version) = way.version() {
            versions.push((kind.name(), version.to_owned()));
        }
        if let Ok(autobahn) = &autobahn {
            reports.push((kind, stage.autobahn(autobahn, &way).await?));
        }
        way.close().await?;
    }
    let autobahn = autobahn.map(|_| reports);
    for table in tables.all() {
        println!("\n{}\n\n{}", table.title, table.summary());
        if let Some(differences) = table.differences() {
            println!("{differences}");
        }
    }
    if let Err(why) = &autobahn {
        println!("Autobahn: {why}");
    }
    if let Some(out) = &options.out {
        std::fs::write(out, report::page(&tables, &autobahn, &stage.missing, &versions))?;
        println!("Written to {}", out.display());
    }
    let surprises = tables.surprises();
    ensure!(surprises.is_empty(), "not as listed:\n{}", surprises.join("\n"));
    Ok(())
}
