//! The form that every secret text of Postern has: a prefix that says what it is, then base64url of
//! the payload and its CRC-32. A person who mistypes or cuts one learns so at once, before anything
//! is dialled or looked up.

use zeroize::Zeroizing;

use crate::base64url;

/// Longest text that is looked at, in bytes: above the largest secret, small enough to be no burden.
const MAX_TEXT: usize = 8192;

/// Why a text is not what it was given as. Never holds any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmourError {
    /// Nothing but white space.
    #[error("it is empty")]
    Empty,
    /// It begins with something else.
    #[error("it does not begin with {expected:?}: this is something else, or its start is missing")]
    Prefix {
        /// What it should begin with.
        expected: &'static str,
    },
    /// A character that base64url has not.
    #[error("character {position} is not allowed: copy it again, without quotes or line breaks")]
    Character {
        /// Counted from 1.
        position: usize,
    },
    /// The checksum does not match, or the length is impossible.
    #[error("it is mistyped or cut short: its checksum does not match; copy all of it again")]
    Damaged,
    /// Whole, but not laid out as this version expects.
    #[error("it was made by another version of Postern, or its contents are not valid")]
    Payload,
}

pub(crate) fn encode(prefix: &str, payload: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(payload.len() + 4));
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    let body = Zeroizing::new(base64url::encode(bytes.as_slice()));
    Zeroizing::new([prefix, body.as_str()].concat())
}

/// The payload of `text`, which may be wrapped in white space.
pub(crate) fn decode(prefix: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, ArmourError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ArmourError::Empty);
    }
    let Some(body) = text.strip_prefix(prefix) else {
        return Err(ArmourError::Prefix { expected: prefix });
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(position) = text.chars().position(|c| !allowed(c)) {
        return Err(ArmourError::Character { position: position + 1 });
    }
    if text.len() > MAX_TEXT {
        return Err(ArmourError::Damaged);
    }
    let mut bytes = Zeroizing::new(base64url::decode(body).map_err(|_| ArmourError::Damaged)?);
    let Some((payload, checksum)) = bytes.split_last_chunk::<4>() else {
        return Err(ArmourError::Damaged);
    };
    if crc32fast::hash(payload).to_be_bytes() != *checksum {
        return Err(ArmourError::Damaged);
    }
    let length = payload.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads fixed and length-prefixed fields off the front of a payload.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ArmourError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(ArmourError::Payload)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, ArmourError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, ArmourError> {
        let length = usize::from(self.byte()?);
        let (head, rest) = self.0.split_at_checked(length).ok_or(ArmourError::Payload)?;
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| ArmourError::Payload)
    }

    pub(crate) fn end(self) -> Result<(), ArmourError> {
        if self.0.is_empty() { Ok(()) } else { Err(ArmourError::Payload) }
    }
}

/// Appends a text of at most 255 bytes, behind its length.
pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    debug_assert!(text.len() <= 255, "names and hosts are shorter than 256 bytes");
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}
