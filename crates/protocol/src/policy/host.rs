//! Hosts in rules and in requests.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::plain;

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// A host as a request has it, in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, in lower case, without the dot at its end. May be an address in one of the spellings that
    /// only resolvers know, such as `0x7f000001`; then only its address tells.
    Name(Cow<'a, str>),
    /// An address, IPv4 even where an IPv6 one stands for it.
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// Reads a host; IPv6 without brackets.
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(plain(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_sound = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let labels_are_sound =
            name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_sound));
        if name.len() > MAX_NAME || !labels_are_sound {
            return None;
        }
        let has_capitals = name.bytes().any(|c| c.is_ascii_uppercase());
        let name = if has_capitals { name.to_ascii_lowercase().into() } else { name.into() };
        Some(Self::Name(name))
    }
}

/// Which hosts a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// `wiki.corp`: this name.
    Name(String),
    /// `*.corp`: every name below `corp`, and not `corp` itself.
    Below(String),
    /// `10.0.0.0/8` or `10.1.2.3`: every host whose address lies in it, whatever its name.
    Network(IpNet),
}

/// The text says no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host: expected a name such as wiki.corp, names below one such as *.corp, a network such \
     as 10.0.0.0/8, an address such as 10.1.2.3, or *"
)]
pub struct InvalidHost(String);

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.chars().take(MAX_NAME).collect());
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains('/') {
            let network = text.parse::<IpNet>().map_err(|_| invalid())?;
            // Bits behind the prefix mean that something else was meant.
            let is_exact = network == network.trunc();
            return if is_exact { Ok(Self::Network(network)) } else { Err(invalid()) };
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let (name, is_suffix) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (bare.unwrap_or(text), false),
        };
        match Host::parse(name).ok_or_else(invalid)? {
            Host::Address(address) if !is_suffix => Ok(Self::Network(address.into())),
            Host::Address(_) => Err(invalid()),
            // What ends in a number is an address to resolvers, never a name (RFC 1123 §2.1).
            Host::Name(name) if ends_in_number(&name) || bare.is_some() => Err(invalid()),
            Host::Name(name) if is_suffix => Ok(Self::Below(name.into_owned())),
            Host::Name(name) => Ok(Self::Name(name.into_owned())),
        }
    }
}

impl HostPattern {
    /// Is this host meant, by its name or by its address as it stands in the request?
    pub fn matches(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(wanted), Host::Name(name)) => wanted == name,
            (Self::Below(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (Self::Network(network), Host::Address(address)) => network.contains(address),
            (Self::Name(_) | Self::Below(_), Host::Address(_))
            | (Self::Network(_), Host::Name(_)) => false,
        }
    }

    /// The one address that it names, if it does.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                Some(network.addr())
            }
            Self::Any | Self::Name(_) | Self::Below(_) | Self::Network(_) => None,
        }
    }
}

fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hexadecimal =
        last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_hexdigit()));
    is_hexadecimal || last.bytes().all(|c| c.is_ascii_digit())
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Network(network) => match self.address() {
                Some(address) => write!(f, "{address}"),
                None => write!(f, "{network}"),
            },
        }
    }
}
