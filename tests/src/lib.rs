//! What the whole-system tests, the demo and the benchmark share: worlds made of real processes that
//! talk over real sockets, a private origin, and the public API as a client sees it.

pub mod api;
pub mod bench;
pub mod chaos;
pub mod conformance;
pub mod crowd;
pub mod dns;
pub mod docker;
pub mod network;
pub mod origin;
pub mod outbound;
pub mod postgres;
pub mod process;
pub mod traffic;
pub mod vanish;
pub mod way;
pub mod world;
