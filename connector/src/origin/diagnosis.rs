//! What is wrong with bytes that hyper could not parse as an answer: hyper names the kind of fault, and not
//! where it is.
//!
//! Only names of fields, numbers and single bytes are told: a value may be secret.

use protocol::head::MESSAGE_FIELDS;

use super::MAX_RESPONSE_HEAD;

/// The fault in the start of an answer; `None` if there is none in what is there.
pub(super) fn fault(seen: &[u8]) -> Option<String> {
    if seen.is_empty() {
        return None;
    }
    if let Some(other) = other_protocol(seen) {
        return Some(other.into());
    }
    // Empty lines before an answer are skipped.
    let start = seen.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut lines = Lines { rest: &seen[start..] };
    let status = lines.next()?;
    if let Some(fault) = status_line(status) {
        return Some(fault);
    }
    let mut before = None;
    for (line, number) in lines.zip(1..) {
        if line.is_empty() {
            return None;
        }
        if let Some(fault) = field_line(line, number, before) {
            return Some(fault);
        }
        before = Some(name(line));
    }
    None
}

/// The answer's head is over the limits.
pub(super) fn too_large() -> String {
    let size = MAX_RESPONSE_HEAD / 1024;
    format!("the answer's head has more than {MESSAGE_FIELDS} fields or {size} KiB")
}

fn other_protocol(seen: &[u8]) -> Option<&'static str> {
    match seen {
        [0x15 | 0x16, 0x03, 0..=4, ..] => Some("the port speaks TLS: send the request to https"),
        // A SETTINGS frame on stream 0, the first that a server sends.
        [0, 0, _, 4, 0, 0, 0, 0, 0, ..] => Some(
            "the port speaks HTTP/2 only: set http2 = \"always\" for it in TUNNEL_ORIGINS_FILE",
        ),
        [b'S', b'S', b'H', b'-', ..] => Some("the port speaks SSH"),
        [b'2', b'2', b'0', b' ' | b'-', ..] => Some("the port speaks SMTP or FTP"),
        _ => None,
    }
}

fn status_line(line: &[u8]) -> Option<String> {
    let Some(rest) = line.strip_prefix(b"HTTP/") else {
        return Some("the answer does not begin with a status line, such as HTTP/1.1 200".into());
    };
    let (version, rest) =
        rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
    if !matches!(version, b"1.0" | b"1.1") {
        let version = printable(version);
        return Some(format!(
            "the status line says HTTP/{version}; HTTP/1.0 and HTTP/1.1 are understood"
        ));
    }
    let code = rest.strip_prefix(b" ").unwrap_or_default();
    let (code, reason) = code.split_at(code.len().min(3));
    let is_code = code.len() == 3 && code.iter().all(u8::is_ascii_digit) && code[0] != b'0';
    if !is_code || !matches!(reason, [] | [b' ', ..]) {
        return Some("the status line has no status from 100 to 999".into());
    }
    control(reason).map(|(byte, at)| {
        format!("the reason phrase has the byte 0x{byte:02x} at {at}, which cannot stand there")
    })
}

fn field_line(line: &[u8], number: usize, before: Option<&[u8]>) -> Option<String> {
    if matches!(line, [b' ' | b'\t', ..]) {
        // A folded value, unless there is none that it could belong to.
        let Some(before) = before else {
            return Some("the first field begins with white space".into());
        };
        return control(line).map(|(byte, at)| {
            let name = printable(before);
            format!("field {name}, folded: the byte 0x{byte:02x} at {at} cannot stand in a value")
        });
    }
    let shown = printable(name(line));
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some(format!("field {number} has no colon"));
    };
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() {
        return Some(format!("field {number} has no name"));
    }
    if let Some(at) = name.iter().position(|byte| !is_token(*byte)) {
        let byte = name[at];
        return Some(format!(
            "field {number}, {shown}: the byte 0x{byte:02x} at {at} cannot stand in a name"
        ));
    }
    control(&line[colon + 1..]).map(|(byte, at)| {
        format!("field {number}, {shown}: the byte 0x{byte:02x} at {at} cannot stand in a value")
    })
}

/// What stands before the colon.
fn name(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii()
}

/// The first byte that no value may hold (RFC 9110 §5.5), and where it is.
fn control(value: &[u8]) -> Option<(u8, usize)> {
    let at = value.iter().position(|byte| matches!(byte, 0x00..=0x08 | 0x0a..=0x1f | 0x7f))?;
    Some((value[at], at))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// For people: at most 40 bytes, with what does not print escaped.
fn printable(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(40)].escape_ascii().to_string()
}

/// Whole lines, without their ends.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 1..]);
        self.rest = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fault_is_named_with_its_place() {
        for (seen, expected) in [
            (&b"\x15\x03\x03\x00\x02\x02\x16"[..], "TLS"),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", "HTTP/2"),
            (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH"),
            (b"220 mail ESMTP\r\n", "SMTP"),
            (b"<html>hello\n", "status line"),
            (b"HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.2"),
            (b"HTTP/3\r\n\r\n", "HTTP/3"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", "100 to 999"),
            (b"HTTP/1.1 099 OK\r\n\r\n", "100 to 999"),
            (b"HTTP/1.1 200 O\x00K\r\n\r\n", "0x00"),
            (b"\r\nHTTP/1.1 200\r\nx: \x01\r\n\r\n", "field 1, x: the byte 0x01 at 1"),
            (b"HTTP/1.1 200 OK\r\na: b\r\nno colon\r\n\r\n", "field 2 has no colon"),
            (b"HTTP/1.1 200 OK\r\na: b\r\n: c\r\n\r\n", "field 2 has no name"),
            (b"HTTP/1.1 200 OK\na: b\nx y: c\n\n", "field 2, x y: the byte 0x20 at 1"),
            (b"HTTP/1.1 200 OK\r\n fold: b\r\n\r\n", "first field begins"),
            (b"HTTP/1.1 200 OK\r\na: b\r\n c\x7f\r\n\r\n", "field a, folded: the byte 0x7f"),
        ] {
            let fault = fault(seen).unwrap_or_default();
            assert!(fault.contains(expected), "{}: {fault}", seen.escape_ascii());
        }
        for sound in [&b""[..], b"HTTP/1.1 200 OK\r\nX-A : 1\r\nb: \xff\r\n\r\n", b"HTTP/1.1 200"] {
            assert_eq!(fault(sound), None, "{}", sound.escape_ascii());
        }
    }

    #[test]
    fn no_value_is_told() {
        let fault = fault(b"HTTP/1.1 200 OK\r\nset-cookie: secret\x00\r\n\r\n").unwrap();
        assert!(!fault.contains("secret"), "{fault}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(seen in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = fault(&seen);
            let _ = fault(&[b"HTTP/1.1 200 OK\r\n", &seen[..], b"\r\n\r\n"].concat());
        }
    }
}
