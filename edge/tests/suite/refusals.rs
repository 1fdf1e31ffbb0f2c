//! Every "no" of the gateway: its status, its code, and what it tells to do.

use http::{Method, Request, StatusCode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::{
    client::{Whole, basic, body, connect, empty, fetch, get, send, send_h2},
    connector::{CARRIERS, Connector},
    world::{
        NAME, OTHER_TENANT, OTHER_TUNNEL, TENANT, TUNNEL, World, capability, closed_tunnel,
        patiently, proxy_token,
    },
};

fn with(credentials: &str) -> http::request::Builder {
    Request::get("http://wiki.corp/").header("proxy-authorization", credentials)
}

#[tokio::test]
async fn each_refusal_has_its_status_and_its_code() {
    let world = World::with(|options| options.max_request_body = Some(1000)).await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let token = proxy_token();
    let own = capability(TUNNEL, TENANT);
    let cases = [
        (Request::get("http://wiki.corp/"), 407, "no_credentials"),
        (with("Bearer abc"), 407, "bad_credentials"),
        (with("Basic !!!"), 407, "bad_credentials"),
        (with(&basic(NAME, "nonsense")), 407, "bad_credentials"),
        (with(&basic(NAME, &token[..token.len() - 1])), 407, "bad_credentials"),
        (with(&basic("nowhere", &token)), 404, "unknown_tunnel"),
        (with(&basic("theirs", &token)), 404, "unknown_tunnel"),
        (with(&basic("nowhere", &own)), 404, "unknown_tunnel"),
        (with(&basic("theirs", &own)), 404, "unknown_tunnel"),
        (with(&basic(NAME, &capability(OTHER_TUNNEL, TENANT))), 407, "bad_credentials"),
        (with(&basic(NAME, &capability(TUNNEL, OTHER_TENANT))), 404, "unknown_tunnel"),
        (with(&basic("theirs", &capability(OTHER_TUNNEL, OTHER_TENANT))), 503, "no_link"),
        (get("/only/a/path"), 400, "bad_target"),
        (get("http://user@wiki.corp/"), 400, "bad_target"),
        (get(&format!("http://wiki.corp/{}", "x".repeat(17_000))), 414, "uri_too_long"),
        (get("http://wiki.corp/").header("x", "y".repeat(100_000)), 431, "headers_too_large"),
        (
            (0..257)
                .fold(get("http://wiki.corp/"), |request, n| request.header(format!("x-{n}"), "1")),
            431,
            "headers_too_large",
        ),
    ];
    for (request, status, code) in cases {
        let answer = fetch(&world, request).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code));
        assert_eq!(answer.header("proxy-authenticate").is_empty(), status != 407);
        assert_eq!(answer.header("retry-after").is_empty(), status != 503);
        assert!(!answer.json()["fix"].as_str().unwrap().is_empty());
    }
    let large = get("http://wiki.corp/").method(Method::POST).body(body(vec![0; 1001])).unwrap();
    assert_eq!(Whole::of(send(&world, large).await).await.code(), "body_too_large");
    let fits = get("http://wiki.corp/").method(Method::POST).body(body(vec![0; 1000])).unwrap();
    assert_eq!(send(&world, fits).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn http2_clients_hear_the_same() {
    let world = World::new().await;
    for (request, status, code) in [
        (Request::get("http://wiki.corp/"), 407, "no_credentials"),
        (get("http://wiki.corp/").header("x", "y".repeat(70_000)), 431, "headers_too_large"),
        (get("http://wiki.corp/"), 503, "no_link"),
    ] {
        let answer = Whole::of(send_h2(&world, request.body(empty()).unwrap()).await).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code));
    }
}

#[tokio::test]
async fn a_body_that_grows_over_its_limit_is_refused_on_the_way() {
    let world = World::with(|options| options.max_request_body = Some(1000)).await;
    for carrier in CARRIERS {
        let _held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let mut stream = connect(world.gateway).await;
        let credentials = basic(NAME, &proxy_token());
        let head = format!(
            "POST http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: \
             {credentials}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
        for _ in 0..3 {
            stream.write_all(chunk.as_bytes()).await.unwrap();
        }
        let mut answer = vec![0; 4096];
        let length = patiently(stream.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 413"), "{carrier:?} {answer}");
    }
}

#[tokio::test]
async fn a_team_that_is_not_listed_is_denied() {
    let world = World::new().await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    world.control_plane.put(protocol::feed::Item::Tunnel(closed_tunnel())).await;
    let answer = fetch(&world, get("http://wiki.corp/")).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "access_denied"));
}

#[tokio::test]
async fn what_no_link_delivered_may_be_sent_again() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let connector = Connector::new(&world, 1);
        let _held = connector.hold(&world, carrier, 0).await;
        let answer = fetch(&world, get("http://wiki.corp/reject")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "not_delivered"));
        assert_eq!(answer.json()["retryable"], true);
    }
}

#[tokio::test]
async fn what_one_link_did_not_deliver_another_does() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let busy = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let _endless = send(&world, get("http://wiki.corp/endless").body(empty()).unwrap()).await;
        busy.begun().await;
        // With less under way it is asked first, and rejects.
        let _unwilling = Connector::new(&world, 2).hold(&world, carrier, 0).await;
        for content in [String::new(), "hello".into(), "x".repeat(60_000)] {
            busy.go_on();
            let request = get("http://wiki.corp/willing").method(Method::POST);
            let request = request.body(body(content.clone())).unwrap();
            let answer = Whole::of(send(&world, request).await).await;
            assert_eq!(answer.status, StatusCode::OK, "{carrier:?}: {} bytes", content.len());
            assert!(answer.body == content, "whole, and once");
        }
    }
}

#[tokio::test]
async fn what_may_have_reached_the_origin_is_not_sent_again() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let first = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let request = get("http://wiki.corp/wait").method(Method::POST);
        let waiting = {
            let stream = hyper_util::rt::TokioIo::new(connect(world.gateway).await);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            tokio::spawn(async move {
                sender.send_request(request.body(empty()).unwrap()).await.unwrap()
            })
        };
        first.begun().await;
        let _second = Connector::new(&world, 2).hold(&world, carrier, 0).await;
        first.break_down().await;
        let answer = Whole::of(patiently(waiting).await.unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (502, "link_lost"));
        assert_eq!(answer.json()["retryable"], false);
    }
}

#[tokio::test]
async fn a_lost_link_costs_a_safe_request_nothing_while_another_is_up() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let first = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let stream = hyper_util::rt::TokioIo::new(connect(world.gateway).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = get("http://wiki.corp/wait").body(empty()).unwrap();
        let waiting = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
        first.begun().await;
        let second = Connector::new(&world, 2).hold(&world, carrier, 0).await;
        first.break_down().await;
        second.begun().await;
        second.go_on();
        let answer = Whole::of(patiently(waiting).await.unwrap()).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"waited"[..]));
    }
}

#[tokio::test]
async fn a_request_that_reached_one_origin_is_never_told_to_be_undelivered() {
    let world = World::new().await;
    for carrier in CARRIERS {
        let first = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        first.go_on();
        let request = send(&world, get("http://wiki.corp/doomed").body(empty()).unwrap());
        let (answer, _second) = tokio::join!(request, async {
            first.begun().await;
            // It is tried next, and rejects.
            let second = Connector::new(&world, 2).hold(&world, carrier, 0).await;
            first.break_down().await;
            second
        });
        assert_eq!(Whole::of(answer).await.code(), "link_lost", "{carrier:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_wants_is_let_go() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for start in ["", "P", "PRI * HTTP/2.0\r\n"] {
        let mut stream = connect(world.gateway).await;
        stream.write_all(start.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    for mut stream in silent {
        // With an end or with a reset: either way it is over.
        let _ = patiently(stream.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn a_refusal_with_a_body_behind_it_leaves_the_connection_open() {
    let world = World::new().await;
    let mut client = BufReader::new(connect(world.gateway).await);
    for _ in 0..3 {
        let request = "POST http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\n\
            transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut line, mut length) = (String::new(), 0);
        patiently(client.read_line(&mut line)).await.unwrap();
        assert!(line.starts_with("HTTP/1.1 407 "), "{line:?}");
        while line != "\r\n" {
            line.clear();
            patiently(client.read_line(&mut line)).await.unwrap();
            let field = line.trim_end().split_once(": ").unwrap_or_default();
            assert_ne!(field, ("connection", "close"));
            if field.0 == "content-length" {
                length = field.1.parse().unwrap();
            }
        }
        patiently(client.read_exact(&mut vec![0; length])).await.unwrap();
    }
}
