//! How connections end: clients that go, answers that break off, refusals amid an upload, and a gateway that
//! closes. Whatever the way, nothing stays behind.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Whole, basic, body, connect, empty, get, h1, h2, send_h2},
    connector::{CARRIERS, Connector},
    world::{NAME, World, patiently, proxy_token},
};

const IN_FLIGHT: &str = "postern_edge_requests_in_flight";

fn credentials() -> String {
    basic(NAME, &proxy_token())
}

/// Everything on the connection up to its end; what came before a reset counts, too.
async fn all(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = patiently(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// Writes until nobody takes any more.
async fn fill(stream: &mut (impl AsyncWrite + Unpin)) {
    let bytes = vec![b'x'; 64 * 1024];
    let nobody_takes = Duration::from_millis(300);
    while tokio::time::timeout(nobody_takes, stream.write(&bytes)).await.is_ok() {}
}

/// A client's tunnel to an origin that reads nothing.
async fn stuck_tunnel(world: &World) -> TcpStream {
    let mut stream = connect(world.gateway).await;
    let head = format!(
        "CONNECT stuck.corp:443 HTTP/1.1\r\nhost: stuck.corp\r\nproxy-authorization: {}\r\n\r\n",
        credentials()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(patiently(stream.read_u8()).await.unwrap());
    }
    stream
}

/// A client's upload, whose head announces more than it is going to send.
async fn upload(world: &World, path: &str) -> TcpStream {
    let mut stream = connect(world.gateway).await;
    let head = format!(
        "POST http://wiki.corp{path} HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: {}\r\n\
         content-length: 1000000000\r\n\r\n",
        credentials()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_resets_its_tunnel_is_noticed_although_nobody_reads_from_it() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let mut stream = stuck_tunnel(&world).await;
        held.begun().await;
        fill(&mut stream).await;
        stream.set_zero_linger().unwrap();
        drop(stream);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;

        let io = connect(world.gateway).await;
        let (sender, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::connect("stuck.corp:443")
            .header("proxy-authorization", credentials())
            .body(())
            .unwrap();
        let mut sender = patiently(sender.ready()).await.unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        assert_eq!(patiently(response).await.unwrap().status(), StatusCode::OK);
        held.begun().await;
        // More than the edge and its link take together.
        stream.send_data(vec![b'x'; 4 << 20].into(), false).unwrap();
        // Long enough for that: what has not left by then is forgotten, and the reset comes all the same.
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.send_reset(h2::Reason::CANCEL);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_its_upload_is_noticed_although_nobody_reads_from_it() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let mut reset = upload(&world, "/stuck").await;
        held.begun().await;
        fill(&mut reset).await;
        reset.set_zero_linger().unwrap();
        drop(reset);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;

        // More than the link takes, and no more than the edge's socket takes: the end is to be seen.
        let mut closed = upload(&world, "/stuck").await;
        held.begun().await;
        patiently(closed.write_all(&[b'x'; 700 * 1024])).await.unwrap();
        drop(closed);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;

        let mut sender = h2(&world).await;
        let (pieces, body) = tokio::sync::mpsc::channel(1);
        let pieces_in = futures_util::stream::unfold(body, |mut body| async move {
            Some((body.recv().await?, body))
        });
        let request = get("http://wiki.corp/stuck").method(Method::POST);
        let request = request.body(StreamBody::new(pieces_in).boxed_unsync()).unwrap();
        let sending = tokio::spawn(async move { sender.send_request(request).await.map(drop) });
        held.begun().await;
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let nobody_takes = Duration::from_millis(300);
        while let Ok(sent) =
            tokio::time::timeout(nobody_takes, pieces.send(Ok(Frame::data(piece.clone())))).await
        {
            sent.unwrap();
        }
        sending.abort();
        drop(pieces);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;
    }
}

#[tokio::test]
async fn a_client_that_resets_behind_a_queued_request_is_noticed() {
    let world = World::new().await;
    let held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let mut stream = connect(world.gateway).await;
    let request = format!(
        "GET http://wiki.corp/wait HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: {}\r\n\r\n",
        credentials()
    );
    stream.write_all(request.repeat(2).as_bytes()).await.unwrap();
    held.begun().await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    held.cancelled().await;
    world.metric_until(IN_FLIGHT, 0).await;
}

#[tokio::test]
async fn a_client_that_closes_its_end_behind_bytes_that_no_link_takes_is_noticed() {
    let unread_end = Duration::from_secs(1);
    let world = World::with(|options| options.tunnel_unread_end = unread_end).await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let mut stream = stuck_tunnel(&world).await;
        held.begun().await;
        // More than the link takes, and no more than the edge's socket takes.
        patiently(stream.write_all(&[b'x'; 700 * 1024])).await.unwrap();
        stream.shutdown().await.unwrap();
        let ended = patiently(stream.read(&mut [0; 1])).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;
    }
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let world = World::with(|options| options.tunnel_idle = Duration::from_secs(1)).await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let mut stream = stuck_tunnel(&world).await;
        held.begun().await;
        let ended = patiently(stream.read(&mut [0; 1])).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        held.cancelled().await;
        world.metric_until(IN_FLIGHT, 0).await;
    }
}

#[tokio::test]
async fn a_client_that_still_uploads_hears_why_it_is_refused() {
    let world = World::with(|options| options.max_request_body = Some(1_000_000)).await;
    let connector = Connector::new(&world, 1);
    let body = vec![b'x'; 5_000_000];
    let chunked = [b"4c4b40\r\n", &body[..], b"\r\n0\r\n\r\n"].concat();
    let length = format!("content-length: {}", body.len());
    let announced = (length.as_str(), &body);
    let unannounced = ("transfer-encoding: chunked", &chunked);
    let wrong = basic(NAME, "wrong");
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        let mut asking = tokio::task::JoinSet::new();
        for (credentials, (framing, body), status) in [
            (&wrong, announced, 407),
            (&wrong, unannounced, 407),
            (&credentials(), announced, 413),
            (&credentials(), unannounced, 413),
        ] {
            for _ in 0..20 {
                let mut stream = connect(world.gateway).await;
                let head = format!(
                    "POST http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\n\
                     proxy-authorization: {credentials}\r\n{framing}\r\n\r\n"
                );
                let body = Bytes::copy_from_slice(body);
                asking.spawn(async move {
                    stream.write_all(head.as_bytes()).await.unwrap();
                    // As ordinary clients do: all of it, whatever the answer.
                    patiently(stream.write_all(&body)).await.unwrap();
                    (status, all(stream).await)
                });
            }
        }
        for (status, answer) in asking.join_all().await {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_shows_how_it_began() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let x60 = "x".repeat(60);
    for carrier in CARRIERS {
        let _held = connector.hold(&world, carrier, 0).await;
        for framing in ["length", "chunks"] {
            for _ in 0..50 {
                let mut stream = connect(world.gateway).await;
                let request = format!(
                    "GET http://wiki.corp/cut-off?{framing} HTTP/1.1\r\nhost: wiki.corp\r\n\
                     proxy-authorization: {}\r\n\r\n",
                    credentials()
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                let answer = all(stream).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{carrier:?} {answer}");
                assert!(answer.contains(&x60), "{carrier:?} {answer}");
                assert!(!answer.ends_with("0\r\n\r\n"), "{carrier:?} {answer}");

                let request = get(&format!("http://wiki.corp/cut-off?{framing}"));
                let response = send_h2(&world, request.body(empty()).unwrap()).await;
                assert_eq!(response.status(), StatusCode::OK);
                let mut body = response.into_body();
                let first = patiently(body.frame()).await.unwrap().unwrap();
                assert_eq!(first.into_data().unwrap(), x60);
                assert!(patiently(body.collect()).await.is_err(), "it looks whole");
            }
        }
    }
}

#[tokio::test]
async fn what_has_arrived_when_the_gateway_closes_is_answered_and_idle_clients_are_let_go() {
    for carrier in CARRIERS {
        let mut world = World::new().await;
        let _held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut sender = h1(&world).await;
            let first = get("http://wiki.corp/").body(empty()).unwrap();
            Whole::of(patiently(sender.send_request(first)).await.unwrap()).await;
            clients.push(sender);
        }
        let mut idle = connect(world.gateway).await;
        world.shutdown.cancel();
        let mut asking = tokio::task::JoinSet::new();
        for mut sender in clients {
            patiently(sender.ready()).await.unwrap();
            let request = get("http://wiki.corp/").method(Method::POST).body(body("1")).unwrap();
            let sent = sender.send_request(request);
            asking.spawn(async move { Whole::of(patiently(sent).await.unwrap()).await });
        }
        for answer in asking.join_all().await {
            if answer.status != StatusCode::OK {
                assert_eq!(answer.code(), "edge_unavailable");
                assert_eq!(answer.header("connection"), "close");
            }
        }
        assert_eq!(patiently(idle.read(&mut [0; 1])).await.unwrap(), 0);
        world.left().await;
    }
}

#[tokio::test]
async fn a_client_that_closes_its_end_gets_its_answer_where_that_is_wanted() {
    let world = World::with(|options| options.answer_half_closed = true).await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        let held = connector.hold(&world, carrier, 0).await;
        let mut stream = connect(world.gateway).await;
        let request = format!(
            "GET http://wiki.corp/wait HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: {}\r\n\r\n",
            credentials()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        held.begun().await;
        held.go_on();
        let answer = all(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("waited"), "{answer}");
        world.metric_until(IN_FLIGHT, 0).await;
    }
}
