//! A whole connector against real sockets: edges made of the link crate's own listeners, and origins of
//! every temper. What concerns requests runs once over QUIC and once over HTTP/2.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate postern_connector as connector;

mod binary;
mod deployment;
mod doctor;
mod ends;
mod http2_origins;
mod lifecycle;
mod messages;
mod origin_settings;
mod origins;
mod policy;
mod refusals;
mod requests;
mod tunnels;

/// Makes each async function `name(transport)` two tests: `name::quic` and `name::http2`.
macro_rules! over_both_carriers {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn quic() {
                super::$name(protocol::presence::Transport::Quic).await;
            }

            #[tokio::test]
            async fn http2() {
                super::$name(protocol::presence::Transport::Http2).await;
            }
        }
    )*};
}
pub(crate) use over_both_carriers;
