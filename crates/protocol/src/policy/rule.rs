//! One rule: where, and what of it.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use http::Method;
use serde::{Deserialize, Serialize};

use super::{HostPattern, NormalPath, PathPrefix, Question, RuleName, plain, special};
use crate::settings_file::filled;

/// Longest name of a rule, in bytes.
const MAX_NAME: usize = 100;

/// Matches what is in each of its lists; a list that is not there says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    /// For people: stands in refusals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Never empty.
    pub hosts: BTreeSet<HostPattern>,
    /// Empty for any port.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<Ports>,
    /// Empty for any method.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<MethodName>,
    /// Empty for any path.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub paths: BTreeSet<PathPrefix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(deserialize_with = "filled")]
    hosts: BTreeSet<HostPattern>,
    #[serde(default, deserialize_with = "filled")]
    ports: BTreeSet<Ports>,
    #[serde(default, deserialize_with = "filled")]
    methods: BTreeSet<MethodName>,
    #[serde(default, deserialize_with = "filled")]
    paths: BTreeSet<PathPrefix>,
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, hosts, ports, methods, paths } = written;
        if !paths.is_empty() && methods.iter().any(|MethodName(method)| method == "CONNECT") {
            return Err("a rule with paths cannot have the method CONNECT, which has none".into());
        }
        let is_sound = |name: &String| {
            !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control)
        };
        if name.as_ref().is_some_and(|name| !is_sound(name)) {
            return Err(format!("a rule's name has 1 to {MAX_NAME} bytes of printable text"));
        }
        Ok(Self { name, hosts, ports, methods, paths })
    }
}

impl Rule {
    pub(super) fn called(&self, list: &'static str, n: usize) -> RuleName {
        RuleName { list, number: n + 1, name: self.name.clone() }
    }

    /// Does it speak of tunnels themselves, rather than of what may be inside one?
    pub(super) fn judges_tunnels(&self) -> bool {
        let names_connect = self.methods.iter().any(|MethodName(method)| method == "CONNECT");
        names_connect || (self.methods.is_empty() && self.paths.is_empty())
    }

    /// An address that is not known yet lies in no network that is denied, and in any that is allowed.
    pub(super) fn denies_destination(&self, question: &Question<'_>) -> bool {
        let is_in = |address: IpAddr| {
            self.networks().any(|net| net.contains(&address) || net.contains(&plain(address)))
        };
        self.has_port(question.port)
            && (self.hosts.iter().any(|host| host.matches(&question.host))
                || question.address.is_some_and(is_in))
    }

    pub(super) fn allows_destination(&self, question: &Question<'_>) -> bool {
        if !self.has_port(question.port) {
            return false;
        }
        let Some(address) = question.address else {
            let can_be_in = |host: &HostPattern| match &question.host {
                super::Host::Name(_) => matches!(host, HostPattern::Network(_)),
                super::Host::Address(_) => false,
            };
            return self.hosts.iter().any(|host| host.matches(&question.host) || can_be_in(host));
        };
        let plain = plain(address);
        if let Some(special) = special(plain) {
            let is_named = self.hosts.iter().any(|host| host.address() == Some(plain));
            return special.can_be_named() && is_named;
        }
        self.hosts.iter().any(|host| host.matches(&question.host))
            || self.networks().any(|network| network.contains(&plain))
    }

    /// Methods are told apart by their case (RFC 9110 §9.1), but not by every server.
    pub(super) fn denies(&self, method: &Method, path: Option<&NormalPath>) -> bool {
        let mut methods = self.methods.iter();
        let is_method = self.methods.is_empty()
            || methods.any(|MethodName(denied)| denied.eq_ignore_ascii_case(method.as_str()));
        let is_path = self.paths.is_empty()
            || path.is_none_or(|path| self.paths.iter().any(|prefix| prefix.may_hold(path)));
        is_method && is_path
    }

    pub(super) fn allows_method(&self, method: &Method) -> bool {
        let mut methods = self.methods.iter();
        self.methods.is_empty() || methods.any(|MethodName(allowed)| allowed == method.as_str())
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|ports| ports.hold(port))
    }

    fn networks(&self) -> impl Iterator<Item = &ipnet::IpNet> {
        self.hosts.iter().filter_map(|host| match host {
            HostPattern::Network(network) => Some(network),
            HostPattern::Any | HostPattern::Name(_) | HostPattern::Below(_) => None,
        })
    }
}

/// A method's name, such as `GET`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MethodName(String);

/// The text is no method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no method: expected one in capitals, such as GET")]
pub struct InvalidMethod(String);

impl TryFrom<String> for MethodName {
    type Error = InvalidMethod;

    fn try_from(text: String) -> Result<Self, InvalidMethod> {
        let is_capital = |c: u8| c.is_ascii_uppercase() || matches!(c, b'-' | b'_');
        let is_sound = !text.is_empty() && text.len() <= 32 && text.bytes().all(is_capital);
        if is_sound { Ok(Self(text)) } else { Err(InvalidMethod(text)) }
    }
}

/// One port, or all from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "WrittenPorts", into = "WrittenPorts")]
pub struct Ports {
    first: u16,
    last: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port such as 443, or a text such as \"8000-8100\"")]
enum WrittenPorts {
    One(u16),
    Range(String),
}

/// The text is no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no port: expected one from 1 to 65535 such as 443, or a text such as \"8000-8100\""
)]
pub struct InvalidPorts(String);

impl Ports {
    /// Is the port one of them?
    pub fn hold(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl TryFrom<WrittenPorts> for Ports {
    type Error = InvalidPorts;

    fn try_from(written: WrittenPorts) -> Result<Self, InvalidPorts> {
        let (first, last) = match &written {
            WrittenPorts::One(port) => (Some(*port), Some(*port)),
            WrittenPorts::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                (first.trim().parse().ok(), last.trim().parse().ok())
            }
        };
        match (first, last) {
            (Some(first), Some(last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err(InvalidPorts(written.to_string())),
        }
    }
}

impl From<Ports> for WrittenPorts {
    fn from(Ports { first, last }: Ports) -> Self {
        if first == last { Self::One(first) } else { Self::Range(format!("{first}-{last}")) }
    }
}

impl fmt::Display for WrittenPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => write!(f, "{port}"),
            Self::Range(text) => write!(f, "{text:?}"),
        }
    }
}
