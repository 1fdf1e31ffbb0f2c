//! What concerns this host as a whole: settings, proxy, trust, clock, and the status port.

use std::{io, time::Duration};

use link::tls::Trust;
use protocol::{SLOTS, address::EdgeAddress, control::LinkRefusalCode, id::TunnelId};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    CONNECT,
    edge::{Clock, Finding, Outcome, Rung},
    report::{Check, Verdict},
};
use crate::{config::Config, files::InForce, local, outlet::describe, proxy::Proxies, status};

pub(super) fn settings(config: &Config, files: &InForce) -> Vec<Check> {
    let secret = &config.secret;
    let detail = format!("well-formed; tunnel {}, key {}", secret.tunnel, secret.key);
    let mut checks = vec![Check::new("secret", Verdict::Ok, detail)];
    if !config.origin_authorities.is_empty() {
        let detail = format!("{} certificates", config.origin_authorities.len());
        checks.push(Check::new("TUNNEL_ORIGIN_CA_FILE", Verdict::Ok, detail));
    }
    if let Some(digest) = files.policy_digest() {
        checks.push(Check::new("TUNNEL_POLICY_FILE", Verdict::Ok, format!("digest {digest}")));
    }
    if files.origins.is_some() {
        checks.push(Check::new("TUNNEL_ORIGINS_FILE", Verdict::Ok, "understood"));
    }
    checks
}

/// Which proxy the environment names, for which edges, and whether it is there.
pub(super) async fn proxy(proxies: &Proxies, edges: &[EdgeAddress]) -> Check {
    let behind = edges.iter().filter_map(|edge| proxies.before(&edge.address));
    let behind: Vec<_> = behind.collect();
    if let Some(proxy) = behind.first() {
        let detail = match timeout(CONNECT, proxy.reach()).await {
            Ok(Ok(_)) => format!(
                "{proxy}, from {}, for {} of {} edges; links through it are on HTTP/2",
                proxy.variable,
                behind.len(),
                edges.len()
            ),
            Ok(Err(error)) => return Check::new("proxy", Verdict::Fail, describe(&error)),
            Err(_) => {
                let detail = format!("the proxy {proxy} does not answer");
                return Check::new("proxy", Verdict::Fail, detail)
                    .fix(format!("check {}, and that the proxy runs", proxy.variable));
            }
        };
        return Check::new("proxy", Verdict::Ok, detail);
    }
    let names_http_only = ["HTTP_PROXY", "http_proxy"].into_iter().find(|name| {
        std::env::var_os(name).is_some_and(|value| !value.is_empty()) && !proxies.is_set()
    });
    match names_http_only {
        Some(name) => Check::new("proxy", Verdict::Warn, format!("none: {name} is not for links"))
            .fix("set HTTPS_PROXY if links are to go through it".to_owned()),
        None if proxies.is_set() => {
            Check::new("proxy", Verdict::Ok, "none: NO_PROXY exempts every edge")
        }
        None => Check::new("proxy", Verdict::Ok, "none"),
    }
}

/// Do the edges show what they should, so that nobody reads along?
pub(super) fn tls(trust: &Trust, findings: &[Finding]) -> Check {
    let authority = match trust {
        Trust::Pinned(_) => "the authority that the secret pins",
        Trust::PublicRoots => "a public authority",
    };
    if wrong_clock(findings).is_some() {
        return Check::new("TLS", Verdict::Skipped, "cannot be judged by a wrong clock");
    }
    let inspected = rungs(findings).find(|rung| match &rung.outcome {
        Outcome::Untrusted { .. } => true,
        Outcome::Refused(refusal) => refusal.code == LinkRefusalCode::BadProof,
        Outcome::Taken { .. } | Outcome::Failed(_) => false,
    });
    if let Some(rung) = inspected {
        let detail = format!("over {rung} somebody else answers than an edge under {authority}");
        return Check::new("TLS", Verdict::Fail, detail).fix(
            "exempt the edges' hosts from TLS inspection in the proxy or firewall; if the \
             deployment was set up anew, create a new secret"
                .to_owned(),
        );
    }
    if rungs(findings).any(|rung| rung.outcome.is_trusted()) {
        let detail = format!("the edges are under {authority}; nothing on the way opens TLS");
        return Check::new("TLS", Verdict::Ok, detail);
    }
    Check::new("TLS", Verdict::Skipped, "no edge was reached")
}

/// Judged by the time in which the edges' certificates are valid, which is all that links need.
pub(super) fn clock(findings: &[Finding]) -> Check {
    let off = |by: Duration, which, edge| {
        let detail =
            format!("this host's time is {} {which} the {edge} of a certificate", span(by));
        Check::new("clock", Verdict::Fail, detail).fix(
            "set this host's clock; if it is right, the edge's certificate is stale".to_owned(),
        )
    };
    match wrong_clock(findings) {
        Some(Clock::Behind(by)) => off(by, "before", "beginning"),
        Some(Clock::Ahead(by)) => off(by, "after", "end"),
        None if rungs(findings).any(|rung| rung.outcome.is_trusted()) => {
            let detail = "the edges' certificates are valid at this host's time";
            Check::new("clock", Verdict::Ok, detail)
        }
        None => Check::new("clock", Verdict::Skipped, "nothing to compare it with"),
    }
}

fn wrong_clock(findings: &[Finding]) -> Option<Clock> {
    rungs(findings).find_map(|rung| match &rung.outcome {
        Outcome::Untrusted { clock, .. } => *clock,
        Outcome::Taken { .. } | Outcome::Refused(_) | Outcome::Failed(_) => None,
    })
}

fn span(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

fn rungs(findings: &[Finding]) -> impl Iterator<Item = &Rung> {
    findings.iter().flat_map(Finding::rungs)
}

impl Outcome {
    fn is_trusted(&self) -> bool {
        matches!(self, Self::Taken { .. } | Self::Refused(_))
    }
}

/// Is the status port free, or does a connector hold it already, and how does that one fare?
pub(super) async fn status_port(port: u16, tunnel: TunnelId) -> Check {
    let name = format!("status port {port}");
    if port == 0 {
        return Check::new("status port", Verdict::Ok, "any free one");
    }
    let asked = tokio::task::spawn_blocking(move || local::ask(port, "GET", "/status", "")).await;
    let asked = asked.unwrap_or_else(|error| Err(io::Error::other(error)));
    let status = match &asked {
        Ok(answer) => serde_json::from_str::<Value>(&answer.body).ok(),
        Err(_) => None,
    };
    if let Some(status) = status.filter(|status| status["slots"].is_array()) {
        return running(name, &status, tunnel);
    }
    match status::bind(port).await {
        Ok(_) => Check::new(name, Verdict::Ok, "free"),
        Err(error) => Check::new(name, Verdict::Warn, format!("cannot be used: {error}"))
            .fix("set TUNNEL_METRICS_PORT; a connector warns and runs without it".to_owned()),
    }
}

fn running(name: String, status: &Value, tunnel: TunnelId) -> Check {
    if status["tunnel"] != tunnel.to_string() {
        let detail = "a connector of another tunnel runs here and holds it";
        return Check::new(name, Verdict::Warn, detail)
            .fix("set TUNNEL_METRICS_PORT for the second connector".to_owned());
    }
    let links = status["links"].as_u64().unwrap_or(0);
    let reasons = status["slots"].as_array().into_iter().flatten();
    let mut reasons: Vec<&str> = reasons.filter_map(|slot| slot["reason"].as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let mut detail = format!("this tunnel's connector runs here, with {links} of {SLOTS} links");
    if !reasons.is_empty() {
        detail = format!("{detail}: {}", reasons.join("; "));
    }
    let verdict = if links == u64::from(SLOTS) { Verdict::Ok } else { Verdict::Warn };
    Check::new(name, verdict, detail)
}
