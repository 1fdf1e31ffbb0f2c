//! `postern`: every part of Postern as one program. `up` runs all of the cloud side in one process
//! tree; the other subcommands run one part each, for deployments that spread them over machines.

mod signals;
mod up;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Private networks for cloud workflows, without one inbound port.
#[derive(Parser)]
#[command(name = "postern", version, max_term_width = 100)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on one machine: a control plane and an edge in each of two regions
    Up(Logged<up::Options>),
    /// Run a control plane
    ControlPlane(Logged<control_plane::Options>),
    /// Run an edge
    Edge(Logged<EdgeCommand>),
    /// Run a connector; its secret comes from TUNNEL_SECRET
    Connector(connector::program::Program),
}

/// Settings of a part of the cloud side, and of its log. The connector has a log of its own.
#[derive(clap::Args)]
struct Logged<O: clap::Args> {
    #[command(flatten)]
    options: O,
    #[command(flatten)]
    log: Log,
}

#[derive(clap::Args)]
struct Log {
    /// What to log: error, warn, info, debug, trace, or a filter such as info,postern_edge=debug
    #[arg(long, env = "POSTERN_LOG", default_value = "info")]
    log: String,
    /// How to log; logs go to standard error
    #[arg(long, env = "POSTERN_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// JSON lines
    Json,
}

#[derive(Debug, clap::Args)]
struct EdgeCommand {
    #[command(flatten)]
    options: edge::Options,
    /// Stop when standard input says so, or some time after it ends, as `postern up` has it: no edge outlives
    /// its parent for long
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

fn main() -> ExitCode {
    let done = match Program::parse().command {
        Command::Connector(program) => return connector::program::main(program),
        Command::Up(Logged { options, log }) => {
            let runtime = Builder::new_multi_thread();
            run(&log, runtime, |shutdown| up::run(options, log.as_environment(), shutdown))
        }
        Command::ControlPlane(Logged { options, log }) => {
            let runtime = Builder::new_multi_thread();
            run(&log, runtime, |shutdown| control_plane::run(options, shutdown))
        }
        // The edge starts more of these, one for each core: `crates/link/src/workers.rs`.
        Command::Edge(Logged { options, log }) => {
            run(&log, Builder::new_current_thread(), |shutdown| {
                if options.until_stdin_ends {
                    signals::follow_parent(options.options.orphaned.clone(), shutdown.clone());
                }
                edge::run(options.options, shutdown)
            })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a part until it ends or is told to.
fn run<F>(
    log: &Log,
    mut runtime: Builder,
    part: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    log.start()?;
    runtime.enable_all().build().context("cannot start the runtime")?.block_on(async {
        let shutdown = signals::shutdown()?;
        part(shutdown).await
    })
}

impl Log {
    fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log).context("--log is no valid filter")?;
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            // To tell that standard error is closed it would write there, and panic. Whoever read an edge's may be
            // gone together with its parent.
            .log_internal_errors(false);
        match self.log_format {
            LogFormat::Text => log.with_ansi(false).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
        Ok(())
    }

    /// As a child of this process is to be told.
    fn as_environment(&self) -> [(&'static str, String); 2] {
        let format = match self.log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        [("POSTERN_LOG", self.log.clone()), ("POSTERN_LOG_FORMAT", format.to_owned())]
    }
}
