//! The way out to an edge: resolve its name now, try its addresses, or go through the proxy; then
//! register.

mod memory;
mod tcp;

use std::{error::Error, fmt::Write as _, io, net::SocketAddr, sync::Arc, time::Duration};

use link::{
    DialError,
    dial::{Dialer, Dialled, Identity, Target},
};
use protocol::{address::HostPort, control::LinkRefusal, presence::Transport};
use tokio::{net::lookup_host, time::timeout};

use self::memory::Memory;
pub(crate) use self::tcp::connect_short;
use crate::{
    proxy::{Proxies, Proxy, ProxyError},
    race::race,
    supervisor::{Failure, FailureKind},
};

/// A silent address lets the next one join in. Longer than for origins: a dial is done only when the
/// edge has registered the link, three round trips later.
const NEXT_ADDRESS: Duration = Duration::from_millis(500);
/// Most addresses of one edge that are tried.
const MAX_ADDRESSES: usize = 8;
/// A resolver that is silent for longer is not waited for, where the edge was reached before.
const RESOLVE_WITHIN: Duration = Duration::from_secs(1);

/// All that it takes to reach edges.
pub(crate) struct Outlet {
    pub(crate) dialer: Dialer,
    pub(crate) proxies: Proxies,
    memory: Arc<Memory>,
}

/// Why there is no link.
pub(crate) enum NoLink {
    Refused(LinkRefusal),
    Failed(Failure),
}

impl Outlet {
    pub(crate) fn new(dialer: Dialer, proxies: Proxies) -> Self {
        Self { dialer, proxies, memory: Arc::default() }
    }

    /// The same with sockets of its own, for another worker.
    pub(crate) fn apart(&self) -> Self {
        let (proxies, memory) = (self.proxies.clone(), self.memory.clone());
        Self { dialer: self.dialer.apart(), proxies, memory }
    }

    /// Has no deadline: the supervisor cancels what takes too long.
    pub(crate) async fn dial(
        &self,
        identity: &Identity,
        target: &HostPort,
        transport: Transport,
        slot: u8,
        lane: u8,
    ) -> Result<Dialled, NoLink> {
        let dialled = match self.proxies.before(target) {
            None => {
                let addresses = self.addresses(target).await.map_err(NoLink::Failed)?;
                let dialled = race(addresses.clone(), NEXT_ADDRESS, |address| async move {
                    settle(match transport {
                        Transport::Quic => {
                            let server_name = target.host.clone();
                            let target = Target { transport, address, server_name, slot, lane };
                            self.dialer.dial(&target, identity).await
                        }
                        Transport::Http2 => {
                            self.dial_tcp(address, &target.host, slot, identity).await
                        }
                    })
                })
                .await;
                if dialled.is_ok() {
                    self.memory.note_addresses(target, addresses);
                }
                dialled
            }
            Some(proxy) => {
                let targets = behind(proxy, target).await.map_err(NoLink::Failed)?;
                race(targets, NEXT_ADDRESS, |to| async move {
                    let stream = proxy.connect(&to).await.map_err(|e| Failure::from(&e))?;
                    settle(self.dialer.dial_on(stream, &target.host, slot, identity).await)
                })
                .await
            }
        };
        match dialled {
            Ok(Ok(dialled)) => Ok(dialled),
            Ok(Err(refusal)) => Err(NoLink::Refused(refusal)),
            Err(Some(failure)) => Err(NoLink::Failed(failure)),
            Err(None) => Err(NoLink::Failed(no_address())),
        }
    }
}

impl Outlet {
    /// Where the edge is now; if its name does not resolve, where it was reached last.
    async fn addresses(&self, target: &HostPort) -> Result<Vec<SocketAddr>, Failure> {
        let Some(last) = self.memory.addresses(target) else {
            return Ok(resolve(target).await?.collect());
        };
        let detail = match timeout(RESOLVE_WITHIN, resolve(target)).await {
            Ok(Ok(addresses)) => return Ok(addresses.collect()),
            Ok(Err(failure)) => failure.detail,
            Err(_) => "no DNS server answers".into(),
        };
        tracing::debug!(%target, detail, "dialling where the edge was reached last");
        Ok(last)
    }
}

/// An edge has spoken: its other addresses would say the same.
fn settle(dialled: Result<Dialled, DialError>) -> Result<Result<Dialled, LinkRefusal>, Failure> {
    match dialled {
        Err(DialError::Refused(refusal)) => Ok(Err(refusal)),
        other => other.map(Ok).map_err(|error| Failure::from(&error)),
    }
}

/// The addresses of a host as they are now, best first.
pub(crate) async fn resolve(
    target: &HostPort,
) -> Result<impl Iterator<Item = SocketAddr> + use<>, Failure> {
    let addresses = lookup_host((target.host.as_str(), target.port)).await;
    let addresses = addresses.map_err(|error| Failure {
        kind: FailureKind::Dns,
        detail: describe(&unresolved(error)),
    })?;
    Ok(addresses.take(MAX_ADDRESSES).collect::<Vec<_>>().into_iter())
}

/// What to ask the proxy for: the name as it is, or, of a proxy that does not resolve names, its
/// addresses.
pub(crate) async fn behind(proxy: &Proxy, target: &HostPort) -> Result<Vec<HostPort>, Failure> {
    if proxy.resolves() {
        return Ok(vec![target.clone()]);
    }
    let address =
        |address: SocketAddr| HostPort { host: address.ip().to_string(), port: address.port() };
    Ok(resolve(target).await?.map(address).collect())
}

fn unresolved(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the name does not resolve: {error}"))
}

fn no_address() -> Failure {
    Failure { kind: FailureKind::Dns, detail: "the name has no address".into() }
}

impl From<&ProxyError> for Failure {
    fn from(error: &ProxyError) -> Self {
        Self { kind: error.kind(), detail: describe(error) }
    }
}

impl From<&DialError> for Failure {
    fn from(error: &DialError) -> Self {
        let kind = match error {
            DialError::Connect(_) => FailureKind::Connect,
            DialError::Tls(_) => FailureKind::Tls,
            DialError::Refused(_) | DialError::Link(_) => FailureKind::Handshake,
        };
        Self { kind, detail: describe(error) }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use link::tls::Trust;
    use protocol::address::CaPin;

    use super::*;

    #[tokio::test]
    async fn an_edge_whose_name_does_not_resolve_is_dialled_where_it_was_last() {
        let dialer = Dialer::new(&Trust::Pinned(CaPin::from_bytes([1; 32]))).unwrap();
        let outlet = Outlet::new(dialer, Proxies::default());
        let target = HostPort { host: "no-such-edge.invalid".into(), port: 7844 };
        assert_eq!(outlet.addresses(&target).await.unwrap_err().kind, FailureKind::Dns);
        let known: Vec<SocketAddr> = vec![([192, 0, 2, 1], 7844).into()];
        outlet.memory.note_addresses(&target, known.clone());
        assert_eq!(outlet.apart().addresses(&target).await.unwrap(), known);
        let target = HostPort { host: "127.0.0.1".into(), ..target };
        outlet.memory.note_addresses(&target, known);
        let now: Vec<SocketAddr> = vec![([127, 0, 0, 1], 7844).into()];
        assert_eq!(outlet.addresses(&target).await.unwrap(), now, "a name that resolves is right");
    }
}
