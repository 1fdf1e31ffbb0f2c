//! An edge with several workers is one edge: nothing depends on which of them a client or a link comes to.

use edge::{Edge, StartError};
use futures_util::future::join_all;
use http_body_util::BodyExt;
use protocol::{
    control::{FromConnector, FromEdge},
    presence::Transport,
};
use zeroize::Zeroizing;

use crate::{
    client::{Whole, body, empty, fetch, get, h1, send},
    connector::{CARRIERS, Connector, Held},
    relay::Relay,
    world::{World, options, patiently},
};

const WORKERS: u8 = 3;
/// With so many clients, a worker that gets none is one chance in ten million.
const MANY: u8 = 48;

/// A gauge of each worker.
async fn by_worker(world: &World, what: &str) -> Vec<u64> {
    let mut values = Vec::new();
    for n in 0..WORKERS {
        let name = format!("postern_edge_worker_{what}{{worker=\"{n}\"}}");
        values.push(world.metric(&name).await);
    }
    values
}

async fn ping(held: &mut Held, sequence: u64) {
    held.sender.send(&FromConnector::Ping { sequence, rtt_us: None }).await.unwrap();
    assert_eq!(held.hear().await, FromEdge::Pong { sequence });
}

#[tokio::test]
async fn links_of_both_carriers_are_spread_over_every_worker() {
    for carrier in CARRIERS {
        let world = World::with_workers(WORKERS).await;
        let hold = async |id| Connector::new(&world, id).hold(&world, carrier, 0).await;
        let _held = join_all((1..=MANY).map(hold)).await;
        let links = by_worker(&world, "links").await;
        assert_eq!(links, [u64::from(MANY / WORKERS); WORKERS as usize], "{carrier:?}");
        for _ in 0..MANY {
            assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
        }
    }
}

#[tokio::test]
async fn a_quic_link_lives_where_its_packets_come() {
    let world = World::with_workers(WORKERS).await;
    // Both begin in a lane that leads to the first worker; by crowds, they would come to different ones.
    let hold = async |id| Connector::new(&world, id).hold(&world, Transport::Quic, 0).await;
    let _held = join_all([WORKERS, 2 * WORKERS].map(hold)).await;
    assert_eq!(by_worker(&world, "links").await, [2, 0, 0]);
}

#[tokio::test]
async fn a_link_serves_the_clients_of_every_worker() {
    for carrier in CARRIERS {
        let world = World::with_workers(WORKERS).await;
        let mut held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let mut clients = Vec::new();
        for _ in 0..MANY {
            clients.push(h1(&world).await);
        }
        let large = vec![b'x'; 100_000];
        for (sequence, client) in (1..).zip(&mut clients) {
            ping(&mut held, sequence).await;
            let request = get("http://wiki.corp/").method("POST").body(body(large.clone()));
            let response = patiently(client.send_request(request.unwrap())).await.unwrap();
            assert_eq!(Whole::of(response).await.json()["length"], large.len());
        }
        let served = by_worker(&world, "clients").await;
        assert_eq!(served.iter().sum::<u64>(), u64::from(MANY));
        assert!(served.iter().all(|clients| *clients > 0), "{served:?}");
        assert_eq!(by_worker(&world, "links").await.iter().sum::<u64>(), 1);

        let mut waiting = Vec::new();
        for client in &mut clients {
            let request = get("http://wiki.corp/stream").body(empty()).unwrap();
            waiting.push(patiently(client.send_request(request)).await.unwrap());
            held.begun().await;
        }
        held.break_down().await;
        for response in waiting {
            let broken = patiently(response.into_body().collect()).await;
            assert!(broken.is_err(), "a link that breaks is noticed on every worker");
        }
    }
}

#[tokio::test]
async fn a_quic_link_stays_whatever_address_its_connector_has() {
    let world = World::with_workers(WORKERS).await;
    let relay = Relay::to(world.links).await;
    let mut connector = Connector::new(&world, 1);
    connector.dial_at(relay.address);
    let mut held = connector.hold(&world, Transport::Quic, 0).await;
    // By addresses alone, the chance to come to the same worker each time would be one in two million.
    for sequence in 1..=13 {
        relay.change_address().await;
        ping(&mut held, sequence).await;
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.status.as_u16(), 200);
    }
    let heard = world.control_plane.until(|heard| heard.links.len() == 1).await;
    assert_eq!(heard.goodbyes, 0);
}

#[tokio::test]
async fn a_port_that_another_edge_has_is_taken_however_many_workers_there_are() {
    for (first, second) in [(WORKERS, WORKERS), (WORKERS, 1), (1, WORKERS)] {
        let world = World::with_workers(first).await;
        for taken in ["links", "gateway"] {
            let data_dir = tempfile::tempdir().unwrap();
            let mut options = options(data_dir.path());
            options.join_token = Some(Zeroizing::new(world.control_plane.join_token()).into());
            options.workers = Some(second);
            match taken {
                "links" => options.listen = world.links,
                _ => options.gateway_listen = world.gateway,
            }
            match patiently(Edge::bind(options)).await.err() {
                Some(StartError::Listen { what, source, .. }) => {
                    assert_eq!(what, taken);
                    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
                }
                other => panic!("the port was not taken: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_limit_on_clients_is_one_for_all_workers() {
    let world = World::with(|options| {
        options.workers = Some(WORKERS);
        options.max_clients = 1;
    })
    .await;
    let _held = Connector::new(&world, 1).hold(&world, CARRIERS[0], 0).await;
    for _ in 0..MANY {
        let response = send(&world, get("http://wiki.corp/").body(empty()).unwrap()).await;
        assert_eq!(Whole::of(response).await.status.as_u16(), 200);
    }
}
