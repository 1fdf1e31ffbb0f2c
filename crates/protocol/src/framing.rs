//! How long a message's content is: one answer, or none.
//!
//! HTTP/1.1 parsers forgive more than the codecs of a link do: lists of equal lengths, leading zeros, a
//! length beside chunked. Whoever sends a message over a link makes it canonical first, so that the two
//! carriers, and everything behind them, understand the same.

use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Longest content, in bytes: 19 digits, the most that every codec on the way takes.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// Why nobody can tell how long a message's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Different lengths, or what is no number.
    #[error("Content-Length is not one number up to {MAX_LENGTH}")]
    Length,
    /// Codings that are not taken off on the way, so that the content would arrive coded.
    #[error("Transfer-Encoding is not exactly `chunked`, the one transfer coding that passes")]
    Coding,
}

/// Leaves one canonical Content-Length, or none, and returns it. Equal values are one (RFC 9110 §8.6).
///
/// # Errors
/// If the values differ, or one is no number.
pub fn settle_length(fields: &mut HeaderMap) -> Result<Option<u64>, FramingError> {
    let mut values = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_none() && !matches!(first.as_bytes(), [b'0', _, ..]) {
        // What is almost always said is canonical.
        if let Some(length) = number(first.as_bytes()) {
            return Ok(Some(length));
        }
    }
    let mut settled = None;
    for value in fields.get_all(header::CONTENT_LENGTH) {
        for item in value.as_bytes().split(|byte| *byte == b',') {
            let length = number(item.trim_ascii()).ok_or(FramingError::Length)?;
            if settled.replace(length).is_some_and(|before| before != length) {
                return Err(FramingError::Length);
            }
        }
    }
    let length = settled.ok_or(FramingError::Length)?;
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(Some(length))
}

/// Settles how long the content of a final answer is: Transfer-Encoding overrides Content-Length
/// (RFC 9112 §6.3), and what has no content declares none (RFC 9110 §8.6, §15.2).
///
/// # Errors
/// If nobody can tell, or a coding would stay on the content.
pub fn settle_answer(status: StatusCode, fields: &mut HeaderMap) -> Result<(), FramingError> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        drop_content(fields);
        return Ok(());
    }
    if is_chunked(fields)? {
        fields.remove(header::CONTENT_LENGTH);
    } else {
        settle_length(fields)?;
    }
    Ok(())
}

/// Removes the fields that tell of content: for a CONNECT, what answers it, and what leaves HTTP.
pub fn drop_content(fields: &mut HeaderMap) {
    fields.remove(header::CONTENT_LENGTH);
    fields.remove(header::TRANSFER_ENCODING);
    fields.remove(header::TRAILER);
}

/// Is the content chunked?
///
/// # Errors
/// If it is coded in another way, too.
pub fn is_chunked(fields: &HeaderMap) -> Result<bool, FramingError> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(false) };
    let is_only = codings.next().is_none();
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if is_only && is_chunked { Ok(true) } else { Err(FramingError::Coding) }
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let number = is_number.then(|| digits.iter().try_fold(0, add))??;
    (number <= MAX_LENGTH).then_some(number)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn fields(said: &[(HeaderName, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in said {
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    fn lengths(said: &[&str]) -> Result<Option<u64>, FramingError> {
        let said: Vec<_> = said.iter().map(|value| (header::CONTENT_LENGTH, *value)).collect();
        let mut fields = fields(&said);
        let settled = settle_length(&mut fields)?;
        let left: Vec<_> = fields.get_all(header::CONTENT_LENGTH).iter().collect();
        match settled {
            Some(length) => assert_eq!(left, [&length.to_string()], "{said:?}"),
            None => assert!(left.is_empty(), "{said:?}"),
        }
        Ok(settled)
    }

    #[test]
    fn one_length_is_left_or_none() {
        let zeros = "0".repeat(500) + "11";
        let most = MAX_LENGTH.to_string();
        for (said, length) in [
            (&[][..], None),
            (&["0"], Some(0)),
            (&["11"], Some(11)),
            (&["11", "11"], Some(11)),
            (&["11, 11"], Some(11)),
            (&["11 ,\t011", "0011"], Some(11)),
            (&["000"], Some(0)),
            (&[&zeros], Some(11)),
            (&[&most], Some(MAX_LENGTH)),
        ] {
            assert_eq!(lengths(said), Ok(length), "{said:?}");
        }
        for said in [
            &["11", "12"][..],
            &["11, 12"],
            &["11", "11, 12"],
            &[""],
            &["11,"],
            &["+11"],
            &["-1"],
            &["1 1"],
            &["0x11"],
            &["11.0"],
            &["9223372036854775808"],
            &["99999999999999999999999"],
            &["11", ""],
        ] {
            assert_eq!(lengths(said), Err(FramingError::Length), "{said:?}");
        }
    }

    #[test]
    fn an_answer_says_in_one_way_how_long_it_is() {
        let (length, coding) = (header::CONTENT_LENGTH, header::TRANSFER_ENCODING);
        let settle = |status: u16, said: &[(HeaderName, &str)]| {
            let mut fields = fields(said);
            settle_answer(StatusCode::from_u16(status).unwrap(), &mut fields)?;
            let left = fields.get(header::CONTENT_LENGTH);
            Ok(left.map(|value| value.to_str().unwrap().to_owned()))
        };
        for (status, said, left) in [
            (200, &[(length.clone(), "5")][..], Some("5")),
            (200, &[(length.clone(), "5"), (coding.clone(), "chunked")], None),
            (200, &[(coding.clone(), "Chunked"), (length.clone(), "0")], None),
            (200, &[(coding.clone(), "chunked"), (length.clone(), "no number")], None),
            (304, &[(length.clone(), "05")], Some("5")),
            (204, &[(length.clone(), "5")], None),
            (204, &[(length.clone(), "no number")], None),
            (101, &[(length.clone(), "5")], None),
            (103, &[(length.clone(), "0")], None),
            (799, &[(length, "5,5")], Some("5")),
        ] {
            assert_eq!(settle(status, said), Ok(left.map(str::to_owned)), "{status} {said:?}");
        }
        for said in [
            &["gzip, chunked"][..],
            &["gzip"],
            &["identity"],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["gzip", "chunked"],
            &["chunked,"],
            &["xchunked"],
            &[""],
        ] {
            let said: Vec<_> = said.iter().map(|value| (coding.clone(), *value)).collect();
            assert_eq!(settle(200, &said), Err(FramingError::Coding), "{said:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_settled_is_what_every_value_says(
            values in prop::collection::vec("[0-9, ]{0,6}|[!-~]{0,4}", 0..4),
        ) {
            let mut fields = HeaderMap::new();
            for value in &values {
                fields.append(header::CONTENT_LENGTH, HeaderValue::from_str(value).unwrap());
            }
            let items = values.iter().flat_map(|value| value.split(','));
            let numbers: Option<Vec<u64>> = items
                .map(|item| item.trim().parse().ok().filter(|_| !item.contains('+')))
                .collect();
            let agreed = numbers.filter(|numbers| numbers.windows(2).all(|two| two[0] == two[1]));
            let expected = agreed.map(|numbers| numbers.first().copied());
            prop_assert_eq!(settle_length(&mut fields).ok(), expected);
            if expected.is_some() {
                let again = settle_length(&mut fields).ok();
                prop_assert_eq!(again, expected, "settling once more changes nothing");
            }
        }
    }
}
