//! TLS for the ports that people and programs use: the control plane's API and console, and the edge's
//! gateway. (Links and the edge port have separate TLS: `link::tls`, the control plane's authority.)
//!
//! A [`Port`] accepts TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1 by ALPN. It has one [`Certificate`], which
//! can be replaced at any time: the next handshake gets the new one, and open connections stay as they
//! are. [`Port::follow`] replaces it whenever [`Files`] change.
//!
//! ```text
//! accepted ─► begin: is the first byte that of TLS? ─┬─ yes ─► finish: the handshake ─► HTTP
//!                                                    └─ no ──► plain HTTP: the caller says what to do
//! ```

use std::net::IpAddr;

pub use certificate::{Certificate, Error, Files};
pub use port::{Handshake, Port};

mod certificate;
mod port;

/// ALPN of HTTP/2 over TLS (RFC 9113 §3.1).
pub const HTTP2: &[u8] = b"h2";
/// ALPN of HTTP/1.1 (RFC 7301 §6).
pub const HTTP1: &[u8] = b"http/1.1";

/// True if no other machine reaches what listens at `listen` and is known as `host`: then plain HTTP gives nothing
/// away.
pub fn is_local(listen: IpAddr, host: &str) -> bool {
    let is_local_host = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    listen.to_canonical().is_loopback() && is_local_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_under_a_name_of_its_own_is_local() {
        for (listen, host, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.8.9.1", "127.8.9.1", true),
            ("::1", "LocalHost", true),
            ("::ffff:127.0.0.1", "::1", true),
            ("127.0.0.1", "postern.example.com", false),
            ("127.0.0.1", "192.0.2.1", false),
            ("0.0.0.0", "localhost", false),
            ("192.0.2.1", "192.0.2.1", false),
        ] {
            assert_eq!(is_local(listen.parse().unwrap(), host), expected, "{listen} {host}");
        }
    }
}
