//! The control stream: how a link comes up, stays known to be alive, and goes away.
//!
//! ```text
//! edge                                   connector
//!   │ ── Welcome{edge, region, version} ──►│
//!   │ ◄── Hello{tunnel, slot, proof, …} ── │      the proof covers this TLS connection
//!   │ ── Registered{directory} ──────────► │      or Refused{code, retry_after_ms}, and the end
//!   │ ◄── Ping ── ── Pong ──────────────►  │      every few seconds
//!   │ ── Directory, Drain ───────────────► │      whenever
//!   │ ◄── Facts ────────────────────────── │      whenever they change
//!   │ ◄── Goodbye ──────────────────────── │      no new requests; the edge closes when none is left
//! ```
//!
//! A message is JSON in a CONTROL frame. Unknown fields and unknown types are ignored, so that either
//! end may be the newer one.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::{
    abilities::Abilities,
    address::EdgeAddress,
    frame::{self, Kind},
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
    key::Signature,
    name::RegionName,
    order::LogLevel,
};

/// What an edge says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromEdge {
    /// The first message: who is speaking.
    Welcome {
        /// Highest link protocol version that the edge speaks.
        version: u16,
        /// The edge's identity, covered by the proof.
        edge: EdgeId,
        /// Where it stands.
        region: RegionName,
        /// What it understands besides.
        #[serde(default)]
        abilities: Abilities,
    },
    /// The link is up.
    Registered {
        /// All edges that a connector may dial.
        directory: Vec<DirectoryEdge>,
    },
    /// The link is not to be; the connection closes.
    Refused(LinkRefusal),
    /// The edges have changed.
    Directory {
        /// All edges that a connector may dial.
        directory: Vec<DirectoryEdge>,
    },
    /// The edge is leaving: bring a replacement up elsewhere, then close this link.
    Drain {
        /// How long to wait before dialling, so that not every connector comes at once.
        reconnect_in_ms: u64,
        /// When the edge will close the link itself.
        deadline_ms: u64,
        /// Another process has taken the edge's place, at the same address: that is as good as elsewhere.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        successor: bool,
    },
    /// An admin wants the connector to log at another level. It does so if its own setting lets it, and if it has
    /// not heard this order or a later one, by another link.
    LogLevel {
        /// The level.
        level: LogLevel,
        /// The order's number.
        order: u64,
    },
    /// Answer to a [`FromConnector::Ping`].
    Pong {
        /// The ping's number.
        sequence: u64,
    },
    /// Something must be acknowledged: the edge has heard nothing for a while. There is no other answer.
    Ping,
    /// Something that a newer edge says.
    #[serde(other)]
    Unknown,
}

/// What a connector says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromConnector {
    /// The answer to [`FromEdge::Welcome`]: whose link this is to be, and the proof.
    Hello(Hello),
    /// Are you there?
    Ping {
        /// Counts up from 1 on each link.
        sequence: u64,
        /// Round-trip time of the ping before, in microseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rtt_us: Option<u64>,
    },
    /// No new requests on this link, please: the edge closes it once those under way have finished.
    /// Said when the connector leaves, and on a draining link whose replacement is up.
    Goodbye,
    /// What the connector told of itself in its hello has changed, for all its links.
    Facts(Facts),
    /// Something that a newer connector says.
    #[serde(other)]
    Unknown,
}

/// Whose link this is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Link protocol version that the connector speaks.
    pub version: u16,
    /// The tunnel to serve.
    pub tunnel: TunnelId,
    /// Which of the tunnel's keys made the proof.
    pub key: KeyId,
    /// The connector's process.
    pub connector: ConnectorId,
    /// Which of its links this is, from 0.
    pub slot: u8,
    /// Signature over [`crate::key::Binding`].
    pub proof: Signature,
    /// What the connector tells of itself.
    pub facts: Facts,
    /// What the connector understands besides.
    #[serde(default)]
    pub abilities: Abilities,
    /// Asks whether the link would be taken, and wants none: the edge answers as ever, and closes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probe: bool,
}

/// What a connector tells of itself, for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its version, such as `0.1.0`.
    #[serde(default)]
    pub version: String,
    /// Its host's name.
    #[serde(default)]
    pub host: String,
    /// Operating system and architecture, such as `linux/x86_64`.
    #[serde(default)]
    pub platform: String,
    /// Digest of the policy that it obeys ([`crate::policy::Policy::digest`]), if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// When its process started, by its own clock, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// How much it logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Does it obey [`FromEdge::LogLevel`]?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_level_from_cloud: bool,
}

impl Facts {
    /// Longest text of each fact, in bytes; longer ones are cut.
    pub const MAX_TEXT: usize = 128;

    /// The end of the year 9999: later moments cannot be written (RFC 3339).
    const LAST_MS: u64 = 253_402_300_799_999;

    /// Cuts what is too long and drops what cannot be printed: the facts come from somebody else's
    /// machine and are shown to people.
    pub fn clean(mut self) -> Self {
        let texts = [&mut self.version, &mut self.host, &mut self.platform];
        for text in texts.into_iter().chain(&mut self.policy).chain(&mut self.log_level) {
            text.retain(|c| !c.is_control());
            while text.len() > Self::MAX_TEXT {
                text.pop();
            }
        }
        self.started_ms = self.started_ms.filter(|ms| *ms <= Self::LAST_MS);
        self
    }
}

/// An edge that a connector may dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEdge {
    /// Its identity.
    pub edge: EdgeId,
    /// Where it accepts links.
    pub link: EdgeAddress,
}

/// Why an edge does not take a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{code}")]
pub struct LinkRefusal {
    /// What stands in the way.
    pub code: LinkRefusalCode,
    /// When to ask again; the connector's own rule decides where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What stands in the way of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRefusalCode {
    /// No such tunnel, or it was deleted.
    #[error(
        "the tunnel of this secret does not exist any more; create a tunnel and use its secret"
    )]
    UnknownTunnel,
    /// The tunnel is there, but has no such key.
    #[error("the tunnel does not know this secret; copy the current one from the console")]
    UnknownKey,
    /// The key was revoked.
    #[error("this secret was revoked; rotate it in the console and start with the new one")]
    RevokedSecret,
    /// The signature does not fit this connection.
    #[error(
        "the proof does not fit this connection: something between here and the edge opens TLS \
         (an inspecting proxy or firewall); exempt the edge's host from inspection"
    )]
    BadProof,
    /// The connector's protocol version is no longer spoken.
    #[error("this connector is too old for the edge; update its image")]
    VersionTooOld,
    /// The message was not what the protocol asks for.
    #[error("the edge did not understand the connector's hello; update the image")]
    Malformed,
    /// The edge has no current knowledge of tunnels.
    #[error("the edge has lost touch with its control plane and cannot judge secrets")]
    FeedStale,
    /// The edge is full.
    #[error("the edge has no room for more links")]
    Capacity,
    /// The edge is leaving.
    #[error("the edge is shutting down")]
    Draining,
    /// A reason that a newer edge gives.
    #[serde(other)]
    #[error("the edge refused for a reason that this version does not know; update the image")]
    Unknown,
}

impl LinkRefusalCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::UnknownTunnel,
        Self::UnknownKey,
        Self::RevokedSecret,
        Self::BadProof,
        Self::VersionTooOld,
        Self::Malformed,
        Self::FeedStale,
        Self::Capacity,
        Self::Draining,
        Self::Unknown,
    ];

    /// False when only a person can change the answer: a new secret, another image, the network.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::FeedStale | Self::Capacity | Self::Draining => true,
            Self::UnknownTunnel
            | Self::UnknownKey
            | Self::RevokedSecret
            | Self::BadProof
            | Self::VersionTooOld
            | Self::Malformed
            | Self::Unknown => false,
        }
    }

    /// The code as it stands in metrics, logs and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownTunnel => "unknown_tunnel",
            Self::UnknownKey => "unknown_key",
            Self::RevokedSecret => "revoked_secret",
            Self::BadProof => "bad_proof",
            Self::VersionTooOld => "version_too_old",
            Self::Malformed => "malformed",
            Self::FeedStale => "feed_stale",
            Self::Capacity => "capacity",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
        }
    }
}

/// A control message that is no valid JSON, or lacks a field.
#[derive(Debug, thiserror::Error)]
#[error("malformed control message")]
pub struct ControlError(#[source] serde_json::Error);

/// Appends a message as a CONTROL frame.
pub fn encode(message: &impl Serialize, out: &mut BytesMut) {
    let json = serde_json::to_vec(message).expect("control messages have no map with odd keys");
    frame::encode(Kind::Control, &json, out);
}

/// Reads the payload of a CONTROL frame.
///
/// # Errors
/// When it is malformed. A type that is merely unknown is no error.
pub fn decode<'a, M: Deserialize<'a>>(payload: &'a [u8]) -> Result<M, ControlError> {
    serde_json::from_slice(payload).map_err(ControlError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn golden<M>(message: &M, json: &str)
    where
        M: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
    {
        let mut out = BytesMut::new();
        encode(message, &mut out);
        let mut expected = vec![5];
        crate::varint::encode(json.len() as u64, &mut expected);
        expected.extend_from_slice(json.as_bytes());
        assert_eq!(out.as_ref(), expected, "{}", String::from_utf8_lossy(&out));
        assert_eq!(&decode::<M>(json.as_bytes()).unwrap(), message);
    }

    #[test]
    fn the_bytes_of_every_message_never_change() {
        let edge = EdgeId::from_bytes([1; 16]);
        let region: RegionName = "eu".parse().unwrap();
        let directory = vec![DirectoryEdge {
            edge,
            link: EdgeAddress {
                region: region.clone(),
                address: "e.example:7844".parse().unwrap(),
                fallback_port: Some(443),
            },
        }];
        let directory_json = r#"[{"edge":"01010101-0101-0101-0101-010101010101","link":{"region":"eu","address":"e.example:7844","fallback_port":443}}]"#;
        golden(
            &FromEdge::Welcome { version: 1, edge, region, abilities: Abilities::OWN },
            r#"{"type":"welcome","version":1,"edge":"01010101-0101-0101-0101-010101010101","region":"eu","abilities":{"max_fields":260,"any_status":true,"any_upgrade":true}}"#,
        );
        golden(
            &FromEdge::Registered { directory: directory.clone() },
            &format!(r#"{{"type":"registered","directory":{directory_json}}}"#),
        );
        golden(
            &FromEdge::Directory { directory },
            &format!(r#"{{"type":"directory","directory":{directory_json}}}"#),
        );
        golden(
            &FromEdge::Refused(LinkRefusal {
                code: LinkRefusalCode::RevokedSecret,
                retry_after_ms: None,
            }),
            r#"{"type":"refused","code":"revoked_secret"}"#,
        );
        golden(
            &FromEdge::Drain { reconnect_in_ms: 10, deadline_ms: 30_000, successor: false },
            r#"{"type":"drain","reconnect_in_ms":10,"deadline_ms":30000}"#,
        );
        golden(
            &FromEdge::Drain { reconnect_in_ms: 0, deadline_ms: 30_000, successor: true },
            r#"{"type":"drain","reconnect_in_ms":0,"deadline_ms":30000,"successor":true}"#,
        );
        golden(
            &FromEdge::LogLevel { level: LogLevel::Debug, order: 9 },
            r#"{"type":"log_level","level":"debug","order":9}"#,
        );
        golden(&FromEdge::Pong { sequence: 7 }, r#"{"type":"pong","sequence":7}"#);
        golden(&FromEdge::Ping, r#"{"type":"ping"}"#);
        let hello = Hello {
            version: 1,
            tunnel: TunnelId::from_bytes([2; 16]),
            key: KeyId::from_bytes([3; 16]),
            connector: ConnectorId::from_bytes([4; 16]),
            slot: 2,
            proof: Signature::from_bytes([0; 64]),
            facts: Facts {
                version: "0.1.0".into(),
                host: "h".into(),
                platform: "linux/x86_64".into(),
                ..Facts::default()
            },
            abilities: Abilities::OWN,
            probe: false,
        };
        let hello_json = format!(
            r#"{{"type":"hello","version":1,"tunnel":"02020202-0202-0202-0202-020202020202","key":"03030303-0303-0303-0303-030303030303","connector":"04040404-0404-0404-0404-040404040404","slot":2,"proof":"{}","facts":{{"version":"0.1.0","host":"h","platform":"linux/x86_64"}},"abilities":{{"max_fields":260,"any_status":true,"any_upgrade":true}}}}"#,
            "A".repeat(86)
        );
        golden(&FromConnector::Hello(hello.clone()), &hello_json);
        let probe_json = format!(r#"{},"probe":true}}"#, hello_json.strip_suffix('}').unwrap());
        golden(&FromConnector::Hello(Hello { probe: true, ..hello }), &probe_json);
        golden(
            &FromConnector::Ping { sequence: 1, rtt_us: Some(350) },
            r#"{"type":"ping","sequence":1,"rtt_us":350}"#,
        );
        golden(&FromConnector::Goodbye, r#"{"type":"goodbye"}"#);
        golden(
            &FromConnector::Facts(Facts {
                version: "0.1.0".into(),
                host: "h".into(),
                platform: "linux/x86_64".into(),
                policy: Some("sha256:00".into()),
                started_ms: Some(1_800_000_000_000),
                log_level: Some("info".into()),
                log_level_from_cloud: true,
            }),
            r#"{"type":"facts","version":"0.1.0","host":"h","platform":"linux/x86_64","policy":"sha256:00","started_ms":1800000000000,"log_level":"info","log_level_from_cloud":true}"#,
        );
    }

    #[test]
    fn what_a_newer_peer_says_is_no_error() {
        assert_eq!(
            decode::<FromEdge>(br#"{"type":"confetti","colour":"red"}"#).unwrap(),
            FromEdge::Unknown
        );
        let welcome = br#"{"type":"welcome","version":1,"edge":"01010101-0101-0101-0101-010101010101","region":"eu"}"#;
        let FromEdge::Welcome { abilities, .. } = decode(welcome).unwrap() else { panic!() };
        assert_eq!(abilities, Abilities::default(), "an older peer announces none");
        assert_eq!(
            decode::<FromConnector>(br#"{"type":"ping","sequence":1,"mood":"good"}"#).unwrap(),
            FromConnector::Ping { sequence: 1, rtt_us: None }
        );
        assert_eq!(
            decode::<FromEdge>(br#"{"type":"refused","code":"full_moon"}"#).unwrap(),
            FromEdge::Refused(LinkRefusal { code: LinkRefusalCode::Unknown, retry_after_ms: None })
        );
    }

    #[test]
    fn a_refusal_code_has_one_name_on_the_wire_and_in_metrics() {
        for code in LinkRefusalCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn facts_cannot_carry_control_characters_or_novels() {
        let facts = Facts {
            version: "\x1b[31m1".into(),
            host: "h".repeat(999),
            platform: "ü".repeat(99),
            policy: Some("sha256:\n".into()),
            log_level: Some("in\tfo".into()),
            ..Facts::default()
        };
        let clean = facts.clean();
        assert_eq!(clean.version, "[31m1");
        assert_eq!(clean.host.len(), 128);
        assert_eq!(clean.platform.len(), 128);
        assert_eq!(clean.policy.unwrap(), "sha256:");
        assert_eq!(clean.log_level.unwrap(), "info");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<FromEdge>(&bytes);
            let _ = decode::<FromConnector>(&bytes);
        }
    }
}
