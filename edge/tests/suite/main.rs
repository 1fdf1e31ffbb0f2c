//! The edge through its public doors: a control plane that feeds it, connectors that dial it, clients
//! that use its gateway; over both carriers.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

extern crate postern_edge as edge;

mod bodies;
mod client;
mod connector;
mod control_plane;
mod ends;
mod feed;
mod https;
mod leaving;
mod lines;
mod links;
mod refusals;
mod relay;
mod revocation;
mod shares;
mod silence;
mod strangers;
mod takeover;
mod tunnels;
mod workers;
mod world;
