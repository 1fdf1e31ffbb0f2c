//! What must hold when a decoder of the protocol reads bytes from anybody: it neither panics nor holds
//! more than its limits, and what it accepts survives being written and read once more.
//!
//! One function a decoder. The fuzzer calls them with bytes that it makes up (`fuzz_targets/`), the
//! protocol's tests with the bytes that earlier runs found worth keeping (`corpus/`).

use std::fmt::Debug;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use http::Uri;
use postern_protocol::{
    ArmourError,
    claims::Capability,
    control::{self, FromConnector, FromEdge},
    credential::{ApiKey, ProxyToken},
    feed::{FeedMessage, FeedState},
    frame::{self, Decoder, Frame, FrameError, Kind, Role},
    head::{self, Protocol},
    join::{self, JoinRequest, JoinResponse, JoinToken},
    phases::Phases,
    policy::{NormalPath, Policy},
    presence::Report,
    secret::{self, TunnelSecret},
};
use serde::{Serialize, de::DeserializeOwned};

/// A decoder's name, which is also that of its fuzz target and its corpus, and what must hold for it.
pub type Target = (&'static str, fn(&[u8]));

/// Every decoder.
pub const TARGETS: [Target; 16] = [
    ("frame", frame),
    ("request_head", request_head),
    ("response_head", response_head),
    ("trailers", trailers),
    ("from_edge", from_edge),
    ("from_connector", from_connector),
    ("tunnel_secret", tunnel_secret),
    ("join_token", join_token),
    ("credential", credential),
    ("join", join),
    ("capability", capability),
    ("feed", feed),
    ("presence", presence),
    ("phases", phases),
    ("policy", policy),
    ("policy_path", policy_path),
];

/// The stream of one direction, however it is cut. The first byte picks the role; the lower half of the
/// second says how many of the next ones are the sizes of chunks, its upper half which limit to set, if
/// any; the rest is the stream.
pub fn frame(data: &[u8]) {
    let [role, count, rest @ ..] = data else { return };
    let role = [Role::Request, Role::Response, Role::Control][usize::from(role % 3)];
    let Some((sizes, stream)) = rest.split_at_checked(usize::from(count % 16)) else { return };

    let limit = (*count >= 16).then(|| 1 << (count / 16));
    let whole = decode_frames(role, limit, stream, &[]);
    let cut = decode_frames(role, limit, stream, sizes);
    assert_eq!(whole, cut, "a stream means the same however it is cut");
    let Ok(frames) = whole else { return };

    let mut again = Vec::new();
    for frame in &frames {
        let (kind, payload) = match frame {
            Frame::Head(payload) => (Kind::Head, payload),
            Frame::Informational(payload) => (Kind::Informational, payload),
            Frame::Data(payload) => (Kind::Data, payload),
            Frame::Trailers(payload) => (Kind::Trailers, payload),
            Frame::Control(payload) => (Kind::Control, payload),
        };
        frame::encode(kind, payload, &mut again);
    }
    assert_eq!(decode_frames(role, limit, &again, sizes), Ok(frames));
}

/// All frames of a complete stream that comes in chunks of these sizes, over and over; neighbouring
/// pieces of the body are joined, since where they are cut means nothing.
fn decode_frames(
    role: Role,
    limit: Option<u64>,
    stream: &[u8],
    sizes: &[u8],
) -> Result<Vec<Frame>, FrameError> {
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let mut decoder = Decoder::new(role);
    if let Some(limit) = limit {
        decoder.set_limit(limit);
    }
    let mut frames: Vec<Frame> = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (chunk, behind) = rest.split_at(size);
        rest = behind;
        decoder.push(Bytes::copy_from_slice(chunk));
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

/// The one frame that an encoder wrote.
fn payload_of(role: Role, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    let mut decoder = Decoder::new(role);
    decoder.push(out.freeze());
    match decoder.next_frame() {
        Ok(Some(
            Frame::Head(payload) | Frame::Informational(payload) | Frame::Control(payload),
        )) => payload,
        other => panic!("an encoder wrote {other:?}"),
    }
}

/// A request's head.
pub fn request_head(data: &[u8]) {
    let Ok((request, follows)) = head::decode_request(Bytes::copy_from_slice(data)) else { return };
    if request.uri().path() != "*" {
        let text = request.uri().to_string();
        let reread = text.parse::<Uri>().expect("a target's text is a target");
        assert_eq!(&reread, request.uri(), "and it names the same one");
    }

    let (parts, ()) = request.clone().into_parts();
    let payload = payload_of(Role::Request, |out| head::encode_request(&parts, follows, out));
    let (again, follows_again) =
        head::decode_request(payload).expect("what was written can be read");
    assert_eq!(again.method(), request.method());
    assert_eq!(again.uri(), request.uri());
    assert_eq!(again.headers(), request.headers());
    let protocol = |request: &http::Request<()>| request.extensions().get::<Protocol>().cloned();
    assert_eq!(protocol(&again), protocol(&request));
    assert_eq!(follows_again, follows);
}

/// A response's head, final or informational.
pub fn response_head(data: &[u8]) {
    let Ok((response, follows)) = head::decode_response(Bytes::copy_from_slice(data)) else {
        return;
    };
    let payload = payload_of(Role::Response, |out| head::encode_response(&response, follows, out));
    let (again, follows_again) =
        head::decode_response(payload).expect("what was written can be read");
    assert_eq!(again.status(), response.status());
    assert_eq!(again.headers(), response.headers());
    assert!(follows_again == follows || response.status().is_informational());
}

/// The fields behind a body.
pub fn trailers(data: &[u8]) {
    let Ok(trailers) = head::decode_trailers(Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    frame::encode(Kind::Head, b"", &mut out);
    head::encode_trailers(&trailers, &mut out);
    let mut decoder = Decoder::new(Role::Request);
    decoder.push(out.freeze());
    assert!(matches!(decoder.next_frame(), Ok(Some(Frame::Head(_)))));
    let Ok(Some(Frame::Trailers(payload))) = decoder.next_frame() else {
        panic!("an encoder wrote no trailers");
    };
    assert_eq!(head::decode_trailers(payload), Ok(trailers));
}

/// A control message of an edge.
pub fn from_edge(data: &[u8]) {
    control_message::<FromEdge>(data);
}

/// A control message of a connector.
pub fn from_connector(data: &[u8]) {
    control_message::<FromConnector>(data);
}

fn control_message<M: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let Ok(message) = control::decode::<M>(data) else { return };
    let payload = payload_of(Role::Control, |out| control::encode(&message, out));
    assert_eq!(control::decode::<M>(&payload).expect("what was written can be read"), message);
}

/// What `TUNNEL_SECRET` holds.
pub fn tunnel_secret(data: &[u8]) {
    armoured(secret::PREFIX, data, TunnelSecret::decode, |secret| secret.encode().to_string());
}

/// An invitation for an edge.
pub fn join_token(data: &[u8]) {
    armoured(join::PREFIX, data, JoinToken::decode, |token| token.encode().to_string());
}

/// A gateway token or a key for the API.
pub fn credential(data: &[u8]) {
    armoured(ProxyToken::PREFIX, data, ProxyToken::decode, |token| token.encode().to_string());
    armoured(ApiKey::PREFIX, data, ApiKey::decode, |key| key.encode().to_string());
}

/// Reads `data` as the text itself, and as the payload of a text whose checksum is right, which no
/// fuzzer would come upon.
fn armoured<T>(
    prefix: &str,
    data: &[u8],
    decode: impl Fn(&str) -> Result<T, ArmourError>,
    encode: impl Fn(&T) -> String,
) {
    let checksum = crc32fast::hash(data).to_be_bytes();
    let body = URL_SAFE_NO_PAD.encode([data, &checksum].concat());
    for text in [String::from_utf8_lossy(data).into_owned(), [prefix, &body].concat()] {
        let Ok(value) = decode(&text) else { continue };
        assert_eq!(encode(&value), text.trim(), "there is one text for each value");
    }
}

/// What an edge and the control plane say to each other when the edge joins.
pub fn join(data: &[u8]) {
    let survives = |text: &str, again: &str| assert_eq!(text, again);
    if let Ok(request) = serde_json::from_slice::<JoinRequest>(data) {
        let text = to_json(&request);
        survives(&text, &to_json(&from_json::<JoinRequest>(&text)));
    }
    if let Ok(response) = serde_json::from_slice::<JoinResponse>(data) {
        let text = to_json(&response);
        survives(&text, &to_json(&from_json::<JoinResponse>(&text)));
    }
}

/// The claims of a capability whose signature is good.
pub fn capability(data: &[u8]) {
    let Some(capability) = json_survives::<Capability>(data) else { return };
    assert!(!capability.is_valid_at(capability.exp, 0), "it is not valid from `exp` on");
}

/// One line of the feed, applied to an edge that knows nothing and to one that knows it already.
pub fn feed(data: &[u8]) {
    let Some(message) = json_survives::<FeedMessage>(data) else { return };
    let mut state = FeedState::default();
    for _ in 0..2 {
        let before = state.generation;
        state.apply(message.clone());
        assert!(state.generation >= before, "generations never go back");
        assert_eq!(from_json::<FeedState>(&to_json(&state)), state, "it survives the disk");
    }
}

/// One report of an edge.
pub fn presence(data: &[u8]) {
    json_survives::<Report>(data);
}

/// The header that carries phases.
pub fn phases(data: &[u8]) {
    let phases = Phases::parse(&String::from_utf8_lossy(data));
    assert_eq!(Phases::parse(&phases.to_string()), phases);
    assert!(phases.total() >= phases.iter().map(|(_, length)| length).max().unwrap_or(0));
}

/// A policy file.
pub fn policy(data: &[u8]) {
    let Ok(policy) = Policy::from_toml(&String::from_utf8_lossy(data)) else { return };
    let again = from_json::<Policy>(&to_json(&policy));
    assert_eq!(again.digest(), policy.digest());
    assert_eq!(again, policy, "it survives its canonical form");
}

/// A path of a request, as rules see it.
pub fn policy_path(data: &[u8]) {
    let Some(normal) = NormalPath::of(&String::from_utf8_lossy(data)) else { return };
    let text = normal.as_str();
    assert!(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()));
    let lower = text.to_ascii_lowercase();
    for hidden in ["//", "/./", "/../", "%2e", "%2f", "%5c", "%25", "\\", ";"] {
        assert!(!lower.contains(hidden), "{text} holds {hidden}");
    }
    assert_eq!(NormalPath::of(text).as_ref(), Some(&normal), "it is its own normal form");
}

fn json_survives<M: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<M> {
    let message: M = serde_json::from_slice(data).ok()?;
    assert_eq!(from_json::<M>(&to_json(&message)), message);
    Some(message)
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("messages have no map with odd keys")
}

fn from_json<M: DeserializeOwned>(text: &str) -> M {
    serde_json::from_str(text).expect("what was written can be read")
}
