//! Requests and responses, as they pass through.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{self, Whole, basic, body, connect, empty, fetch, get, get_as_runner, send, send_h2},
    connector::{CARRIERS, Connector},
    world::{NAME, World, patiently, proxy_token},
};

#[tokio::test]
async fn a_request_reaches_the_connector_clean_and_whole_over_both_carriers() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let request = get("http://wiki.corp:8080/a/%2e%2e/b?c=d")
            .method("PUT")
            .header("host", "liar.corp")
            .header("x-kept", "1")
            .header("connection", "x-dropped")
            .header("x-dropped", "1")
            .header("postern-error", "forged")
            .header("te", "trailers")
            .header("expect", "100-continue");
        let answer = Whole::of(send(&world, request.body(body("hello")).unwrap()).await).await;
        assert_eq!(answer.status, StatusCode::OK);
        let seen = answer.json();
        assert_eq!(seen["method"], "PUT");
        assert_eq!(seen["uri"], "http://wiki.corp:8080/a/%2e%2e/b?c=d", "bytes as they came");
        assert_eq!(seen["body"], "hello");
        let headers = seen["headers"].as_object().unwrap();
        let names: Vec<&str> = headers.keys().map(String::as_str).collect();
        assert_eq!(names, ["content-length", "host", "te", "x-kept"]);
        assert_eq!(headers["host"], "wiki.corp:8080");

        assert_eq!(answer.header("x-origin"), "yes");
        for name in ["proxy-authenticate", "postern-forged"] {
            assert_eq!(answer.header(name), "", "nobody but the edge says this");
        }
        assert_eq!(answer.trailers["x-sum"], "42");
        let phases = protocol::phases::Phases::parse(answer.header("postern-phases"));
        let names: Vec<&str> = phases.iter().map(|(phase, _)| phase.as_str()).collect();
        assert_eq!(names, ["policy", "edge", "link", "dns", "first_byte"]);
    }
}

#[tokio::test]
async fn http2_clients_and_capabilities_are_served_likewise() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-after", http::HeaderValue::from_static("7"));
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
        let frames = frames.map(Ok::<_, link::BoxError>);
        let upload = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = get_as_runner("https://wiki.corp/x").method(Method::POST);
        let answer = Whole::of(send_h2(&world, request.body(upload).unwrap()).await).await;
        let seen = answer.json();
        assert_eq!((answer.status, &seen["uri"]), (StatusCode::OK, &"https://wiki.corp/x".into()));
        assert_eq!(seen["trailers"]["x-after"], "7");
        assert_eq!(answer.trailers["x-sum"], "42");
    }
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let request = get("http://wiki.corp/").method(Method::POST);
        let request = request.body(body(vec![b'x'; 8 << 20])).unwrap();
        let answer = Whole::of(send(&world, request).await).await;
        assert_eq!(answer.json()["length"], 8 << 20);

        let response = send(&world, get("http://wiki.corp/endless").body(empty()).unwrap()).await;
        let mut download = response.into_body();
        let mut length = 0;
        while length < 8 << 20 {
            let frame = patiently(download.frame()).await.unwrap().unwrap();
            length += frame.into_data().unwrap().len();
        }
    }
}

#[tokio::test]
async fn a_connectors_refusal_passes_in_its_own_words() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let answer = fetch(&world, get("http://wiki.corp/refused")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.header("postern-error"), "origin_refused");
    assert_eq!(answer.header("postern-error-source"), "origin");
}

#[tokio::test]
async fn a_response_that_breaks_off_never_ends_cleanly() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        for version in ["1.0", "1.1"] {
            let held = connector.hold(&world, carrier, 0).await;
            let mut stream = connect(world.gateway).await;
            let credentials = basic(NAME, &proxy_token());
            let request = format!(
                "GET http://wiki.corp/broken HTTP/{version}\r\nhost: wiki.corp\r\n\
                 proxy-authorization: {credentials}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.windows(5).any(|bytes| bytes == b"first") {
                answer.push(patiently(stream.read_u8()).await.unwrap());
            }
            held.go_on();
            let ended = patiently(stream.read_to_end(&mut answer)).await;
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.ends_with("0\r\n\r\n"), "{carrier:?} {text}");
            if version == "1.0" {
                assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
            }
        }
        let held = connector.hold(&world, carrier, 0).await;
        let request = get("http://wiki.corp/broken").body(empty()).unwrap();
        let response = send_h2(&world, request).await;
        held.go_on();
        assert!(patiently(response.into_body().collect()).await.is_err());
    }
}

#[tokio::test]
async fn a_link_that_breaks_under_a_response_breaks_the_response() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        let mut body = response.into_body();
        let first = patiently(body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first");
        held.break_down().await;
        assert!(patiently(body.collect()).await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let io = hyper_util::rt::TokioIo::new(connect(world.gateway).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = get("http://wiki.corp/wait").body(empty()).unwrap();
        let waiting = tokio::spawn(async move { drop(sender.send_request(request).await) });
        held.begun().await;
        waiting.abort();
        connection.abort();
        held.cancelled().await;

        let response = send(&world, get("http://wiki.corp/endless").body(empty()).unwrap()).await;
        drop(response);
        held.cancelled().await;
    }
}

/// A frame of HTTP/2, on the first stream but for settings.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let stream = u8::from(kind != SETTINGS);
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;

/// A field as HPACK spells it without any table (RFC 7541 §6.2.2); both texts are shorter than 255.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = match text.len() as u8 {
            length @ ..127 => vec![length],
            length => vec![127, length - 127],
        };
        [&length, text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

#[tokio::test]
async fn an_upload_that_is_reset_before_its_end_is_no_whole_one() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let credentials = basic(NAME, &proxy_token());
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "wiki.corp"),
        (":path", "/upload"),
        ("proxy-authorization", &credentials),
    ];
    let head = head.map(|(name, value)| field(name, value)).concat();
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let mut client = connect(world.gateway).await;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let head = frame(HEADERS, END_HEADERS, &head);
        let first = [&preface[..], &frame(SETTINGS, 0, &[]), &head, &frame(DATA, 0, b"a")].concat();
        client.write_all(&first).await.unwrap();
        held.begun().await;
        let no_error = [0; 4];
        let last = [frame(DATA, 0, b"b"), frame(RST_STREAM, 0, &no_error)].concat();
        client.write_all(&last).await.unwrap();
        tokio::select! {
            () = held.cancelled() => {}
            () = held.begun() => panic!("it looked whole over {carrier:?}"),
        }
    }
}

#[tokio::test]
async fn clients_that_do_not_read_hold_little_and_delay_nobody() {
    for carrier in CARRIERS {
        let world = World::new().await;
        let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let mut sender = client::h2(&world).await;
        let mut stalled = Vec::new();
        for _ in 0..20 {
            let request = get("http://wiki.corp/endless").body(empty()).unwrap();
            stalled.push(patiently(sender.send_request(request)).await.unwrap());
            held.begun().await;
        }
        let mut stream = connect(world.gateway).await;
        let credentials = basic(NAME, &proxy_token());
        let request = format!(
            "GET http://wiki.corp/endless HTTP/1.1\r\nhost: wiki.corp\r\n\
             proxy-authorization: {credentials}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        held.begun().await;
        for _ in 0..10 {
            let answer = fetch(&world, get("http://wiki.corp/")).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
        let bytes = world.metric("postern_edge_bytes_total{direction=\"down\"}").await;
        assert!(bytes < 21 * 512 * 1024, "{bytes} bytes wait for 21 clients that do not read");
        drop(stalled);
    }
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_is_one_request() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[1], 0).await;
    let mut stream = connect(world.gateway).await;
    let credentials = basic(NAME, &proxy_token());
    let request = format!(
        "POST http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: \
         {credentials}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n"
    );
    for piece in request.as_bytes().chunks(7) {
        stream.write_all(piece).await.unwrap();
    }
    let mut answer = String::new();
    patiently(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""body":"hello""#), "{answer}");
}

#[tokio::test]
async fn a_head_request_has_a_head_and_no_body() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let request: Request<_> = get("http://wiki.corp/").method(Method::HEAD).body(empty()).unwrap();
    let answer = Whole::of(send(&world, request).await).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn requests_are_made_canonical_before_they_are_sent() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        // A length that only HTTP/1.1 would understand.
        let credentials = basic(NAME, &proxy_token());
        let zeros = "0".repeat(40);
        let request = format!(
            "POST http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: {credentials}\r\n\
             content-length: {zeros}5\r\nconnection: close\r\n\r\nhello"
        );
        let mut stream = connect(world.gateway).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        patiently(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains(r#""body":"hello""#), "{answer}");
        assert!(answer.contains(r#""content-length":"5""#), "{answer}");

        // One cookie in crumbs, more than there may be fields.
        let request = (0..300).fold(get("http://wiki.corp/"), |request, n| {
            request.header("cookie", format!("c{n}={n}"))
        });
        let answer = Whole::of(send_h2(&world, request.body(empty()).unwrap()).await).await;
        let seen = answer.json();
        let cookie = seen["headers"]["cookie"].as_str().unwrap();
        assert!(cookie.starts_with("c0=0; c1=1; ") && cookie.ends_with("; c299=299"), "{cookie}");

        let request = (0..200)
            .fold(get("http://wiki.corp/"), |request, n| request.header(format!("x-{n}"), "1"));
        let answer = Whole::of(send(&world, request.body(empty()).unwrap()).await).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.json()["headers"].as_object().unwrap().len() >= 200);
    }
}

#[tokio::test]
async fn trailers_are_cleaned_and_counted() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        for (count, status) in [(1, StatusCode::OK), (256, StatusCode::OK)] {
            let mut trailers: http::HeaderMap = (0..count)
                .map(|n| {
                    (format!("x-{n}").parse::<http::HeaderName>().unwrap(), "1".parse().unwrap())
                })
                .collect();
            for name in ["content-length", "host", "postern-error"] {
                trailers.insert(name, "5".parse().unwrap());
            }
            let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
            let frames = frames.map(Ok::<_, link::BoxError>);
            let upload = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            let request = get("http://wiki.corp/").method(Method::POST);
            let answer = Whole::of(send_h2(&world, request.body(upload).unwrap()).await).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.json()["trailers"].as_object().unwrap().len(), count);
        }
        let trailers: http::HeaderMap = (0..300)
            .map(|n| (format!("x-{n}").parse::<http::HeaderName>().unwrap(), "1".parse().unwrap()))
            .collect();
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
        let frames = frames.map(Ok::<_, link::BoxError>);
        let upload = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = get("http://wiki.corp/").method(Method::POST);
        let answer = Whole::of(send_h2(&world, request.body(upload).unwrap()).await).await;
        assert_eq!(answer.code(), "headers_too_large");
        assert!(answer.json()["detail"].as_str().unwrap().contains("300 trailers; 256 pass"));
    }
}
