//! Which destinations, methods and paths may be reached. The one place that decides.
//!
//! A [`Policy`] is a list of rules that allow and a list of rules that deny. A request passes if a rule
//! allows it and none denies it; what no rule speaks of does not pass. Two policies over the same tunnel
//! are judged one after the other, so that each can only narrow what the other allows.
//!
//! ```text
//!              host, port, method, path              address
//!  request ──► evaluate(request, None) ──► resolve ──► evaluate(request, Some(address)) ──► dial it
//!              refuses what no address can mend        for every address
//! ```
//!
//! Names are judged as they stand in the request, networks by the address that is about to be dialled: a
//! name that resolves to something else the next time gains nothing. Where a text could mean one thing
//! here and another to the origin, a denying rule takes it for a match and an allowing one does not.

mod address;
mod host;
mod path;
mod rule;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr};

use aws_lc_rs::digest;
use http::Method;
use serde::{Deserialize, Serialize};

pub use self::{
    address::{Special, plain, special},
    host::{Host, HostPattern, InvalidHost},
    path::{InvalidPrefix, NormalPath, PathPrefix},
    rule::{InvalidMethod, InvalidPorts, MethodName, Ports, Rule},
};
use crate::settings_file::{self, FileError};

/// Largest policy file, in bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// What may be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Something passes only if one of these matches it.
    #[serde(default, deserialize_with = "settings_file::bounded")]
    pub allow: Vec<Rule>,
    /// Nothing passes that one of these matches.
    #[serde(default, deserialize_with = "settings_file::bounded")]
    pub deny: Vec<Rule>,
}

/// What somebody wants to reach.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Name or address, IPv6 without brackets, as the request has it.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// What is going to be said there.
    pub what: What<'a>,
}

/// What is going to be said to a destination.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// A request that can be read.
    Http {
        /// Its method.
        method: &'a Method,
        /// Its path, as it came, without the query.
        path: &'a str,
    },
    /// Bytes that nobody here understands: CONNECT, and upgrades other than WebSocket.
    Tunnel,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It passes.
    Allowed,
    /// It does not.
    Refused(Reason),
}

/// Why something does not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A rule denies it.
    #[error("{0} matches")]
    Denied(RuleName),
    /// No rule allows it.
    #[error("no allow rule matches")]
    NotAllowed,
    /// A rule would allow the path, if there were only one way to read it.
    #[error(
        "the path can be read in more than one way (dot or empty segments, encoded slashes, \
         semicolons), and rules judge paths here"
    )]
    AmbiguousPath,
    /// Methods or paths decide, and cannot be seen.
    #[error(
        "{0} judges methods or paths, which cannot be seen inside a CONNECT: such rules need TLS at \
         the connector, so send the https:// URL in absolute form"
    )]
    NeedsTls(RuleName),
    /// The host is neither a name nor an address.
    #[error("the host is neither a name nor an address")]
    BadHost,
    /// The address is one that must be named to be reached.
    #[error("the address is {0}")]
    Special(Special),
}

impl Reason {
    /// As it stands in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::NotAllowed => "not_allowed",
            Self::AmbiguousPath => "ambiguous_path",
            Self::NeedsTls(_) => "needs_tls",
            Self::BadHost => "bad_host",
            Self::Special(_) => "special_address",
        }
    }
}

/// Which rule it was: its place in its list, counted from 1, and its name if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleName {
    list: &'static str,
    number: usize,
    name: Option<String>,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.list, self.number)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// SHA-256 of a policy's canonical form. Two files with the same rules have the same digest, however they
/// are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyDigest([u8; 32]);

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Policy {
    /// Reads a policy file, which is TOML.
    ///
    /// # Errors
    /// When it is too large, is no TOML, or says something that has no meaning here; with the line.
    pub fn from_toml(text: &str) -> Result<Self, FileError> {
        settings_file::read(text, MAX_FILE)
    }

    /// The digest of the canonical form: JSON without white space, rules in their order, lists sorted,
    /// absent lists left out.
    pub fn digest(&self) -> PolicyDigest {
        let json = serde_json::to_vec(self).expect("a policy has no map with odd keys");
        let digest = digest::digest(&digest::SHA256, &json);
        PolicyDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// May this be reached at this address? Without an address: could it be, at whichever?
    pub fn evaluate(&self, request: &Request<'_>, address: Option<IpAddr>) -> Decision {
        let Some(host) = Host::parse(request.host) else {
            return Decision::Refused(Reason::BadHost);
        };
        let question = Question { host, port: request.port, address, path: request.normal_path() };
        match self.denying(request, &question).or_else(|| self.not_allowing(request, &question)) {
            Some(reason) => Decision::Refused(reason),
            None => Decision::Allowed,
        }
    }

    fn denying(&self, request: &Request<'_>, question: &Question<'_>) -> Option<Reason> {
        self.deny.iter().enumerate().find_map(|(n, rule)| {
            if !rule.denies_destination(question) {
                return None;
            }
            let name = || rule.called("deny", n);
            match request.what {
                What::Tunnel if rule.judges_tunnels() => Some(Reason::Denied(name())),
                What::Tunnel => Some(Reason::NeedsTls(name())),
                What::Http { method, .. } => {
                    let is_match = rule.denies(method, question.path.as_ref());
                    is_match.then(|| Reason::Denied(name()))
                }
            }
        })
    }

    /// `None` if a rule allows it.
    fn not_allowing(&self, request: &Request<'_>, question: &Question<'_>) -> Option<Reason> {
        let special = question.address.and_then(special);
        let mut reason = special.map_or(Reason::NotAllowed, Reason::Special);
        for (n, rule) in self.allow.iter().enumerate() {
            if !rule.allows_destination(question) {
                continue;
            }
            match request.what {
                What::Tunnel if rule.judges_tunnels() => return None,
                What::Tunnel => reason = Reason::NeedsTls(rule.called("allow", n)),
                What::Http { method, .. } if rule.allows_method(method) => match &question.path {
                    _ if rule.paths.is_empty() => return None,
                    Some(path) if rule.paths.iter().any(|prefix| prefix.holds(path)) => {
                        return None;
                    }
                    Some(_) => {}
                    None => reason = Reason::AmbiguousPath,
                },
                What::Http { .. } => {}
            }
        }
        Some(reason)
    }
}

impl Request<'_> {
    fn normal_path(&self) -> Option<NormalPath> {
        match self.what {
            What::Http { path, .. } => NormalPath::of(path),
            What::Tunnel => None,
        }
    }
}

/// A request as rules see it.
struct Question<'a> {
    host: Host<'a>,
    port: u16,
    address: Option<IpAddr>,
    /// `None` if it can be read in more than one way.
    path: Option<NormalPath>,
}
