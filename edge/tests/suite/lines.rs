//! The first line of a request, and heads that hyper would refuse without a word.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Whole, basic, connect, empty, get, send},
    connector::{CARRIERS, Connector},
    world::{NAME, World, patiently, proxy_token},
};

/// A request's head with good credentials, from its line and further fields.
fn head(line: &[u8], fields: &str) -> Vec<u8> {
    let credentials = basic(NAME, &proxy_token());
    let rest = format!("\r\nhost: wiki.corp\r\nproxy-authorization: {credentials}\r\n{fields}\r\n");
    [line, rest.as_bytes()].concat()
}

/// Reads one chunked answer, whose body is JSON and ends with trailers or without.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        answer.push(patiently(stream.read_u8()).await.unwrap());
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn everyday_bytes_in_a_target_arrive_encoded() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let mut stream = connect(world.gateway).await;
        for (target, expected) in [
            (&b"http://wiki.corp/a?q=\"b\"<c>"[..], "http://wiki.corp/a?q=%22b%22%3Cc%3E"),
            (b"http://wiki.corp/<a>`", "http://wiki.corp/%3Ca%3E%60"),
            (b"http://wiki.corp/caf\xe9/caf\xc3\xa9", "http://wiki.corp/caf%E9/caf%C3%A9"),
            (b"http://wiki.corp/a|b{c}", "http://wiki.corp/a|b{c}"),
        ] {
            let line = [b"GET ", target, b" HTTP/1.1"].concat();
            // In pieces, on one connection.
            for piece in head(&line, "").chunks(11) {
                stream.write_all(piece).await.unwrap();
            }
            let answer = answer(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains(&format!(r#""uri":"{expected}""#)), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_body_that_looks_like_a_request_line_stays_as_it_is() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let mut stream = connect(world.gateway).await;
    let body = "GET http://wiki.corp/?<> HTTP/1.1\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(&head(b"GET http://wiki.corp/ HTTP/1.1", "")).await.unwrap();
        answer(&mut stream).await;
        let fields = format!("content-length: {}\r\n", body.len());
        stream.write_all(&head(b"POST http://wiki.corp/ HTTP/1.1", &fields)).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        assert!(answer.contains("GET http://wiki.corp/?<> HTTP/1.1"), "{answer}");
        assert!(answer.contains(&format!(r#""length":{}"#, body.len())), "{answer}");
    }
}

#[tokio::test]
async fn what_hyper_refuses_is_told_like_any_refusal() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let many: String = (0..600).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (line, fields, status, code) in [
        (&b"GET http:/// HTTP/1.1"[..], "", "400 Bad Request", "bad_request"),
        (b"GET http://wiki.corp/ HTTP/1.2", "", "400 Bad Request", "bad_request"),
        (b"GET http://wiki.corp/ HTTP/1.1", "x y: 1\r\n", "400 Bad Request", "bad_request"),
        (b"GET http://wiki.corp/ HTTP/1.1", "x: \x01\r\n", "400 Bad Request", "bad_request"),
        (b"G[T http://wiki.corp/ HTTP/1.1", "", "400 Bad Request", "bad_request"),
        (
            b"GET http://wiki.corp/ HTTP/1.1",
            &many,
            "431 Request Header Fields Too Large",
            "headers_too_large",
        ),
    ] {
        for is_first in [true, false] {
            let mut stream = connect(world.gateway).await;
            if !is_first {
                stream.write_all(&head(b"GET http://wiki.corp/ HTTP/1.1", "")).await.unwrap();
                answer(&mut stream).await;
            }
            stream.write_all(&head(line, fields)).await.unwrap();
            let mut refused = String::new();
            patiently(stream.read_to_string(&mut refused)).await.unwrap();
            assert!(refused.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{refused}");
            assert!(refused.contains(&format!("postern-error: {code}\r\n")), "{refused}");
            let (_, body) = refused.split_once("\r\n\r\n").unwrap();
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["code"], code);
        }
    }
    world.metric_until("postern_edge_requests_in_flight", 0).await;
}

#[tokio::test]
async fn an_options_without_a_path_asks_for_the_server_itself() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let mut stream = connect(world.gateway).await;
        for (target, expected) in [
            ("http://wiki.corp", "http://wiki.corp*"),
            ("http://wiki.corp/", "http://wiki.corp/"),
            ("http://wiki.corp", "http://wiki.corp*"),
        ] {
            let line = format!("OPTIONS {target} HTTP/1.1");
            stream.write_all(&head(line.as_bytes(), "")).await.unwrap();
            let answer = answer(&mut stream).await;
            assert!(answer.contains(&format!(r#""uri":"{expected}""#)), "{answer}");
        }
    }
}

#[tokio::test]
async fn max_forwards_counts_the_edge() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let ask = |method: &str, left: &str| {
            let request = get("http://wiki.corp/").method(method).header("max-forwards", left);
            request.body(empty()).unwrap()
        };
        let passed = Whole::of(send(&world, ask("OPTIONS", "3")).await).await;
        assert_eq!(passed.json()["headers"]["max-forwards"], "2");
        let ended = Whole::of(send(&world, ask("OPTIONS", "0")).await).await;
        assert_eq!((ended.status.as_u16(), ended.header("x-origin")), (204, ""));
        let ended = Whole::of(send(&world, ask("TRACE", "0")).await).await;
        assert_eq!(ended.header("content-type"), "message/http");
        let text = String::from_utf8_lossy(&ended.body).into_owned();
        assert!(text.starts_with("TRACE http://wiki.corp/ HTTP/1.1\r\n"), "{text}");
        assert!(!text.contains("authorization"), "{text}");
    }
}
