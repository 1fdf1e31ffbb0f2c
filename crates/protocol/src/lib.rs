//! Postern's vocabulary, as types.
//!
//! Everything that two parts of Postern say to each other is defined here, once:
//!
//! - the form of a tunnel's secret ([`secret`])
//! - what travels on a link ([`frame`], [`head`], [`control`])
//! - what the control plane and an edge tell each other ([`feed`], [`order`], [`presence`],
//!   [`join`])
//! - who may use a tunnel ([`access`]), and what may be reached through it ([`policy`])
//! - the health of a tunnel ([`health`])
//! - refusals ([`refusal`])
//!
//! The crate does no IO, reads no clock and draws no random number. All outside input is an argument,
//! so every rule can be tested with plain values.

pub mod abilities;
pub mod access;
pub mod address;
pub mod claims;
pub mod control;
pub mod credential;
pub mod feed;
pub mod fields;
pub mod frame;
pub mod framing;
pub mod head;
pub mod health;
pub mod id;
pub mod join;
pub mod key;
pub mod name;
pub mod order;
pub mod phases;
pub mod policy;
pub mod presence;
pub mod refusal;
pub mod secret;
pub mod settings_file;
pub mod traffic;
pub mod varint;

mod armour;
mod base64url;

pub use armour::ArmourError;

/// Version of the link protocol that this build speaks. An edge refuses a connector whose version
/// it does not know; the number changes only when old and new can no longer talk.
pub const LINK_VERSION: u16 = 1;

/// ALPN of a link over QUIC.
pub const ALPN_QUIC: &[u8] = b"postern/1";
/// ALPN of a link over HTTP/2 on TLS.
pub const ALPN_HTTP2: &[u8] = b"postern/1-h2";
/// ALPN of HTTP/1.1 to a gateway, from whoever trusts the deployment's own authority: the gateway shows the edge's
/// certificate, whatever it shows to others.
pub const ALPN_GATEWAY: &[u8] = b"postern/1-gateway";
/// Label under which both ends export keying material from TLS for the link's proof (RFC 9266).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Number of links that a connector wants.
pub const SLOTS: u8 = 4;
