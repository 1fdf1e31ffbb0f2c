//! A client that does its part of a plan on a bare socket, and vanishes when the plan says so.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Plan, Shape, Way, origin};
use crate::process::PATIENCE;

/// What a large body is made of.
const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// What is said through a tunnel, so many times.
const WORD: &[u8] = b"a word to be echoed";
const WORDS: usize = 8;
/// Longest head of an answer.
const HEAD: usize = 16 * 1024;

/// Where clients go.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its address.
    pub address: SocketAddr,
    /// The value of Proxy-Authorization.
    pub credentials: String,
    /// Where the origin listens.
    pub origin: SocketAddr,
}

/// What became of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it came and was right.
    Whole,
    /// Somebody vanished, or Postern refused.
    Cut,
}

impl Gateway {
    /// Does what is planned.
    ///
    /// # Errors
    /// If it neither comes to an end nor breaks off.
    pub async fn exchange(&self, plan: &Plan) -> anyhow::Result<Outcome> {
        let Ok(mut stream) = TcpStream::connect(self.address).await else {
            return Ok(Outcome::Cut);
        };
        let exchange = self.converse(&mut stream, plan);
        let Some((after, way)) = plan.client else {
            let ended = timeout(PATIENCE, exchange).await;
            let ended = ended.with_context(|| format!("it hangs: {plan:?}"))?;
            return Ok(if ended.is_ok() { Outcome::Whole } else { Outcome::Cut });
        };
        if let Ok(Ok(())) = timeout(after, exchange).await {
            return Ok(Outcome::Whole);
        }
        if way == Way::Reset {
            // One that is reset already needs nothing.
            let _ = stream.set_zero_linger();
        }
        Ok(Outcome::Cut)
    }

    async fn converse(&self, stream: &mut TcpStream, plan: &Plan) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let (origin, credentials) = (self.origin, &self.credentials);
        let path = origin::path(plan);
        let authorization = format!("Proxy-Authorization: {credentials}\r\n");
        let head = |method: &str, more: &str| {
            format!(
                "{method} http://{origin}{path} HTTP/1.1\r\nHost: {origin}\r\n{authorization}{more}\r\n"
            )
        };
        let upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n";
        match plan.shape {
            Shape::Get | Shape::Events | Shape::Download => {
                stream.write_all(head("GET", "").as_bytes()).await?;
                self.answer(stream, 200).await
            }
            Shape::Post => {
                let head = head("POST", "Content-Length: 4\r\n") + "body";
                stream.write_all(head.as_bytes()).await?;
                self.answer(stream, 200).await
            }
            Shape::Upload => {
                let length = format!("Content-Length: {}\r\n", plan.length);
                stream.write_all(head("POST", &length).as_bytes()).await?;
                let mut left = plan.length;
                while left > 0 {
                    let piece = left.min(PIECE.len() as u64) as usize;
                    stream.write_all(&PIECE[..piece]).await?;
                    left -= piece as u64;
                }
                self.answer(stream, 200).await
            }
            Shape::Upgrade => {
                stream.write_all(head("GET", upgrade).as_bytes()).await?;
                ensure!(status(&read_head(stream).await?)? == 101, "not upgraded");
                echo(stream).await
            }
            Shape::Connect => {
                let connect =
                    format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n{authorization}\r\n");
                stream.write_all(connect.as_bytes()).await?;
                ensure!(status(&read_head(stream).await?)? == 200, "no tunnel");
                let inner = format!("GET {path} HTTP/1.1\r\nHost: {origin}\r\n{upgrade}\r\n");
                stream.write_all(inner.as_bytes()).await?;
                ensure!(status(&read_head(stream).await?)? == 101, "not upgraded");
                echo(stream).await
            }
        }
    }

    /// Reads an answer to its end.
    async fn answer(&self, stream: &mut TcpStream, wanted: u16) -> anyhow::Result<()> {
        let head = read_head(stream).await?;
        ensure!(status(&head)? == wanted, "{head}");
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
        let mut piece = PIECE;
        match length {
            Some(length) => {
                let mut left: u64 = length.trim().parse()?;
                while left > 0 {
                    let read = stream.read(&mut piece).await?;
                    ensure!(read > 0, "the answer broke off");
                    left = left.checked_sub(read as u64).context("too much came")?;
                }
                Ok(())
            }
            None => {
                let mut end = Vec::new();
                while !end.ends_with(b"\r\n0\r\n\r\n") {
                    let read = stream.read(&mut piece).await?;
                    ensure!(read > 0, "the answer broke off");
                    end.extend_from_slice(&piece[..read]);
                }
                Ok(())
            }
        }
    }
}

async fn echo(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut heard = [0; WORD.len()];
    for _ in 0..WORDS {
        stream.write_all(WORD).await?;
        stream.read_exact(&mut heard).await?;
        ensure!(heard == WORD, "another echo");
    }
    Ok(())
}

/// Byte by byte, so that nothing behind it is taken.
async fn read_head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < HEAD, "an endless head");
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head)?)
}

fn status(head: &str) -> anyhow::Result<u16> {
    let Some(status) = head.split(' ').nth(1) else { bail!("no status") };
    Ok(status.parse()?)
}
