//! From settings to a running connector.

use std::{io, sync::Arc, time::SystemTime};

use link::{
    TlsError,
    dial::{Dialer, Identity},
    tls::Trust,
    workers::Workers,
};
use protocol::{control::Facts, id::ConnectorId};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    config::{Config, ConfigError, Options, environment},
    files::{Files, InForce},
    log::{FromCloud, Level, LevelSwitch},
    metrics::{self, Meter},
    origin::Origin,
    outlet::Outlet,
    shell::{Caller, Shell},
    status::{self, Status},
    supervisor::{Plan, Supervisor},
};

/// A connector cannot start. Nothing but its settings can cause that.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS towards the edges cannot be set up.
    #[error("cannot set up TLS for links: {0}")]
    LinkTls(#[from] TlsError),
    /// TLS towards origins cannot be set up.
    #[error("TUNNEL_ORIGIN_CA_FILE holds a certificate that cannot be used: {0}")]
    OriginTls(#[from] rustls::Error),
    /// The one worker that takes no thread cannot be had either.
    #[error("cannot start: {0}")]
    Workers(#[from] io::Error),
}

/// Runs a connector until `shutdown`, and a grace period longer for requests under way. No network
/// condition and no refusal ends it.
///
/// # Errors
/// [`StartError`], before anything is dialled.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = Config::load(&options, &environment()).map_err(StartError::from)?;
    serve(config, options, shutdown).await?;
    Ok(())
}

async fn serve(
    config: Config,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let follow_directory = config.edges.is_empty();
    let edges = config.first_edges().to_vec();
    let meter = Arc::new(Meter::new());
    let files = Files::start(&config)?;
    let in_force = files.in_force();
    let origin =
        Origin::new(&config.origin_authorities, in_force.clone(), meter.clone(), config.limits)?;
    let level_switch = options.level_switch;
    let log_level = level_switch.clone().map(FromCloud::new).filter(|_| config.loglevel_from_cloud);
    let level_changes = level_switch.as_ref().map(LevelSwitch::changes);
    let facts = watch::Sender::new(Facts {
        log_level: level_changes.as_ref().map(|level| level.borrow().to_string()),
        log_level_from_cloud: log_level.is_some(),
        ..facts(&in_force)
    });
    let level_told = level_changes
        .map(|changes| AbortOnDropHandle::new(tokio::spawn(tell_level(changes, facts.clone()))));
    let Config { secret, region, transports, proxies, grace_period, workers, .. } = config;
    let trust = secret.ca_pin.map_or(Trust::PublicRoots, Trust::Pinned);
    let dialer = Dialer::new(&trust)?;
    let connector = ConnectorId::from(Uuid::new_v4());
    info!(
        %connector,
        tunnel = %secret.tunnel,
        key = %secret.key,
        version = env!("CARGO_PKG_VERSION"),
        "connector starts"
    );
    let identity = Identity {
        tunnel: secret.tunnel,
        key: secret.key,
        seed: secret.seed,
        connector,
        facts: Facts::default(),
    };
    let plan = Plan { edges, follow_directory, region, transports, proxies: proxies.clone() };
    let workers = Workers::start(workers).or_else(|error| {
        warn!(%error, "no threads to be had, going on with one");
        Workers::start(1)
    })?;
    let tidying = options.prometheus.clone();
    let tidying = tidying.map(|prometheus| metrics::tidy(prometheus, meter.clone()));
    let shell = Shell::new(
        Supervisor::new(plan),
        &workers,
        &Outlet::new(dialer, proxies),
        &origin,
        Caller { identity, facts: facts.subscribe(), log_level },
        meter,
    );
    let tidying = tidying.map(|tidying| AbortOnDropHandle::new(tokio::spawn(tidying)));
    let status = Status {
        tunnel: secret.tunnel,
        view: shell.view(),
        started: shell.started(),
        files: in_force,
        prometheus: options.prometheus,
        level_switch,
    };
    let status_server = AbortOnDropHandle::new(tokio::spawn(async move {
        match status::bind(config.metrics_port).await {
            Ok(listener) => status::serve(listener, status).await,
            Err(error) => {
                let port = config.metrics_port;
                warn!(port, %error, "status port cannot be used, going on without it");
            }
        }
    }));
    let reload = options.reload.subscribe();
    let files = AbortOnDropHandle::new(tokio::spawn(files.run(reload, facts)));
    tokio::select! {
        () = shell.run(shutdown, grace_period) => {}
        // It has panicked, and what it served hangs: the process must not live on like this.
        () = workers.lost() => {}
    }
    drop((status_server, tidying, files, level_told));
    workers.stop();
    info!("connector has left");
    Ok(())
}

/// Keeps the facts up to date on how much is logged, for ever.
async fn tell_level(mut changes: watch::Receiver<Level>, facts: watch::Sender<Facts>) {
    while changes.changed().await.is_ok() {
        let level = changes.borrow_and_update().to_string();
        facts.send_modify(|facts| facts.log_level = Some(level));
    }
}

pub(crate) fn facts(files: &InForce) -> Facts {
    // Linux tells the host's name here; elsewhere the environment may.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default();
    Facts {
        version: env!("CARGO_PKG_VERSION").into(),
        host: host.trim().into(),
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        policy: files.policy_digest(),
        started_ms: SystemTime::UNIX_EPOCH.elapsed().ok().map(|since| since.as_millis() as u64),
        ..Facts::default()
    }
    .clean()
}
