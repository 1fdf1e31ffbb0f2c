//! Messages that HTTP/1.1 servers send and a link would not take: they are made canonical before they are sent,
//! so that both carriers behave alike.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use link::{Opened, Session};
use protocol::{head::Protocol, presence::Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    deployment::{Deployment, patiently, send_whole},
    origins::{Origin, body, head},
    over_both_carriers,
};

over_both_carriers!(
    an_answer_has_one_length_or_none,
    every_status_passes,
    up_to_256_fields_pass,
    forgivable_fields_are_forgiven,
    an_interim_response_has_no_length,
    an_upgrade_goes_as_it_was_sent,
    a_101_with_a_length_is_followed_by_bytes,
    te_is_said_to_be_for_the_connection,
    only_grpc_is_grpc,
    trailers_are_cleaned_and_counted,
);

async fn get(session: &Session, url: String) -> Response<link::Body> {
    let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
    patiently(send_whole(session, request, |_| {})).await.unwrap()
}

async fn an_answer_has_one_length_or_none(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let zeros = format!("Content-Length: {}11\r\n", "0".repeat(300));
    let eleven = "b\r\nhello world\r\n0\r\n\r\n";
    for (fields, content, length) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", eleven, None),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", eleven, None),
        ("Transfer-Encoding : chunked\r\nContent-Length: x\r\n", eleven, None),
        ("Content-Length: 11, 11\r\n", "hello world", Some("11")),
        ("Content-Length: 11\r\nContent-Length: 011\r\n", "hello world", Some("11")),
        (&zeros, "hello world", Some("11")),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{content}");
        let origin = Origin::says(String::leak(answer).as_bytes()).await;
        let response = get(&deployment.session(), origin.url("/")).await;
        assert_eq!(response.status(), StatusCode::OK, "{fields}");
        let said: Vec<_> = response.headers().get_all("content-length").iter().collect();
        assert_eq!(said, Vec::from_iter(length), "{fields}");
        let content = patiently(response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(content, "hello world", "{fields}");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 11\r\n\r\n");
        let origin = Origin::says(String::leak(answer).as_bytes()).await;
        let response = get(&deployment.session(), origin.url("/")).await;
        assert_eq!(response.headers().contains_key("content-length"), status.starts_with("304"));
        assert_eq!(patiently(response.into_body().collect()).await.unwrap().to_bytes(), "");
    }
}

async fn every_status_passes(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    for status in [299, 599, 600, 799, 999] {
        let answer = format!("HTTP/1.1 {status} Odd\r\nContent-Length: 2\r\n\r\nok");
        let origin = Origin::says(String::leak(answer).as_bytes()).await;
        let response = get(&deployment.session(), origin.url("/")).await;
        assert_eq!(response.status(), status);
        assert_eq!(patiently(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
    }
}

fn many_fields(count: usize) -> HeaderMap {
    let field =
        |n| (format!("x-{n}").parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
    (0..count).map(field).collect()
}

async fn up_to_256_fields_pass(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let fields: String = (0..255).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let origin = Origin::says(String::leak(answer).as_bytes()).await;
    let response = get(&deployment.session(), origin.url("/")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().len(), 257, "with the phases");
    assert_eq!(patiently(response.into_body().collect()).await.unwrap().to_bytes(), "ok");

    // An origin that speaks HTTP/2.
    let origin = Origin::either(|request| async move {
        let count = request.uri().path()[1..].parse().unwrap();
        let mut answer = Response::new(body(Empty::new()));
        *answer.headers_mut() = many_fields(count);
        answer
    })
    .await;
    for (count, status) in [(250, 200), (300, 502)] {
        let request = Request::post(origin.url(&format!("/{count}")));
        let request = request.header("content-type", "application/grpc");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        assert_eq!(response.status(), status, "{count} fields");
        if status == 502 {
            assert_eq!(response.headers()["postern-error"], "origin_garbage");
            let text = patiently(response.into_body().collect()).await.unwrap().to_bytes();
            assert!(String::from_utf8_lossy(&text).contains("256 pass"), "{text:?}");
        }
    }
}

async fn forgivable_fields_are_forgiven(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let answer = b"HTTP/1.1 200 OK\r\nX-A : 1\r\nX-B: one\r\n\t two\r\n three\r\n\
        Content-Length : 2\r\n\r\nok";
    let origin = Origin::says(answer).await;
    let response = get(&deployment.session(), origin.url("/")).await;
    assert_eq!(response.headers()["x-a"], "1");
    assert_eq!(response.headers()["x-b"], "one two three");
    assert_eq!(patiently(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
}

async fn an_interim_response_has_no_length(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::says(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 0\r\n\r\n\
          HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let mut seen = Vec::new();
    let request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |head| {
        seen.push((head.status().as_u16(), head.headers().len()));
    }))
    .await
    .unwrap();
    assert_eq!(patiently(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
    assert_eq!(seen, [(103, 1)]);
}

async fn an_upgrade_goes_as_it_was_sent(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    // Echoes its request's head and body, then what comes in the tunnel.
    let origin = Origin::raw(|mut stream| async move {
        let request = head(&mut stream).await;
        let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut content = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut content).await.unwrap();
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: b/2\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(&content).await.unwrap();
        let mut more = [0; 4];
        stream.read_exact(&mut more).await.unwrap();
        stream.write_all(&more).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let session = deployment.session();
    for (method, content, length) in [
        ("GET", "", None),
        ("POST", "", Some("content-length: 0\r\n")),
        ("POST", "{\"Tty\":true}", Some("content-length: 12\r\n")),
        ("PUT", "x", Some("content-length: 1\r\n")),
    ] {
        let mut request =
            Request::builder().method(method).uri(origin.url("/exec")).body(()).unwrap();
        request.extensions_mut().insert(Protocol(HeaderValue::from_static("a, b/2")));
        let request = request.into_parts().0;
        let opened =
            patiently(session.open(&request, Bytes::from_static(content.as_bytes()))).await;
        let Opened::Tunnel(response, mut tunnel) = opened.unwrap() else { panic!("a tunnel") };
        assert_eq!(response.extensions().get(), Some(&Protocol(HeaderValue::from_static("b/2"))));
        tunnel.write_all(b"more").await.unwrap();
        let mut seen = String::new();
        patiently(tunnel.read_to_string(&mut seen)).await.unwrap();
        assert!(seen.starts_with(&format!("{method} /exec HTTP/1.1\r\n")), "{seen}");
        for line in ["connection: upgrade\r\n", "upgrade: a, b/2\r\n"] {
            assert!(seen.contains(line), "{seen}");
        }
        assert_eq!(seen.matches("content-length").count(), usize::from(length.is_some()), "{seen}");
        assert!(seen.contains(length.unwrap_or_default()), "{seen}");
        assert!(!seen.contains("transfer-encoding") && !seen.contains("postern"), "{seen}");
        assert!(seen.ends_with(&format!("\r\n\r\n{content}more")), "{seen}");
    }
}

async fn a_101_with_a_length_is_followed_by_bytes(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::says(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
          Content-Length: 0\r\n\r\nbytes",
    )
    .await;
    let mut request = Request::get(origin.url("/")).body(()).unwrap();
    request.extensions_mut().insert(Protocol(HeaderValue::from_static("websocket")));
    let request = request.into_parts().0;
    let opened = patiently(deployment.session().open(&request, Bytes::new())).await.unwrap();
    let Opened::Tunnel(response, mut tunnel) = opened else { panic!("a tunnel") };
    assert!(!response.headers().contains_key("content-length"));
    let mut bytes = String::new();
    patiently(tunnel.read_to_string(&mut bytes)).await.unwrap();
    assert_eq!(bytes, "bytes");
}

/// An origin that answers with the head of its request.
async fn mirror() -> Origin {
    Origin::raw(|mut stream| async move {
        let head = head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

async fn te_is_said_to_be_for_the_connection(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = mirror().await;
    for (te, expected) in [(Some("trailers"), true), (None, false)] {
        let mut request = Request::get(origin.url("/"));
        if let Some(te) = te {
            request = request.header("te", te);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await;
        let seen = patiently(response.unwrap().into_body().collect()).await.unwrap().to_bytes();
        let seen = String::from_utf8_lossy(&seen);
        assert_eq!(seen.contains("te: trailers\r\n"), expected, "{seen}");
        assert_eq!(seen.contains("connection: te\r\n"), expected, "{seen}");
    }
}

async fn only_grpc_is_grpc(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::either(|request| async move {
        Response::new(body(Full::from(format!("{:?}", request.version()))))
    })
    .await;
    for (kind, version) in [
        ("application/grpc", "HTTP/2.0"),
        ("Application/gRPC", "HTTP/2.0"),
        ("application/grpc+proto", "HTTP/2.0"),
        ("application/grpc;charset=utf-8", "HTTP/2.0"),
        ("application/grpc-web", "HTTP/1.1"),
        ("application/grpc-web+proto", "HTTP/1.1"),
        ("application/grpc-web-text", "HTTP/1.1"),
        ("application/grpcx", "HTTP/1.1"),
        ("application/grp", "HTTP/1.1"),
    ] {
        let request = Request::post(origin.url("/")).header("content-type", kind);
        let request = request.body(Full::new(Bytes::from("x"))).unwrap();
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        let seen = patiently(response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(seen, version, "{kind}");
    }
}

async fn trailers_are_cleaned_and_counted(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::either(|request| async move {
        let count = request.uri().path()[1..].parse().unwrap();
        let seen = request.into_body().collect().await.unwrap();
        let mut trailers = many_fields(count);
        trailers.insert("content-length", HeaderValue::from_static("5"));
        for name in seen.trailers().into_iter().flat_map(HeaderMap::keys) {
            trailers.append("x-seen", name.as_str().parse().unwrap());
        }
        let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
        Response::new(body(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))))
    })
    .await;
    for (count, passes) in [(1, true), (255, true), (300, false)] {
        let trailers = HeaderMap::from_iter([
            ("x-sum".parse::<HeaderName>().unwrap(), HeaderValue::from_static("1")),
            ("content-length".parse().unwrap(), HeaderValue::from_static("4")),
        ]);
        let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
        let frames = stream::iter(frames.map(Ok::<_, Infallible>));
        let request = Request::post(origin.url(&format!("/{count}")))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(frames))
            .unwrap();
        let sent = patiently(send_whole(&deployment.session(), request, |_| {})).await;
        // Trailers that come together with the head may break off what has not left yet.
        let Ok(response) = sent else {
            assert!(!passes, "{count} trailers");
            continue;
        };
        let collected = patiently(response.into_body().collect()).await;
        assert_eq!(collected.is_ok(), passes, "{count} trailers");
        if let Ok(collected) = collected {
            let trailers = collected.trailers().unwrap();
            assert_eq!(
                (trailers.len(), &trailers["x-seen"]),
                (count + 1, &"x-sum".parse().unwrap())
            );
        }
    }
}
