//! The connector as a program: what its command line says, its log, its signals. The connector's own
//! binary is nothing else; `postern connector` is the same.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::{
    config::{ConfigError, LogFormat, Options},
    metrics,
    run::{StartError, run},
};

/// How long a health check may take: half of what container platforms give it.
const HEALTH_CHECK: Duration = Duration::from_secs(3);
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
    /// Print the version.
    Version,
}

/// Does what the command line says, to the process's end. Takes over its log, metrics and signals.
pub fn main(program: Program) -> ExitCode {
    let Program { options, verb } = program;
    let result = match verb {
        None | Some(Verb::Run) => start(options),
        Some(Verb::Healthcheck) => return health_check(&options),
        Some(Verb::Version) => {
            println!("postern-connector {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("postern-connector: {error:#}");
    let is_config = error.is::<StartError>() || error.is::<ConfigError>();
    ExitCode::from(if is_config { EXIT_CONFIG } else { 1 })
}

fn start(mut options: Options) -> anyhow::Result<()> {
    let (level, format) = options.logging()?;
    log_to_stdout(level, format);
    let recorder = metrics::recorder()?;
    options.prometheus = Some(recorder.handle());
    ::metrics::set_global_recorder(recorder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = options.reload.clone();
        let running = run(options, shutdown.clone());
        tokio::pin!(running);
        loop {
            tokio::select! {
                result = &mut running => return result,
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    reload.send_replace(());
                    continue;
                }
            }
            if shutdown.is_cancelled() {
                tracing::warn!("second signal, leaving at once");
                return Ok(());
            }
            shutdown.cancel();
        }
    })
}

fn log_to_stdout(level: LevelFilter, format: LogFormat) {
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    match format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Text => subscriber.init(),
    }
}

/// Asks the connector's own `/ready`.
fn health_check(options: &Options) -> ExitCode {
    let ready = options
        .metrics_port()
        .map_err(|error| error.to_string())
        .and_then(|port| ask_ready(port).map_err(|error| format!("port {port}: {error}")));
    match ready {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("postern-connector: not ready");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("postern-connector: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask_ready(port: u16) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_CHECK)?;
    stream.set_read_timeout(Some(HEALTH_CHECK))?;
    stream.set_write_timeout(Some(HEALTH_CHECK))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status == *b"HTTP/1.1 200")
}
