//! The log: lines on standard output. How much is written can be changed while the connector runs.

use std::{fmt, str::FromStr};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, Registry, layer::SubscriberExt as _, registry::LookupSpan, reload,
    util::SubscriberInitExt as _,
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(LevelFilter);

/// The levels, as they are written.
pub const LEVELS: &str = "error, warn, info, debug or trace";

/// The text was no level.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {LEVELS}")]
pub struct InvalidLevel;

/// Changes the level of a log that is being written.
#[derive(Debug, Clone)]
pub struct LevelSwitch(reload::Handle<LevelFilter, Registry>);

impl Default for Level {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl FromStr for Level {
    type Err = InvalidLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLevel> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => return Err(InvalidLevel),
        }))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LevelSwitch {
    /// The level now; `None` if nothing is logged any more.
    pub fn level(&self) -> Option<Level> {
        self.0.clone_current().map(Level)
    }

    /// Logs at another level from now on.
    pub fn set(&self, level: Level) {
        // Fails only if the subscriber is gone, and its log with it.
        let _ = self.0.reload(level.0);
    }
}

/// Makes standard output the process's log.
pub fn init(level: Level, format: LogFormat) -> LevelSwitch {
    let (filter, switch) = reload::Layer::new(level.0);
    let lines = match format {
        LogFormat::Json => lines().json().flatten_event(true).boxed(),
        LogFormat::Text => lines().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    LevelSwitch(switch)
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>() -> tracing_subscriber::fmt::Layer<S> {
    tracing_subscriber::fmt::layer().with_target(false)
}
