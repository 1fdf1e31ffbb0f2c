//! Heads of requests and responses, and trailers, as they stand in frames.
//!
//! ```text
//! text      = varint length, bytes
//! fields    = varint count, count × { name: text, value: text }
//! follows   = 1 byte: 0 the message ends here, 1 a body, trailers or a tunnel may follow
//! request   = follows, method: text, scheme 1 (0 none, 1 http, 2 https), authority: text,
//!             path: text, protocol: text (empty, or what to upgrade to), fields
//! response  = follows, varint status, fields
//! trailers  = fields
//! ```
//!
//! `follows` tells at once what the stream's end would tell only later: a request without a body must
//! be sent on as one, while a client that waits for `100 Continue` has a body but does not send it yet.
//!
//! Path bytes are carried as they came. Values are slices of the frame, not copies.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, request,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::{frame::Kind, varint};

/// Most fields of a message, in its head or in its trailers.
pub const MESSAGE_FIELDS: usize = 256;
/// Fields that Postern itself may add to those of a message: its phases, a `Host`, what an upgrade needs.
pub const OWN_FIELDS: usize = 4;
/// Most header fields in one head. An older peer takes fewer ([`crate::abilities::Abilities`]).
pub const MAX_FIELDS: u64 = (MESSAGE_FIELDS + OWN_FIELDS) as u64;

/// Extension of a request that asks to leave HTTP: the protocols to upgrade to, such as `websocket`, as
/// `Upgrade` lists them. A 101 answers it, over both carriers; there it is the protocol that the origin chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol(pub HeaderValue);

/// What comes behind a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nothing: the message is complete.
    Nothing,
    /// A body, trailers, or tunnelled bytes may come.
    More,
}

/// The peer's head does not follow this module's grammar, or holds what HTTP forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0} in a message head")]
pub struct HeadError(pub &'static str);

/// The authority of a request that is for the connector itself, which answers at once: so an edge finds out
/// whether requests get through a link. Nobody has the port 0, so an older connector refuses it at once.
pub const PROBE_AUTHORITY: &str = "connector.invalid:0";

/// Appends a HEAD frame for a request. Its URI is absolute, or an authority alone for CONNECT.
pub fn encode_request(head: &request::Parts, follows: Follows, out: &mut BytesMut) {
    encode_frame(Kind::Head, out, |out| {
        let uri = &head.uri;
        out.put_u8(follows as u8);
        put_text(head.method.as_str().as_bytes(), out);
        out.put_u8(match uri.scheme() {
            None => 0,
            Some(scheme) if *scheme == Scheme::HTTPS => 2,
            Some(_) => 1,
        });
        put_text(uri.authority().map_or("", Authority::as_str).as_bytes(), out);
        put_text(uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes(), out);
        let protocol = head.extensions.get::<Protocol>();
        put_text(protocol.map_or(b"".as_slice(), |protocol| protocol.0.as_bytes()), out);
        put_fields(&head.headers, out);
    });
}

/// Appends a HEAD frame, or an INFORMATIONAL one for a 1xx response other than 101.
/// Behind an informational one there is always more.
pub fn encode_response<B>(response: &Response<B>, follows: Follows, out: &mut BytesMut) {
    let status = response.status();
    let is_final = !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
    let kind = if is_final { Kind::Head } else { Kind::Informational };
    encode_frame(kind, out, |out| {
        out.put_u8(if is_final { follows as u8 } else { Follows::More as u8 });
        varint::encode(status.as_u16().into(), out);
        put_fields(response.headers(), out);
    });
}

/// Appends a TRAILERS frame.
pub fn encode_trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    encode_frame(Kind::Trailers, out, |out| put_fields(trailers, out));
}

/// Reads a request's head.
///
/// # Errors
/// When it is malformed.
pub fn decode_request(mut bytes: Bytes) -> Result<(Request<()>, Follows), HeadError> {
    let follows = take_follows(&mut bytes)?;
    let method = take_text(&mut bytes).ok_or(HeadError("method"))?;
    let method = Method::from_bytes(&method).map_err(|_| HeadError("method"))?;
    let scheme = match take_byte(&mut bytes) {
        Some(0) => None,
        Some(1) => Some(Scheme::HTTP),
        Some(2) => Some(Scheme::HTTPS),
        _ => return Err(HeadError("scheme")),
    };
    let authority = take_text(&mut bytes).ok_or(HeadError("authority"))?;
    let authority = Authority::from_maybe_shared(authority).map_err(|_| HeadError("authority"))?;
    let path = take_text(&mut bytes).ok_or(HeadError("path"))?;
    let protocol = take_text(&mut bytes).ok_or(HeadError("protocol"))?;
    let mut uri = http::uri::Parts::default();
    uri.authority = Some(authority);
    match scheme {
        None if method != Method::CONNECT || !path.is_empty() => return Err(HeadError("scheme")),
        None => {}
        Some(scheme) => {
            let path = PathAndQuery::from_maybe_shared(path).map_err(|_| HeadError("path"))?;
            if path == "*" && method != Method::OPTIONS {
                return Err(HeadError("path"));
            }
            uri.scheme = Some(scheme);
            uri.path_and_query = Some(path);
        }
    }
    let headers = take_fields(&mut bytes)?;
    if !bytes.is_empty() {
        return Err(HeadError("length"));
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| HeadError("target"))?;
    *request.headers_mut() = headers;
    if !protocol.is_empty() {
        let protocol =
            HeaderValue::from_maybe_shared(protocol).map_err(|_| HeadError("protocol"))?;
        request.extensions_mut().insert(Protocol(protocol));
    }
    Ok((request, follows))
}

/// Reads a response's head, final or informational.
///
/// # Errors
/// When it is malformed.
pub fn decode_response(mut bytes: Bytes) -> Result<(Response<()>, Follows), HeadError> {
    let follows = take_follows(&mut bytes)?;
    let status = take_varint(&mut bytes).and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or(HeadError("status"))?;
    let headers = take_fields(&mut bytes)?;
    if !bytes.is_empty() {
        return Err(HeadError("length"));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok((response, follows))
}

/// Reads trailers.
///
/// # Errors
/// When they are malformed.
pub fn decode_trailers(mut bytes: Bytes) -> Result<HeaderMap, HeadError> {
    let trailers = take_fields(&mut bytes)?;
    if bytes.is_empty() { Ok(trailers) } else { Err(HeadError("length")) }
}

/// Writes a frame whose length is known only afterwards: the length takes four bytes, whatever its
/// value, and is filled in last.
fn encode_frame(kind: Kind, out: &mut BytesMut, payload: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind as u8);
    let at = out.len();
    out.put_u32(0);
    payload(out);
    let length = out.len() - at - 4;
    debug_assert!(length < 1 << 30, "a four-byte varint holds 30 bits");
    out[at..at + 4].copy_from_slice(&(0x8000_0000 | length as u32).to_be_bytes());
}

fn put_text(text: &[u8], out: &mut BytesMut) {
    varint::encode(text.len() as u64, out);
    out.put_slice(text);
}

fn put_fields(fields: &HeaderMap, out: &mut BytesMut) {
    varint::encode(fields.len() as u64, out);
    for (name, value) in fields {
        put_text(name.as_str().as_bytes(), out);
        put_text(value.as_bytes(), out);
    }
}

fn take_follows(bytes: &mut Bytes) -> Result<Follows, HeadError> {
    match take_byte(bytes) {
        Some(0) => Ok(Follows::Nothing),
        Some(1) => Ok(Follows::More),
        _ => Err(HeadError("start")),
    }
}

fn take_byte(bytes: &mut Bytes) -> Option<u8> {
    bytes.has_remaining().then(|| bytes.get_u8())
}

fn take_varint(bytes: &mut Bytes) -> Option<u64> {
    let (value, size) = varint::decode(bytes)?;
    bytes.advance(size);
    Some(value)
}

fn take_text(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(take_varint(bytes)?).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

fn take_fields(bytes: &mut Bytes) -> Result<HeaderMap, HeadError> {
    let count = take_varint(bytes).filter(|count| *count <= MAX_FIELDS);
    let count = count.ok_or(HeadError("field count"))?;
    let mut fields = HeaderMap::with_capacity(count as usize);
    for _ in 0..count {
        let name = take_text(bytes).ok_or(HeadError("field name"))?;
        let name = HeaderName::from_bytes(&name).map_err(|_| HeadError("field name"))?;
        let value = take_text(bytes).ok_or(HeadError("field value"))?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| HeadError("field value"))?;
        fields.append(name, value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Decoder, Frame, Role};

    fn frame(role: Role, bytes: BytesMut) -> Frame {
        let mut decoder = Decoder::new(role);
        decoder.push(bytes.freeze());
        decoder.next_frame().unwrap().unwrap()
    }

    fn encoded(request: &Request<()>) -> Bytes {
        let mut out = BytesMut::new();
        encode_request(&request.clone().into_parts().0, Follows::Nothing, &mut out);
        let Frame::Head(head) = frame(Role::Request, out) else { panic!("a head") };
        head
    }

    #[test]
    fn the_bytes_of_known_heads_never_change() {
        let request = Request::get("http://wiki.corp/a?b=c").header("x-a", "1").body(()).unwrap();
        let mut out = BytesMut::new();
        encode_request(&request.into_parts().0, Follows::More, &mut out);
        let golden =
            b"\x01\x80\x00\x00\x1f\x01\x03GET\x01\x09wiki.corp\x06/a?b=c\x00\x01\x03x-a\x011";
        assert_eq!(out.as_ref(), golden);

        let connect = Request::connect("wiki.corp:443").body(()).unwrap();
        assert_eq!(encoded(&connect).as_ref(), b"\x00\x07CONNECT\x00\x0dwiki.corp:443\x00\x00\x00");

        let mut out = BytesMut::new();
        encode_response(
            &Response::builder().status(404).body(()).unwrap(),
            Follows::Nothing,
            &mut out,
        );
        assert_eq!(out.as_ref(), b"\x01\x80\x00\x00\x04\x00\x41\x94\x00");

        let mut out = BytesMut::new();
        encode_response(
            &Response::builder().status(103).body(()).unwrap(),
            Follows::Nothing,
            &mut out,
        );
        assert_eq!(out.as_ref(), b"\x02\x80\x00\x00\x04\x01\x40\x67\x00");

        let mut out = BytesMut::new();
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        encode_trailers(&trailers, &mut out);
        assert_eq!(out.as_ref(), b"\x04\x80\x00\x00\x0f\x01\x0bgrpc-status\x010");
    }

    #[test]
    fn an_upgrade_keeps_its_protocol() {
        let mut request = Request::get("https://wiki.corp/ws").body(()).unwrap();
        request.extensions_mut().insert(Protocol(HeaderValue::from_static("websocket")));
        let (back, follows) = decode_request(encoded(&request)).unwrap();
        assert_eq!(back.extensions().get::<Protocol>().unwrap().0, "websocket");
        assert_eq!(back.uri(), request.uri());
        assert_eq!(follows, Follows::Nothing);
    }

    #[test]
    fn malformed_heads_are_refused() {
        let cases: [&[u8]; 9] = [
            b"",
            b"\x00\x03GET",
            b"\x00\x03G T\x01\x01a\x01/\x00\x00",
            b"\x00\x03GET\x00\x01a\x01/\x00\x00",
            b"\x00\x03GET\x03\x01a\x01/\x00\x00",
            b"\x00\x03GET\x01\x00\x01/\x00\x00",
            b"\x00\x03GET\x01\x01a\x01/\x00\x01\x01a\x01\n",
            b"\x00\x03GET\x01\x01a\x01/\x00\x00extra",
            b"\x00\x03GET\x01\x01a\x01*\x00\x00",
        ];
        for case in cases {
            assert!(decode_request(Bytes::from_static(case)).is_err(), "{case:?}");
        }
        assert!(decode_response(Bytes::from_static(b"\x00\x41\x94\xbf\xff\xff\xff")).is_err());
    }

    proptest! {
        #[test]
        fn every_request_survives_the_round_trip(
            method in "[A-Z]{1,10}",
            host in "[a-z]{1,20}(:[1-9][0-9]{0,3})?",
            path in "/[a-zA-Z0-9/%._?=&~-]{0,60}",
            fields in proptest::collection::vec(("[a-z][a-z0-9-]{0,20}", "[ -~&&[^ ]]{0,40}"), 0..20),
        ) {
            prop_assume!(method != "CONNECT");
            let mut request = Request::builder()
                .method(method.as_str())
                .uri(format!("http://{host}{path}"));
            for (name, value) in &fields {
                request = request.header(name, value);
            }
            let request = request.body(()).unwrap();
            let (back, _) = decode_request(encoded(&request)).unwrap();
            prop_assert_eq!(back.method(), request.method());
            prop_assert_eq!(back.uri(), request.uri());
            prop_assert_eq!(back.headers(), request.headers());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_request(bytes.clone());
            let _ = decode_response(bytes.clone());
            let _ = decode_trailers(bytes);
        }
    }
}
