//! What a link promises, over both carriers: every test here runs once over QUIC and once over HTTP/2,
//! with real sockets on the loopback interface.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

extern crate postern_link as link;

mod handshake;
mod messages;
mod resets;
mod stopped;
mod streams;
mod tunnels;
mod world;

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
