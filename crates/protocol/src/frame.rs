//! Frames: how a QUIC stream carries a message, and how the control stream carries control messages
//! over either carrier.
//!
//! A frame is a type byte, the payload's length as a [varint](crate::varint), and the payload. A
//! request is one stream, opened by the edge:
//!
//! ```text
//! edge → connector    HEAD DATA* TRAILERS?                    then the stream's end
//! connector → edge    INFORMATIONAL* HEAD DATA* TRAILERS?     then the stream's end
//! ```
//!
//! After a successful CONNECT or an upgrade no more frames follow in either direction: the rest is
//! the tunnelled bytes as they are. The control stream is `CONTROL*` both ways.

use bytes::{BufMut, Bytes, BytesMut};

use crate::varint;

/// Largest payload of a frame that must be held whole, other than [`Kind::Control`]. The gateway
/// stops at 64 KiB of header fields; this leaves room for what an edge adds.
pub const MAX_HEAD: u64 = 128 * 1024;
/// Largest control message: a directory of several thousand edges.
pub const MAX_CONTROL: u64 = 1024 * 1024;
/// Longest type and length together.
pub const MAX_FRAME_HEADER: usize = 9;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A request's or a final response's head ([`crate::head`]).
    Head = 1,
    /// A 1xx response's head.
    Informational = 2,
    /// A piece of the body, of any length.
    Data = 3,
    /// Header fields behind the body.
    Trailers = 4,
    /// A control message ([`crate::control`]).
    Control = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, FrameError> {
        match byte {
            1 => Ok(Self::Head),
            2 => Ok(Self::Informational),
            3 => Ok(Self::Data),
            4 => Ok(Self::Trailers),
            5 => Ok(Self::Control),
            other => Err(FrameError::Unknown(other)),
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Head | Self::Informational | Self::Trailers => MAX_HEAD,
            Self::Control => MAX_CONTROL,
            Self::Data => varint::MAX,
        }
    }
}

/// A frame as it comes off a stream. `Data` may be a part of what the peer sent as one frame: pieces
/// are handed on as they arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// See [`Kind::Head`].
    Head(Bytes),
    /// See [`Kind::Informational`].
    Informational(Bytes),
    /// See [`Kind::Data`].
    Data(Bytes),
    /// See [`Kind::Trailers`].
    Trailers(Bytes),
    /// See [`Kind::Control`].
    Control(Bytes),
}

/// The peer broke the rules of this module; the stream is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A type byte that no version defines.
    #[error("unknown frame type {0}")]
    Unknown(u8),
    /// A payload that may not be that long.
    #[error("{kind:?} frame of {length} bytes: {limit} is the most")]
    TooLong {
        /// The frame's type.
        kind: Kind,
        /// The length that its header claims.
        length: u64,
        /// The length that is allowed.
        limit: u64,
    },
    /// A frame that has no place here, such as a body before its head.
    #[error("{0:?} frame out of order")]
    Order(Kind),
    /// The stream ended inside a frame, or before the head.
    #[error("the stream ended in the middle of a message")]
    Truncated,
}

/// Appends a frame's type and length; its payload follows.
pub fn encode_header(kind: Kind, length: usize, out: &mut impl BufMut) {
    out.put_u8(kind as u8);
    varint::encode(length as u64, out);
}

/// Appends a whole frame.
pub fn encode(kind: Kind, payload: &[u8], out: &mut impl BufMut) {
    encode_header(kind, payload.len(), out);
    out.put_slice(payload);
}

/// Which message a [`Decoder`] reads, and so which order of frames it expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A request.
    Request,
    /// A response.
    Response,
    /// The control stream.
    Control,
}

/// ```text
/// Start ──HEAD──► Body ──TRAILERS──► Done        (request, response)
///   ↺ INFORMATIONAL   ↺ DATA
/// Start ↺ CONTROL                                (control stream)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Body,
    Done,
}

/// Turns the bytes of one direction of one stream into frames, without copying bodies.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    stage: Stage,
    /// Longest payload that is held whole, below what the frame's type allows.
    limit: u64,
    /// Bytes of the current DATA frame that are still to come.
    data_left: u64,
    /// The newest bytes from the stream.
    chunk: Bytes,
    /// The start of a frame that came in more than one chunk. Never longer than one frame.
    partial: BytesMut,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            stage: Stage::Start,
            limit: varint::MAX,
            data_left: 0,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
        }
    }

    /// Holds no payload longer than `limit` bytes, for peers that have not proven themselves yet.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Adds bytes from the stream. Call only after [`Decoder::next_frame`] returned `None`, so that the
    /// stream's own flow control bounds what is held.
    pub fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "take all frames before pushing more bytes");
        self.chunk = chunk;
    }

    /// True if all that was pushed has been taken, or lies in a frame that is not whole yet.
    pub fn is_drained(&self) -> bool {
        self.chunk.is_empty()
    }

    /// The next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// When the peer breaks the protocol; the decoder must then be dropped.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if self.data_left > 0 {
                if self.chunk.is_empty() {
                    return Ok(None);
                }
                let take = self.data_left.min(self.chunk.len() as u64);
                self.data_left -= take;
                return Ok(Some(Frame::Data(self.chunk.split_to(take as usize))));
            }
            let Some((kind, payload)) = self.next_header()? else {
                return Ok(None);
            };
            let frame = match kind {
                Kind::Data => {
                    self.data_left = payload.length;
                    continue;
                }
                Kind::Head => Frame::Head(payload.bytes),
                Kind::Informational => Frame::Informational(payload.bytes),
                Kind::Trailers => Frame::Trailers(payload.bytes),
                Kind::Control => Frame::Control(payload.bytes),
            };
            return Ok(Some(frame));
        }
    }

    /// Call at the stream's end: was the message complete?
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if it was not.
    pub fn finish(&self) -> Result<(), FrameError> {
        let complete = self.data_left == 0
            && self.chunk.is_empty()
            && self.partial.is_empty()
            && (self.role == Role::Control || self.stage != Stage::Start);
        if complete { Ok(()) } else { Err(FrameError::Truncated) }
    }

    /// Ends framing: the bytes behind the last frame, which belong to the tunnel.
    pub fn into_raw(self) -> Bytes {
        debug_assert!(self.data_left == 0, "a head is never followed by half a DATA frame");
        if self.partial.is_empty() {
            return self.chunk;
        }
        let mut bytes = self.partial;
        bytes.extend_from_slice(&self.chunk);
        bytes.freeze()
    }

    /// The next frame's type and its payload; for DATA only the length, its bytes stay in `chunk`.
    fn next_header(&mut self) -> Result<Option<(Kind, Payload)>, FrameError> {
        // The usual case: the whole frame lies in one chunk and is cut out of it.
        if self.partial.is_empty() {
            match self.parse_header(&self.chunk)? {
                Some(header) if header.kind == Kind::Data => {
                    self.advance(header.kind)?;
                    let _ = self.chunk.split_to(header.size);
                    return Ok(Some((header.kind, Payload::length(header.length))));
                }
                Some(header) if self.chunk.len() as u64 - header.size as u64 >= header.length => {
                    self.advance(header.kind)?;
                    let mut frame = self.chunk.split_to(header.size + header.length as usize);
                    return Ok(Some((header.kind, Payload::bytes(frame.split_off(header.size)))));
                }
                _ => {}
            }
        }
        // Otherwise collect it, byte by byte until its length is known.
        loop {
            let header = self.parse_header(&self.partial)?;
            let wanted = match &header {
                None => self.partial.len() + 1,
                Some(header) if header.kind == Kind::Data => header.size,
                Some(header) => header.size + header.length as usize,
            };
            if let Some(header) = header
                && self.partial.len() == wanted
            {
                self.advance(header.kind)?;
                let mut frame = std::mem::take(&mut self.partial).freeze();
                if header.kind == Kind::Data {
                    return Ok(Some((header.kind, Payload::length(header.length))));
                }
                return Ok(Some((header.kind, Payload::bytes(frame.split_off(header.size)))));
            }
            let take = (wanted - self.partial.len()).min(self.chunk.len());
            if take == 0 {
                return Ok(None);
            }
            self.partial.extend_from_slice(&self.chunk.split_to(take));
        }
    }

    fn parse_header(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let kind = Kind::from_byte(first)?;
        let Some((length, size)) = varint::decode(rest) else {
            return Ok(None);
        };
        let limit = if kind == Kind::Data { varint::MAX } else { self.limit.min(kind.limit()) };
        if length > limit {
            return Err(FrameError::TooLong { kind, length, limit });
        }
        Ok(Some(Header { kind, length, size: size + 1 }))
    }

    fn advance(&mut self, kind: Kind) -> Result<(), FrameError> {
        self.stage = match (self.role, self.stage, kind) {
            (Role::Control, Stage::Start, Kind::Control)
            | (Role::Response, Stage::Start, Kind::Informational) => Stage::Start,
            (Role::Request | Role::Response, Stage::Start, Kind::Head)
            | (_, Stage::Body, Kind::Data) => Stage::Body,
            (_, Stage::Body, Kind::Trailers) => Stage::Done,
            _ => return Err(FrameError::Order(kind)),
        };
        Ok(())
    }
}

struct Payload {
    length: u64,
    bytes: Bytes,
}

impl Payload {
    fn length(length: u64) -> Self {
        Self { length, bytes: Bytes::new() }
    }

    fn bytes(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, bytes }
    }
}

struct Header {
    kind: Kind,
    length: u64,
    /// Bytes that type and length take.
    size: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(role: Role, chunks: &[Bytes]) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = Decoder::new(role);
        let mut frames: Vec<Frame> = Vec::new();
        for chunk in chunks {
            decoder.push(chunk.clone());
            while let Some(frame) = decoder.next_frame()? {
                match (frames.last_mut(), frame) {
                    (Some(Frame::Data(before)), Frame::Data(more)) => {
                        *before = [before.as_ref(), more.as_ref()].concat().into();
                    }
                    (_, frame) => frames.push(frame),
                }
            }
        }
        decoder.finish()?;
        Ok(frames)
    }

    #[test]
    fn the_bytes_of_every_frame_never_change() {
        let mut out = Vec::new();
        encode(Kind::Head, b"h", &mut out);
        encode(Kind::Informational, b"i", &mut out);
        encode(Kind::Data, &[0xdd; 64], &mut out);
        encode(Kind::Trailers, b"", &mut out);
        encode(Kind::Control, b"{}", &mut out);
        let mut golden = vec![1, 1, b'h', 2, 1, b'i', 3, 0x40, 64];
        golden.extend([0xdd; 64]);
        golden.extend([4, 0, 5, 2, b'{', b'}']);
        assert_eq!(out, golden);
    }

    #[test]
    fn frames_have_their_order() {
        use FrameError::{Order, Truncated};
        let cases: [(Role, &[u8], Result<usize, FrameError>); 9] = [
            (Role::Request, &[1, 0, 3, 1, 7, 4, 0], Ok(3)),
            (Role::Response, &[2, 0, 2, 0, 1, 0], Ok(3)),
            (Role::Request, &[2, 0], Err(Order(Kind::Informational))),
            (Role::Request, &[3, 1, 7], Err(Order(Kind::Data))),
            (Role::Request, &[1, 0, 1, 0], Err(Order(Kind::Head))),
            (Role::Request, &[1, 0, 4, 0, 3, 0], Err(Order(Kind::Data))),
            (Role::Control, &[5, 0, 5, 0], Ok(2)),
            (Role::Control, &[1, 0], Err(Order(Kind::Head))),
            (Role::Request, &[], Err(Truncated)),
        ];
        for (role, bytes, expected) in cases {
            let got = decode_all(role, &[Bytes::copy_from_slice(bytes)]).map(|frames| frames.len());
            assert_eq!(got, expected, "{role:?} {bytes:?}");
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_length_is_refused_before_it_is_held() {
        let mut decoder = Decoder::new(Role::Request);
        decoder.push(Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { kind: Kind::Head, .. })));

        let mut decoder = Decoder::new(Role::Request);
        decoder.push(Bytes::from_static(&[1, 5, b'x']));
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }

    #[test]
    fn a_stranger_is_held_to_a_smaller_limit() {
        let mut decoder = Decoder::new(Role::Control);
        decoder.set_limit(3);
        decoder.push(Bytes::from_static(&[5, 3, 1, 2, 3, 5, 4]));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Control(Bytes::from_static(&[1, 2, 3])))));
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { limit: 3, .. })));
    }

    #[test]
    fn what_follows_a_head_can_be_taken_raw() {
        let mut decoder = Decoder::new(Role::Response);
        decoder.push(Bytes::from_static(&[1, 1, b'h', 9, 9, 9]));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Head(Bytes::from_static(b"h")))));
        assert_eq!(decoder.into_raw(), Bytes::from_static(&[9, 9, 9]));
    }

    fn response() -> impl Strategy<Value = Vec<Frame>> {
        let payload = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        (
            proptest::collection::vec(payload().prop_map(Frame::Informational), 0..3),
            payload().prop_map(Frame::Head),
            proptest::option::of(payload().prop_filter("some data", |p| !p.is_empty())),
            proptest::option::of(payload().prop_map(Frame::Trailers)),
        )
            .prop_map(|(mut frames, head, data, trailers)| {
                frames.push(head);
                frames.extend(data.map(Frame::Data));
                frames.extend(trailers);
                frames
            })
    }

    fn encode_all(frames: &[Frame]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            match frame {
                Frame::Head(p) => encode(Kind::Head, p, &mut out),
                Frame::Informational(p) => encode(Kind::Informational, p, &mut out),
                Frame::Data(p) => encode(Kind::Data, p, &mut out),
                Frame::Trailers(p) => encode(Kind::Trailers, p, &mut out),
                Frame::Control(p) => encode(Kind::Control, p, &mut out),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn a_message_survives_any_cut_into_chunks(frames in response(), size in 1usize..50) {
            let bytes = encode_all(&frames);
            let chunks: Vec<Bytes> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(decode_all(Role::Response, &chunks), Ok(frames));
        }

        #[test]
        fn no_bytes_panic_and_what_is_held_is_bounded(
            bytes in proptest::collection::vec(any::<u8>(), 0..500),
            size in 1usize..50,
        ) {
            let chunks: Vec<Bytes> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
            for role in [Role::Request, Role::Response, Role::Control] {
                let _ = decode_all(role, &chunks);
            }
        }
    }
}
