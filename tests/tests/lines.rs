//! What poor lines do to links: slow ones, and such as drop long packets without a word. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use postern_tests::{
    network::{Inside, Network},
    origin::{HELLO, Origin, Sum},
    world::World,
};

/// What a small request may take beside large transfers at 256 kbit/s: the line's queue of 2 s in both
/// directions, what each of the links has ahead in its socket, and over TCP a lost packet or two before it.
/// With one frame of 128 KiB for each transfer ahead, it takes half a minute.
const SMALL_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of each transfer: at 256 kbit/s, all take longer than an edge waits for a ping.
const LARGE: u64 = 100_000;
/// Between two small requests.
const PAUSE: Duration = Duration::from_millis(200);

struct Line {
    network: Network,
    world: World,
    inside: Inside,
    origin: Origin,
}

/// A connector and a private server behind a line.
async fn line() -> Line {
    let network = Network::new().unwrap();
    let world = World::start_at(network.host()).await.unwrap();
    let inside = Inside::enter(&network).unwrap();
    let origin = inside.spawn(Origin::start(network.inside())).await.unwrap().unwrap();
    Line { network, world, inside, origin }
}

async fn slow_over(transport: &str) {
    let Line { network, world, inside: _inside, origin } = line().await;
    let connector = world.start_connector_in(&network, transport).unwrap();
    world
        .wait_for_links(|links| links.iter().all(|link| link.transport == transport))
        .await
        .unwrap();
    let client = world.client(0, &world.proxy_token().await.unwrap()).unwrap();
    let _slow = network.shape("256kbit", "2s").unwrap();

    let transfers = async {
        let download = async |n: u64| {
            let answer = client.get(origin.url(&format!("/bytes/{}", LARGE + n))).send();
            let answer = answer.await.unwrap();
            let (status, body) = (answer.status(), answer.bytes().await.unwrap());
            assert_eq!(
                (status.as_u16(), body.len() as u64),
                (200, LARGE + n),
                "{:?}",
                &body[..body.len().min(300)]
            );
        };
        let upload = async {
            let body: Vec<u8> =
                postern_tests::origin::pattern(LARGE).flat_map(|piece| piece.to_vec()).collect();
            let answer = client.post(origin.url("/sum")).body(body).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), Sum::of_pattern(LARGE));
        };
        tokio::join!(download(0), download(1), download(2), download(3), upload);
    };
    let is_over = Cell::new(false);
    let small = async {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !is_over.get() {
            tokio::time::sleep(PAUSE).await;
            let started = Instant::now();
            let answer = client.get(origin.url("/hello")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), HELLO);
            longest = longest.max(started.elapsed());
            count += 1;
        }
        (count, longest)
    };
    let transfers = async {
        transfers.await;
        is_over.set(true);
    };
    let ((), (count, longest)) = tokio::join!(transfers, small);
    println!("{transport}: {count} small requests beside, the longest took {longest:?}");
    assert!(longest < SMALL_WITHIN, "{transport}: {longest:?}");
    assert!(!connector.said().contains("link was lost"), "{transport}");
}

#[tokio::test]
async fn on_a_slow_line_all_transfers_finish_and_small_requests_pass_over_quic() {
    slow_over("quic").await;
}

#[tokio::test]
async fn on_a_slow_line_all_transfers_finish_and_small_requests_pass_over_http2() {
    slow_over("http2").await;
}

#[tokio::test]
async fn where_long_packets_vanish_links_come_up_on_http2_and_the_doctor_names_the_mtu() {
    let Line { network, world, inside: _inside, origin } = line().await;
    let _narrow = network.narrow(1_280).unwrap();
    let connector = world.start_connector_in(&network, "http2").unwrap();
    world.wait_for_links(|links| links.iter().all(|link| link.transport == "http2")).await.unwrap();
    let client = world.client(0, &world.proxy_token().await.unwrap()).unwrap();
    let answer = client.get(origin.url("/bytes/1000000")).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 1_000_000);
    let body = vec![b'x'; 1_000_000];
    let answer = client.post(origin.url("/echo")).body(body).send().await.unwrap();
    assert_eq!(answer.bytes().await.unwrap().len(), 1_000_000);
    connector.find(|line| line.contains("drops long packets").then_some(())).await.unwrap();

    let mut doctor = network.enter(world.connector("http2").unwrap());
    let report = doctor.arg("doctor").output().await.unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains("MTU 1280"), "{report}");
}
