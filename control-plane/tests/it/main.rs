//! The control plane through its public doors: HTTP on a bound port, mutual TLS at the edge port.

#![allow(clippy::unwrap_used)]

extern crate postern_control_plane as control_plane;

mod audit;
mod auth;
mod client;
mod document;
mod edges;
mod presence;
mod proxy_tokens;
mod restart;
mod runner;
mod runner_tunnel;
mod tenancy;
mod test_edge;
mod tunnels;
mod world;
