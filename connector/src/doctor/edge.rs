//! One edge: is its name known, and does it answer on each of its ports?

use std::{fmt, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use link::{
    DialError,
    dial::{Identity, Target},
};
use protocol::{
    address::{EdgeAddress, HostPort},
    control::LinkRefusal,
    presence::Transport,
};
use rustls::CertificateError;
use tokio::{net::TcpStream, time::timeout};

use super::{
    ANSWER, CONNECT, RESOLVE,
    report::{Check, Verdict},
};
use crate::{
    outlet::{Outlet, behind, connect_short, describe, resolve},
    proxy::Proxy,
    race::race,
    supervisor::{Failure, FailureKind, Transports},
};

/// What tunnels leave of Ethernet's 1,500 bytes: PPPoE, VXLAN, WireGuard, IPsec, and the least of IPv6.
const MTUS: [u32; 8] = [1_492, 1_472, 1_450, 1_420, 1_400, 1_360, 1_320, 1_280];
/// A silent address lets the next one join in.
const NEXT_ADDRESS: Duration = Duration::from_millis(300);

/// What was found of one edge.
pub(super) struct Finding {
    edge: EdgeAddress,
    /// The edge's addresses, unless the proxy looks them up.
    name: Option<Result<Vec<SocketAddr>, String>>,
    /// Better ones first.
    rungs: Vec<Rung>,
}

/// One way to reach it.
pub(super) struct Rung {
    pub(super) transport: Transport,
    target: HostPort,
    proxy: Option<Proxy>,
    pub(super) outcome: Outcome,
}

/// What came of it.
pub(super) enum Outcome {
    /// The edge would take a link; how long it took to say so, and the length of the longest packets that
    /// get through, in bytes, where that is less than the hosts at both ends take it for.
    Taken {
        took: Duration,
        mtu: Option<u32>,
    },
    /// The edge answered, and would not.
    Refused(LinkRefusal),
    /// Somebody answered who does not show the edge's certificate.
    Untrusted {
        detail: String,
        clock: Option<Clock>,
    },
    Failed(Failure),
}

/// The certificate is fine, and this host's clock is not in its time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// By so much.
    Behind(Duration),
    Ahead(Duration),
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Quic => write!(f, "QUIC on UDP {}", self.target.port)?,
            Transport::Http2 => write!(f, "HTTP/2 on TCP {}", self.target.port)?,
        }
        match &self.proxy {
            Some(proxy) => write!(f, " through the proxy {proxy}"),
            None => Ok(()),
        }
    }
}

/// Tries all ways to one edge at the same time.
pub(super) async fn examine(edge: &EdgeAddress, outlet: &Outlet, identity: &Identity) -> Finding {
    let at = |transport, port| (transport, HostPort { host: edge.address.host.clone(), port });
    let port = edge.address.port;
    let tcp = [Some(port), edge.fallback_port].into_iter().flatten();
    let tcp = tcp.map(|port| at(Transport::Http2, port));
    let Some(proxy) = outlet.proxies.before(&edge.address) else {
        let (name, rungs) = directly(edge, outlet, identity, tcp).await;
        return Finding { edge: edge.clone(), name: Some(name), rungs };
    };
    let rungs = tcp.map(|(transport, target)| async move {
        let outcome = through(proxy, &target, outlet, identity).await;
        Rung { transport, target, proxy: Some(proxy.clone()), outcome }
    });
    Finding { edge: edge.clone(), name: None, rungs: join_all(rungs).await }
}

async fn directly(
    edge: &EdgeAddress,
    outlet: &Outlet,
    identity: &Identity,
    tcp: impl Iterator<Item = (Transport, HostPort)>,
) -> (Result<Vec<SocketAddr>, String>, Vec<Rung>) {
    let addresses = match timeout(RESOLVE, resolve(&edge.address)).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(failure)) => return (Err(failure.detail), Vec::new()),
        Err(_) => return (Err("no DNS server answers".into()), Vec::new()),
    };
    if addresses.is_empty() {
        return (Err("the name has no address".into()), Vec::new());
    }
    let rungs = [(Transport::Quic, edge.address.clone())].into_iter().chain(tcp);
    let rungs = rungs.map(|(transport, target)| {
        let addresses = addresses.iter().map(|address| (address.ip(), target.port).into());
        let addresses: Vec<SocketAddr> = addresses.collect();
        async move {
            let outcome = ask(addresses, &target, transport, outlet, identity).await;
            Rung { transport, target, proxy: None, outcome }
        }
    });
    let rungs = join_all(rungs).await;
    (Ok(addresses), rungs)
}

async fn ask(
    addresses: Vec<SocketAddr>,
    target: &HostPort,
    transport: Transport,
    outlet: &Outlet,
    identity: &Identity,
) -> Outcome {
    let server_name = &target.host;
    let start = tokio::time::Instant::now();
    let probed = match transport {
        Transport::Quic => {
            let probes = race(addresses, NEXT_ADDRESS, |address| async move {
                let server_name = server_name.clone();
                let target = Target { transport, address, server_name, slot: 0, lane: 0 };
                outlet.dialer.probe(&target, identity).await
            });
            match timeout(CONNECT, probes).await {
                Ok(probed) => probed,
                Err(_) => return silent("no answer over UDP"),
            }
        }
        Transport::Http2 => {
            let connecting = race(addresses, NEXT_ADDRESS, TcpStream::connect);
            match timeout(CONNECT, connecting).await {
                Ok(Ok(stream)) => {
                    let Ok(remote) = stream.peer_addr() else {
                        return silent("the connection broke at once");
                    };
                    let probe = outlet.dialer.probe_on(stream, server_name, 0, identity);
                    match timeout(ANSWER, probe).await {
                        Ok(probed) => probed.map_err(Some),
                        Err(_) => return narrow(remote, server_name, outlet, identity).await,
                    }
                }
                Ok(Err(error)) => Err(error.map(DialError::Connect)),
                Err(_) => return silent("no answer over TCP"),
            }
        }
    };
    match probed {
        Ok(_) => Outcome::Taken { took: start.elapsed(), mtu: None },
        Err(Some(error)) => error.into(),
        Err(None) => silent("no address to ask"),
    }
}

/// The edge is connected and silent: do only long packets get lost? Asks it with several lengths at once.
async fn narrow(
    address: SocketAddr,
    server_name: &str,
    outlet: &Outlet,
    identity: &Identity,
) -> Outcome {
    let headers = if address.is_ipv4() { 40 } else { 60 };
    let asked = MTUS.map(|mtu| async move {
        let start = tokio::time::Instant::now();
        let probe = async {
            let stream = connect_short(address, mtu - headers).await;
            let stream = stream.map_err(DialError::Connect)?;
            outlet.dialer.probe_on(stream, server_name, 0, identity).await
        };
        let probed = timeout(ANSWER, probe).await.ok()?;
        probed.ok().map(|_| Outcome::Taken { took: start.elapsed(), mtu: Some(mtu) })
    });
    let answers = join_all(asked).await;
    let longest = answers.into_iter().flatten().next();
    longest.unwrap_or_else(|| silent("connected, and nobody speaks"))
}

async fn through(
    proxy: &Proxy,
    target: &HostPort,
    outlet: &Outlet,
    identity: &Identity,
) -> Outcome {
    let start = tokio::time::Instant::now();
    let targets = match timeout(RESOLVE, behind(proxy, target)).await {
        Ok(Ok(targets)) => targets,
        Ok(Err(failure)) => return Outcome::Failed(failure),
        Err(_) => {
            let detail = "no DNS server answers".into();
            return Outcome::Failed(Failure { kind: FailureKind::Dns, detail });
        }
    };
    let connecting = race(targets, NEXT_ADDRESS, |target| async move {
        proxy.connect(&target).await.map_err(|error| Failure::from(&error))
    });
    let stream = match timeout(CONNECT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(Some(failure))) => return Outcome::Failed(failure),
        Ok(Err(None)) => return silent("the name has no address"),
        Err(_) => return silent("the proxy does not answer, or does not get through to the edge"),
    };
    let probe = outlet.dialer.probe_on(stream, &target.host, 0, identity);
    match timeout(ANSWER, probe).await {
        Ok(Ok(_)) => Outcome::Taken { took: start.elapsed(), mtu: None },
        Ok(Err(error)) => error.into(),
        Err(_) => silent("the proxy lets the connection through, and nobody speaks"),
    }
}

fn silent(detail: &str) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Unanswered, detail: detail.into() })
}

impl From<DialError> for Outcome {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(refusal) => Self::Refused(refusal),
            DialError::Tls(error) => {
                let clock = match error.downcast_ref::<rustls::Error>() {
                    Some(rustls::Error::InvalidCertificate(error)) => Clock::judge(error),
                    _ => None,
                };
                Self::Untrusted { detail: describe(&*error), clock }
            }
            error @ (DialError::Connect(_) | DialError::Link(_)) => {
                Self::Failed(Failure::from(&error))
            }
        }
    }
}

impl Clock {
    fn judge(error: &CertificateError) -> Option<Self> {
        let between = |early: rustls::pki_types::UnixTime, late: rustls::pki_types::UnixTime| {
            Duration::from_secs(late.as_secs().saturating_sub(early.as_secs()))
        };
        match error {
            CertificateError::NotValidYetContext { time, not_before } => {
                Some(Self::Behind(between(*time, *not_before)))
            }
            CertificateError::ExpiredContext { time, not_after } => {
                Some(Self::Ahead(between(*not_after, *time)))
            }
            _ => None,
        }
    }
}

impl Finding {
    /// The way that a connector's links to this edge would take.
    pub(super) fn way(&self, transports: Transports) -> Option<&Rung> {
        let is_open = |rung: &&Rung| matches!(rung.outcome, Outcome::Taken { .. });
        self.rungs.iter().filter(is_open).find(|rung| rung.is_allowed(transports))
    }

    pub(super) fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    pub(super) fn checks(&self, transports: Transports) -> Vec<Check> {
        let host = &self.edge.address.host;
        let title = |what: &str| format!("edge {host} ({}): {what}", self.edge.region);
        let mut checks = Vec::new();
        match &self.name {
            None => {}
            Some(Ok(addresses)) => {
                let addresses: Vec<_> = addresses.iter().map(|a| a.ip().to_string()).collect();
                checks.push(Check::new(title("name"), Verdict::Ok, addresses.join(", ")));
            }
            Some(Err(detail)) => {
                let fix = format!("let this host resolve {host}: see /etc/resolv.conf");
                checks.push(Check::new(title("name"), Verdict::Fail, detail).fix(fix));
            }
        }
        let has_way = self.way(transports).is_some();
        for rung in &self.rungs {
            let name = match rung.transport {
                Transport::Quic => format!("QUIC, UDP {}", rung.target.port),
                Transport::Http2 => format!("HTTP/2, TCP {}", rung.target.port),
            };
            checks.push(rung.check(title(&name), has_way, transports));
        }
        if !self.rungs.is_empty() && self.edge.fallback_port.is_none() {
            let detail = "the edge has no second port";
            checks.push(Check::new(title("HTTP/2, TCP 443"), Verdict::Skipped, detail));
        }
        checks
    }
}

impl Rung {
    fn is_allowed(&self, transports: Transports) -> bool {
        match (transports, self.transport) {
            (Transports::Auto, _)
            | (Transports::Quic, Transport::Quic)
            | (Transports::Http2, Transport::Http2) => true,
            (Transports::Quic, Transport::Http2) | (Transports::Http2, Transport::Quic) => false,
        }
    }

    /// A closed way is no failure where there is another.
    fn check(&self, name: String, has_way: bool, transports: Transports) -> Check {
        let bad = if has_way { Verdict::Warn } else { Verdict::Fail };
        let unused = if self.is_allowed(transports) {
            ""
        } else {
            " (not used: TUNNEL_TRANSPORT_PROTOCOL says so)"
        };
        match &self.outcome {
            Outcome::Taken { took, mtu: Some(mtu) } => {
                let detail = format!(
                    "{self}: the edge takes links, {} ms{unused}, but the network drops packets of more \
                     than {mtu} bytes and does not say so (MTU {mtu}, ICMP blocked)",
                    took.as_millis()
                );
                let fix = "let ICMP \"fragmentation needed\" (IPv6: \"packet too big\") through, or set \
                           the MTU of this host's network; until then links use short packets";
                Check::new(name, Verdict::Warn, detail).fix(fix.to_owned())
            }
            Outcome::Taken { took, mtu: None } => {
                let detail =
                    format!("{self}: the edge takes links, {} ms{unused}", took.as_millis());
                Check::new(name, Verdict::Ok, detail)
            }
            Outcome::Refused(refusal) => {
                Check::new(name, bad, format!("the edge refuses links: {}", refusal.code))
            }
            Outcome::Untrusted { detail, .. } => {
                Check::new(name, bad, format!("TLS failed: {detail}"))
            }
            Outcome::Failed(Failure { kind, detail }) => {
                Check::new(name, bad, format!("{detail}{unused}")).fix(self.fix(*kind))
            }
        }
    }

    fn fix(&self, kind: FailureKind) -> Option<String> {
        let HostPort { host, port } = &self.target;
        match (kind, &self.proxy) {
            (FailureKind::Proxy | FailureKind::ProxyRefused, _) => None,
            (FailureKind::Dns, None) => Some(format!("let this host resolve {host}")),
            (FailureKind::Dns, Some(_)) => {
                Some(format!("let this host resolve {host}, or the proxy: socks5h://"))
            }
            (_, Some(proxy)) => Some(format!("let the proxy {proxy} connect to {host}:{port}")),
            (_, None) => {
                let protocol = match self.transport {
                    Transport::Quic => "UDP",
                    Transport::Http2 => "TCP",
                };
                Some(format!("let {protocol} {port} out to {host}, and answers back in"))
            }
        }
    }
}
