//! Requests that come to nothing: each says what happened and whose fault it was, and leaves the
//! connector as it was.

use std::convert::Infallible;

use bytes::Bytes;
use connector::Options;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use link::Session;
use protocol::{fields, presence::Transport, refusal::Code};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::{
    deployment::{Authority, Deployment, Edges, file, patiently, send_whole},
    origins::{Origin, head},
    over_both_carriers,
};

over_both_carriers!(
    what_stands_in_the_way_is_told,
    garbage_is_called_garbage,
    what_is_wrong_with_an_answer_is_named_with_its_place,
    a_safe_request_is_repeated_on_a_new_connection_and_no_other,
    an_origin_that_breaks_off_is_no_clean_end,
    a_request_that_is_given_up_is_given_up_at_the_origin,
    a_body_that_breaks_off_never_ends_cleanly_at_the_origin,
    a_request_is_never_sent_twice,
    a_stale_connection_costs_nothing,
);

async fn send(session: &Session, url: &str) -> Response<link::Body> {
    let request = Request::get(url).body(Empty::<Bytes>::new()).unwrap();
    patiently(send_whole(session, request, |_| {})).await.unwrap()
}

async fn expect_refusal(session: &Session, url: &str, code: Code) {
    let response = send(session, url).await;
    let head = (response.status(), response.headers().clone());
    let body = patiently(response.into_body().collect()).await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("problem+json");
    assert_eq!(problem["code"], code.as_str(), "{url}: {problem}");
    assert_eq!(head.0, code.status());
    assert_eq!(head.1[fields::ERROR], code.as_str());
    assert_eq!(head.1[fields::ERROR_SOURCE], code.source().as_str());
    assert_eq!(head.1["content-type"], "application/problem+json");
}

async fn what_stands_in_the_way_is_told(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let session = deployment.session();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    expect_refusal(&session, &format!("http://{closed}/"), Code::OriginRefused).await;
    expect_refusal(&session, "http://no-such-host.invalid/", Code::OriginDns).await;
    expect_refusal(&session, "http://169.254.169.254/latest/", Code::DestinationRefused).await;
    expect_refusal(&session, "http://[::ffff:a9fe:a9fe]/", Code::DestinationRefused).await;
    expect_refusal(&session, "http://2852039166/", Code::DestinationRefused).await;
    let silent = Origin::raw(|stream| async move { drop(stream) }).await;
    expect_refusal(&session, &silent.url("/"), Code::OriginReset).await;
    let plain = Origin::raw(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let url = plain.url("/").replace("http:", "https:");
    expect_refusal(&session, &url, Code::OriginTls).await;
}

async fn garbage_is_called_garbage(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    for answer in [
        b"SSH-2.0-OpenSSH_9.9\r\n".as_slice(),
        b"\x15\x03\x03\x00\x02\x02\x16 a TLS alert where HTTP should be",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ] {
        let origin = Origin::says(answer).await;
        expect_refusal(&deployment.session(), &origin.url("/"), Code::OriginGarbage).await;
    }
}

async fn what_is_wrong_with_an_answer_is_named_with_its_place(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let fields = |count: usize| {
        let fields: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n")
    };
    for (answer, place) in [
        ("\x15\x03\x03\0\x02\x02\x16 a TLS alert where HTTP should be".into(), "TLS"),
        ("HTTP/1.2 200 OK\r\n\r\n".into(), "HTTP/1.2"),
        ("HTTP/1.1 200 OK\r\na: b\r\nno colon\r\n\r\n".into(), "field 2 has no colon"),
        ("HTTP/1.1 200 OK\r\na: b\r\nx[: c\r\n\r\n".into(), "field 2, x[: the byte 0x5b at 1"),
        ("HTTP/1.1 200 OK\r\na: b\x01\r\n\r\n".into(), "field 1, a: the byte 0x01 at 2"),
        (fields(256), "256 fields"),
        (fields(10_000), "64 KiB"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nab".into(), "content-length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into(), "chunked"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nab".into(), "chunked"),
    ] {
        let answer: &'static str = String::leak(answer);
        let origin = Origin::says(answer.as_bytes()).await;
        let response = send(&deployment.session(), &origin.url("/")).await;
        assert_eq!(response.headers()[fields::ERROR], Code::OriginGarbage.as_str(), "{place}");
        let body = patiently(response.into_body().collect()).await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(place), "{detail}, but not {place}");
        assert!(detail.contains(&origin.address.to_string()), "{detail}");
    }
}

async fn an_origin_that_breaks_off_is_no_clean_end(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let (go, wait) = tokio::sync::watch::channel(false);
        let origin = Origin::raw(move |mut stream| {
            let mut wait = wait.clone();
            async move {
                head(&mut stream).await;
                stream.write_all(answer).await.unwrap();
                wait.wait_for(|go| *go).await.unwrap();
            }
        })
        .await;
        let response = send(&deployment.session(), &origin.url("/")).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let first = patiently(body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "only this");
        go.send(true).unwrap();
        patiently(body.frame()).await.unwrap().unwrap_err();
    }
}

/// An origin that reads a request's head, tells so, and then tells how its connection ends.
async fn patient_origin() -> (Origin, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel(4);
    let origin = Origin::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            head(&mut stream).await;
            tell.send("begun").await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            let is_whole = rest.ends_with(b"0\r\n\r\n");
            tell.send(if is_whole { "whole" } else { "broken off" }).await.unwrap();
        }
    })
    .await;
    (origin, told)
}

async fn a_request_that_is_given_up_is_given_up_at_the_origin(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (origin, mut told) = patient_origin().await;
    let session = deployment.session();
    let request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
    {
        let sending = send_whole(&session, request, |_| {});
        tokio::pin!(sending);
        tokio::select! {
            _ = &mut sending => panic!("nobody answers"),
            begun = patiently(told.recv()) => assert_eq!(begun, Some("begun")),
        }
    }
    assert_eq!(patiently(told.recv()).await, Some("broken off"));
}

async fn a_body_that_breaks_off_never_ends_cleanly_at_the_origin(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (origin, mut told) = patient_origin().await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let frames = stream::unfold(Some(wait), |wait| async {
        match wait {
            Some(wait) => {
                wait.await.unwrap();
                Some((Err(std::io::Error::other("the client left")), None))
            }
            None => None,
        }
    });
    let first = stream::iter([Ok(Frame::data(Bytes::from("first")))]);
    let body = StreamBody::new(Box::pin(futures_util::StreamExt::chain(first, frames)));
    let request = Request::post(origin.url("/")).body(body).unwrap();
    let session = deployment.session();
    let sending =
        tokio::spawn(async move { send_whole(&session, request, |_| {}).await.map(drop) });
    assert_eq!(patiently(told.recv()).await, Some("begun"));
    go.send(()).unwrap();
    assert_eq!(patiently(told.recv()).await, Some("broken off"));
    patiently(sending).await.unwrap().unwrap_err();
}

async fn a_request_is_never_sent_twice(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (tell, mut told) = mpsc::channel(8);
    // Answers one request on each connection, and breaks the connection on the second.
    let origin = Origin::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let second = head(&mut stream).await;
            if !second.is_empty() {
                tell.send(second).await.unwrap();
            }
        }
    })
    .await;
    let session = deployment.session();
    // The connection may not be at rest yet when the next request comes, so there may be a few.
    let mut is_broken = false;
    for n in 0..20 {
        let request = Request::post(origin.url(&format!("/{n}"))).body(Empty::<Bytes>::new());
        let response = patiently(send_whole(&session, request.unwrap(), |_| {})).await.unwrap();
        is_broken = response.status() == StatusCode::BAD_GATEWAY;
        if is_broken {
            assert_eq!(response.headers()[fields::ERROR], Code::OriginReset.as_str());
            break;
        }
    }
    assert!(is_broken, "a connection is used again");
    patiently(told.recv()).await.unwrap();
    assert!(told.try_recv().is_err(), "the request came once");
}

async fn a_safe_request_is_repeated_on_a_new_connection_and_no_other(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (tell, mut told) = mpsc::channel(64);
    // Answers one request on each connection, reads the second one and closes.
    let origin = Origin::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            let first = head(&mut stream).await;
            if first.contains("content-length: 4") {
                stream.read_exact(&mut [0; 4]).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let second = head(&mut stream).await;
            if !second.is_empty() {
                tell.send(second.split(' ').next().unwrap().to_owned()).await.unwrap();
            }
        }
    })
    .await;
    let session = deployment.session();
    let with_body = |method: &str| {
        let body = Full::new(Bytes::from_static(b"body"));
        let request = Request::builder().method(method).uri(origin.url("/"));
        request.header("content-length", "4").body(body).unwrap()
    };
    // Whether a connection is at rest when the next request comes is chance: ask until each was met by a close.
    let mut met = std::collections::BTreeSet::new();
    while !(met.contains("GET") && met.contains("HEAD") && met.contains("OPTIONS")) {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = Request::builder().method(method).uri(origin.url("/"));
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = patiently(send_whole(&session, request, |_| {})).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{method}");
            patiently(response.into_body().collect()).await.unwrap();
        }
        while let Ok(method) = told.try_recv() {
            met.insert(method);
        }
    }
    for method in ["POST", "DELETE", "GET"] {
        let (mut answered, mut refused) = (0, 0);
        while refused == 0 {
            let response =
                patiently(send_whole(&session, with_body(method), |_| {})).await.unwrap();
            match response.status() {
                StatusCode::OK => answered += 1,
                StatusCode::BAD_GATEWAY => refused += 1,
                other => panic!("{method}: {other}"),
            }
            let is_garbage =
                response.headers().get(fields::ERROR).map(|code| code != "origin_reset");
            assert_ne!(is_garbage, Some(true));
            patiently(response.into_body().collect()).await.unwrap();
        }
        let closed = patiently(told.recv()).await;
        assert_eq!(closed.as_deref(), Some(method), "after {answered} answers");
        assert!(told.try_recv().is_err(), "it came once");
    }
}

async fn a_stale_connection_costs_nothing(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    // Closes each connection after its first answer, without a word.
    let origin = Origin::raw(|mut stream| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let session = deployment.session();
    for _ in 0..5 {
        assert_eq!(send(&session, &origin.url("/")).await.status(), StatusCode::OK);
        // The close is on its way; what matters is that it is noticed.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_origin_is_trusted_through_the_authority_that_was_named() {
    let authority = Authority::new();
    let origin = https_origin(&authority).await;
    let url = origin.url("/").replace("http:", "https:");

    let stranger = Deployment::over(Transport::Quic).await;
    expect_refusal(&stranger.session(), &url, Code::OriginTls).await;

    let pem = file(&authority.pem());
    let options =
        Options { origin_ca_file: Some(pem.path().to_str().unwrap().into()), ..Options::default() };
    let friend = Deployment::start(Edges::start(&["eu"], None).await, options).await;
    friend.edges[0].until(|links| links.len() == 4).await;
    let response = send(&friend.session(), &url).await;
    assert_eq!(response.status(), StatusCode::OK);
    let phases = response.headers()[fields::PHASES].to_str().unwrap().to_owned();
    assert!(phases.contains("tls="), "{phases}");
}

async fn https_origin(authority: &Authority) -> Origin {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let (chain, key) = authority.issue("127.0.0.1");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.unwrap(), key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    Origin::raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("private"))))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    })
    .await
}
