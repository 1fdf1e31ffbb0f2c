//! Streams are independent, bounded, and say honestly how they ended.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use link::{CloseReason, LinkError};
use protocol::presence::Transport;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::{
    over_both_carriers,
    world::{World, channel, empty, full, ignore, patiently, send_whole},
};

over_both_carriers!(
    five_hundred_requests_at_once_all_get_their_own_answer,
    a_link_takes_a_thousand_requests_that_hang,
    a_sender_waits_for_a_reader_that_does_not_read,
    stalled_readers_delay_nobody_else,
    a_rejected_request_was_not_delivered,
    a_request_that_is_given_up_is_cancelled_at_the_connector,
    an_answer_that_is_given_up_is_cancelled_at_the_connector,
    an_answer_that_breaks_off_has_no_clean_end,
    a_request_body_that_fails_is_the_senders_own_fault,
    a_reply_that_is_dropped_cancels_the_stream,
    a_link_that_is_lost_fails_what_is_under_way,
    after_a_link_is_closed_nothing_is_delivered,
);

fn get() -> Request<crate::world::TestBody> {
    Request::get("http://wiki.corp/").body(empty()).unwrap()
}

async fn five_hundred_requests_at_once_all_get_their_own_answer(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        exchange.reply.send(Response::new(exchange.request.into_body())).await.unwrap();
    })
    .await;
    let mut requests = JoinSet::new();
    for n in 0..500 {
        let session = session.clone();
        requests.spawn(async move {
            let text = format!("{n}").repeat(500);
            let request = Request::post("http://wiki.corp/").body(full(text.clone())).unwrap();
            let response = send_whole(&session, request, ignore).await.unwrap();
            assert_eq!(response.collect().await.unwrap().to_bytes(), text);
        });
    }
    patiently(requests.join_all()).await;
}

/// A connector that answers nothing until a request is given up, and tells of each that it has begun.
async fn silent(transport: Transport) -> (link::Session, impl Sized, mpsc::Receiver<()>) {
    let (events, heard) = mpsc::channel(2_000);
    let (session, serving) = World::serving(transport, move |mut exchange| {
        let events = events.clone();
        async move {
            events.send(()).await.unwrap();
            exchange.reply.cancelled().await;
        }
    })
    .await;
    (session, serving, heard)
}

async fn hang(
    session: &link::Session,
    heard: &mut mpsc::Receiver<()>,
    count: usize,
) -> JoinSet<()> {
    let mut hanging = JoinSet::new();
    for _ in 0..count {
        let session = session.clone();
        hanging.spawn(async move { drop(send_whole(&session, get(), ignore).await) });
    }
    for _ in 0..count {
        patiently(heard.recv()).await.unwrap();
    }
    hanging
}

async fn a_link_takes_a_thousand_requests_that_hang(transport: Transport) {
    let (session, _serving, mut heard) = silent(transport).await;
    assert_eq!(session.capacity(), 1_000);
    for _ in 0..3 {
        let mut hanging = hang(&session, &mut heard, session.capacity()).await;
        // All at once; their places are free again when the next thousand come.
        hanging.shutdown().await;
    }
}

#[tokio::test]
async fn a_request_for_which_no_stream_is_free_does_not_wait_for_one() {
    let (session, _serving, mut heard) = silent(Transport::Quic).await;
    // The control stream takes one of the 1,280.
    let _hanging = hang(&session, &mut heard, 1_279).await;
    let error = patiently(send_whole(&session, get(), ignore)).await.unwrap_err();
    assert!(error.is_full() && error.is_not_delivered(), "{error:?}");
}

/// A body of 64 KiB pieces without end, which counts the bytes taken from it.
fn endless(taken: Arc<AtomicUsize>) -> crate::world::TestBody {
    let pieces = futures_util::stream::repeat_with(move || {
        taken.fetch_add(64 * 1024, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(&[0; 64 * 1024])))
    });
    http_body_util::StreamBody::new(pieces).boxed()
}

async fn a_sender_waits_for_a_reader_that_does_not_read(transport: Transport) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let (session, _serving) = World::serving(transport, move |exchange| {
        let body = match exchange.request.uri().path() {
            "/endless" => endless(counter.clone()),
            _ => empty(),
        };
        async move { drop(exchange.reply.send(Response::new(body)).await) }
    })
    .await;
    let request = Request::get("http://wiki.corp/endless").body(empty()).unwrap();
    let stalled = patiently(send_whole(&session, request, ignore)).await.unwrap();
    // By the time that these have come and gone, the endless sender has had its turn many times.
    for _ in 0..200 {
        patiently(send_whole(&session, get(), ignore)).await.unwrap();
    }
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken > 0, "the sender had its turn");
    assert!(taken <= 1024 * 1024, "{taken} bytes were taken for a reader that does not read");
    drop(stalled);
}

async fn stalled_readers_delay_nobody_else(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let body = endless(Arc::default());
        drop(exchange.reply.send(Response::new(body)).await);
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..50 {
        stalled.push(patiently(send_whole(&session, get(), ignore)).await.unwrap());
    }
    for _ in 0..20 {
        let mut read = 0;
        let mut body = patiently(send_whole(&session, get(), ignore)).await.unwrap().into_body();
        while read < 2_000_000 {
            let frame = patiently(body.frame()).await.unwrap().unwrap();
            read += frame.into_data().unwrap().len();
        }
    }
}

async fn a_rejected_request_was_not_delivered(transport: Transport) {
    let mut world = World::new(transport).await;
    let request = Request::post("http://wiki.corp/").body(full("x")).unwrap();
    let rejecting = async {
        // The link lives only while it is polled.
        while let Some(arrival) = world.inbound.accept().await {
            arrival.reject();
        }
    };
    let error = patiently(async {
        tokio::select! {
            sent = send_whole(&world.session, request, ignore) => sent.unwrap_err(),
            () = rejecting => panic!("the link is up"),
        }
    })
    .await;
    assert!(error.is_not_delivered(), "{error:?}");
}

async fn a_request_that_is_given_up_is_cancelled_at_the_connector(transport: Transport) {
    let (events, mut heard) = mpsc::channel(2);
    let (session, _serving) = World::serving(transport, move |mut exchange| {
        let events = events.clone();
        async move {
            events.send("begun").await.unwrap();
            exchange.reply.cancelled().await;
            events.send("cancelled").await.unwrap();
        }
    })
    .await;
    tokio::select! {
        _ = send_whole(&session, get(), ignore) => panic!("nobody answers"),
        begun = heard.recv() => assert_eq!(begun, Some("begun")),
    }
    assert_eq!(patiently(heard.recv()).await, Some("cancelled"));
}

async fn an_answer_that_is_given_up_is_cancelled_at_the_connector(transport: Transport) {
    let (outcomes, mut heard) = mpsc::channel(1);
    let (session, _serving) = World::serving(transport, move |exchange| {
        let outcomes = outcomes.clone();
        async move {
            let body = endless(Arc::default());
            let outcome = exchange.reply.send(Response::new(body)).await;
            outcomes.send(outcome).await.unwrap();
        }
    })
    .await;
    let mut body = patiently(send_whole(&session, get(), ignore)).await.unwrap().into_body();
    patiently(body.frame()).await.unwrap().unwrap();
    drop(body);
    let outcome = patiently(heard.recv()).await.unwrap();
    assert!(matches!(outcome, Err(LinkError::Cancelled)), "{outcome:?}");
}

async fn an_answer_that_breaks_off_has_no_clean_end(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let (pieces, body) = channel();
        let send = exchange.reply.send(Response::new(body));
        let feed = async move {
            pieces.send(Ok(Frame::data(Bytes::from_static(b"half")))).await.unwrap();
            pieces.send(Err("the origin broke".into())).await.unwrap();
        };
        let (sent, ()) = tokio::join!(send, feed);
        assert!(matches!(sent, Err(LinkError::Body(_))));
    })
    .await;
    let response = patiently(send_whole(&session, get(), ignore)).await.unwrap();
    let mut body = response.into_body();
    let first = patiently(body.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "half");
    let error = patiently(body.collect()).await.unwrap_err();
    assert!(matches!(error, LinkError::Incomplete | LinkError::Cancelled), "{error:?}");
}

async fn a_request_body_that_fails_is_the_senders_own_fault(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let outcome = exchange.request.into_body().collect().await;
        assert!(outcome.is_err(), "half a body is no body");
        drop(exchange.reply);
    })
    .await;
    let (pieces, body) = channel();
    let request = Request::post("http://wiki.corp/").body(body).unwrap();
    let (sent, ()) = patiently(async {
        tokio::join!(send_whole(&session, request, ignore), async {
            pieces.send(Ok(Frame::data(Bytes::from_static(b"half")))).await.unwrap();
            pieces.send(Err("the client went away".into())).await.unwrap();
        })
    })
    .await;
    let error = sent.unwrap_err();
    assert!(error.is_request_body() && !error.is_not_delivered(), "{error:?}");
}

async fn a_reply_that_is_dropped_cancels_the_stream(transport: Transport) {
    let (session, _serving) =
        World::serving(transport, |exchange| async move { drop(exchange) }).await;
    let error = patiently(send_whole(&session, get(), ignore)).await.unwrap_err();
    assert!(!error.is_not_delivered(), "it was begun: {error:?}");
}

async fn a_link_that_is_lost_fails_what_is_under_way(transport: Transport) {
    let begun = Arc::new(Notify::new());
    let begins = begun.clone();
    let (session, serving) = World::serving(transport, move |exchange| {
        let begins = begins.clone();
        async move {
            begins.notify_one();
            let _kept = exchange;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let (error, ()) = patiently(async {
        tokio::join!(send_whole(&session, get(), ignore), async {
            begun.notified().await;
            drop(serving);
        })
    })
    .await;
    assert!(!error.unwrap_err().is_not_delivered());
    patiently(session.closed()).await;
}

async fn after_a_link_is_closed_nothing_is_delivered(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        exchange.reply.send(Response::new(empty())).await.unwrap();
    })
    .await;
    patiently(send_whole(&session, get(), ignore)).await.unwrap();
    session.close(CloseReason::Revoked);
    patiently(session.closed()).await;
    let error = patiently(send_whole(&session, get(), ignore)).await.unwrap_err();
    assert!(error.is_not_delivered(), "{error:?}");
}
