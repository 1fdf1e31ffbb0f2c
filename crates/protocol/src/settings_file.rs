//! Files that people write: TOML, read strictly. What is not understood is an error that names the line,
//! for a setting that is silently ignored protects nobody.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};

/// Most entries in one list.
pub const MAX_ENTRIES: usize = 1_000;
/// A name that is at least this much like the one that was written is suggested.
const LIKENESS: f64 = 0.7;

/// What is wrong with a file, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct FileError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl FileError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// When it is too long, no TOML, or holds a key or value that `T` does not know.
pub fn read<T: DeserializeOwned>(text: &str, limit: usize) -> Result<T, FileError> {
    if text.len() > limit {
        return Err(FileError::new(1, format!("the file has more than {limit} bytes")));
    }
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = error.message().trim().replace('\n', ", ");
        FileError::new(line, suggest(&message).unwrap_or(message))
    })
}

/// Says what was probably meant, where serde complains: ``unknown field `a`, expected `b` or `c` ``.
fn suggest(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let likeness = |known: &str| strsim::jaro_winkler(known, unknown);
    let known: Vec<&str> = quoted.collect();
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    let hint = if likeness(nearest) >= LIKENESS {
        format!("did you mean {nearest}?")
    } else {
        format!("expected one of {}", known.join(", "))
    };
    Some(format!("{unknown:?} is not known here: {hint}"))
}

/// A list that has something in it: an empty one could be meant to match nothing, or everything.
///
/// # Errors
/// When it is empty, or has more than [`MAX_ENTRIES`].
pub fn filled<'de, D, T>(deserializer: D) -> Result<BTreeSet<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Ord,
{
    let entries: Vec<T> = bounded(deserializer)?;
    if entries.is_empty() {
        return Err(D::Error::custom("an empty list matches nothing: fill it, or leave it out"));
    }
    Ok(entries.into_iter().collect())
}

/// A list of at most [`MAX_ENTRIES`].
///
/// # Errors
/// When it has more.
pub fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let entries = Vec::deserialize(deserializer)?;
    if entries.len() > MAX_ENTRIES {
        return Err(D::Error::custom(format_args!("more than {MAX_ENTRIES} entries")));
    }
    Ok(entries)
}
