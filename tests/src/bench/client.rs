//! A client that costs little, so that what is measured is the way and not the client: requests are
//! written once, answers are parsed where they arrive, and bodies are counted and dropped.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{origin::PIECE, way::Way, websocket};

/// Holds the head of every answer of this benchmark.
const SMALL_BUFFER: usize = 8 * 1024;
/// Answers longer than this, in bytes, are read in pieces as large as the origin's.
const LARGE: u64 = 64 * 1024;
const MOST_HEADERS: usize = 32;

/// A kept-alive HTTP/1.1 connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What was read and not yet used: `buffer[start..end]`.
    start: usize,
    end: usize,
}

/// An answer whose body has been read to its end.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Length of the body, in bytes.
    pub length: u64,
    /// When the body's first bytes were here; when its end was, if it is empty.
    pub first_byte: Instant,
}

enum Framing {
    Length(u64),
    Chunked,
}

impl Client {
    /// Connects; answers will be about `length` bytes long.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn connect(way: &Way, length: u64) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(way.address).await;
        let stream = stream.with_context(|| format!("cannot connect to {}", way.name))?;
        stream.set_nodelay(true)?;
        let size = if length > LARGE { PIECE.len() } else { SMALL_BUFFER };
        Ok(Self { stream, buffer: vec![0; size], start: 0, end: 0 })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is no HTTP.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer().await
    }

    /// Sends a request with a body of `length` bytes and reads the whole answer.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn upload(&mut self, head: &[u8], length: u64) -> anyhow::Result<Answer> {
        self.stream.write_all(head).await?;
        let mut left = length;
        while left > 0 {
            let piece = left.min(PIECE.len() as u64);
            self.stream.write_all(&PIECE[..piece as usize]).await?;
            left -= piece;
        }
        self.answer().await
    }

    /// Sends a request, reads the first bytes of its answer's body and leaves the rest.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is no success.
    pub async fn begin(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        let (status, _) = self.head().await?;
        ensure!(status == 200, "status {status}");
        if self.start == self.end {
            self.read().await?;
        }
        Ok(())
    }

    /// Turns the connection into a WebSocket.
    ///
    /// # Errors
    /// If the other end does not.
    pub async fn switch(&mut self, way: &Way) -> anyhow::Result<()> {
        let request = way.request("GET", "/echo", websocket::HANDSHAKE);
        self.stream.write_all(&request).await?;
        let (status, _) = self.head().await?;
        ensure!(status == 101, "status {status} to an upgrade");
        Ok(())
    }

    /// Sends a message over the WebSocket and reads its echo.
    ///
    /// # Errors
    /// If the connection breaks, or something else comes back.
    pub async fn echo(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&websocket::QUESTION).await?;
        while self.end - self.start < websocket::ECHO.len() {
            self.read().await?;
        }
        let echo = &self.buffer[self.start..self.start + websocket::ECHO.len()];
        ensure!(*echo == websocket::ECHO, "the echo differs");
        self.start += websocket::ECHO.len();
        Ok(())
    }

    async fn answer(&mut self) -> anyhow::Result<Answer> {
        let (status, framing) = self.head().await?;
        if self.start == self.end && !matches!(framing, Framing::Length(0)) {
            self.read().await?;
        }
        let first_byte = Instant::now();
        let length = match framing {
            Framing::Length(length) => {
                self.skip(length).await?;
                length
            }
            Framing::Chunked => self.chunks().await?,
        };
        Ok(Answer { status, length, first_byte })
    }

    async fn head(&mut self) -> anyhow::Result<(u16, Framing)> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&self.buffer[self.start..self.end])? {
                httparse::Status::Complete(length) => {
                    let status = response.code.context("no status")?;
                    let framing = framing(response.headers)?;
                    self.start += length;
                    return Ok((status, framing));
                }
                httparse::Status::Partial => self.read().await?,
            }
        }
    }

    /// Reads the chunks of a body; their lengths together, in bytes.
    async fn chunks(&mut self) -> anyhow::Result<u64> {
        let mut length = 0;
        loop {
            let parsed = httparse::parse_chunk_size(&self.buffer[self.start..self.end]);
            match parsed.ok().context("no chunk")? {
                httparse::Status::Complete((line, chunk)) => {
                    self.start += line;
                    // The end of the chunk's last line, or of the trailers, of which there are none.
                    self.skip(chunk + 2).await?;
                    if chunk == 0 {
                        return Ok(length);
                    }
                    length += chunk;
                }
                httparse::Status::Partial => self.read().await?,
            }
        }
    }

    async fn skip(&mut self, mut length: u64) -> anyhow::Result<()> {
        loop {
            let here = (self.end - self.start).min(usize::try_from(length)?);
            self.start += here;
            length -= here as u64;
            if length == 0 {
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// Reads some more behind what is not yet used.
    async fn read(&mut self) -> anyhow::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        ensure!(self.end < self.buffer.len(), "the answer's head is too long");
        match self.stream.read(&mut self.buffer[self.end..]).await? {
            0 => bail!("the connection was closed in the middle of an answer"),
            read => self.end += read,
        }
        Ok(())
    }
}

fn framing(headers: &[httparse::Header<'_>]) -> anyhow::Result<Framing> {
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            return Ok(Framing::Length(std::str::from_utf8(header.value)?.trim().parse()?));
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            ensure!(header.value.eq_ignore_ascii_case(b"chunked"), "an unknown transfer coding");
            return Ok(Framing::Chunked);
        }
    }
    Ok(Framing::Length(0))
}
