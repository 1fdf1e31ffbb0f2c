//! The connector as a program: what its command line says, its log, its signals. The connector's own
//! binary is nothing else; `postern connector` is the same.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ConfigError, Options},
    doctor, local,
    log::{self, Level},
    metrics,
    run::{StartError, run},
    shell::FAREWELL,
};

/// A setting that cannot be used.
const EXIT_CONFIG: u8 = 2;

/// Keeps a private network reachable for workflows, without an inbound port. The secret comes in
/// TUNNEL_SECRET, in the file that TUNNEL_SECRET_FILE names, or at /run/secrets/TUNNEL_SECRET.
#[derive(clap::Args)]
pub struct Program {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Keep links up and serve requests; what happens without a verb, too.
    Run,
    /// Exit with 0 if the connector on this host is ready, with 1 if not.
    Healthcheck,
    /// Test every way out of here to the edges, and say what to do about what is broken. Exits with 0 if
    /// links can come up, with 1 if not, with 2 if a setting cannot be used. Disturbs no running
    /// connector; takes ten seconds at most.
    Doctor {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Print how much the connector on this host logs, or change it while it runs.
    Loglevel {
        /// error, warn, info, debug or trace.
        level: Option<Level>,
    },
    /// Print the version.
    Version,
}

/// Does what the command line says, to the process's end. Takes over its log, metrics and signals.
pub fn main(program: Program) -> ExitCode {
    let Program { options, verb } = program;
    let result = match verb {
        None | Some(Verb::Run) => start(options),
        Some(Verb::Healthcheck) => Ok(health_check(&options)),
        Some(Verb::Doctor { json }) => diagnose(&options, json),
        Some(Verb::Loglevel { level }) => log_level(&options, level),
        Some(Verb::Version) => {
            println!("postern-connector {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    eprintln!("postern-connector: {error:#}");
    let is_config = error.is::<StartError>() || error.is::<ConfigError>();
    ExitCode::from(if is_config { EXIT_CONFIG } else { 1 })
}

fn start(mut options: Options) -> anyhow::Result<ExitCode> {
    let (level, format) = options.logging()?;
    options.level_switch = Some(log::init(level, format));
    let recorder = metrics::recorder()?;
    options.prometheus = Some(recorder.handle());
    ::metrics::set_global_recorder(recorder)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = options.reload.clone();
        let running = run(options, shutdown.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                result = &mut running => return result.map(|()| ExitCode::SUCCESS),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    reload.send_replace(());
                    continue;
                }
            }
            if shutdown.is_cancelled() {
                tracing::warn!("second signal, leaving at once");
                // Links on other workers may just be saying goodbye.
                tokio::time::sleep(FAREWELL).await;
                return Ok(ExitCode::SUCCESS);
            }
            shutdown.cancel();
        }
    });
    // A name that does not resolve holds nobody up.
    runtime.shutdown_background();
    ended
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn diagnose(options: &Options, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let report = runtime.block_on(doctor::examine(options));
    // A name that does not resolve is waited for no longer.
    runtime.shutdown_background();
    if json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    Ok(report.exit_code())
}

/// Asks the connector's own `/ready`. Container platforms know 0 and 1 alone.
fn health_check(options: &Options) -> ExitCode {
    let problem = match ask(options, "GET", "/ready", "") {
        Ok(answer) if answer.status == 200 => return ExitCode::SUCCESS,
        Ok(answer) => format!("not ready: {}", answer.body.trim()),
        Err(error) => format!("{error:#}"),
    };
    eprintln!("postern-connector: {problem}");
    ExitCode::FAILURE
}

fn log_level(options: &Options, level: Option<Level>) -> anyhow::Result<ExitCode> {
    let answer = match level {
        None => ask(options, "GET", "/loglevel", ""),
        Some(level) => ask(options, "PUT", "/loglevel", &level.to_string()),
    }?;
    anyhow::ensure!(answer.status == 200, "{}", answer.body.trim());
    print!("{}", answer.body);
    Ok(ExitCode::SUCCESS)
}

/// Asks the connector that runs on this host.
fn ask(options: &Options, method: &str, path: &str, body: &str) -> anyhow::Result<local::Answer> {
    let port = options.metrics_port()?;
    local::ask(port, method, path, body)
        .with_context(|| format!("port {port} of this host does not answer; does a connector run?"))
}
