//! Edges leave and come back while clients go on: nothing is lost, and nothing is delivered twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use nix::sys::signal::Signal;
use postern_tests::{
    origin::HELLO,
    process::PATIENCE,
    world::{Site, TUNNEL, World},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

const CLIENTS: usize = 6;
const BODY: &str = "once and no more";
/// Requests that are answered between two steps.
const BETWEEN_STEPS: u64 = 60;

/// One way in: a new connection for each request, so that what counts is who listens and not what a pool holds.
fn client(world: &World, region: usize, token: &str) -> reqwest::Client {
    let proxy = reqwest::Proxy::all(format!("http://{}", world.gateway(region))).unwrap();
    let proxy = proxy.basic_auth(TUNNEL, token);
    reqwest::Client::builder().proxy(proxy).pool_max_idle_per_host(0).build().unwrap()
}

/// Clients that send GETs and POSTs until they are stopped. Each knows some gateways, in this order, and goes to the
/// next when one is closed or says that it delivered nothing.
struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: watch::Sender<u64>,
}

impl Load {
    fn start(world: &World, ways: &[Vec<usize>], token: &str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), watch::Sender::default());
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            let ways = ways[n % ways.len()].iter().map(|region| client(world, *region, token));
            let ways: Vec<_> = ways.collect();
            let [hello, echo] = ["/hello", "/echo"].map(|path| world.origin.url(path));
            let (stop, answered) = (stop.clone(), answered.clone());
            clients.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    succeeds(&ways, |client| client.get(&hello), HELLO).await;
                    succeeds(&ways, |client| client.post(&echo).body(BODY), BODY).await;
                    answered.send_modify(|answered| *answered += 2);
                }
            });
        }
        Self { clients, stop, answered }
    }

    async fn goes_on(&mut self) {
        let mut answered = self.answered.subscribe();
        let enough = *answered.borrow() + BETWEEN_STEPS;
        tokio::select! {
            Some(ended) = self.clients.join_next() => panic!("a request failed: {ended:?}"),
            all = answered.wait_for(|answered| *answered >= enough) => drop(all.unwrap()),
        }
    }

    async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        *self.answered.borrow()
    }
}

async fn succeeds(
    ways: &[reqwest::Client],
    request: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    wanted: &str,
) {
    let mut refusals = Vec::new();
    for client in ways {
        let answer = match request(client).send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                refusals.push(format!("{error:?}"));
                continue;
            }
            Err(error) => panic!("no answer: {error:?}"),
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        if status == 503 {
            refusals.push(text);
            continue;
        }
        assert!(status == 200 && text == wanted, "{status} {headers:?} {text}");
        return;
    }
    panic!("refused by every gateway: {refusals:?}");
}

/// Stops an edge in good order, starts it again, and waits until it says that it is ready.
async fn restart_edge(world: &mut World, region: usize) {
    let edge = &mut world.edges[region];
    edge.signal(Signal::SIGTERM).unwrap();
    let status = edge.ended().await.unwrap();
    assert!(status.success(), "{status} {}", edge.said());
    let host = world.host();
    world.start_edge(region, &Site::at(host)).await.unwrap();
    let url = format!("http://{host}:{}/ready", 9001 + region);
    let ready = async {
        while reqwest::get(&url).await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
}

/// Kills `postern up`, which tells its edges nothing, and starts it again.
async fn kill_postern(world: &mut World) {
    world.postern.signal(Signal::SIGKILL).unwrap();
    world.postern.ended().await.unwrap();
    world.start_postern().await.unwrap();
}

async fn a_rolling_restart_of_the_edges_loses_no_request(transport: &str) {
    let mut world = World::start_spread().await.unwrap();
    let _connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let before = world.origin.requests();
    let mut load = Load::start(&world, &[vec![0, 1], vec![1, 0]], &token);
    for region in [0, 1, 0, 1] {
        load.goes_on().await;
        restart_edge(&mut world, region).await;
    }
    load.goes_on().await;
    let answered = load.stop().await;
    assert_eq!(world.origin.requests() - before, answered, "each was delivered once");
}

#[tokio::test]
async fn a_rolling_restart_of_the_edges_loses_no_request_over_quic() {
    a_rolling_restart_of_the_edges_loses_no_request("quic").await;
}

#[tokio::test]
async fn a_rolling_restart_of_the_edges_loses_no_request_over_http2() {
    a_rolling_restart_of_the_edges_loses_no_request("http2").await;
}

/// Each client knows one gateway alone, so that every moment in which a gateway is closed is noticed.
async fn postern_up_can_be_killed_and_started_anew_under_load(transport: &str) {
    let mut world = World::start().await.unwrap();
    let _connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    // A stream that is under way all the time: its edge cannot leave.
    let (words, spoken) = mpsc::channel::<Bytes>(1);
    let spoken = futures_util::stream::unfold(spoken, async |mut spoken| {
        Some((Ok::<_, std::io::Error>(spoken.recv().await?), spoken))
    });
    let request = client(&world, 0, &token).post(world.origin.url("/echo"));
    let mut stream = request.body(reqwest::Body::wrap_stream(spoken)).send().await.unwrap();
    words.send("hello".into()).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "hello");

    let before = world.origin.requests();
    let mut load = Load::start(&world, &[vec![0], vec![1]], &token);
    for _ in 0..2 {
        load.goes_on().await;
        kill_postern(&mut world).await;
        load.goes_on().await;
        world.restart_postern_in_place().await.unwrap();
    }
    load.goes_on().await;
    world.wait_for_health("Healthy").await.unwrap();
    let answered = load.stop().await;
    assert_eq!(world.origin.requests() - before, answered, "each was delivered once");
    words.send("still here".into()).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "still here");
    drop(words);
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn postern_up_can_be_killed_and_started_anew_under_load_over_quic() {
    postern_up_can_be_killed_and_started_anew_under_load("quic").await;
}

#[tokio::test]
async fn postern_up_can_be_killed_and_started_anew_under_load_over_http2() {
    postern_up_can_be_killed_and_started_anew_under_load("http2").await;
}
