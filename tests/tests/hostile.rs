//! Nobody without credentials may shut a door: crowds from one address at every port of a real deployment, while a
//! connector, an edge, an owner and a probe come from another one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, in its helpers too")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use postern_tests::{
    process::PATIENCE,
    way::shake_hands,
    world::{World, text},
};
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::rustls::version::TLS13;

/// From where everything hostile comes.
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 66, 6, 6));
/// One connection of a crowd begins again no sooner.
const PACE: Duration = Duration::from_secs(3);
/// So many visitors pass an open door, one after another, within [`PATIENCE`]. A door that opens only when a deadline ends
/// what the crowd holds would let a few of them in.
const VISITORS: usize = 40;

/// So many connections from the hostile address, which say something and then nothing, and read nothing. Whichever
/// ends begins again. They end when this is dropped.
struct Crowd(JoinSet<()>);

impl Crowd {
    fn new() -> Self {
        Self(JoinSet::new())
    }

    /// Returns when each has come once, whatever it met.
    async fn gather(&mut self, to: SocketAddr, count: usize, says: impl Into<Vec<u8>>) {
        let says: Arc<[u8]> = says.into().into();
        let (came, mut arrivals) = mpsc::channel(count);
        for _ in 0..count {
            let (says, came) = (says.clone(), came.clone());
            self.0.spawn(async move {
                loop {
                    let next = Instant::now() + PACE;
                    let stream = connect(to).await;
                    // Full, or nobody counts any more.
                    let _ = came.try_send(());
                    if let Ok(mut stream) = stream
                        && stream.write_all(&says).await.is_ok()
                    {
                        // It reads nothing; whether the other end has closed shows all the same.
                        closed(&stream).await;
                    }
                    sleep_until(next).await;
                }
            });
        }
        for _ in 0..count {
            arrivals.recv().await;
        }
    }
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((HOSTILE, 0).into())?;
    socket.connect(to).await
}

async fn closed(stream: &TcpStream) {
    loop {
        match stream.ready(tokio::io::Interest::PRIORITY).await {
            Ok(ready) if !ready.is_read_closed() => {}
            _ => return,
        }
    }
}

/// A client of its own for each request, so that each needs a place.
async fn get(url: &str) -> Option<StatusCode> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    client.get(url).send().await.ok().map(|answer| answer.status())
}

fn authority(world: &World) -> String {
    std::fs::read_to_string(world.data_dir().join("ca.crt")).unwrap()
}

async fn every_door_is_open_under_crowds_at_each_of_them(transport: &str) {
    let world = World::start().await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let at = |port: u16| SocketAddr::from((world.host(), port));
    let mut crowd = Crowd::new();
    // More than each of them takes, by far.
    for region in 0..2 {
        crowd.gather(at(7844 + region), 1_100, []).await;
        let scrapes = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(400);
        crowd.gather(at(9001 + region), 60, scrapes).await;
        let long = format!("GET http://a/ HTTP/1.1\r\nx: {}", "x".repeat(60_000));
        crowd.gather(at(3128 + region), 300, long).await;
    }
    crowd.gather(at(8080), 1_100, "GET /api/v1/me HTTP/1.1\r\nhost:").await;

    let (host, authority) = (world.host(), authority(&world));
    let name = host.to_string();
    let visits = async {
        for _ in 0..VISITORS {
            for url in [
                format!("http://{host}:8080/healthz"),
                format!("http://{host}:9001/healthz"),
                format!("http://{host}:9002/ready"),
            ] {
                assert_eq!(get(&url).await, Some(StatusCode::OK), "{url}");
            }
            let links = shake_hands(at(7844), &name, &authority, &TLS13, b"postern/1-h2");
            links.await.expect("there is room for a handshake");
        }
    };
    timeout(PATIENCE, visits).await.expect("every door is open");
    let connector = world.start_connector(transport).unwrap();
    let healthy = timeout(PATIENCE, world.wait_for_health("Healthy")).await;
    healthy.unwrap_or_else(|_| panic!("{}", connector.said())).unwrap();
    let proxied = world.client(0, &token).unwrap().get(world.origin.url("/hello")).send();
    let answer = timeout(PATIENCE, proxied).await.expect("the gateway answers").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(crowd);
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_is_open_under_crowds_over_http2() {
    every_door_is_open_under_crowds_at_each_of_them("http2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_is_open_under_crowds_over_quic() {
    every_door_is_open_under_crowds_at_each_of_them("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_comes_in_under_a_crowd_at_the_edge_port() {
    let world = World::start().await.unwrap();
    let port = SocketAddr::from((world.host(), 7843));
    let mut crowd = Crowd::new();
    crowd.gather(port, 4_300, []).await;
    let (name, authority) = (world.host().to_string(), authority(&world));
    let visits = async {
        for _ in 0..VISITORS {
            let edge = shake_hands(port, &name, &authority, &TLS13, b"h2").await;
            edge.expect("there is room for an edge");
        }
    };
    timeout(PATIENCE, visits).await.expect("the door is open");
    drop(crowd);
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_comes_in_while_strangers_try_passwords() {
    let world = World::start().await.unwrap();
    let url = format!("http://{}:8080/api/v1/session", world.host());
    let hostile = reqwest::Client::builder().no_proxy().local_address(HOSTILE).build().unwrap();
    let mut tries = JoinSet::new();
    // The queue is as long as there are cores.
    let cores = std::thread::available_parallelism().unwrap().get();
    let count = 150.max(40 * cores);
    for n in 0..count {
        // A few for the owner's account, the others for any.
        let email =
            if n % 10 == 0 { "owner@localhost".to_owned() } else { format!("user-{n}@localhost") };
        let body = json!({ "email": email, "password": "wrong" });
        let request = hostile.post(&url).json(&body);
        tries.spawn(async move {
            let answer = request.send().await.unwrap();
            let retry_after = answer.headers().contains_key("retry-after");
            let problem: serde_json::Value = answer.json().await.unwrap();
            (text(&problem, "code").unwrap(), retry_after)
        });
    }
    let first = tries.join_next().await.unwrap().unwrap();
    let own = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let body = json!({ "email": "owner@localhost", "password": "correct horse battery" });
    let answer = own.post(&url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut rest = tries.join_all().await;
    rest.push(first);
    let busy = rest.iter().filter(|(code, _)| code == "busy").count();
    assert!(busy >= count / 4, "the queue is short: {rest:?}");
    assert!(rest.iter().all(|(code, retry_after)| code != "busy" || *retry_after));
    world.end().await.unwrap();
}
