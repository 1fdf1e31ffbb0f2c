//! Origins that are spoken to over HTTP/2, and what they may do to a connection that requests share.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use protocol::presence::Transport;
use tokio::task::JoinSet;

use crate::{
    deployment::{Deployment, patiently},
    origin_settings::{describe, grpc, text},
    origins::Origin,
};

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

/// An origin that resets the first of its streams for these reasons, and answers the others with what
/// came; counts what it was asked.
async fn resetting_origin(reasons: &'static [h2::Reason]) -> (Origin, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let origin = Origin::raw(move |stream| {
        let count = count.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let mut answers = JoinSet::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if let Some(reason) = reasons.get(count.fetch_add(1, Ordering::SeqCst)) {
                    respond.send_reset(*reason);
                    continue;
                }
                answers.spawn(async move {
                    let mut body = request.into_body();
                    let mut answer = respond.send_response(Response::new(()), false).unwrap();
                    while let Some(Ok(data)) = body.data().await {
                        body.flow_control().release_capacity(data.len()).unwrap();
                        answer.send_data(data, false).unwrap();
                    }
                    answer.send_data(Bytes::new(), true).unwrap();
                });
            }
        }
    })
    .await;
    (origin, asked)
}

#[tokio::test]
async fn a_request_that_an_origin_has_not_begun_with_is_sent_once_more() {
    use h2::Reason;
    let deployment = Deployment::over(Transport::Quic).await;
    for (reasons, length, answered, times) in [
        (&[Reason::REFUSED_STREAM][..], 0, true, 2),
        (&[Reason::REFUSED_STREAM], 10_000, true, 2),
        (&[Reason::REFUSED_STREAM, Reason::REFUSED_STREAM], 10, false, 2),
        (&[Reason::INTERNAL_ERROR], 10, false, 1),
    ] {
        let (origin, asked) = resetting_origin(reasons).await;
        let body = "x".repeat(length);
        let request = grpc(&origin.url("/"), Full::new(Bytes::from(body.clone())));
        let response = patiently(deployment.session().send(request, |_| {})).await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, answered, "{reasons:?}");
        if answered {
            assert!(text(response).await == body, "{length} bytes come whole");
        }
        assert_eq!(asked.load(Ordering::SeqCst), times, "{reasons:?}");
    }
}
