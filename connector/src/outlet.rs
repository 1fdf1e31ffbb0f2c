//! The way out to an edge: resolve its name now, try its addresses, or go through the proxy; then
//! register.

use std::{error::Error, fmt::Write as _, io, net::SocketAddr, time::Duration};

use link::{
    DialError,
    dial::{Dialer, Dialled, Identity, Target},
};
use protocol::{address::HostPort, control::LinkRefusal, presence::Transport};
use tokio::net::lookup_host;

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

/// All that it takes to reach edges.
pub(crate) struct Outlet {
    pub(crate) dialer: Dialer,
    pub(crate) proxies: Proxies,
}

/// Why there is no link.
pub(crate) enum NoLink {
    Refused(LinkRefusal),
    Failed(Failure),
}

impl Outlet {
    /// The same with sockets of its own, for another worker.
    pub(crate) fn apart(&self) -> Self {
        Self { dialer: self.dialer.apart(), proxies: self.proxies.clone() }
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
                let addresses = resolve(target).await.map_err(NoLink::Failed)?;
                race(addresses, NEXT_ADDRESS, |address| async move {
                    let server_name = target.host.clone();
                    let target = Target { transport, address, server_name, slot, lane };
                    settle(self.dialer.dial(&target, identity).await)
                })
                .await
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
