//! Many requests, large bodies, many streams: all of it byte-exact, in bounded memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use postern_tests::{
    origin::{Sum, pattern},
    process::{self, Process},
    world::World,
};
use tokio::task::JoinSet;

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 32;
const GIGABYTE: u64 = 1_000_000_000;
const MIB: u64 = 1024 * 1024;
/// Most memory that either end may take beside its streams, in bytes.
const BASE: u64 = 64 * MIB;
/// Most memory that either end may take for a stream that is read more slowly than it comes, in bytes: a window
/// of 512 KiB, 128 KiB that hyper takes ahead of the client's socket, and what shared buffers waste. Over QUIC
/// up to 45 packets share one buffer, which stays as long as any of their streams is not read.
const A_STREAM: u64 = MIB;
/// The same for a stream that is not read at all: the window, what hyper takes ahead, and a tenth of that.
const A_STALLED_STREAM: u64 = 720 * 1024;

async fn ten_thousand_requests(transport: &str) {
    let world = World::start().await.unwrap();
    let _connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let url: Arc<str> = world.origin.url("/echo").into();
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let client = world.client(n % 2, &token).unwrap();
        let url = url.clone();
        clients.spawn(async move {
            for request in (n..REQUESTS).step_by(CLIENTS) {
                // Lengths from none to some 20 KB.
                let body = format!("{request:05} ").repeat(request % 3_000);
                let answer = client.post(&*url).body(body.clone()).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(answer.text().await.unwrap() == body, "request {request}");
            }
        });
    }
    clients.join_all().await;
    assert_eq!(world.origin.requests(), REQUESTS as u64, "each was delivered once");
}

#[tokio::test]
async fn ten_thousand_requests_are_byte_exact_over_quic() {
    ten_thousand_requests("quic").await;
}

#[tokio::test]
async fn ten_thousand_requests_are_byte_exact_over_http2() {
    ten_thousand_requests("http2").await;
}

fn assert_bounded(world: &World, connector: &Process, streams: u64, what: &str) {
    assert_holds(world, connector, streams * A_STREAM, what);
}

fn assert_holds(world: &World, connector: &Process, most: u64, what: &str) {
    let edges = [0, 1].map(|region| process::usage(world.edge(region).unwrap()).unwrap().peak_rss);
    let connector = connector.usage().unwrap().peak_rss;
    let mib = |bytes: u64| bytes / MIB;
    println!("{what}: connector {} MiB, edges {:?} MiB at most", mib(connector), edges.map(mib));
    let bound = BASE + most;
    assert!(connector < bound && edges.iter().all(|edge| *edge < bound));
}

async fn a_gigabyte_each_way(transport: &str) {
    let world = World::start().await.unwrap();
    let connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let client = world.client(0, &token).unwrap();

    let url = world.origin.url(&format!("/bytes/{GIGABYTE}"));
    let mut pieces = client.get(url).send().await.unwrap().bytes_stream();
    let mut sum = Sum::default();
    while let Some(piece) = pieces.next().await {
        sum.add(&piece.unwrap());
    }
    let expected = Sum::of_pattern(GIGABYTE);
    assert_eq!(sum.finish(), expected);
    assert_bounded(&world, &connector, 1, "1 GB down");

    let pieces = pattern(GIGABYTE).map(Ok::<_, std::io::Error>);
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let answer = client.post(world.origin.url("/sum")).body(body).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), expected);
    assert_bounded(&world, &connector, 1, "1 GB up");
}

#[tokio::test]
async fn a_gigabyte_each_way_over_quic_takes_bounded_memory() {
    a_gigabyte_each_way("quic").await;
}

#[tokio::test]
async fn a_gigabyte_each_way_over_http2_takes_bounded_memory() {
    a_gigabyte_each_way("http2").await;
}

async fn stalled_readers_hold_nobody_up(transport: &str) {
    const STREAMS: usize = 500;
    const STALLED: usize = 50;
    const LENGTH: u64 = 2_000_000;
    let world = World::start().await.unwrap();
    let connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let client = world.client(0, &token).unwrap();
    let url: Arc<str> = world.origin.url(&format!("/bytes/{LENGTH}")).into();
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        // Its head is there, its body waits for a reader.
        stalled.push(client.get(&*url).send().await.unwrap());
    }
    let expected: Arc<str> = Sum::of_pattern(LENGTH).into();
    let mut readers = JoinSet::new();
    for _ in STALLED..STREAMS {
        let (client, url, expected) = (client.clone(), url.clone(), expected.clone());
        readers.spawn(async move {
            let answer = client.get(&*url).send().await.unwrap();
            if answer.status() != 200 {
                panic!("{}: {}", answer.status(), answer.text().await.unwrap());
            }
            let mut pieces = answer.bytes_stream();
            let mut sum = Sum::default();
            while let Some(piece) = pieces.next().await {
                sum.add(&piece.unwrap());
            }
            assert_eq!(sum.finish(), *expected);
        });
    }
    readers.join_all().await;
    assert_bounded(&world, &connector, STREAMS as u64, "450 readers beside 50 that do not read");
    for response in stalled {
        assert_eq!(response.bytes().await.unwrap().len() as u64, LENGTH, "it may read at last");
    }
}

#[tokio::test]
async fn stalled_readers_hold_nobody_up_over_quic() {
    stalled_readers_hold_nobody_up("quic").await;
}

#[tokio::test]
async fn stalled_readers_hold_nobody_up_over_http2() {
    stalled_readers_hold_nobody_up("http2").await;
}

/// The bytes that an edge has passed on to clients, once they are no more than a moment ago.
async fn settled(world: &World, region: usize) -> u64 {
    let url = format!("http://{}:{}/metrics", world.host(), 9001 + region);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let (mut before, mut since) = (0, 0);
    while since < 20 {
        pace.tick().await;
        let metrics = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let name = "postern_edge_bytes_total{direction=\"down\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let bytes = line.parse().unwrap();
        since = if bytes == before { since + 1 } else { 0 };
        before = bytes;
    }
    before
}

async fn readers_that_stall_take_little_memory(transport: &str) {
    const STALLED: u64 = 300;
    let world = World::start().await.unwrap();
    let connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let client = world.client(0, &token).unwrap();
    let url = world.origin.url(&format!("/bytes/{GIGABYTE}"));
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(client.get(&url).send().await.unwrap());
    }
    let passed = settled(&world, 0).await;
    println!("{} KiB passed for each", passed / STALLED / 1024);
    assert_holds(&world, &connector, STALLED * A_STALLED_STREAM, "300 readers that stall");
}

#[tokio::test]
async fn readers_that_stall_take_little_memory_over_quic() {
    readers_that_stall_take_little_memory("quic").await;
}

#[tokio::test]
async fn readers_that_stall_take_little_memory_over_http2() {
    readers_that_stall_take_little_memory("http2").await;
}
