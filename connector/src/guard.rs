//! The connector's last word on where requests go: its own policy, if it has one, and the addresses by
//! which a machine talks to itself, which nobody reaches unless the policy names them.
//!
//! Judged twice: a request by what it says, before anything is resolved, and each address that is about
//! to be dialled. A pooled connection counts as dialled to its address by every request that takes it.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Request};
use protocol::{
    head,
    policy::{self, Decision, Policy, Reason, What},
    refusal::{Code, Refusal},
};

use crate::{files::Current, metrics, origin::Destination};

/// Judges requests. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Guard {
    policy: Option<Current<Policy>>,
}

/// A request that may pass, as far as its own words go; each address is judged by it.
pub(crate) struct Pass(Option<Box<Asked>>);

/// What was asked for, and the policy that was in force then.
struct Asked {
    policy: Arc<Policy>,
    destination: Destination,
    /// None for CONNECT.
    request: Option<(Method, String)>,
    becomes_tunnel: bool,
}

impl Guard {
    pub(crate) fn new(policy: Option<Current<Policy>>) -> Self {
        Self { policy }
    }

    /// Judges a request by what it says.
    ///
    /// # Errors
    /// When no address could mend it.
    pub(crate) fn judge<B>(
        &self,
        destination: &Destination,
        request: &Request<B>,
        upgrade: Option<&head::Protocol>,
    ) -> Result<Pass, Refusal> {
        let Some(policy) = &self.policy else { return Ok(Pass(None)) };
        let is_connect = request.method() == Method::CONNECT;
        let asked = Asked {
            policy: policy.borrow().value.clone(),
            destination: destination.clone(),
            request: (!is_connect)
                .then(|| (request.method().clone(), request.uri().path().to_owned())),
            becomes_tunnel: is_connect || upgrade.is_some_and(|upgrade| is_opaque(&upgrade.0)),
        };
        match asked.evaluate(None) {
            Decision::Allowed => Ok(Pass(Some(Box::new(asked)))),
            Decision::Refused(reason) => Err(refuse(destination, None, &reason)),
        }
    }
}

/// WebSocket frames stay on the path that was asked for; an upgrade to another HTTP would carry requests
/// of its own.
fn is_opaque(protocol: &HeaderValue) -> bool {
    !protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

impl Pass {
    /// May this address be dialled for the request?
    ///
    /// # Errors
    /// When not, with the reason.
    pub(crate) fn judge(&self, destination: &Destination, address: IpAddr) -> Result<(), Refusal> {
        let decision = match &self.0 {
            Some(asked) => asked.evaluate(Some(address)),
            None => policy::special(address)
                .map_or(Decision::Allowed, |special| Decision::Refused(Reason::Special(special))),
        };
        match decision {
            Decision::Allowed => Ok(()),
            Decision::Refused(reason) => Err(refuse(destination, Some(address), &reason)),
        }
    }

    /// May the request take a connection to this address, which was judged when it was dialled?
    pub(crate) fn allows_again(&self, address: IpAddr) -> bool {
        let asked = self.0.as_ref();
        asked.is_none_or(|asked| asked.evaluate(Some(address)) == Decision::Allowed)
    }
}

impl Asked {
    fn evaluate(&self, address: Option<IpAddr>) -> Decision {
        let evaluate = |what| {
            let Destination { host, port, .. } = &self.destination;
            self.policy.evaluate(&policy::Request { host, port: *port, what }, address)
        };
        let request = self.request.as_ref();
        let request = request.map(|(method, path)| evaluate(What::Http { method, path }));
        match request {
            Some(Decision::Refused(reason)) => Decision::Refused(reason),
            Some(Decision::Allowed) if !self.becomes_tunnel => Decision::Allowed,
            Some(Decision::Allowed) | None => evaluate(What::Tunnel),
        }
    }
}

fn refuse(destination: &Destination, address: Option<IpAddr>, reason: &Reason) -> Refusal {
    metrics::policy_refused(reason);
    let code = match reason {
        Reason::Special(_) => Code::DestinationRefused,
        _ => Code::PolicyRefused,
    };
    let authority = destination.authority();
    let is_name = destination.host.parse::<IpAddr>().is_err();
    // An address that the client did not name is the private network's own business.
    let detail = match address {
        Some(_) if is_name => format!("{authority}, at an address of it: {reason}"),
        Some(_) | None => format!("{authority}: {reason}"),
    };
    Refusal::new(code, detail)
}
