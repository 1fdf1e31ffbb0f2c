//! One WebSocket message and its echo (RFC 6455), all of whose bytes are known beforehand.

/// Length of the message, in bytes; up to 125, so that it stands in one byte.
const LENGTH: usize = 64;
/// Binary, and the last of its message.
const BINARY: u8 = 0x82;
/// Set in the length if the message is masked, as a client's must be.
const IS_MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The client's header lines: the example of RFC 6455 §1.3.
pub const HANDSHAKE: &str = "connection: Upgrade\r\n\
                             upgrade: websocket\r\n\
                             sec-websocket-version: 13\r\n\
                             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// What a server answers to that key.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The message, as a client sends it.
pub const QUESTION: [u8; 2 + MASK.len() + LENGTH] = {
    let mut frame = [0; 2 + MASK.len() + LENGTH];
    (frame[0], frame[1]) = (BINARY, IS_MASKED | LENGTH as u8);
    let mut n = 0;
    while n < MASK.len() {
        frame[2 + n] = MASK[n];
        n += 1;
    }
    n = 0;
    while n < LENGTH {
        frame[2 + MASK.len() + n] = n as u8 ^ MASK[n % MASK.len()];
        n += 1;
    }
    frame
};

/// The message, as a server sends it back.
pub const ECHO: [u8; 2 + LENGTH] = {
    let mut frame = [0; 2 + LENGTH];
    (frame[0], frame[1]) = (BINARY, LENGTH as u8);
    let mut n = 0;
    while n < LENGTH {
        frame[2 + n] = n as u8;
        n += 1;
    }
    frame
};

/// What a server sends back for a client's frame of the length of [`QUESTION`]; `None` if it is another.
pub fn echo(frame: &[u8; QUESTION.len()]) -> Option<[u8; ECHO.len()]> {
    if frame[..2] != QUESTION[..2] {
        return None;
    }
    let (mask, masked) = frame[2..].split_at(MASK.len());
    let mut echo = ECHO;
    for (n, byte) in masked.iter().enumerate() {
        echo[2 + n] = byte ^ mask[n % MASK.len()];
    }
    Some(echo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_is_the_message_without_its_mask() {
        assert_eq!(echo(&QUESTION), Some(ECHO));
        assert_eq!(echo(&[0; QUESTION.len()]), None);
    }
}
