//! HTTP/1.1 messages read by the letter of RFC 9112: what a recipient must refuse is a fault here. What
//! reads this way takes nothing for granted that Postern's own libraries take.

use std::fmt;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest head, and longest line of a chunked body, in bytes: above what any case sends.
const MAX_HEAD: usize = 1024 * 1024;

/// Why there is no more of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The other end closed its half.
    Closed,
    /// The other end broke off.
    Reset,
    /// This is not HTTP/1.1.
    Garbage(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Reset => f.write_str("reset"),
            Self::Garbage(what) => write!(f, "garbage: {what}"),
        }
    }
}

/// A field, its name as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value; each byte a character.
    pub value: String,
}

/// A message as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line without its version, or the status line without it.
    pub first: String,
    /// The fields in front of the body.
    pub fields: Vec<Field>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The fields behind the body.
    pub trailers: Vec<Field>,
    /// Why the body is not whole.
    pub broken: Option<Fault>,
    /// The informational answers before this one.
    pub interim: Vec<Self>,
}

/// How much follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All that comes.
    UntilClosed,
}

impl Message {
    /// The values of a field, joined as RFC 9110 §5.3 has it.
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.fields, name)
    }

    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.first.split(' ').next().and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn has_option(&self, field: &str, option: &str) -> bool {
        let value = self.field(field).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(option))
    }

    /// Will the other end close the connection behind this answer?
    pub fn says_close(&self) -> bool {
        self.has_option("connection", "close")
    }

    /// What of a request follows its head (RFC 9112 §6.3).
    ///
    /// # Errors
    /// If two recipients could take that for two things.
    pub fn request_body(&self) -> Result<Body, Fault> {
        let garbage = |what: &str| Err(Fault::Garbage(what.to_owned()));
        match (self.field("transfer-encoding"), self.field("content-length")) {
            (Some(_), Some(_)) => garbage("both Transfer-Encoding and Content-Length"),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Body::Chunked),
            (Some(coding), None) => garbage(&format!("Transfer-Encoding: {coding}")),
            (None, Some(length)) => number(&length).map(Body::Length),
            (None, None) => Ok(Body::None),
        }
    }

    /// What of an answer to `method` follows its head; as a client takes it who must make the best of it.
    ///
    /// # Errors
    /// If no client can.
    pub fn response_body(&self, method: &str) -> Result<Body, Fault> {
        let status = self.status();
        let is_tunnel = status == 101 || method == "CONNECT" && (200..300).contains(&status);
        if is_tunnel {
            return Ok(Body::UntilClosed);
        }
        if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
            return Ok(Body::None);
        }
        match (self.field("transfer-encoding"), self.field("content-length")) {
            (Some(coding), _) => Ok(match coding.rsplit(',').next() {
                Some(last) if last.trim().eq_ignore_ascii_case("chunked") => Body::Chunked,
                _ => Body::UntilClosed,
            }),
            (None, Some(length)) => number(&length).map(Body::Length),
            (None, None) => Ok(Body::UntilClosed),
        }
    }
}

/// The values of a field in a list, joined.
pub fn field(fields: &[Field], name: &str) -> Option<String> {
    let values = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let values: Vec<&str> = values.map(|field| field.value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn number(text: &str) -> Result<u64, Fault> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| Fault::Garbage(format!("Content-Length: {text}")))
}

/// One direction of a connection.
pub struct Wire<R> {
    from: R,
    /// What has come and is not read yet.
    pub ahead: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Wire<R> {
    /// Reads from there.
    pub fn new(from: R) -> Self {
        Self { from, ahead: Vec::new() }
    }

    /// Waits for more.
    ///
    /// # Errors
    /// If there is no more.
    pub async fn more(&mut self) -> Result<(), Fault> {
        let mut piece = [0; 16 * 1024];
        match self.from.read(&mut piece).await {
            Ok(0) => Err(Fault::Closed),
            Ok(length) => {
                self.ahead.extend_from_slice(&piece[..length]);
                Ok(())
            }
            Err(_) => Err(Fault::Reset),
        }
    }

    /// A line, without its end.
    async fn line(&mut self) -> Result<String, Fault> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.ahead[seen..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.ahead.drain(..=seen + at).collect();
                line.pop();
                if line.pop() != Some(b'\r') {
                    return Err(Fault::Garbage("a bare LF".into()));
                }
                if line.contains(&b'\r') || line.contains(&0) {
                    return Err(Fault::Garbage("a bare CR or a NUL".into()));
                }
                return Ok(line.iter().map(|byte| char::from(*byte)).collect());
            }
            seen = self.ahead.len();
            if seen > MAX_HEAD {
                return Err(Fault::Garbage("a line without an end".into()));
            }
            self.more().await?;
        }
    }

    async fn fields(&mut self) -> Result<Vec<Field>, Fault> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let garbage = |what: &str| Fault::Garbage(format!("{what}: {line:?}"));
            if line.starts_with([' ', '\t']) {
                return Err(garbage("a folded line"));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| garbage("no colon"))?;
            if !is_token(name) {
                return Err(garbage("a field's name"));
            }
            let value = value.trim_matches([' ', '\t']);
            if value.chars().any(|c| c < ' ' && c != '\t' || c == '\x7f') {
                return Err(garbage("a control character"));
            }
            fields.push(Field { name: name.to_owned(), value: value.to_owned() });
        }
    }

    /// A request's head. `None` if the connection ends where one could begin.
    ///
    /// # Errors
    /// If it is none.
    pub async fn request(&mut self) -> Result<Option<Message>, Fault> {
        if self.ahead.is_empty() && self.more().await.is_err() {
            return Ok(None);
        }
        let line = self.line().await?;
        let garbage = || Fault::Garbage(format!("request line {line:?}"));
        let parts: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = parts[..] else { return Err(garbage()) };
        let is_visible = target.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token(method) || target.is_empty() || !is_visible {
            return Err(garbage());
        }
        if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
            return Err(garbage());
        }
        let first = format!("{method} {target}");
        let message = Message { first, fields: self.fields().await?, ..Message::default() };
        let hosts = message.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
        if hosts.count() != 1 && version == "HTTP/1.1" {
            return Err(Fault::Garbage("not one Host".into()));
        }
        Ok(Some(message))
    }

    /// An answer's head.
    ///
    /// # Errors
    /// If it is none.
    pub async fn response(&mut self) -> Result<Message, Fault> {
        let line = self.line().await?;
        let garbage = || Fault::Garbage(format!("status line {line:?}"));
        let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
        let rest = rest.ok_or_else(garbage)?;
        let status = rest.get(..3).ok_or_else(garbage)?;
        let is_status = status.bytes().all(|byte| byte.is_ascii_digit());
        if !is_status || !matches!(rest.as_bytes().get(3), Some(b' ') | None) {
            return Err(garbage());
        }
        let first = rest.to_owned();
        Ok(Message { first, fields: self.fields().await?, ..Message::default() })
    }

    /// Reads what follows a head, as far as it comes.
    pub async fn body(&mut self, message: &mut Message, body: Body) {
        let read = match body {
            Body::None => Ok(()),
            Body::Length(length) => self.take(message, length).await,
            Body::Chunked => self.chunks(message).await,
            Body::UntilClosed => self.rest(message).await,
        };
        message.broken = read.err();
    }

    async fn take(&mut self, message: &mut Message, length: u64) -> Result<(), Fault> {
        let mut left = length;
        loop {
            let now = left.min(self.ahead.len() as u64);
            message.body.extend(self.ahead.drain(..now as usize));
            left -= now;
            if left == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn rest(&mut self, message: &mut Message) -> Result<(), Fault> {
        loop {
            message.body.append(&mut self.ahead);
            match self.more().await {
                Ok(()) => {}
                Err(Fault::Closed) => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn chunks(&mut self, message: &mut Message) -> Result<(), Fault> {
        loop {
            let line = self.line().await?;
            let digits = line.split([';', ' ', '\t']).next().unwrap_or_default();
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let size = is_number.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
            let size = size.ok_or_else(|| Fault::Garbage(format!("chunk size {line:?}")))?;
            if size == 0 {
                message.trailers = self.fields().await?;
                return Ok(());
            }
            self.take(message, size).await?;
            if !self.line().await?.is_empty() {
                return Err(Fault::Garbage("a chunk without its end".into()));
            }
        }
    }
}

fn is_token(text: &str) -> bool {
    let is_char = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn request(text: &[u8]) -> Result<Message, Fault> {
        let mut wire = Wire::new(text);
        let mut message = wire.request().await?.expect("a request");
        let body = message.request_body()?;
        wire.body(&mut message, body).await;
        Ok(message)
    }

    #[tokio::test]
    async fn a_request_is_read_with_its_body_and_trailers() {
        let text = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                     5;x=1\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
        let message = request(text).await.unwrap();
        assert_eq!((message.first.as_str(), message.body.as_slice()), ("POST /a", &b"hello"[..]));
        assert_eq!(field(&message.trailers, "x-t").as_deref(), Some("1"));
        assert_eq!(message.broken, None);
    }

    #[tokio::test]
    async fn what_two_recipients_could_read_in_two_ways_is_a_fault() {
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ] {
            let fault = request(text.as_bytes()).await.expect_err(text);
            assert!(matches!(fault, Fault::Garbage(_)), "{text:?}: {fault}");
        }
    }
}
