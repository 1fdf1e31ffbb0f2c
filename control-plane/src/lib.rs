//! Postern's control plane: who may use which tunnel, and how well each tunnel is.
//!
//! ```text
//!  people, programs ── HTTP ──► api ─┐                        ┌─► feed ────► edges
//!                                    ├─► store (the truth) ───┤
//!  edges ── HTTP/2, mTLS ─► edge_port┘        ▲               └─► runner ──► gateways of edges
//!                               └─ presence ──┘ health
//! ```
//!
//! Every change of configuration is one transaction of rows, a new generation and an audit entry
//! ([`store`]). Edges learn of changes from the feed, which is computed from the generations in the
//! database. They report the links that they hold (`presence`), and the health of a tunnel is derived
//! from these reports. The runner uses the edges' gateways like any other client.

mod action;
mod api;
mod app;
mod auth;
mod ca;
mod clock;
mod console;
mod control_plane;
mod edge_port;
mod events;
mod failures;
mod files;
mod first_run;
mod guard;
mod https;
mod listener;
mod options;
mod peers;
mod presence;
mod random;
mod runner;
mod signer;
mod store;
mod traffic;

pub use api::openapi;
pub use clock::Clock;
pub use control_plane::{ControlPlane, run};
pub use first_run::FirstRun;
pub use options::{Options, PasswordCost};
pub use store::Error as StoreError;
