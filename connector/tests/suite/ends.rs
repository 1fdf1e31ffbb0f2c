//! How exchanges end early: origins that answer before they have read, that break off, or that neither read nor
//! close; edges that give up meanwhile. Whatever the way, nothing is held for ever, and nothing is lost that had
//! arrived.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use connector::Options;
use futures_util::stream;
use http::{HeaderValue, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use link::{Opened, Upgraded, relay};
use protocol::{fields, head::Protocol, presence::Transport};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
};

use crate::{
    deployment::{Deployment, open_whole, patiently, send_whole},
    origins::{Origin, head},
    over_both_carriers,
};

over_both_carriers!(
    an_answer_that_comes_before_the_request_was_read_is_heard,
    an_answer_that_breaks_off_shows_how_it_began,
    a_tunnel_that_is_given_up_ends_although_its_origin_reads_nothing,
    an_upload_that_is_given_up_ends_although_its_origin_reads_nothing,
    an_origin_that_takes_nothing_of_an_upload_is_given_up,
    an_origin_that_ignores_the_end_of_a_tunnel_is_let_go_and_loses_nothing,
    an_origin_that_ignores_the_end_of_an_upgrade_is_let_go_unless_what_is_spoken_half_closes,
    the_end_of_a_tunnel_behind_what_its_origin_does_not_take_is_noticed,
    a_tunnel_in_which_nothing_moves_ends,
);

fn with(transport: Transport, set: impl FnOnce(&mut Options)) -> Options {
    let mut options =
        Options { transport_protocol: Some(transport.as_str().into()), ..Options::default() };
    set(&mut options);
    options
}

async fn tunnel(deployment: &Deployment, origin: &Origin) -> Upgraded {
    let request = Request::connect(origin.address.to_string()).body(()).unwrap();
    match patiently(open_whole(&deployment.session(), request)).await.unwrap() {
        Opened::Tunnel(_, upgraded) => upgraded,
        Opened::Response(response) => panic!("{}", response.status()),
    }
}

/// A body without end.
fn endless() -> StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>
{
    let piece = Bytes::from(vec![b'x'; 16 * 1024]);
    StreamBody::new(stream::repeat_with(move || Ok(Frame::data(piece.clone()))))
}

/// Begins, reads nothing, and tells when its connection has been reset.
async fn origin_that_reads_nothing() -> (Origin, mpsc::Receiver<()>, mpsc::Receiver<()>) {
    let (begins, begun) = mpsc::channel(1);
    let (resets, reset) = mpsc::channel(1);
    let origin = Origin::raw(move |stream| {
        let (begins, resets) = (begins.clone(), resets.clone());
        async move {
            begins.send(()).await.unwrap();
            relay::broken(&stream).await;
            resets.send(()).await.unwrap();
        }
    })
    .await;
    (origin, begun, reset)
}

async fn an_answer_that_comes_before_the_request_was_read_is_heard(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::raw(|mut stream| async move {
        head(&mut stream).await;
        let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo much";
        stream.write_all(answer).await.unwrap();
        // Closed with the body unread, which resets the connection.
    })
    .await;
    for _ in 0..20 {
        let request = Request::post(origin.url("/")).body(endless()).unwrap();
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let body = patiently(response.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(body, "too much");
    }
}

async fn an_answer_that_breaks_off_shows_how_it_began(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n0123456789"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
    ] {
        let origin = Origin::says(answer).await;
        for _ in 0..50 {
            let request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
            let session = deployment.session();
            let response = patiently(send_whole(&session, request, |_| {})).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let mut body = response.into_body();
            let first = patiently(body.frame()).await.unwrap().unwrap();
            assert_eq!(first.into_data().unwrap(), "0123456789");
            assert!(patiently(body.collect()).await.is_err(), "it looks whole");
        }
    }
}

async fn a_tunnel_that_is_given_up_ends_although_its_origin_reads_nothing(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (origin, mut begun, mut reset) = origin_that_reads_nothing().await;
    let mut tunnel = tunnel(&deployment, &origin).await;
    patiently(begun.recv()).await.unwrap();
    let bytes = vec![b'x'; 64 * 1024];
    let nobody_takes = Duration::from_millis(500);
    while tokio::time::timeout(nobody_takes, tunnel.write_all(&bytes)).await.is_ok() {}
    drop(tunnel);
    patiently(reset.recv()).await.unwrap();
}

async fn an_upload_that_is_given_up_ends_although_its_origin_reads_nothing(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (origin, mut begun, mut reset) = origin_that_reads_nothing().await;
    let session = deployment.session();
    let request = Request::post(origin.url("/")).body(endless()).unwrap();
    let sending = tokio::spawn(async move { drop(send_whole(&session, request, |_| {}).await) });
    patiently(begun.recv()).await.unwrap();
    // Until nobody takes any more of it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    sending.abort();
    patiently(reset.recv()).await.unwrap();
}

async fn an_origin_that_takes_nothing_of_an_upload_is_given_up(transport: Transport) {
    let options = with(transport, |options| options.upload_timeout = Some("1s".into()));
    let deployment = Deployment::with(options).await;
    let (origin, _begun, _reset) = origin_that_reads_nothing().await;
    let request = Request::post(origin.url("/")).body(endless()).unwrap();
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(response.headers()[fields::ERROR], "origin_timeout");
}

async fn an_origin_that_ignores_the_end_of_a_tunnel_is_let_go_and_loses_nothing(
    transport: Transport,
) {
    let options = with(transport, |options| options.half_closed_timeout = Some("1s".into()));
    let deployment = Deployment::with(options).await;
    let (read, mut was_read) = mpsc::channel(1);
    let (go_on, goes_on) = watch::channel(false);
    let origin = Origin::raw(move |mut stream| {
        let (read, mut goes_on) = (read.clone(), goes_on.clone());
        async move {
            goes_on.wait_for(|goes_on| *goes_on).await.unwrap();
            let mut all = Vec::new();
            let end = stream.read_to_end(&mut all).await;
            // Nobody waits for it any more.
            stream.write_all(b"late").await.unwrap();
            relay::broken(&stream).await;
            read.send((all.len(), end.is_ok())).await.unwrap();
        }
    })
    .await;
    let mut tunnel = tunnel(&deployment, &origin).await;
    tunnel.write_all(&[b'x'; 100_000]).await.unwrap();
    tunnel.shutdown().await.unwrap();
    let end = patiently(tunnel.read(&mut [0; 1])).await;
    assert!(end.is_err(), "it is no clean end");
    go_on.send_replace(true);
    assert_eq!(patiently(was_read.recv()).await, Some((100_000, true)));
}

async fn an_origin_that_ignores_the_end_of_an_upgrade_is_let_go_unless_what_is_spoken_half_closes(
    transport: Transport,
) {
    let options = with(transport, |options| options.half_closed_timeout = Some("1s".into()));
    let deployment = Deployment::with(options).await;
    for (protocol, may_half_close) in [("echo", false), ("tcp", true)] {
        let origin = Origin::raw(move |mut stream| async move {
            head(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
            // Nobody may be there.
            let _ = stream.write_all(b"late").await;
        })
        .await;
        let mut request = Request::get(origin.url("/")).body(()).unwrap();
        request.extensions_mut().insert(Protocol(HeaderValue::from_static(protocol)));
        let opened = patiently(open_whole(&deployment.session(), request)).await.unwrap();
        let Opened::Tunnel(_, mut tunnel) = opened else { panic!("no tunnel") };
        tunnel.shutdown().await.unwrap();
        let mut all = Vec::new();
        let end = patiently(tunnel.read_to_end(&mut all)).await;
        assert_eq!(end.is_ok(), may_half_close, "{protocol}: {end:?}");
        assert_eq!(all, if may_half_close { &b"late"[..] } else { b"" });
    }
}

async fn the_end_of_a_tunnel_behind_what_its_origin_does_not_take_is_noticed(transport: Transport) {
    let options = with(transport, |options| options.half_closed_timeout = Some("1s".into()));
    let deployment = Deployment::with(options).await;
    let (origin, mut begun, mut reset) = origin_that_reads_nothing().await;
    let mut tunnel = tunnel(&deployment, &origin).await;
    patiently(begun.recv()).await.unwrap();
    // More than the sockets take, and no more than the link's stream takes besides.
    patiently(tunnel.write_all(&[b'x'; 700 * 1024])).await.unwrap();
    tunnel.shutdown().await.unwrap();
    assert!(patiently(tunnel.read(&mut [0; 1])).await.is_err(), "it is no clean end");
    patiently(reset.recv()).await.unwrap();
}

async fn a_tunnel_in_which_nothing_moves_ends(transport: Transport) {
    let options = with(transport, |options| options.idle_timeout = Some("1s".into()));
    let deployment = Deployment::with(options).await;
    let (origin, mut begun, mut reset) = origin_that_reads_nothing().await;
    let mut tunnel = tunnel(&deployment, &origin).await;
    patiently(begun.recv()).await.unwrap();
    assert!(patiently(tunnel.read(&mut [0; 1])).await.is_err());
    patiently(reset.recv()).await.unwrap();
}
