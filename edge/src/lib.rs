//! One data-plane process of Postern. It accepts links from connectors ([`Options::listen`]), offers
//! the gateway to workflows ([`Options::gateway_listen`]), and sends requests from the gateway over the
//! links. It has no database: it learns everything from the control plane's feed. Without the control
//! plane it continues with the last feed, for a day by default.
//!
//! ```text
//!   control plane ──feed──► Knowledge ◄──judge── Gateway ◄── client
//!         ▲                     │ enforce           │ pick, send
//!         └────presence──── Registry of links ◄─────┘
//!                               ▲
//!                           Links ◄── connectors dial
//! ```
//!
//! Clients and links are spread over workers ([`link::workers`]), one for each core. All workers share
//! what the picture shows.
//!
//! A change from the feed is in force when `Core::apply` returns: new requests are checked against it,
//! and live streams and links that it forbids have been closed.

mod accept;
mod aside;
mod backoff;
mod control_plane;
mod core;
mod disk;
mod edge;
mod gateway;
mod handover;
mod identity;
mod join;
mod knowledge;
mod lines;
mod links;
mod metrics;
mod observe;
mod options;
mod ports;
mod registry;
mod served;
mod streams;
mod tasks;
mod traffic;

pub use edge::{Edge, StartError};
pub use join::JoinError;
pub use options::{JoinTokenText, MAX_WORKERS, Options};

use tokio_util::sync::CancellationToken;

/// Starts an edge and serves until `shutdown`.
///
/// # Errors
/// When it cannot start; once it is up, it stays up.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let edge = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        edge = Edge::bind(options) => edge?,
    };
    edge.run(shutdown).await;
    Ok(())
}
