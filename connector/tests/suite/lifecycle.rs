//! A connector from its start to its end: links, status, refusals, drain, shutdown.

use bytes::Bytes;
use connector::Options;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use protocol::{
    control::{FromEdge, LinkRefusal, LinkRefusalCode},
    head::PROBE_AUTHORITY,
    presence::Transport,
};
use tokio::sync::watch;

use crate::{
    deployment::{Deployment, Edges, patiently, send_whole},
    origins::{Origin, body},
    over_both_carriers,
};

over_both_carriers!(
    the_connector_itself_answers_an_edge_that_asks_whether_requests_get_through,
    a_shutdown_lets_requests_under_way_finish,
    a_drain_loses_no_request
);

async fn the_connector_itself_answers_an_edge_that_asks_whether_requests_get_through(
    transport: Transport,
) {
    let deployment = Deployment::over(transport).await;
    let url = format!("http://{PROBE_AUTHORITY}/");
    let request = Request::options(url).body(Empty::<Bytes>::new()).unwrap();
    let answer = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

fn only(transport: Transport) -> Options {
    Options { transport_protocol: Some(transport.as_str().into()), ..Options::default() }
}

#[tokio::test]
async fn four_links_stand_over_two_regions_and_are_shown() {
    let edges = Edges::start(&["eu", "us"], None).await;
    let deployment = Deployment::start(edges, Options::default()).await;
    for edge in &deployment.edges {
        let links = edge.until(|links| links.len() == 2).await;
        assert!(links.iter().all(|link| link.transport == Transport::Quic));
    }
    let all_measured = |text: &str| {
        let status: serde_json::Value = serde_json::from_str(text).unwrap();
        status["slots"].as_array().unwrap().iter().all(|slot| slot["link"]["rtt_ms"].is_f64())
    };
    let (code, status) = deployment.status_until("/status", all_measured).await;
    assert_eq!(code, 200);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["links"], 4);
    for slot in status["slots"].as_array().unwrap() {
        assert_eq!(slot["state"], "up");
        assert_eq!(slot["link"]["transport"], "quic");
        assert!(["eu", "us"].contains(&slot["link"]["region"].as_str().unwrap()));
    }

    let (code, ready) = deployment.status("/ready").await;
    assert_eq!(code, 200);
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((&ready["ready"], &ready["links"]), (&true.into(), &4.into()));
    assert_eq!(deployment.status("/healthz").await.0, 200);
    assert_eq!(deployment.status("/elsewhere").await.0, 404);
}

#[tokio::test]
async fn every_metric_is_there_and_none_is_secret() {
    let deployment = Deployment::over(Transport::Http2).await;
    let origin = Origin::http(|request| async move {
        let body_in = request.into_body().collect().await.unwrap();
        Response::new(body(Full::from(body_in.to_bytes())))
    })
    .await;
    for url in [origin.url("/"), "http://no-such-host.invalid/".into()] {
        let request = Request::post(url).body(Full::new(Bytes::from("12345"))).unwrap();
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        patiently(response.into_body().collect()).await.unwrap();
    }
    let expected = [
        "postern_connector_build_info{version=\"",
        "postern_connector_links{region=\"eu\",transport=\"http2\"}",
        "postern_connector_link_rtt_seconds{slot=\"0\"}",
        "postern_connector_link_up_total{transport=\"http2\",purpose=\"fill\"}",
        "postern_connector_requests_in_flight",
        "postern_connector_oldest_request_seconds",
        "postern_connector_longest_stall_seconds",
        "postern_connector_requests_total{outcome=\"answered\"}",
        "postern_connector_requests_total{outcome=\"origin_dns\"}",
        "postern_connector_request_bytes_total",
        "postern_connector_response_bytes_total",
        "postern_connector_origin_phase_seconds_bucket{phase=\"tcp\"",
        "postern_connector_origin_phase_seconds_count{phase=\"first_byte\"}",
    ];
    let is_complete = |metrics: &str| expected.iter().all(|name| metrics.contains(name));
    let (code, metrics) = deployment.status_until("/metrics", is_complete).await;
    assert_eq!(code, 200);
    assert!(!metrics.contains(&deployment.secret));
    let (_, status) = deployment.status("/status").await;
    assert!(!status.contains(&deployment.secret));
}

#[tokio::test]
async fn a_revoked_secret_leaves_the_connector_up_and_says_why() {
    let refusal = LinkRefusal { code: LinkRefusalCode::RevokedSecret, retry_after_ms: None };
    let edges = Edges::start(&["eu"], Some(refusal)).await;
    let deployment = Deployment::start(edges, Options::default()).await;
    let (code, body) = deployment.status_until("/ready", |body| body.contains("revoked")).await;
    assert_eq!(code, 503);
    assert!(body.contains("rotate it in the console"), "{body}");
    assert!(!deployment.connector.is_finished());
}

#[tokio::test]
async fn a_status_port_that_is_taken_is_not_the_end() {
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options { metrics_port: Some(port.to_string()), ..Options::default() };
    let deployment = Deployment::start(Edges::start(&["eu"], None).await, options).await;
    deployment.edges[0].until(|links| links.len() == 4).await;
}

#[tokio::test]
async fn edges_that_are_named_are_the_only_ones() {
    let mut edges = Edges::start(&["eu", "us"], None).await;
    let options = Options {
        edge: Some(format!("us={}", edges.edges[1].address.address)),
        ..Options::default()
    };
    edges.edges.swap(0, 1);
    let deployment = Deployment::start(edges, options).await;
    deployment.edges[0].until(|links| links.len() == 4).await;
    assert!(deployment.edges[1].links().is_empty());
}

/// An origin that answers once `go` is true.
async fn waiting_origin(go: watch::Receiver<bool>) -> (Origin, watch::Receiver<usize>) {
    let (begun, seen) = watch::channel(0);
    let origin = Origin::http(move |_| {
        let mut go = go.clone();
        begun.send_modify(|count| *count += 1);
        async move {
            go.wait_for(|go| *go).await.unwrap();
            Response::new(body(Full::from("done")))
        }
    })
    .await;
    (origin, seen)
}

async fn a_shutdown_lets_requests_under_way_finish(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let edge = &deployment.edges[0];
    edge.hold.send_replace(true);
    let (go, wait) = watch::channel(false);
    let (origin, mut seen) = waiting_origin(wait).await;
    let session = deployment.session();
    let request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
    let sending = tokio::spawn(async move {
        let response = send_whole(&session, request, |_| {}).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    });
    patiently(seen.wait_for(|seen| *seen == 1)).await.unwrap();

    deployment.shutdown.cancel();
    edge.until(|links| links.iter().all(|link| link.said_goodbye)).await;
    assert_eq!(deployment.status("/ready").await.0, 503);
    go.send_replace(true);
    assert_eq!(patiently(sending).await.unwrap(), "done");
    edge.hold.send_replace(false);
    patiently(deployment.connector).await.unwrap().unwrap();
    edge.until(Vec::is_empty).await;
}

async fn a_drain_loses_no_request(transport: Transport) {
    let deployment =
        Deployment::start(Edges::start(&["eu", "us"], None).await, only(transport)).await;
    let [draining, other] = &deployment.edges[..] else { panic!("two edges") };
    for edge in [draining, other] {
        edge.until(|links| links.len() == 2).await;
    }
    draining.hold.send_replace(true);
    let (go, wait) = watch::channel(false);
    let (origin, mut seen) = waiting_origin(wait).await;
    let mut sending = tokio::task::JoinSet::new();
    for link in draining.links() {
        let request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).unwrap();
        sending.spawn(
            async move { send_whole(&link.session, request, |_| {}).await.unwrap().status() },
        );
    }
    patiently(seen.wait_for(|seen| *seen == 2)).await.unwrap();

    let drain = FromEdge::Drain { reconnect_in_ms: 0, deadline_ms: 60_000, successor: false };
    draining.say.send_replace(Some(drain));
    other.until(|links| links.len() == 4).await;
    draining.until(|links| links.iter().all(|link| link.said_goodbye)).await;
    go.send_replace(true);
    for status in patiently(sending.join_all()).await {
        assert_eq!(status, StatusCode::OK);
    }
    draining.hold.send_replace(false);
    draining.until(Vec::is_empty).await;
    assert_eq!(other.links().len(), 4);
}
