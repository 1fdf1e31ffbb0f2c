//! What an admin asks of a running connector, or of one of its links. The control plane tells the edges in the
//! feed, and each sees to its own links.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::id::ConnectorId;

/// Something that is asked of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Grows with every order: of two that contradict each other the greater one counts.
    pub number: u64,
    /// Of whom.
    pub connector: ConnectorId,
    /// What.
    pub task: Task,
}

/// What is asked. A link is known by its slot and the moment at which it came up: its edge's clock,
/// milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Task {
    /// Bring a replacement of this link up elsewhere, and let it finish.
    DrainLink {
        /// Its slot.
        slot: u8,
        /// When it came up.
        since_ms: u64,
    },
    /// End this link, and what is under way on it.
    CutLink {
        /// Its slot.
        slot: u8,
        /// When it came up.
        since_ms: u64,
    },
    /// Log at this level, if the connector lets the cloud say so.
    LogLevel {
        /// The level.
        level: LogLevel,
    },
    /// Something that a newer control plane asks.
    #[serde(other)]
    Unknown,
}

/// How much a connector logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may wake someone.
    Warn,
    /// And changes of state.
    Info,
    /// And what developers look at.
    Debug,
    /// And everything else.
    Trace,
    /// Something that only a newer version knows.
    #[serde(other)]
    Unknown,
}

impl LogLevel {
    /// Every level that is known, the quietest first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text was no level.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected error, warn, info, debug or trace")]
pub struct InvalidLogLevel;

impl FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        let text = text.to_ascii_lowercase();
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(InvalidLogLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_has_one_name() {
        for level in LogLevel::ALL {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
            assert_eq!(level.as_str().to_uppercase().parse(), Ok(level));
        }
        for text in ["loud", "unknown"] {
            assert_eq!(text.parse::<LogLevel>(), Err(InvalidLogLevel));
        }
    }

    #[test]
    fn what_a_newer_control_plane_asks_is_no_error() {
        let json = r#"{"number":3,"connector":"04040404-0404-0404-0404-040404040404","task":{"do":"dance","slot":1}}"#;
        assert_eq!(serde_json::from_str::<Order>(json).unwrap().task, Task::Unknown);
        let task = serde_json::from_str(r#"{"do":"log_level","level":"whisper"}"#);
        assert_eq!(task.ok(), Some(Task::LogLevel { level: LogLevel::Unknown }));
    }
}
