//! What an edge tells the control plane: which links it holds. A report renews a lease; when the
//! lease runs out, the edge's links count as gone.
//!
//! Reports are the JSON lines of a request body at [`PRESENCE_PATH`]: first one with `reset`, which
//! names every link, then only what changed. An empty report just renews the lease.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    control::Facts,
    id::{ConnectorId, KeyId, TunnelId},
    traffic::TunnelTraffic,
};

/// Path of presence at the control plane's edge port.
pub const PRESENCE_PATH: &str = "/edge/v1/presence";
/// How long a report holds, in milliseconds.
pub const LEASE_MS: u64 = 10_000;
/// How often an edge reports at least, in milliseconds.
pub const REPORT_EVERY_MS: u64 = 3_000;
/// Longest line of a report, in bytes.
pub const MAX_LINE: usize = 64 * 1024 * 1024;

/// How a link is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// QUIC, over UDP.
    Quic,
    /// HTTP/2, over TLS on TCP.
    Http2,
}

impl Transport {
    /// As it stands in metrics, logs and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Http2 => "http2",
        }
    }
}

/// One report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The newest generation of the feed that this edge obeys.
    pub applied_generation: u64,
    /// Forget what this edge reported before.
    #[serde(default)]
    pub reset: bool,
    /// The edge's gateway speaks TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gateway_tls: bool,
    /// Links that are up, new or with new figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub up: Vec<LinkPresence>,
    /// Links that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<LinkDown>,
    /// What went through tunnels since the last report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TunnelTraffic>,
}

/// A link that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkPresence {
    /// The tunnel that it serves.
    pub tunnel: TunnelId,
    /// The connector's process.
    pub connector: ConnectorId,
    /// Which of its links.
    pub slot: u8,
    /// The secret that opened it.
    pub key: KeyId,
    /// How it is carried.
    pub transport: Transport,
    /// When it came up, milliseconds since 1970.
    pub since_ms: u64,
    /// Round-trip time, microseconds, once measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// The connector's address, as the edge sees it.
    pub remote: SocketAddr,
    /// What the connector tells of itself.
    pub facts: Facts,
    /// Why requests do not get through, although the link is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strain: Option<Strain>,
}

/// Why requests do not get through a link that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strain {
    /// The edge refuses requests because too many of the tunnel's are under way there.
    Crowded,
    /// The connector does not answer a request over the link that is for itself.
    Stuck,
    /// Something that only a newer edge knows.
    #[serde(other)]
    Unknown,
}

impl Strain {
    /// As it stands in metrics, logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Stuck => "stuck",
            Self::Unknown => "unknown",
        }
    }
}

/// A link that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDown {
    /// The tunnel that it served.
    pub tunnel: TunnelId,
    /// The connector's process.
    pub connector: ConnectorId,
    /// Which of its links.
    pub slot: u8,
    /// Did the connector say goodbye on it, or was it sent away because its secret counts no more?
    pub goodbye: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_is_short() {
        let report = Report { applied_generation: 7, ..Report::default() };
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(json, r#"{"applied_generation":7,"reset":false}"#);
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn edges_of_any_version_tell_why_requests_do_not_get_through() {
        let id = "00000000-0000-0000-0000-000000000000";
        let older = serde_json::json!({
            "tunnel": id, "connector": id, "slot": 0, "key": id, "transport": "quic", "since_ms": 1,
            "remote": "192.0.2.1:1", "facts": Facts::default(),
        });
        let read = |json: &serde_json::Value| {
            serde_json::from_value::<LinkPresence>(json.clone()).unwrap()
        };
        assert_eq!(serde_json::to_value(read(&older)).unwrap(), older);
        for (text, strain) in [("stuck", Strain::Stuck), ("haunted", Strain::Unknown)] {
            let mut newer = older.clone();
            newer["strain"] = text.into();
            assert_eq!(read(&newer).strain, Some(strain));
        }
    }
}
