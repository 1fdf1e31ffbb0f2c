//! HTTP/2 frames as bytes, right and wrong alike: no library that keeps its user from mistakes.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What every HTTP/2 client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// The stream's end; of SETTINGS and PING, an acknowledgement.
pub const END: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITIZED: u8 = 0x20;

/// A frame, well made but for what its caller does wrong.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS with these values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let bytes = values
        .iter()
        .flat_map(|(id, value)| [id.to_be_bytes().to_vec(), value.to_be_bytes().to_vec()].concat());
    frame(SETTINGS, 0, 0, &bytes.collect::<Vec<_>>())
}

/// A block of fields, each written out (RFC 7541 §6.2.2).
pub fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
            string(&mut bytes, &latin);
        }
    }
    bytes
}

/// RFC 7541 §5.1 and §5.2, without Huffman.
fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text);
}

/// What the other end did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    PingAck(Vec<u8>),
    /// The status of an answer, and whether it ends there.
    Status(u32, u16, bool),
    /// Fields behind a body.
    Trailers(u32),
    Data(u32, Vec<u8>, bool),
    Reset(u32, u32),
    GoAway(u32),
    Other(u8),
    Closed,
}

/// A connection.
pub struct Conn {
    stream: TcpStream,
    ahead: Vec<u8>,
    answered: Vec<u32>,
    is_over: bool,
}

impl Conn {
    /// Connects, and says nothing yet.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new(), answered: Vec::new(), is_over: false })
    }

    /// Sends bytes; that nobody takes them shows in what comes.
    pub async fn send(&mut self, bytes: &[u8]) {
        // One who has said why it closes need not take the rest.
        let sending = self.stream.write_all(bytes);
        let _ = tokio::time::timeout(Duration::from_secs(5), sending).await;
    }

    /// What the other end does next.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.parse() {
                return event;
            }
            if self.is_over {
                return Event::Closed;
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece).await {
                Ok(0) | Err(_) => self.is_over = true,
                Ok(length) => self.ahead.extend(&piece[..length]),
            }
        }
    }

    fn parse(&mut self) -> Option<Event> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *self.ahead.first_chunk::<9>()?;
        if self.ahead.starts_with(b"HTTP/1.") {
            return None;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.ahead.get(9..9 + length)?.to_vec();
        self.ahead.drain(..9 + length);
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        let word = |at: usize| {
            payload
                .get(at..at + 4)
                .map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let is_end = flags & END != 0;
        Some(match kind {
            SETTINGS if is_end => Event::SettingsAck,
            SETTINGS => Event::Settings(
                payload
                    .chunks_exact(6)
                    .map(|setting| {
                        let value = [setting[2], setting[3], setting[4], setting[5]];
                        (u16::from_be_bytes([setting[0], setting[1]]), u32::from_be_bytes(value))
                    })
                    .collect(),
            ),
            PING if is_end => Event::PingAck(payload),
            HEADERS => match status(&payload) {
                Some(status) => {
                    self.answered.push(stream);
                    Event::Status(stream, status, is_end)
                }
                None => Event::Trailers(stream),
            },
            DATA => Event::Data(stream, payload, is_end),
            RST_STREAM => Event::Reset(stream, word(0)),
            GOAWAY => Event::GoAway(word(4)),
            other => Event::Other(other),
        })
    }
}

/// The status that a block begins with. The table of fields that came before is kept empty by our
/// settings, so that it is either one of RFC 7541's own entries, or written out; digits are all that needs
/// Huffman's code.
fn status(block: &[u8]) -> Option<u16> {
    // An encoder says first that it has heard of the empty table.
    let block = match block {
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        block => block,
    };
    let (&first, rest) = block.split_first()?;
    if (0x88..=0x8e).contains(&first) {
        return Some([200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)]);
    }
    // An entry's name, by any of the ways to write out a value.
    if ![0x08, 0x48, 0x18].contains(&first) {
        return None;
    }
    let (&length, rest) = rest.split_first()?;
    let text = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = text.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> (left - 5) & 0x1f;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            left -= 6;
            // 3 to 9 are 0x19 to 0x1f, in six bits.
            (bits >> left & 0x3f).checked_sub(0x19)? + 3
        };
        number = number * 10 + digit as u16;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_form() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8d]), Some(404));
        assert_eq!(status(&[0x08, 3, b'4', b'0', b'7']), Some(407));
        // RFC 7541 §C.6.1: 302 is 6402 in Huffman's code.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // §C.6.2: 307 is 640eff.
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status(&[0x00, 1, b'a', 1, b'b']), None);
    }

    #[test]
    fn frames_and_blocks_are_written_as_the_standard_has_them() {
        assert_eq!(
            frame(PING, END, 0, &[7; 8]),
            [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &[7; 8]].concat()
        );
        let block = block(&[("a".into(), "x".repeat(200))]);
        assert_eq!(block[..5], [0, 1, b'a', 127, 73]);
    }
}
