//! The first line of an HTTP/1.1 request, before hyper reads it. hyper refuses bytes in a target that clients
//! send every day, and forgets whether a target has a path.
//!
//! ```text
//! Lead ─► Method ─SP─► Target ─SP─► Version ─LF─► Done
//! ```

/// Bytes that never stand in a URI (RFC 3986 §2), and that clients send all the same. Every byte above ASCII
/// is one, too. hyper takes the other forbidden ones, and they pass as they are.
const ENCODED: &[u8] = b"\"<>`";

/// Reads one request line as it comes, in pieces of any size.
#[derive(Debug)]
pub(crate) struct RequestLine {
    part: Part,
    method: Text<7>,
    version: Text<9>,
    slashes: u8,
    has_query: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Lead,
    Method,
    Target,
    Version,
    Done,
}

/// The start of a text; what is longer is none that anybody looks for.
#[derive(Debug)]
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const EMPTY: Self = Self { bytes: [0; N], length: 0 };

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl RequestLine {
    pub(crate) fn new() -> Self {
        let (method, version) = (Text::EMPTY, Text::EMPTY);
        Self { part: Part::Lead, method, version, slashes: 0, has_query: false }
    }

    /// Has the line ended?
    pub(crate) fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Is the target of an OPTIONS a URL without a path? It then asks for `*` (RFC 9112 §3.2.4).
    pub(crate) fn is_pathless_options(&self) -> bool {
        self.is_done() && self.method.get() == b"OPTIONS" && self.slashes == 2 && !self.has_query
    }

    /// Does HTTP/2 follow (RFC 9113 §3.4)?
    pub(crate) fn is_http2_preface(&self) -> bool {
        self.is_done() && self.method.get() == b"PRI"
    }

    /// Does the line name a version that hyper does not speak here?
    pub(crate) fn has_odd_version(&self) -> bool {
        let version = self.version.get();
        let version = version.strip_suffix(b"\r").unwrap_or(version);
        self.is_done() && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
    }

    /// Reads on. Returns what is to be read instead, if that is not the same.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut instead: Option<Vec<u8>> = None;
        for (at, &byte) in bytes.iter().enumerate() {
            if self.is_done() {
                if let Some(instead) = &mut instead {
                    instead.extend_from_slice(&bytes[at..]);
                }
                break;
            }
            if self.step(byte) {
                let instead = instead.get_or_insert_with(|| bytes[..at].to_vec());
                instead.extend_from_slice(format!("%{byte:02X}").as_bytes());
            } else if let Some(instead) = &mut instead {
                instead.push(byte);
            }
        }
        instead
    }

    /// Takes one byte; true if it is to be encoded.
    fn step(&mut self, byte: u8) -> bool {
        match (self.part, byte) {
            (Part::Lead, b'\r' | b'\n') | (Part::Done, _) => {}
            (_, b'\n') => self.part = Part::Done,
            (Part::Lead | Part::Method, b' ') => self.part = Part::Target,
            (Part::Lead | Part::Method, _) => {
                self.part = Part::Method;
                self.method.push(byte);
            }
            (Part::Target, b' ') => self.part = Part::Version,
            (Part::Target, b'/') => self.slashes = self.slashes.saturating_add(1),
            (Part::Target, b'?' | b'#') => self.has_query = true,
            (Part::Target, _) => return !byte.is_ascii() || ENCODED.contains(&byte),
            (Part::Version, _) => self.version.push(byte),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> (Vec<u8>, RequestLine) {
        let mut line = RequestLine::new();
        let pieces = pieces.iter().map(|piece| line.read(piece).unwrap_or_else(|| piece.to_vec()));
        (pieces.collect::<Vec<_>>().concat(), line)
    }

    #[test]
    fn everyday_bytes_in_a_target_are_encoded_and_nothing_else_changes() {
        for (sent, expected) in [
            (
                &b"GET http://a/b?c=\"d\" HTTP/1.1\r\nX: \"<>\r\n\r\n"[..],
                &b"GET http://a/b?c=%22d%22 HTTP/1.1\r\nX: \"<>\r\n\r\n"[..],
            ),
            (b"GET http://a/<b>`c HTTP/1.1\r\n", b"GET http://a/%3Cb%3E%60c HTTP/1.1\r\n"),
            (
                b"GET http://a/caf\xc3\xa9?\xe9 HTTP/1.1\r\n",
                b"GET http://a/caf%C3%A9?%E9 HTTP/1.1\r\n",
            ),
            (b"\r\n\r\nGET http://a/\" HTTP/1.1\n", b"\r\n\r\nGET http://a/%22 HTTP/1.1\n"),
            (b"G\"T http://a/ HTTP/1.1\r\n", b"G\"T http://a/ HTTP/1.1\r\n"),
            (b"GET http://a/{}|\\^%22 HTTP/1.1\r\n", b"GET http://a/{}|\\^%22 HTTP/1.1\r\n"),
            (b"GET http://a/\n\"", b"GET http://a/\n\""),
        ] {
            let (whole, line) = read(&[sent]);
            assert_eq!(whole, expected, "{}", sent.escape_ascii());
            assert!(line.is_done());
            let bytes: Vec<&[u8]> = sent.chunks(1).collect();
            assert_eq!(read(&bytes).0, expected, "{} byte by byte", sent.escape_ascii());
        }
        let plain = b"GET http://a/b?c=d HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(RequestLine::new().read(plain), None, "the usual line costs no copy");
    }

    #[test]
    fn an_options_for_the_server_itself_is_noticed() {
        for (sent, expected) in [
            ("OPTIONS http://a HTTP/1.1\r\n", true),
            ("OPTIONS https://a:8443 HTTP/1.1\r\n", true),
            ("OPTIONS http://a/ HTTP/1.1\r\n", false),
            ("OPTIONS http://a?b HTTP/1.1\r\n", false),
            ("OPTIONS * HTTP/1.1\r\n", false),
            ("GET http://a HTTP/1.1\r\n", false),
            ("OPTIONSX http://a HTTP/1.1\r\n", false),
        ] {
            assert_eq!(read(&[sent.as_bytes()]).1.is_pathless_options(), expected, "{sent}");
        }
    }

    #[test]
    fn a_version_that_is_not_spoken_is_noticed() {
        for (sent, expected) in [
            ("GET http://a/ HTTP/1.1\r\n", false),
            ("GET http://a/ HTTP/1.0\n", false),
            ("GET http://a/ HTTP/1.2\r\n", true),
            ("GET http://a/ HTTP/1.1 x\r\n", true),
            ("GET http://a/\r\n", true),
        ] {
            assert_eq!(read(&[sent.as_bytes()]).1.has_odd_version(), expected, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            sent in prop::collection::vec(prop::sample::select(&b" \r\n\"</?aG\xe9"[..]), 0..60),
            size in 1..20_usize,
        ) {
            let pieces: Vec<&[u8]> = sent.chunks(size).collect();
            prop_assert_eq!(read(&pieces).0, read(&[&sent]).0);
        }
    }
}
