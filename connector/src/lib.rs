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
//! [`supervisor`] decides which links there are to be; the shell executes that. Each request that comes
//! down a link is served from its origin, after the guard has judged the address. [`config`] makes sense
//! of the environment, [`proxy`] of what it says about the way out, and `files` of
//! what the customer wrote down for the guard and for origins.

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
