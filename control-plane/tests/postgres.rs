//! The suite over PostgreSQL, with a server of its own.

#![allow(clippy::unwrap_used)]

extern crate postern_control_plane as control_plane;

#[path = "it/suite.rs"]
mod suite;
use suite::*;
#[path = "it/server.rs"]
mod server;
#[path = "it/two.rs"]
mod two;
