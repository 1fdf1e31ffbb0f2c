//! What one end of a connection does: bytes to send, and the moments in between.
//!
//! A text becomes a script by these rules; everything else stands for itself.
//!
//! | in the text | means |
//! |---|---|
//! | `¶` | CR LF |
//! | `\r` `\n` `\t` `\0` `\\` `\xHH` | that byte |
//! | `@` | the origin's `host:port`; `\x40` is the character |
//! | `~` | a request line goes on here with its target: a proxy wants the origin's URL before it and credentials behind the line |
//! | `{N*TEXT}` | TEXT, N times |
//! | `^` | the same, but without credentials |
//! | `{id}` | a word of four letters that no other case of the run has |
//! | `{fin}` | close this half of the connection |
//! | `{reset}` | break the connection off with a TCP reset |
//! | `{head}` | wait for the head of the other end's message: an answer at the client (1xx other than 101 pass), a request at the origin |
//! | `{100}` | the client waits for `100 Continue` |
//! | `{answer}` | the client waits for a whole answer before it goes on |
//! | `{soon}` | the same, but for two seconds at most |
//! | `{early}` | at the beginning of an answer: the origin does not wait for the request's body |
//! | `{body}` | now it does |
//! | `{next}` | the next request on this connection gets what follows |
//! | `{echo}` | the origin sends back all bytes that follow |

use anyhow::{Context as _, bail};

/// A thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Close this half.
    Fin,
    /// Break off.
    Reset,
    /// Wait for the other end's head.
    Head,
    /// Wait for `100 Continue`.
    Continue,
    /// Wait for a whole answer.
    Answer,
    /// Wait for a whole answer, but not long.
    Soon,
    /// Do not wait for a body.
    Early,
    /// Wait for the request's body.
    Body,
    /// What follows is for the next request.
    Next,
    /// Send back what comes.
    Echo,
}

/// What the placeholders of a text stand for.
#[derive(Debug, Clone)]
pub struct Names<'a> {
    /// The origin's `host:port`.
    pub origin: &'a str,
    /// `Proxy-Authorization`'s value, where the way is a proxy.
    pub credentials: Option<&'a str>,
    /// The word of this case.
    pub id: &'a str,
}

/// Reads a text.
///
/// # Errors
/// If it says something that has no meaning.
pub fn read(text: &str, names: &Names<'_>) -> anyhow::Result<Vec<Step>> {
    let mut reader =
        Reader { names, steps: Vec::new(), bytes: Vec::new(), owes_credentials: false };
    reader.read(text)?;
    reader.flush();
    Ok(reader.steps)
}

/// Reads a text that holds bytes alone.
///
/// # Errors
/// If it says something that has no meaning, or something to do.
pub fn bytes(text: &str, names: &Names<'_>) -> anyhow::Result<Vec<u8>> {
    match read(text, names)?.as_slice() {
        [] => Ok(Vec::new()),
        [Step::Send(bytes)] => Ok(bytes.clone()),
        _ => bail!("not bytes alone: {text}"),
    }
}

struct Reader<'a> {
    names: &'a Names<'a>,
    steps: Vec<Step>,
    bytes: Vec<u8>,
    owes_credentials: bool,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) -> anyhow::Result<()> {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = &rest[first.len_utf8()..];
            match first {
                '¶' => {
                    self.bytes.extend(b"\r\n");
                    self.pay();
                }
                '@' => self.bytes.extend(self.names.origin.as_bytes()),
                '~' => {
                    self.owes_credentials = true;
                    self.target(&mut rest);
                }
                '^' => self.target(&mut rest),
                '\\' => self.escape(&mut rest)?,
                '{' => {
                    let end = rest.find('}').with_context(|| format!("no }} in {rest}"))?;
                    let word = &rest[..end];
                    rest = &rest[end + 1..];
                    self.word(word)?;
                }
                other => self.bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        Ok(())
    }

    /// A proxy's targets are absolute; `*` has no path there (RFC 9112 §3.2.4).
    fn target(&mut self, rest: &mut &str) {
        if self.names.credentials.is_none() {
            return;
        }
        let is_all = rest.starts_with("* ");
        if rest.starts_with(['/', '?']) || is_all {
            self.bytes.extend(b"http://");
            self.bytes.extend(self.names.origin.as_bytes());
        }
        if is_all {
            *rest = &rest[1..];
        }
    }

    /// Behind a request line.
    fn pay(&mut self) {
        let Some(credentials) = self.names.credentials.filter(|_| self.owes_credentials) else {
            return;
        };
        self.owes_credentials = false;
        self.bytes.extend(format!("Proxy-Authorization: {credentials}\r\n").into_bytes());
    }

    fn escape(&mut self, rest: &mut &str) -> anyhow::Result<()> {
        let kind = rest.chars().next().context("nothing behind a backslash")?;
        *rest = &rest[kind.len_utf8()..];
        let byte = match kind {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits = rest.get(..2).context("two digits follow \\x")?;
                *rest = &rest[2..];
                u8::from_str_radix(digits, 16)?
            }
            other => bail!("\\{other} has no meaning"),
        };
        self.bytes.push(byte);
        if byte == b'\n' {
            self.pay();
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> anyhow::Result<()> {
        if let Some((count, text)) = word.split_once('*') {
            let count: usize = count.parse().with_context(|| word.to_owned())?;
            for n in 0..count {
                self.read(&text.replace('#', &n.to_string()))?;
            }
            return Ok(());
        }
        let step = match word {
            "id" => {
                self.bytes.extend(self.names.id.as_bytes());
                return Ok(());
            }
            "fin" => Step::Fin,
            "reset" => Step::Reset,
            "head" => Step::Head,
            "100" => Step::Continue,
            "answer" => Step::Answer,
            "soon" => Step::Soon,
            "early" => Step::Early,
            "body" => Step::Body,
            "next" => Step::Next,
            "echo" => Step::Echo,
            _ => bail!("{{{word}}} has no meaning"),
        };
        self.flush();
        self.steps.push(step);
        Ok(())
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.steps.push(Step::Send(std::mem::take(&mut self.bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: Names<'_> = Names { origin: "o:1", credentials: None, id: "7" };
    const PROXY: Names<'_> = Names { origin: "o:1", credentials: Some("Basic x"), id: "7" };

    #[test]
    fn a_proxy_gets_a_url_and_credentials() {
        let text = "GET ~/a HTTP/1.1¶Host: @¶¶";
        assert_eq!(bytes(text, &DIRECT).unwrap(), b"GET /a HTTP/1.1\r\nHost: o:1\r\n\r\n");
        assert_eq!(
            bytes(text, &PROXY).unwrap(),
            b"GET http://o:1/a HTTP/1.1\r\nProxy-Authorization: Basic x\r\nHost: o:1\r\n\r\n"
        );
        assert_eq!(
            bytes("OPTIONS ~* HTTP/1.1¶", &PROXY).unwrap(),
            b"OPTIONS http://o:1 HTTP/1.1\r\nProxy-Authorization: Basic x\r\n"
        );
    }

    #[test]
    fn escapes_repetitions_and_moments_are_read() {
        let steps = read("a\\x00\\n{3*x#}{fin}{id}", &DIRECT).unwrap();
        let expected = [Step::Send(b"a\0\nx0x1x2".to_vec()), Step::Fin, Step::Send(b"7".to_vec())];
        assert_eq!(steps, expected);
        assert!(read("{nonsense}", &DIRECT).is_err());
        assert!(bytes("a{fin}", &DIRECT).is_err());
    }
}
