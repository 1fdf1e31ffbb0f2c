//! Paths in rules and in requests.
//!
//! Servers disagree about what a path means once it holds dot segments, empty segments, encoded slashes,
//! escapes of escapes, or semicolons; a rule that takes one reading can be walked around with another. So
//! a path is either the same to all of them, and then has one normal form, or it has none. Nothing here
//! changes what is sent to an origin.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// A path that every server reads alike: begins with `/`; escapes are decoded where they hide an ordinary
/// character, and in capitals where they stay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NormalPath(String);

impl NormalPath {
    /// The normal form of a path without its query; `None` if it can be read in more than one way.
    pub fn of(path: &str) -> Option<Self> {
        if path.is_empty() {
            return Some(Self("/".into()));
        }
        if !path.starts_with('/') {
            return None;
        }
        let decoded = decode(path.as_bytes())?;
        // Latin-1, overlong UTF-8 and the like mean different things to different servers.
        let decoded = std::str::from_utf8(&decoded).ok()?;
        let mut segments = decoded[1..].split('/').rev();
        let last = segments.next().unwrap_or_default();
        let is_clear = |segment: &str| !segment.ends_with(['.', ' ']);
        if !is_clear(last) || !segments.all(|segment| !segment.is_empty() && is_clear(segment)) {
            return None;
        }
        let mut normal = String::with_capacity(path.len());
        for byte in decoded.bytes() {
            if byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#') {
                normal.push(byte.into());
            } else {
                // Cannot fail: a String takes everything.
                let _ = write!(normal, "%{byte:02X}");
            }
        }
        Some(Self(normal))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The bytes that a path stands for; `None` where escapes are broken, or hide what separates.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        let byte = if *byte == b'%' {
            let [high, low, behind @ ..] = rest else { return None };
            rest = behind;
            let byte = hex(*high)? << 4 | hex(*low)?;
            // A slash that separates nothing; an escape that may be one of an escape.
            if matches!(byte, b'/' | b'%') {
                return None;
            }
            byte
        } else {
            *byte
        };
        if byte.is_ascii_control() || matches!(byte, b'\\' | b';') {
            return None;
        }
        bytes.push(byte);
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A path and everything below it: `/api` holds `/api`, `/api/` and `/api/x`, and not `/apix`. A slash at
/// its end means nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

/// The text is no path prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path prefix: expected a path such as /api/v1, without .., // or ;")]
pub struct InvalidPrefix(String);

impl PathPrefix {
    /// Does the path lie in it?
    pub fn holds(&self, path: &NormalPath) -> bool {
        path.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Does it, to a server that does not tell capitals from small letters?
    pub fn may_hold(&self, path: &NormalPath) -> bool {
        let Some((start, rest)) = path.0.split_at_checked(self.0.len()) else { return false };
        start.eq_ignore_ascii_case(&self.0) && (rest.is_empty() || rest.starts_with('/'))
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = InvalidPrefix;

    fn try_from(text: String) -> Result<Self, InvalidPrefix> {
        let normal = if text.contains(['?', '#']) { None } else { NormalPath::of(&text) };
        let Some(NormalPath(mut path)) = normal.filter(|_| !text.is_empty()) else {
            return Err(InvalidPrefix(text));
        };
        if path.ends_with('/') {
            path.pop();
        }
        Ok(Self(path))
    }
}

impl From<PathPrefix> for String {
    fn from(prefix: PathPrefix) -> Self {
        if prefix.0.is_empty() { "/".into() } else { prefix.0 }
    }
}
