//! `doctor`: tests every way from here to the edges, and says what to do about what is broken. It asks
//! the edges whether they would take a link and registers none, so that it disturbs no connector that
//! runs beside it.

mod edge;
mod host;
mod report;

use std::time::Duration;

use futures_util::future::join_all;
use link::{
    dial::{Dialer, Identity},
    tls::Trust,
};
use protocol::{id::ConnectorId, presence::Transport};
use uuid::Uuid;

use self::{
    edge::{Finding, Rung},
    report::{Check, Conclusion, Report, Verdict},
};
use crate::{
    config::{Config, Options, environment},
    files::Files,
    outlet::Outlet,
    run::{StartError, facts},
    supervisor::Transports,
};

/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_millis(2_500);
/// How long a connection may take, through a proxy or without.
const CONNECT: Duration = Duration::from_millis(3_500);
/// How long the edge may take from then on. All three follow one another, and are to take less than
/// ten seconds together.
const ANSWER: Duration = Duration::from_millis(3_500);
/// Most edges that are tested: as many as a secret names.
const MAX_EDGES: usize = protocol::secret::MAX_EDGES;

/// Examines this host with the settings of a connector.
pub(crate) async fn examine(options: &Options) -> Report {
    let config = Config::load(options, &environment()).map_err(StartError::from);
    let examined = match config {
        Ok(config) => examine_with(&config).await,
        Err(error) => Err(error),
    };
    examined.unwrap_or_else(|error| {
        let check = Check::new("settings", Verdict::Fail, error.to_string());
        Report { checks: vec![check], conclusion: Conclusion::BadSetting }
    })
}

async fn examine_with(config: &Config) -> Result<Report, StartError> {
    let secret = &config.secret;
    let files = Files::start(config)?.in_force();
    let trust = secret.ca_pin.map_or(Trust::PublicRoots, Trust::Pinned);
    let dialer = Dialer::new(&trust)?;
    let outlet = Outlet::new(dialer, config.proxies.clone());
    let identity = Identity {
        tunnel: secret.tunnel,
        key: secret.key,
        seed: secret.seed.clone(),
        connector: ConnectorId::from(Uuid::new_v4()),
        facts: facts(&files),
    };
    let edges = config.first_edges().iter().take(MAX_EDGES);
    let findings = join_all(edges.map(|edge| edge::examine(edge, &outlet, &identity)));
    let (findings, proxy, status_port) = tokio::join!(
        findings,
        host::proxy(&outlet.proxies, config.first_edges()),
        host::status_port(config.metrics_port, secret.tunnel),
    );
    let mut checks = host::settings(config, &files);
    checks.push(proxy);
    for finding in &findings {
        checks.extend(finding.checks(config.transports));
    }
    checks.extend([host::tls(&trust, &findings), host::clock(&findings), status_port]);
    let conclusion = conclude(config.transports, &findings);
    Ok(Report { checks, conclusion })
}

fn conclude(transports: Transports, findings: &[Finding]) -> Conclusion {
    let ways: Vec<Option<&Rung>> = findings.iter().map(|finding| finding.way(transports)).collect();
    let unreachable = ways.iter().filter(|way| way.is_none()).count();
    let best = ways.into_iter().flatten().min_by_key(|rung| match rung.transport {
        Transport::Quic => 0,
        Transport::Http2 => 1,
    });
    match best {
        Some(rung) => Conclusion::Up {
            transport: rung.transport,
            way: rung.to_string(),
            unreachable,
            edges: findings.len(),
        },
        None => Conclusion::NoWay,
    }
}
