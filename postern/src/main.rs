//! `postern`: every part of Postern as one program. `up` runs all of the cloud side in one process
//! tree; the other subcommands run one part each, for deployments that spread them over machines.

mod signals;
mod up;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Private networks for cloud workflows, without one inbound port.
#[derive(Parser)]
#[command(name = "postern", version, about, max_term_width = 100)]
struct Program {
    #[command(flatten)]
    log: Log,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Log {
    /// What to log: error, warn, info, debug, trace, or a filter such as info,postern_edge=debug
    #[arg(long, env = "POSTERN_LOG", default_value = "info", global = true)]
    log: String,
    /// How to log; logs go to standard error
    #[arg(long, env = "POSTERN_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// JSON lines
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on one machine: a control plane and an edge in each of two regions
    Up(up::Options),
    /// Run a control plane
    ControlPlane(control_plane::Options),
    /// Run an edge
    Edge(EdgeCommand),
    /// Run a connector; its secret comes from TUNNEL_SECRET
    Connector(connector::Options),
}

#[derive(Debug, clap::Args)]
struct EdgeCommand {
    #[command(flatten)]
    options: edge::Options,
    /// Stop when standard input ends, as `postern up` has it: no edge outlives its parent
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

fn main() -> ExitCode {
    let program = Program::parse();
    match run(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: Program) -> anyhow::Result<()> {
    start_log(&program.log)?;
    let mut runtime = match &program.command {
        // A connector is one data path; on one thread it costs least.
        Command::Connector(_) => tokio::runtime::Builder::new_current_thread(),
        Command::Up(_) | Command::ControlPlane(_) | Command::Edge(_) => {
            tokio::runtime::Builder::new_multi_thread()
        }
    };
    let runtime = runtime.enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let shutdown = signals::shutdown()?;
        match program.command {
            Command::Up(options) => up::run(options, shutdown).await,
            Command::ControlPlane(options) => control_plane::run(options, shutdown).await,
            Command::Edge(command) => {
                if command.until_stdin_ends {
                    signals::stop_when_stdin_ends(shutdown.clone());
                }
                edge::run(command.options, shutdown).await
            }
            Command::Connector(options) => connector::run(options, shutdown).await,
        }
    })
}

fn start_log(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.log).context("--log is no valid filter")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
