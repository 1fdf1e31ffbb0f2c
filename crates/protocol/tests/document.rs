//! `docs/protocol.md` shows bytes; they are the ones that this build writes.

use std::{fs, path::Path};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request, Response};
use postern_protocol::{
    address::{CaPin, EdgeAddress},
    control::{self, FromConnector},
    frame::{self, Kind},
    head::{self, Follows, Protocol},
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
    key::{Binding, Seed},
    secret::TunnelSecret,
};

fn hex(encode: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn request(request: &Request<()>, follows: Follows) -> String {
    hex(|out| head::encode_request(&request.clone().into_parts().0, follows, out))
}

fn response(status: u16, follows: Follows) -> String {
    let response = Response::builder().status(status).body(()).expect("a status");
    hex(|out| head::encode_response(&response, follows, out))
}

fn examples() -> [String; 10] {
    let get = Request::get("http://wiki.corp/a?b=c").header("x-a", "1").body(());
    let connect = Request::connect("wiki.corp:443").body(());
    let mut upgrade = Request::get("https://wiki.corp/ws").body(()).expect("a request");
    upgrade.extensions_mut().insert(Protocol(HeaderValue::from_static("websocket")));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));

    let seed = Seed::from_bytes([7; 32]);
    let binding = Binding {
        exporter: &[9; 32],
        edge: EdgeId::from_bytes([1; 16]),
        tunnel: TunnelId::from_bytes([2; 16]),
        key: KeyId::from_bytes([3; 16]),
        connector: ConnectorId::from_bytes([4; 16]),
        slot: 0,
    };
    let secret = TunnelSecret {
        tunnel: TunnelId::from_bytes([0x11; 16]),
        key: KeyId::from_bytes([0x22; 16]),
        seed: Seed::from_bytes([0x33; 32]),
        edges: vec![EdgeAddress {
            region: "eu".parse().expect("a name"),
            address: "edge.example.com:7844".parse().expect("an address"),
            fallback_port: Some(443),
        }],
        ca_pin: Some(CaPin::from_bytes([0x44; 32])),
    };
    [
        request(&get.expect("a request"), Follows::More),
        request(&connect.expect("a request"), Follows::More),
        request(&upgrade, Follows::More),
        response(103, Follows::More),
        response(404, Follows::Nothing),
        hex(|out| frame::encode(Kind::Data, b"body", out)),
        hex(|out| head::encode_trailers(&trailers, out)),
        hex(|out| control::encode(&FromConnector::Goodbye, out)),
        String::from(seed.prove(&binding)),
        secret.encode().to_string(),
    ]
}

#[test]
fn the_bytes_in_the_protocols_description_are_the_ones_that_are_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let text = fs::read_to_string(&path).expect("the description is there");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for example in examples() {
        assert!(text.contains(&example), "docs/protocol.md does not show {example}");
    }
}
