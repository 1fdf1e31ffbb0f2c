//! Names that stand in URLs, proxy credentials and metrics: short, lower-case, never changing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes: a name must fit a DNS label (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was given.
    #[error("the name is empty: give 1 to 63 letters, digits or hyphens")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("the name has {0} characters: 63 is the most")]
    TooLong(usize),
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("the name holds {0:?}: only a-z, 0-9 and - are allowed")]
    Character(char),
    /// A hyphen at either end.
    #[error("the name starts or ends with a hyphen: begin and end with a letter or a digit")]
    Hyphen,
}

fn validate(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(character) = text.chars().find(|c| !allowed(*c)) {
        return Err(InvalidName::Character(character));
    }
    if text.len() > MAX_NAME {
        return Err(InvalidName::TooLong(text.len()));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(InvalidName::Hyphen);
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                validate(&text)?;
                Ok(Self(text.into_boxed_str()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into_string()
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    )*};
}

names! {
    /// A tunnel's name: unique in its tenant, the user name towards the gateway.
    TunnelName,
    /// A region's name: where an edge stands.
    RegionName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_dns_label() {
        for good in ["a", "office-1", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<TunnelName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", InvalidName::Empty),
            ("Office", InvalidName::Character('O')),
            ("a b", InvalidName::Character(' ')),
            ("-a", InvalidName::Hyphen),
            ("a-", InvalidName::Hyphen),
            ("büro", InvalidName::Character('ü')),
        ] {
            assert_eq!(bad.parse::<TunnelName>().unwrap_err(), why, "{bad:?}");
        }
        assert_eq!("x".repeat(64).parse::<TunnelName>().unwrap_err(), InvalidName::TooLong(64));
    }
}
