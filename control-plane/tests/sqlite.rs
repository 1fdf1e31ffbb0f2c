//! The suite over SQLite.

#![allow(clippy::unwrap_used)]

extern crate postern_control_plane as control_plane;

#[path = "it/suite.rs"]
mod suite;
use suite::*;
