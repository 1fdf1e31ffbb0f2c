//! Where an edge can be reached, and how its certificate is judged.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::{base64url, name::RegionName};

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// A host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// DNS name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// The text was not `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected host:port, for instance edge.example.com:7844 or [2001:db8::1]:7844")]
pub struct InvalidHostPort;

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidHostPort)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(InvalidHostPort)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| InvalidHostPort)?.to_string(),
            None => host.to_owned(),
        };
        Self::new(host, port)
    }
}

impl HostPort {
    /// Checks that `host` can be looked up or dialled, and that `port` is not 0.
    pub fn new(host: String, port: u16) -> Result<Self, InvalidHostPort> {
        let name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        let is_name = !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(name);
        if port == 0 || !(is_name || host.parse::<Ipv6Addr>().is_ok()) {
            return Err(InvalidHostPort);
        }
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for HostPort {
    type Error = InvalidHostPort;

    fn try_from(text: String) -> Result<Self, InvalidHostPort> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Splits an authority that names no user where its host ends: the host, an IPv6 address with its brackets,
/// and what follows, which is empty or a colon with a port.
pub fn split_authority(authority: &str) -> (&str, &str) {
    let end = if authority.starts_with('[') {
        authority.find(']').map(|at| at + 1)
    } else {
        authority.find(':')
    };
    authority.split_at(end.unwrap_or(authority.len()))
}

/// The port behind an authority's host, read strictly: a colon and digits, and not 0.
pub fn parse_port(behind_host: &str) -> Option<u16> {
    let digits = behind_host.strip_prefix(':')?;
    let is_number = digits.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().filter(|port| *port != 0)
}

/// Where links are accepted: one port for UDP and TCP, and a second one for TCP alone, for networks
/// that let nothing but 443 out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeAddress {
    /// Where the edge stands.
    pub region: RegionName,
    /// Address of QUIC (UDP) and HTTP/2 (TCP) links.
    pub address: HostPort,
    /// Port of the same host for HTTP/2 links when `address` cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_port: Option<u16>,
}

/// SHA-256 of a certificate authority's public key (its SubjectPublicKeyInfo in DER). A connector
/// that has one trusts edges under that authority and no other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaPin([u8; 32]);

/// The text was no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a pin: expected 32 bytes, base64url")]
pub struct InvalidPin;

impl CaPin {
    /// Wraps the 32 bytes of a digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The pin of the authority with this SubjectPublicKeyInfo (DER).
    pub fn of_spki(der: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, der);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl TryFrom<String> for CaPin {
    type Error = InvalidPin;

    fn try_from(text: String) -> Result<Self, InvalidPin> {
        let bytes = base64url::decode(&text).map_err(|_| InvalidPin)?;
        bytes.try_into().map(Self).map_err(|_| InvalidPin)
    }
}

impl From<CaPin> for String {
    fn from(pin: CaPin) -> Self {
        base64url::encode(pin.0)
    }
}

impl fmt::Debug for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaPin({})", base64url::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_maybe_a_port() {
        for (authority, parts) in [
            ("wiki.corp", ("wiki.corp", "")),
            ("wiki.corp:80", ("wiki.corp", ":80")),
            ("wiki.corp:", ("wiki.corp", ":")),
            ("[::1]", ("[::1]", "")),
            ("[::1]:80", ("[::1]", ":80")),
            ("[::1", ("[::1", "")),
            ("", ("", "")),
            (":80", ("", ":80")),
        ] {
            assert_eq!(split_authority(authority), parts, "{authority}");
        }
    }

    #[test]
    fn a_port_is_digits() {
        let of = |text| parse_port(text);
        assert_eq!((of(":80"), of(":65535"), of(":080")), (Some(80), Some(65_535), Some(80)));
        for text in ["", ":", ":0", ":65536", ":+80", ":-1", ":8 0", "80", ":80:80"] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn host_and_port_read_as_people_write_them() {
        for text in ["edge.example.com:7844", "192.0.2.1:443", "[2001:db8::1]:7844", "localhost:1"]
        {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in
            ["", "edge", "edge:", ":1", "edge:0", "edge:65536", "[x]:1", "a b:1", "http://a:1"]
        {
            assert_eq!(text.parse::<HostPort>(), Err(InvalidHostPort), "{text:?}");
        }
    }
}
