//! The appliance that sits in a private network and keeps four links dialled out.
//!
//! ```text
//!            ┌──────────── shell ────────────┐
//!  edges ◄───┤ dials, links  ◄── effects ──  ├──► supervisor (no IO, no clock)
//!            │               ─── inputs ──►  │
//!            └──────┬────────────────────────┘
//!        requests   ▼
//!  origins ◄──── origin ◄─── guard               status server :9000
//! ```
//!
//! [`supervisor`] decides which links there should be, and the shell executes this. Each request that
//! arrives over a link is served from its origin, after the guard has checked the address. [`config`]
//! reads the environment, and [`proxy`] the part of it about outbound proxies. `files` reads the
//! customer's files with the policy of the guard and the settings of origins.

pub mod config;
mod doctor;
mod files;
mod guard;
mod local;
pub mod log;
pub mod metrics;
mod origin;
mod outlet;
pub mod program;
pub mod proxy;
mod race;
mod run;
mod shell;
mod status;
pub mod supervisor;

pub use config::{Config, ConfigError, Options};
pub use origin::Limits;
pub use run::{StartError, run};
