//! The log: lines on standard output. How much is written can be changed while the connector runs.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use protocol::order::{InvalidLogLevel, LogLevel};
use tokio::sync::watch;
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

/// Changes the level of a log that is being written.
#[derive(Debug, Clone)]
pub struct LevelSwitch {
    filter: reload::Handle<LevelFilter, Registry>,
    changes: watch::Sender<Level>,
}

/// Changes the level when the cloud says so, where the connector's own setting lets it. Each order is obeyed
/// once, though every link tells it.
#[derive(Debug, Clone)]
pub(crate) struct FromCloud {
    switch: LevelSwitch,
    /// The order that was obeyed last.
    newest: Arc<Mutex<u64>>,
}

impl FromCloud {
    pub(crate) fn new(switch: LevelSwitch) -> Self {
        Self { switch, newest: Arc::default() }
    }

    pub(crate) fn obey(&self, level: LogLevel, order: u64) {
        let Some(wanted) = Level::of(level) else { return };
        // Held until the level is set, so that an older order on another link cannot come in between.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest < order {
            *newest = order;
            self.switch.set(wanted);
            tracing::warn!(%level, "log level was changed by the cloud");
        }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl FromStr for Level {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        Self::of(text.parse()?).ok_or(InvalidLogLevel)
    }
}

impl Level {
    /// `None` if only a newer version knows it.
    fn of(level: LogLevel) -> Option<Self> {
        Some(Self(match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
            LogLevel::Unknown => return None,
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
        self.filter.clone_current().map(Level)
    }

    /// The level that was set last, as it changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Level> {
        self.changes.subscribe()
    }

    /// Logs at another level from now on.
    pub fn set(&self, level: Level) {
        // Fails only if the subscriber is gone, and its log with it.
        let _ = self.filter.reload(level.0);
        self.changes.send_replace(level);
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
    LevelSwitch { filter: switch, changes: watch::Sender::new(level) }
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>() -> tracing_subscriber::fmt::Layer<S> {
    tracing_subscriber::fmt::layer().with_target(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_of_the_cloud_is_obeyed_once() {
        let level = Level::default();
        let (_filter, handle) = reload::Layer::new(level.0);
        let switch = LevelSwitch { filter: handle, changes: watch::Sender::new(level) };
        let cloud = FromCloud::new(switch.clone());
        cloud.obey(LogLevel::Debug, 7);
        assert_eq!(switch.level(), Level::of(LogLevel::Debug));
        let warn = Level(LevelFilter::WARN);
        switch.set(warn);
        for (level, order) in [(LogLevel::Debug, 7), (LogLevel::Trace, 6)] {
            cloud.obey(level, order);
            assert_eq!(switch.level(), Some(warn), "{order} was heard before");
        }
        cloud.obey(LogLevel::Unknown, 8);
        assert_eq!(switch.level(), Some(warn), "nobody knows it here");
        cloud.obey(LogLevel::Error, 8);
        assert_eq!(switch.changes().borrow().to_string(), "error");
    }
}
