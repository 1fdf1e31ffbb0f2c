//! Requests and responses arrive as they were sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use link::{Body, Exchange};
use protocol::presence::Transport;

use crate::{
    over_both_carriers,
    world::{World, channel, empty, full, ignore, patiently, send_whole},
};

over_both_carriers!(
    a_request_and_its_answer_arrive_unharmed,
    a_request_without_a_body_arrives_as_one,
    trailers_pass_both_ways,
    informational_responses_come_first,
    a_client_may_wait_for_100_continue_before_it_sends_its_body,
    an_answer_may_come_before_the_request_has_ended,
    ten_megabytes_each_way_are_byte_exact,
    a_head_of_100_fields_and_64_kib_passes,
    a_head_of_more_than_260_fields_does_not,
    trailers_of_more_than_260_fields_break_an_answer_off,
    every_final_status_passes,
);

async fn echo(exchange: Exchange) {
    let Exchange { request, reply } = exchange;
    let response = Response::builder()
        .header("x-method", request.method().as_str())
        .header("x-uri", request.uri().to_string())
        .header("x-field", request.headers().get("x-field").cloned().unwrap())
        .body(request.into_body())
        .unwrap();
    let _ = reply.send(response).await;
}

async fn a_request_and_its_answer_arrive_unharmed(transport: Transport) {
    let (session, _serving) = World::serving(transport, echo).await;
    for (method, uri) in [
        (Method::POST, "http://wiki.corp/a/%2e%2E/b?c=%20d&e"),
        (Method::PUT, "https://[2001:db8::1]:8443/"),
        (Method::OPTIONS, "http://wiki.corp/"),
    ] {
        let request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header("x-field", HeaderValue::from_bytes(b"caf\xe9").unwrap())
            .body(full("hello"))
            .unwrap();
        let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
        assert_eq!(response.headers()["x-method"], method.as_str());
        assert_eq!(response.headers()["x-uri"], uri);
        assert_eq!(response.headers()["x-field"].as_bytes(), b"caf\xe9");
        assert_eq!(patiently(response.collect()).await.unwrap().to_bytes(), "hello");
    }
}

async fn a_request_without_a_body_arrives_as_one(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        assert!(exchange.request.body().is_end_stream());
        let response = Response::builder().status(StatusCode::NO_CONTENT).body(empty()).unwrap();
        exchange.reply.send(response).await.unwrap();
    })
    .await;
    let request = Request::get("http://wiki.corp/").body(empty()).unwrap();
    let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(response.body().is_end_stream());
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("x-checksum"), HeaderValue::from_static(value))])
}

async fn trailers_pass_both_ways(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let body = exchange.request.into_body().collect().await.unwrap();
        assert_eq!(body.trailers(), Some(&trailers("up")));
        let answer = full(body.to_bytes()).with_trailers(async { Some(Ok(trailers("down"))) });
        exchange.reply.send(Response::new(answer)).await.unwrap();
    })
    .await;
    let body = full("hello").with_trailers(async { Some(Ok(trailers("up"))) });
    let request = Request::post("http://wiki.corp/").body(body).unwrap();
    let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
    let body = patiently(response.collect()).await.unwrap();
    assert_eq!(body.trailers(), Some(&trailers("down")));
    assert_eq!(body.to_bytes(), "hello");
}

async fn informational_responses_come_first(transport: Transport) {
    let (session, _serving) = World::serving(transport, |mut exchange| async move {
        for status in [StatusCode::PROCESSING, StatusCode::EARLY_HINTS] {
            let early = Response::builder().status(status).header("link", "</a>").body(()).unwrap();
            exchange.reply.inform(early).await.unwrap();
        }
        exchange.reply.send(Response::new(full("final"))).await.unwrap();
    })
    .await;
    let mut early = Vec::new();
    let request = Request::get("http://wiki.corp/").body(empty()).unwrap();
    let sent = send_whole(&session, request, |response| {
        assert_eq!(response.headers()["link"], "</a>");
        early.push(response.status());
    });
    let response = patiently(sent).await.unwrap();
    assert_eq!(patiently(response.collect()).await.unwrap().to_bytes(), "final");
    assert_eq!(early, [StatusCode::PROCESSING, StatusCode::EARLY_HINTS]);
}

async fn a_client_may_wait_for_100_continue_before_it_sends_its_body(transport: Transport) {
    let (session, _serving) = World::serving(transport, |mut exchange| async move {
        assert!(!exchange.request.body().is_end_stream());
        let go_on = Response::builder().status(StatusCode::CONTINUE).body(()).unwrap();
        exchange.reply.inform(go_on).await.unwrap();
        exchange.reply.send(Response::new(exchange.request.into_body())).await.unwrap();
    })
    .await;
    let (pieces, body) = channel();
    let request = Request::post("http://wiki.corp/").body(body).unwrap();
    let mut pieces = Some(pieces);
    let sent = send_whole(&session, request, move |response| {
        assert_eq!(response.status(), StatusCode::CONTINUE);
        let pieces = pieces.take().unwrap();
        pieces.try_send(Ok(Frame::data(Bytes::from_static(b"at last")))).unwrap();
    });
    let response = patiently(sent).await.unwrap();
    assert_eq!(patiently(response.collect()).await.unwrap().to_bytes(), "at last");
}

async fn an_answer_may_come_before_the_request_has_ended(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        exchange.reply.send(Response::new(exchange.request.into_body())).await.unwrap();
    })
    .await;
    let (pieces, body) = channel();
    let request = Request::post("http://wiki.corp/").body(body).unwrap();
    let mut response: Body =
        patiently(send_whole(&session, request, ignore)).await.unwrap().into_body();
    for piece in ["a", "b", "c"] {
        pieces.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
        let echoed = patiently(response.frame()).await.unwrap().unwrap();
        assert_eq!(echoed.into_data().unwrap(), piece);
    }
    drop(pieces);
    assert!(patiently(response.frame()).await.is_none());
}

async fn ten_megabytes_each_way_are_byte_exact(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        exchange.reply.send(Response::new(exchange.request.into_body())).await.unwrap();
    })
    .await;
    let sent: Bytes =
        (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let request = Request::post("http://wiki.corp/").body(full(sent.clone())).unwrap();
    let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
    assert!(patiently(response.collect()).await.unwrap().to_bytes() == sent);
}

async fn a_head_of_100_fields_and_64_kib_passes(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let mut response = Response::new(empty());
        *response.headers_mut() = exchange.request.headers().clone();
        exchange.reply.send(response).await.unwrap();
    })
    .await;
    let mut request = Request::get("http://wiki.corp/").body(empty()).unwrap();
    for n in 0..100 {
        let name: HeaderName = format!("x-{n}").parse().unwrap();
        request.headers_mut().insert(name, "v".repeat(600).parse().unwrap());
    }
    let fields = request.headers().clone();
    let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
    assert_eq!(response.headers(), &fields);
}

fn fields(count: usize) -> HeaderMap {
    let field =
        |n| (format!("x-{n}").parse::<HeaderName>().unwrap(), HeaderValue::from_static("1"));
    (0..count).map(field).collect()
}

async fn a_head_of_more_than_260_fields_does_not(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let count = exchange.request.uri().path()[1..].parse().unwrap();
        let mut response = Response::new(empty());
        *response.headers_mut() = fields(count);
        let _ = exchange.reply.send(response).await;
    })
    .await;
    for (asked, answered, passes) in [(260, 260, true), (261, 0, false), (0, 261, false)] {
        let mut request =
            Request::get(format!("http://wiki.corp/{answered}")).body(empty()).unwrap();
        *request.headers_mut() = fields(asked);
        let sent = patiently(send_whole(&session, request, ignore)).await;
        assert_eq!(sent.is_ok(), passes, "{asked} asked, {answered} answered");
    }
}

async fn trailers_of_more_than_260_fields_break_an_answer_off(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let count = exchange.request.uri().path()[1..].parse().unwrap();
        let answer = full("hello").with_trailers(async move { Some(Ok(fields(count))) });
        let _ = exchange.reply.send(Response::new(answer)).await;
    })
    .await;
    for (count, passes) in [(260, true), (261, false)] {
        let request = Request::get(format!("http://wiki.corp/{count}")).body(empty()).unwrap();
        let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
        assert_eq!(patiently(response.collect()).await.is_ok(), passes, "{count} fields");
    }
}

async fn every_final_status_passes(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        assert!(exchange.reply.abilities().any_status);
        let status: u16 = exchange.request.uri().path()[1..].parse().unwrap();
        let response = Response::builder().status(status).body(full("hello")).unwrap();
        let _ = exchange.reply.send(response).await;
    })
    .await;
    assert!(session.abilities().any_status);
    for status in [200, 299, 599, 600, 799, 999] {
        let request = Request::get(format!("http://wiki.corp/{status}")).body(empty()).unwrap();
        let response = patiently(send_whole(&session, request, ignore)).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(patiently(response.collect()).await.unwrap().to_bytes(), "hello");
    }
}
