//! Requests that pass: whole, both ways, and unchanged.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use link::Session;
use protocol::{
    fields,
    phases::{Phase, Phases},
    presence::Transport,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::{
    deployment::{Deployment, patiently, send_whole},
    origins::{Origin, body, head},
    over_both_carriers,
};

over_both_carriers!(
    a_request_reaches_its_origin_and_the_answer_comes_back,
    bodies_stream_both_ways_at_once,
    megabytes_arrive_byte_for_byte,
    trailers_pass_both_ways,
    the_path_is_never_rewritten,
    interim_responses_are_passed_on,
    hop_by_hop_and_internal_fields_stay_behind,
    a_connection_is_used_again,
    a_connection_that_stands_for_somebody_is_never_used_again,
    a_get_may_have_a_body,
    a_head_has_no_body,
);

async fn get(session: &Session, url: String) -> Response<link::Body> {
    let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
    patiently(send_whole(session, request, |_| {})).await.unwrap()
}

async fn text(response: Response<link::Body>) -> String {
    let body = patiently(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn a_request_reaches_its_origin_and_the_answer_comes_back(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::http(|request| async move {
        assert_eq!(request.headers()["x-question"], "6 × 7".as_bytes());
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        let mut answer = Response::new(body(Full::from(format!("42 from {host}"))));
        *answer.status_mut() = StatusCode::IM_A_TEAPOT;
        answer.headers_mut().insert("x-answer", HeaderValue::from_static("yes"));
        answer
    })
    .await;
    let request = Request::get(origin.url("/")).header("x-question", "6 × 7");
    let request = request.header("host", "elsewhere").body(Empty::<Bytes>::new()).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers()["x-answer"], "yes");
    let phases = Phases::parse(response.headers()[fields::PHASES].to_str().unwrap());
    for phase in [Phase::Dns, Phase::Tcp, Phase::FirstByte] {
        assert!(phases.get(phase).is_some(), "{phase:?}");
    }
    assert_eq!(text(response).await, format!("42 from {}", origin.address));
}

async fn bodies_stream_both_ways_at_once(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::http(|request| async move { echo(request) }).await;
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let request = Request::post(origin.url("/")).body(StreamBody::new(Box::pin(frames))).unwrap();
    let session = deployment.session();
    let response = patiently(send_whole(&session, request, |_| {})).await.unwrap();
    let mut body = response.into_body();
    for n in 0..10 {
        let piece = Bytes::from(format!("piece {n}"));
        sender.send(piece.clone()).await.unwrap();
        let frame = patiently(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece, "it comes back before the next is sent");
    }
    drop(sender);
    assert!(patiently(body.frame()).await.is_none());
}

fn echo(request: Request<hyper::body::Incoming>) -> crate::origins::Answer {
    let frames = stream::unfold(request.into_body(), |mut body| async {
        let frame = body.frame().await?.ok()?;
        Some((Ok::<_, Infallible>(frame), body))
    });
    Response::new(body(StreamBody::new(Box::pin(frames))))
}

async fn megabytes_arrive_byte_for_byte(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::http(|request| async move { echo(request) }).await;
    let bytes: Vec<u8> = (0..8 * 1024 * 1024u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let bytes = Bytes::from(bytes);
    let request = Request::put(origin.url("/")).body(Full::new(bytes.clone())).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert!(patiently(response.into_body().collect()).await.unwrap().to_bytes() == bytes);
}

async fn trailers_pass_both_ways(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::http(|request| async move {
        let collected = request.into_body().collect().await.unwrap();
        let mut trailers = collected.trailers().unwrap().clone();
        trailers.insert("x-count", HeaderValue::from_static("1"));
        trailers.insert("postern-error", HeaderValue::from_static("forged"));
        let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
        let frames = stream::iter(frames.map(Ok::<_, Infallible>));
        let mut answer = Response::new(body(StreamBody::new(frames)));
        let names = HeaderValue::from_static("x-sum, x-count, postern-error");
        answer.headers_mut().insert("trailer", names);
        answer
    })
    .await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "abc".parse().unwrap())]);
    let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)];
    let frames = stream::iter(frames.map(Ok::<_, Infallible>));
    let request =
        Request::post(origin.url("/")).header("trailer", "x-sum").header("te", "trailers");
    let request = request.body(StreamBody::new(frames)).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    let collected = patiently(response.into_body().collect()).await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(
        (&trailers["x-sum"], &trailers["x-count"]),
        (&"abc".parse().unwrap(), &"1".parse().unwrap())
    );
    assert!(!trailers.contains_key("postern-error"));
}

async fn the_path_is_never_rewritten(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::raw(|mut stream| async move {
        let head = head(&mut stream).await;
        let line = head.lines().next().unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    for path in ["/", "/a/../b//c/./", "/%2e%2e/%2F%61?q=%20+&q=/../", "/?", "/a;b=c,d!$&'()*"] {
        let response = get(&deployment.session(), origin.url(path)).await;
        assert_eq!(text(response).await, format!("GET {path} HTTP/1.1"));
    }
    let uri = http::Uri::builder().scheme("http").authority(origin.address.to_string());
    let uri = uri.path_and_query("*").build().unwrap();
    let request = Request::options(uri).body(Empty::<Bytes>::new()).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(text(response).await, "OPTIONS * HTTP/1.1");
}

async fn interim_responses_are_passed_on(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::raw(|mut stream| async move {
        let head = head(&mut stream).await;
        assert!(head.contains("expect: 100-continue"));
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
    })
    .await;
    // The body leaves only once the origin has asked for it.
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let frames = stream::once(async move {
        wait.await.unwrap();
        Ok::<_, Infallible>(Frame::data(Bytes::from("body")))
    });
    let request = Request::post(origin.url("/"))
        .header("expect", "100-continue")
        .header("content-length", "4")
        .body(StreamBody::new(Box::pin(frames)))
        .unwrap();
    let mut seen = Vec::new();
    let mut go = Some(go);
    let informational = |head: Response<()>| {
        seen.push(head.status().as_u16());
        if head.status() == StatusCode::CONTINUE {
            go.take().unwrap().send(()).unwrap();
        }
    };
    let session = deployment.session();
    let response = patiently(send_whole(&session, request, informational)).await.unwrap();
    assert_eq!(text(response).await, "body");
    assert_eq!(seen, [103, 100]);
}

async fn hop_by_hop_and_internal_fields_stay_behind(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::http(|request| async move {
        for name in ["postern-error", "proxy-authorization", "keep-alive"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
        let mut answer = Response::new(body(Empty::new()));
        for name in ["postern-error", "postern-error-source", "keep-alive", "x-mine"] {
            let name: http::HeaderName = name.parse().unwrap();
            answer.headers_mut().insert(name, HeaderValue::from_static("origin"));
        }
        answer
    })
    .await;
    let mut request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
    for name in ["postern-error", "proxy-authorization"] {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, HeaderValue::from_static("edge"));
    }
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["postern-error", "postern-error-source", "keep-alive"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    assert_eq!(response.headers()["x-mine"], "origin");
}

async fn a_connection_is_used_again(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let origin = Origin::raw(move |mut stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            while head(&mut stream).await.ends_with("\r\n\r\n") {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    let mut pooled = 0;
    for _ in 0..5 {
        let response = get(&deployment.session(), origin.url("/")).await;
        let phases = Phases::parse(response.headers()[fields::PHASES].to_str().unwrap());
        pooled += usize::from(phases.get(Phase::Tcp).is_none());
        assert_eq!(text(response).await, "ok");
    }
    assert_eq!(pooled + connections.load(Ordering::SeqCst), 5, "phases tell which were new");
    assert!(pooled > 0);
}

async fn a_connection_that_stands_for_somebody_is_never_used_again(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::raw(|mut stream| async move {
        loop {
            let head = head(&mut stream).await;
            if !head.ends_with("\r\n\r\n") {
                return;
            }
            let challenge = if head.starts_with("GET /challenge") {
                "WWW-Authenticate: Basic realm=\"a\", NTLM\r\n"
            } else {
                ""
            };
            let answer = format!("HTTP/1.1 200 OK\r\n{challenge}Content-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    for (path, scheme) in [("/", "Negotiate YII="), ("/", "ntlm TlRM"), ("/challenge", "")] {
        for _ in 0..5 {
            let request = Request::get(origin.url(path)).header("authorization", scheme);
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response =
                patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
            let phases = Phases::parse(response.headers()[fields::PHASES].to_str().unwrap());
            assert!(phases.get(Phase::Tcp).is_some(), "{scheme} {path}: a connection of its own");
            assert_eq!(text(response).await, "ok");
        }
    }
}

async fn a_get_may_have_a_body(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::http(|request| async move { echo(request) }).await;
    let frames = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("query")))]);
    let request = Request::get(origin.url("/")).body(StreamBody::new(frames)).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(text(response).await, "query");
}

async fn a_head_has_no_body(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    let request = Request::head(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(response.headers()["content-length"], "1000");
    assert_eq!(text(response).await, "");
}
