//! Origins that are spoken to over HTTP/2, and what they may do to a connection that requests share.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::stream;
use h2::Reason;
use http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::presence::Transport;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
};

use crate::{
    deployment::{Deployment, patiently},
    origin_settings::{describe, grpc, text},
    origins::Origin,
    over_both_carriers,
};

over_both_carriers!(
    an_answer_that_is_reset_before_its_end_is_no_whole_one,
    an_answer_that_is_reset_after_its_end_is_whole,
);

#[tokio::test]
async fn an_origin_that_lets_its_connection_go_is_dialled_anew() {
    let origin = Origin::raw(|stream| async move {
        let asked = Arc::new(tokio::sync::Notify::new());
        let tell = asked.clone();
        let service = hyper::service::service_fn(move |request| {
            tell.notify_one();
            async move { Ok::<_, Infallible>(describe(request).await) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let serving = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        tokio::select! {
            _ = &mut serving => return,
            () = asked.notified() => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    })
    .await;
    let deployment = Deployment::over(Transport::Quic).await;
    for _ in 0..20 {
        let request = grpc(&origin.url("/"), Empty::<Bytes>::new());
        let response = patiently(deployment.session().send(request, |_| {})).await.unwrap();
        let said = text(response).await;
        assert!(said.starts_with("HTTP/2.0"), "{said}");
    }
}

type Respond = h2::server::SendResponse<Bytes>;

/// An origin that gives its requests to `serve`, each with its number; all of them come over the first
/// connection unless that is lost. Counts its connections, too.
async fn origin<F>(
    serve: impl Fn(usize, Request<h2::RecvStream>, Respond) -> F + Clone + Send + 'static,
) -> (Origin, Counts)
where
    F: Future<Output = ()> + Send + 'static,
{
    let counts = Counts::default();
    let counting = counts.clone();
    let origin = Origin::raw(move |stream| {
        let (serve, counts) = (serve.clone(), counting.clone());
        async move {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            speak(stream, &counts.requests, serve).await;
        }
    })
    .await;
    (origin, counts)
}

#[derive(Clone, Default)]
struct Counts {
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

async fn speak<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: &AtomicUsize,
    serve: impl Fn(usize, Request<h2::RecvStream>, Respond) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut answers = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answers.spawn(serve(requests.fetch_add(1, Ordering::SeqCst), request, respond));
    }
}

/// Answers with what came.
async fn echo(request: Request<h2::RecvStream>, mut respond: Respond) {
    let mut body = request.into_body();
    let mut answer = respond.send_response(Response::new(()), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        answer.send_data(data, false).unwrap();
    }
    answer.send_data(Bytes::new(), true).unwrap();
}

#[tokio::test]
async fn a_request_that_an_origin_has_not_begun_with_is_sent_once_more() {
    let deployment = Deployment::over(Transport::Quic).await;
    for (reasons, length, answered, times) in [
        (&[Reason::REFUSED_STREAM][..], 0, true, 2),
        (&[Reason::REFUSED_STREAM], 10_000, true, 2),
        (&[Reason::REFUSED_STREAM, Reason::REFUSED_STREAM], 10, false, 2),
        (&[Reason::INTERNAL_ERROR], 10, false, 1),
    ] {
        let (origin, counts) = origin(move |n, request, mut respond| async move {
            match reasons.get(n) {
                Some(reason) => respond.send_reset(*reason),
                None => echo(request, respond).await,
            }
        })
        .await;
        let body = "x".repeat(length);
        let request = grpc(&origin.url("/"), Full::new(Bytes::from(body.clone())));
        let response = patiently(deployment.session().send(request, |_| {})).await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, answered, "{reasons:?}");
        if answered {
            assert!(text(response).await == body, "{length} bytes come whole");
        }
        assert_eq!(counts.requests.load(Ordering::SeqCst), times, "{reasons:?}");
    }
}

async fn an_answer_that_is_reset_before_its_end_is_no_whole_one(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    for length in [None, Some("100")] {
        let (reset, told) = watch::channel(false);
        let (origin, _) = origin(move |_, _, mut respond| {
            let mut told = told.clone();
            async move {
                let mut head = Response::new(());
                head.headers_mut().extend(length.map(|l| (CONTENT_LENGTH, l.parse().unwrap())));
                let mut answer = respond.send_response(head, false).unwrap();
                answer.send_data(Bytes::from("only this"), false).unwrap();
                told.wait_for(|told| *told).await.unwrap();
                answer.send_reset(Reason::NO_ERROR);
            }
        })
        .await;
        let request = grpc(&origin.url("/"), Empty::<Bytes>::new());
        let response = patiently(deployment.session().send(request, |_| {})).await.unwrap();
        let mut body = response.into_body();
        let first = patiently(body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "only this");
        reset.send(true).unwrap();
        patiently(body.frame()).await.expect("it does not look whole").unwrap_err();
    }
}

async fn an_answer_that_is_reset_after_its_end_is_whole(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    // Answers, and wants no more of the request.
    let (origin, _) = origin(|_, _, mut respond| async move {
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data(Bytes::from("enough"), true).unwrap();
    })
    .await;
    let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = grpc(&origin.url("/"), endless);
    let response = patiently(deployment.session().send(request, |_| {})).await.unwrap();
    assert_eq!(text(response).await, "enough");
}
