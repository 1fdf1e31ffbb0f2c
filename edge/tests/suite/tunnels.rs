//! CONNECT and upgrades, in HTTP/1.1 and in HTTP/2.

use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    client::{Whole, basic, connect, empty, fetch, get, h2, send, send_h2},
    connector::{CARRIERS, Connector},
    world::{NAME, World, patiently, proxy_token},
};

/// Everything comes back, and the end too: each direction closes on its own.
async fn echoes(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    patiently(stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"ping");
    let large = vec![b'x'; 100_000];
    stream.write_all(&large).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    patiently(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest.len(), large.len());
}

fn to(method: Method, target: &str) -> http::request::Builder {
    let credentials = basic(NAME, &proxy_token());
    Request::builder().method(method).uri(target).header("proxy-authorization", credentials)
}

#[tokio::test]
async fn connect_carries_bytes_both_ways_with_half_close() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let mut response =
            send(&world, to(Method::CONNECT, "wiki.corp:443").body(empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().contains_key("postern-phases"));
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        echoes(TokioIo::new(upgraded)).await;

        let mut response =
            send_h2(&world, to(Method::CONNECT, "wiki.corp:443").body(empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        echoes(TokioIo::new(upgraded)).await;
    }
}

#[tokio::test]
async fn bytes_that_come_with_the_connect_are_not_lost() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let mut stream = connect(world.gateway).await;
    let credentials = basic(NAME, &proxy_token());
    let head = format!(
        "CONNECT wiki.corp:443 HTTP/1.1\r\nhost: wiki.corp:443\r\nproxy-authorization: \
         {credentials}\r\n\r\nearly"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nearly") {
        let byte = patiently(stream.read_u8()).await.unwrap();
        answer.push(byte);
    }
}

#[tokio::test]
async fn a_websocket_upgrade_switches_protocols() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let request = get("http://wiki.corp/socket")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(empty())
            .unwrap();
        let mut response = send(&world, request).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(response.headers()["sec-websocket-accept"], "x");
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        echoes(TokioIo::new(upgraded)).await;

        let mut sender = h2(&world).await;
        // The edge's settings must have arrived before an extended CONNECT may be sent.
        let first = get("http://wiki.corp/").body(empty()).unwrap();
        Whole::of(patiently(sender.send_request(first)).await.unwrap()).await;
        let mut request = to(Method::CONNECT, "http://wiki.corp/socket").body(empty()).unwrap();
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let mut response = patiently(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        echoes(TokioIo::new(upgraded)).await;
    }
}

#[tokio::test]
async fn a_tunnel_that_the_connector_refuses_is_an_ordinary_answer() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let answer = fetch(&world, to(Method::CONNECT, "closed.corp:443")).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.header("postern-error"), "origin_refused");
    }
}

#[tokio::test]
async fn a_tunnel_whose_link_breaks_ends_with_a_reset() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let request = to(Method::CONNECT, "wiki.corp:443").body(empty()).unwrap();
        let mut response = send(&world, request).await;
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        let mut stream = TokioIo::new(upgraded);
        stream.write_all(b"ping").await.unwrap();
        patiently(stream.read_exact(&mut [0; 4])).await.unwrap();
        held.break_down().await;
        let ended = patiently(stream.read(&mut [0; 1])).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_client_that_breaks_its_tunnel_off_is_to_blame_for_it() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for (nth, carrier) in (1..).zip(CARRIERS) {
        let held = connector.hold(&world, carrier, 0).await;
        let mut stream = connect(world.gateway).await;
        let credentials = basic(NAME, &proxy_token());
        let head = format!(
            "CONNECT wiki.corp:443 HTTP/1.1\r\nhost: wiki.corp:443\r\nproxy-authorization: \
             {credentials}\r\n\r\nearly"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nearly") {
            answer.push(patiently(stream.read_u8()).await.unwrap());
        }
        stream.set_zero_linger().unwrap();
        drop(stream);
        held.cancelled().await;
        world.metric_until("postern_edge_requests_in_flight", 0).await;
        let gone = "postern_edge_requests_total{outcome=\"client_gone\"}";
        assert_eq!(world.metric(gone).await, nth);
    }
}

#[tokio::test]
async fn connect_without_a_port_is_refused() {
    let world = World::new().await;
    let mut stream = connect(world.gateway).await;
    stream.write_all(b"CONNECT wiki.corp HTTP/1.1\r\nhost: wiki.corp\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = patiently(stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn an_upgrade_by_any_method_passes_as_it_was_sent() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        for (method, offers, content) in [
            ("POST", &["SPDY/3.1"][..], "Content-Length: 0\r\n\r\n"),
            ("POST", &["tcp"], "Content-Length: 12\r\n\r\n{\"Tty\":true}"),
            ("PUT", &["a, b/2", "c"], "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            ("GET", &["a", "websocket"], "\r\n"),
        ] {
            let credentials = basic(NAME, &proxy_token());
            let lines: String =
                offers.iter().map(|offer| format!("Upgrade: {offer}\r\n")).collect();
            let request = format!(
                "{method} http://wiki.corp/exec HTTP/1.1\r\nhost: wiki.corp\r\nConnection: Upgrade\r\n\
                 {lines}proxy-authorization: {credentials}\r\n{content}"
            );
            let mut stream = connect(world.gateway).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(patiently(stream.read_u8()).await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let offer = offers.join(", ");
            let choice = offer.rsplit(", ").next().unwrap();
            for line in [
                format!("x-method: {method}\r\n"),
                format!("x-offer: {offer}\r\n"),
                format!("upgrade: {choice}\r\n"),
            ] {
                assert!(head.contains(&line), "{head}");
            }
            assert!(
                !head.contains("content-length") && !head.contains("transfer-encoding"),
                "{head}"
            );
            stream.write_all(b"more").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = String::new();
            patiently(stream.read_to_string(&mut rest)).await.unwrap();
            let body = if content.contains("abc") {
                "abc"
            } else {
                content.split("\r\n\r\n").nth(1).unwrap_or("")
            };
            assert_eq!(rest, format!("{body}more"), "{method} {carrier:?}");
        }
    }
}

#[tokio::test]
async fn the_body_of_an_upgrade_is_short() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let request = get("http://wiki.corp/exec").method(Method::POST);
    let request = request.header("connection", "upgrade").header("upgrade", "tcp");
    let request = request.body(crate::client::body(vec![b'x'; 64 * 1024 + 1])).unwrap();
    let answer = Whole::of(send(&world, request).await).await;
    assert_eq!(answer.code(), "body_too_large");
}

#[tokio::test]
async fn lengths_in_a_connect_and_in_an_upgrade_are_none() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let request = to(Method::CONNECT, "wiki.corp:443").header("content-length", "0");
        let mut response = send(&world, request.body(empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        echoes(TokioIo::new(upgraded)).await;

        let request = get("http://wiki.corp/socket")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("content-length", "0")
            .body(empty())
            .unwrap();
        let mut response = send(&world, request).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let upgraded = patiently(hyper::upgrade::on(&mut response)).await.unwrap();
        echoes(TokioIo::new(upgraded)).await;
    }
}
