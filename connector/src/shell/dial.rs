//! One dial: resolve the edge's name now, try its addresses, register.

use std::{error::Error, fmt::Write as _, time::Duration};

use link::{
    DialError,
    dial::{Dialer, Dialled, Identity, Target},
};
use protocol::{address::HostPort, control::LinkRefusal, presence::Transport};
use tokio::net::lookup_host;

use crate::{
    race::race,
    supervisor::{Failure, FailureKind},
};

/// A silent address lets the next one join in. Longer than for origins: a dial is done only when the
/// edge has registered the link, three round trips later.
const NEXT_ADDRESS: Duration = Duration::from_millis(500);
/// Most addresses of one edge that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why there is no link.
pub(super) enum NoLink {
    Refused(LinkRefusal),
    Failed(Failure),
}

/// Has no deadline: the supervisor cancels what takes too long.
pub(super) async fn dial(
    dialer: &Dialer,
    identity: &Identity,
    target: &HostPort,
    transport: Transport,
    slot: u8,
) -> Result<Dialled, NoLink> {
    let failed = |kind, detail| NoLink::Failed(Failure { kind, detail });
    let addresses = lookup_host((target.host.as_str(), target.port)).await;
    let addresses = addresses.map_err(|error| failed(FailureKind::Dns, describe(&error)))?;
    let dialled = race(addresses.take(MAX_ADDRESSES), NEXT_ADDRESS, |address| async move {
        let server_name = target.host.clone();
        let target = Target { transport, address, server_name, slot };
        match dialer.dial(&target, identity).await {
            // An edge has spoken: its other addresses would say the same.
            Err(DialError::Refused(refusal)) => Ok(Err(refusal)),
            other => other.map(Ok),
        }
    });
    match dialled.await {
        Ok(Ok(dialled)) => Ok(dialled),
        Ok(Err(refusal)) => Err(NoLink::Refused(refusal)),
        Err(Some(error)) => {
            let kind = match &error {
                DialError::Connect(_) => FailureKind::Connect,
                DialError::Tls(_) => FailureKind::Tls,
                DialError::Refused(_) | DialError::Link(_) => FailureKind::Handshake,
            };
            Err(failed(kind, describe(&error)))
        }
        Err(None) => Err(failed(FailureKind::Dns, "the name has no address".into())),
    }
}

/// An error with all its causes, in one line.
pub(super) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
