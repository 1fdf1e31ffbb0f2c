//! The suite over SQLite.

#![allow(clippy::unwrap_used)]
#![expect(dead_code, reason = "what only a second control plane needs")]

extern crate postern_control_plane as control_plane;

#[path = "it/suite.rs"]
mod suite;
use suite::*;
