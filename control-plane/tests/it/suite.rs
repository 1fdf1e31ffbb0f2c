//! The control plane through its public doors: HTTP on a bound port, mutual TLS at the edge port. The
//! same suite runs over each database engine.

pub mod audit;
pub mod auth;
pub mod client;
pub mod console;
pub mod database;
pub mod document;
pub mod edges;
pub mod editing;
pub mod events;
pub mod https;
pub mod lists;
pub mod presence;
pub mod proxy_tokens;
pub mod restart;
pub mod runner;
pub mod runner_tunnel;
pub mod strangers;
pub mod tenancy;
pub mod test_edge;
pub mod traffic;
pub mod tunnels;
pub mod world;
