//! How long each part of a request took, from the policy to the body's last byte. Each part of
//! Postern measures its own phases and hands them back in the [`HEADER`], so that whoever asked can
//! see where the time went, and where it stopped.

use std::fmt;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

/// Response header that carries phases, such as `link=180, dns=95, tcp=410, first_byte=2100`.
pub const HEADER: &str = "postern-phases";

/// Room for every phase at its longest, in bytes: a name, 20 digits, and what is in between.
const TEXT: usize = 8 * (10 + 20 + 3);

const _: () = assert!(Phase::ALL.len() <= 8, "each has a bit in `Phases::happened`");

/// One part of a request's way, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The edge judges token, access and policy.
    Policy,
    /// The edge does the rest of its work.
    Edge,
    /// From the edge to the connector and back, without the connector's own phases.
    Link,
    /// The connector resolves the origin's name.
    Dns,
    /// It connects.
    Tcp,
    /// It shakes hands in TLS.
    Tls,
    /// From the request's last byte to the response's first.
    FirstByte,
    /// From the response's first byte to its last.
    Body,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Policy,
        Self::Edge,
        Self::Link,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::FirstByte,
        Self::Body,
    ];

    /// What stands before its length, at the head of the list or within.
    fn part(self, is_first: bool) -> &'static str {
        let within = match self {
            Self::Policy => ", policy=",
            Self::Edge => ", edge=",
            Self::Link => ", link=",
            Self::Dns => ", dns=",
            Self::Tcp => ", tcp=",
            Self::Tls => ", tls=",
            Self::FirstByte => ", first_byte=",
            Self::Body => ", body=",
        };
        if is_first { &within[2..] } else { within }
    }

    /// As it stands in the header, in runs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Edge => "edge",
            Self::Link => "link",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
        }
    }
}

/// Phases with their lengths in microseconds. A phase that did not happen, such as TCP on a pooled
/// connection, is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    lengths: [u64; Phase::ALL.len()],
    /// One bit for each phase that happened.
    happened: u8,
}

impl Phases {
    /// Sets a phase's length in microseconds.
    pub fn set(&mut self, phase: Phase, microseconds: u64) {
        self.lengths[phase as usize] = microseconds;
        self.happened |= 1 << phase as u8;
    }

    /// A phase's length in microseconds.
    pub fn get(&self, phase: Phase) -> Option<u64> {
        let has_happened = self.happened & (1 << phase as u8) != 0;
        has_happened.then(|| self.lengths[phase as usize])
    }

    /// The phases that happened, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, u64)> + '_ {
        Phase::ALL.into_iter().filter_map(|phase| Some((phase, self.get(phase)?)))
    }

    /// Takes over what `other` measured.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(phase, length)| self.set(phase, length));
    }

    /// All phases together, in microseconds.
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, length)| length).fold(0, u64::saturating_add)
    }

    /// The header's value. It is another one each time, so HPACK should not give it a place in the table
    /// from which it would drive what repeats: that is what marking it as sensitive says.
    pub fn to_value(&self) -> HeaderValue {
        let (mut text, mut length) = ([0; TEXT], 0);
        let written = self.write(|part| {
            text[length..][..part.len()].copy_from_slice(part.as_bytes());
            length += part.len();
            Ok(())
        });
        written.expect("the text has room for every phase at its longest");
        let mut value = HeaderValue::from_bytes(&text[..length]).expect("phases are ASCII");
        value.set_sensitive(true);
        value
    }

    fn write(&self, mut to: impl FnMut(&str) -> fmt::Result) -> fmt::Result {
        let mut digits = itoa::Buffer::new();
        let mut is_first = true;
        for (phase, length) in self.iter() {
            to(phase.part(is_first))?;
            to(digits.format(length))?;
            is_first = false;
        }
        Ok(())
    }

    /// Reads the header's value; what it does not understand it leaves out.
    pub fn parse(value: &str) -> Self {
        let mut phases = Self::default();
        for part in value.split(',').take(Phase::ALL.len()) {
            let Some((name, length)) = part.trim().split_once('=') else { continue };
            let phase = Phase::ALL.into_iter().find(|phase| phase.as_str() == name);
            if let (Some(phase), Ok(length)) = (phase, length.parse()) {
                phases.set(phase, length);
            }
        }
        phases
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(|part| f.write_str(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_survive_their_header() {
        let mut phases = Phases::default();
        phases.set(Phase::FirstByte, 2_100);
        phases.set(Phase::Dns, 95);
        assert_eq!(phases.to_string(), "dns=95, first_byte=2100");
        assert_eq!(Phases::parse(&phases.to_string()), phases);
        assert_eq!(phases.total(), 2_195);
        let mut longest = Phases::default();
        Phase::ALL.into_iter().for_each(|phase| longest.set(phase, u64::MAX - phase as u64));
        assert_eq!(longest.to_value(), longest.to_string());
        assert_eq!(Phases::parse(&longest.to_string()), longest);
        for phase in Phase::ALL {
            assert_eq!(phase.part(false), format!(", {}=", phase.as_str()));
        }
        assert_eq!(Phases::parse("dns=x, nonsense, =, tcp=5"), {
            let mut only = Phases::default();
            only.set(Phase::Tcp, 5);
            only
        });
    }
}
