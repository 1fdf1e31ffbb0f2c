//! No origin and no client can take a tunnel away from the others, neither by requests that hang nor by requests
//! that are given up.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protocol::{
    control::FromConnector,
    feed::{FeedProxyToken, Item},
    presence::{Strain, Transport},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
};

use crate::{
    client::{Whole, basic, connect, empty, fetch, get, get_as_runner, h2, send},
    connector::{CARRIERS, Connector, Held},
    control_plane::Heard,
    world::{NAME, World, patiently, proxy_token, token},
};

/// As many requests to one origin as it gets of 30.
const SHARE: usize = 20;

#[tokio::test]
async fn an_origin_that_never_answers_takes_nothing_from_the_others() {
    for carrier in CARRIERS {
        let world = World::with(|options| options.max_streams_per_tunnel = 30).await;
        let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let client = h2(&world).await;
        let mut hanging = JoinSet::new();
        for _ in 0..SHARE {
            let mut client = client.clone();
            let request = get("http://silent.corp/wait").body(empty()).unwrap();
            hanging.spawn(async move { client.send_request(request).await.unwrap() });
            held.begun().await;
        }
        for url in ["http://silent.corp/wait", "http://SILENT.corp:80/"] {
            let answer = fetch(&world, get(url)).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (429, "origin_busy"));
            assert_eq!(answer.header("retry-after"), "1");
        }
        for _ in 0..50 {
            let answer = fetch(&world, get("http://healthy.corp/")).await;
            assert_eq!(answer.status, 200, "{carrier:?}: {answer:?}");
        }
        (0..SHARE).for_each(|_| held.go_on());
        for answer in patiently(hanging.join_all()).await {
            assert_eq!(Whole::of(answer).await.body, "waited");
        }
        let answer = fetch(&world, get("http://silent.corp/")).await;
        assert_eq!(answer.status, 200, "{carrier:?}: what has ended counts no more");
    }
}

#[tokio::test]
async fn the_control_plane_hears_that_a_tunnel_refuses_requests_and_that_it_does_no_more() {
    let world = World::with(|options| options.max_streams_per_tunnel = 2).await;
    let held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await);
        held.begun().await;
    }
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "tunnel_full");
    let strain = |strain| {
        move |heard: &Heard| {
            !heard.links.is_empty() && heard.links.values().all(|link| link.strain == strain)
        }
    };
    world.control_plane.until(strain(Some(Strain::Crowded))).await;
    world.metric_until("postern_edge_strained_links{strain=\"crowded\"}", 1).await;
    waiting.iter().for_each(|_| held.go_on());
    for response in waiting {
        Whole::of(response).await;
    }
    world.control_plane.until(strain(None)).await;
    world.metric_until("postern_edge_strained_links{strain=\"crowded\"}", 0).await;
}

/// Pings on links while something is waited for, as a connector does: an edge closes links that are silent for 9 s.
async fn pinged<T>(mut links: [&mut Held; 2], awaited: impl Future<Output = T>) -> T {
    let mut awaited = std::pin::pin!(awaited);
    let mut pace = tokio::time::interval(Duration::from_secs(2));
    loop {
        tokio::select! {
            done = &mut awaited => return done,
            _ = pace.tick() => {
                let ping = FromConnector::Ping { sequence: 1, rtt_us: None };
                for link in &mut links {
                    link.sender.send(&ping).await.unwrap();
                }
            }
        }
    }
}

/// How it ends that a link gets no answers.
enum End {
    TheConnectorAnswers,
    TheLinkLeaves,
}

async fn a_link_goes_deaf(carrier: Transport, end: End) {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let mut deaf = connector.hold(&world, carrier, 0).await;
    let mut slow = connector.hold(&world, carrier, 1).await;
    deaf.is_deaf(true);
    let client = h2(&world).await;
    let mut waiting = JoinSet::new();
    // One on each link; the slow one answers what is for itself.
    for _ in 0..2 {
        let mut client = client.clone();
        let request = get("http://slow.corp/wait").body(empty()).unwrap();
        waiting.spawn(async move { client.send_request(request).await });
    }
    slow.begun().await;
    let strains = |strains: [Option<Strain>; 2]| {
        move |heard: &Heard| {
            let is_so = |slot: u8, strain| strain == strains[usize::from(slot)];
            heard.links.len() == 2
                && heard.links.iter().all(|((.., slot), link)| is_so(*slot, link.strain))
        }
    };
    let is_stuck = world.control_plane.until(strains([Some(Strain::Stuck), None]));
    pinged([&mut deaf, &mut slow], is_stuck).await;
    match end {
        End::TheConnectorAnswers => deaf.is_deaf(false),
        // It takes no more requests, so that it need not answer either; the one that is under way keeps it up.
        End::TheLinkLeaves => deaf.sender.send(&FromConnector::Goodbye).await.unwrap(),
    }
    let is_well = world.control_plane.until(strains([None, None]));
    pinged([&mut deaf, &mut slow], is_well).await;
    assert!(waiting.try_join_next().is_none(), "neither has been answered");
}

#[tokio::test]
async fn the_control_plane_hears_of_a_deaf_quic_link() {
    a_link_goes_deaf(Transport::Quic, End::TheConnectorAnswers).await;
}

#[tokio::test]
async fn the_control_plane_hears_of_a_deaf_http2_link() {
    a_link_goes_deaf(Transport::Http2, End::TheConnectorAnswers).await;
}

#[tokio::test]
async fn a_deaf_link_that_leaves_is_no_trouble_any_more() {
    a_link_goes_deaf(Transport::Quic, End::TheLinkLeaves).await;
}

#[tokio::test]
async fn a_tunnel_without_room_says_so_at_once() {
    let world = World::with(|options| options.max_streams_per_tunnel = 2).await;
    let held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        held.begun().await;
        waiting.push(response);
    }
    let answer = fetch(&world, get("http://wiki.corp/")).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "tunnel_full"));
    assert_eq!(answer.header("retry-after"), "1");
    held.go_on();
    held.go_on();
    for response in waiting {
        Whole::of(response).await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_waited_for_as_long_as_the_token_says() {
    let world = World::new().await;
    let bounded = FeedProxyToken { response_timeout_s: Some(1), ..token() };
    world.control_plane.put(Item::ProxyToken(bounded)).await;
    for (carrier, slot) in CARRIERS.into_iter().zip(0..) {
        let held = Connector::new(&world, 1).hold(&world, carrier, slot).await;
        // A body may take as long as it likes, and a capability bounds nothing.
        let body = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        held.begun().await;
        let unbounded = get_as_runner("http://silent.corp/wait").body(empty()).unwrap();
        let unbounded = send(&world, unbounded);
        tokio::pin!(unbounded);
        let answer = tokio::select! {
            _ = &mut unbounded => panic!("nobody answers"),
            answer = fetch(&world, get("http://silent.corp/wait")) => answer,
        };
        assert_eq!((answer.status.as_u16(), answer.code()), (504, "origin_timeout"));
        assert!(answer.json()["detail"].as_str().unwrap().contains("1 s"), "{answer:?}");
        // The connector does not wait on.
        held.cancelled().await;
        held.go_on();
        held.go_on();
        assert_eq!(Whole::of(body).await.body, "firstsecond");
        assert_eq!(Whole::of(unbounded.await).await.body, "waited");
        held.break_down().await;
    }
}

/// What a client that stops to read has others hold for it: a window of the link, and little in the system,
/// however fast it was before.
#[tokio::test]
async fn a_client_that_stops_to_read_holds_little_memory() {
    const READ: usize = 32 * 1024 * 1024;
    for carrier in CARRIERS {
        let world = World::new().await;
        let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let socket = TcpSocket::new_v4().unwrap();
        // The client's own part is small.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let mut stream = patiently(socket.connect(world.gateway)).await.unwrap();
        let head = format!(
            "GET http://wiki.corp/endless HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: {}\r\n\r\n",
            basic(NAME, &proxy_token())
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        held.begun().await;
        let mut buffer = vec![0; 64 * 1024];
        let mut read = 0;
        while read < READ {
            read += patiently(stream.read(&mut buffer)).await.unwrap();
        }
        // It has stopped; now the edge takes what it takes, while others ask it how it is.
        let mut taken = 0;
        loop {
            for _ in 0..50 {
                world.observe("/metrics").await;
            }
            let now = world.metric("postern_edge_bytes_total{direction=\"down\"} ").await;
            if now == taken {
                break;
            }
            taken = now;
        }
        let held = taken as usize - read;
        assert!(held < 1024 * 1024, "{carrier:?}: {held} bytes are held for it");
    }
}

/// Somebody else's download over the same link.
struct Witness(Response<Incoming>);

impl Witness {
    async fn new(world: &World, held: &Held) -> Self {
        let request = get("http://wiki.corp/endless").body(empty()).unwrap();
        let mut witness = Self(send(world, request).await);
        held.begun().await;
        witness.reads(1).await;
        witness
    }

    async fn reads(&mut self, bytes: usize) {
        let mut read = 0;
        while read < bytes {
            let frame = patiently(self.0.frame()).await.expect("it has no end").unwrap();
            read += frame.into_data().unwrap().len();
        }
    }
}

async fn unharmed(carrier: Transport, abuse: impl AsyncFn(&World)) {
    let world = World::new().await;
    let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
    let mut witness = Witness::new(&world, &held).await;
    abuse(&world).await;
    witness.reads(4 * 1024 * 1024).await;
    let answer = fetch(&world, get("http://wiki.corp/")).await;
    assert_eq!(answer.status, 200, "{carrier:?}: {answer:?}");
    drop(witness);
    // Nothing of it all is still under way.
    world.metric_until("postern_edge_requests_in_flight ", 0).await;
}

#[tokio::test]
async fn clients_that_ask_and_reset_at_once_harm_nobody() {
    let head = format!(
        "GET http://wiki.corp/wait HTTP/1.1\r\nhost: wiki.corp\r\nproxy-authorization: {}\r\n\r\n",
        basic(NAME, &proxy_token())
    );
    for carrier in CARRIERS {
        unharmed(carrier, async |world| {
            for _ in 0..5 {
                let mut clients = JoinSet::new();
                for _ in 0..60 {
                    let (address, head) = (world.gateway, head.clone());
                    clients.spawn(async move {
                        let mut stream = connect(address).await;
                        stream.write_all(head.as_bytes()).await.unwrap();
                        stream.set_zero_linger().unwrap();
                    });
                }
                patiently(clients.join_all()).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn connections_full_of_resets_harm_nobody() {
    for carrier in CARRIERS {
        unharmed(carrier, async |world| {
            for _ in 0..10 {
                let client = h2(world).await;
                let mut requests = JoinSet::new();
                for n in 0..300 {
                    let mut client = client.clone();
                    requests.spawn(async move {
                        let request = get("http://wiki.corp/wait").body(empty()).unwrap();
                        // Given up somewhere on the way there.
                        let patience = Duration::from_micros(n * 100);
                        drop(tokio::time::timeout(patience, client.send_request(request)).await);
                    });
                }
                patiently(requests.join_all()).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn downloads_that_are_given_up_harm_nobody() {
    for carrier in CARRIERS {
        unharmed(carrier, async |world| {
            for _ in 0..300 {
                let request = get("http://wiki.corp/endless").body(empty()).unwrap();
                let mut response = send(world, request).await;
                patiently(response.frame()).await.unwrap().unwrap();
            }
        })
        .await;
    }
}
