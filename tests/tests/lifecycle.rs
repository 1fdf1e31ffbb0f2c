//! Connectors leave and come back, and nobody notices: what is under way is finished, nothing is lost
//! while another replica stands, and nothing stays behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use nix::sys::signal::Signal;
use postern_tests::{
    origin::HELLO,
    process::{PATIENCE, Process, open_files, usage},
    traffic::Traffic,
    world::{TUNNEL, World},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::{interval, timeout},
};

/// A request that is under way until it is told to end; the origin says what it is told, word by word.
struct Conversation {
    words: mpsc::Sender<Bytes>,
    answer: reqwest::Response,
}

impl Conversation {
    async fn begin(world: &World, token: &str) -> Self {
        let (words, spoken) = mpsc::channel(1);
        let spoken = futures_util::stream::unfold(spoken, async |mut spoken| {
            Some((Ok::<_, std::io::Error>(spoken.recv().await?), spoken))
        });
        let request = world.client(0, token).unwrap().post(world.origin.url("/echo"));
        let answer = request.body(reqwest::Body::wrap_stream(spoken)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut conversation = Self { words, answer };
        conversation.say("hello").await;
        conversation
    }

    async fn say(&mut self, word: &'static str) {
        self.words.send(word.into()).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < word.len() {
            heard.extend_from_slice(&self.answer.chunk().await.unwrap().unwrap());
        }
        assert_eq!(heard, word.as_bytes());
    }

    async fn ends_well(mut self) {
        drop(self.words);
        assert_eq!(self.answer.chunk().await.unwrap(), None);
    }

    /// The client must see that something is missing.
    async fn breaks_off(mut self) {
        let rest = timeout(PATIENCE, self.answer.chunk()).await.unwrap();
        assert!(rest.is_err(), "it looks as if it were complete: {rest:?}");
    }
}

fn connector_with(world: &World, transport: &str, grace: &str) -> Process {
    let mut command = world.connector(transport).unwrap();
    command.env("TUNNEL_GRACE_PERIOD", grace);
    Process::start("connector", command).unwrap()
}

async fn has_four_links(connector: &Process) {
    connector.find(|line| line.contains("\"links\":4").then_some(())).await.unwrap();
}

/// Asks a connector to leave, and waits until it has said that it is about to.
async fn leave(connector: &Process) {
    connector.signal(Signal::SIGTERM).unwrap();
    connector.find(|line| line.contains("shutting down").then_some(())).await.unwrap();
}

async fn has_left(connector: &mut Process) {
    let status = connector.ended().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", connector.said());
}

async fn what_is_under_way_is_finished(transport: &str) {
    let world = World::start().await.unwrap();
    let mut connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let mut conversation = Conversation::begin(&world, &token).await;
    leave(&connector).await;
    let client = world.client(0, &token).unwrap();
    let mut pace = interval(std::time::Duration::from_millis(10));
    let refused = loop {
        pace.tick().await;
        let answer = client.get(world.origin.url("/hello")).send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status(), 503, "{:?}", refused.headers());
    assert!(refused.headers().contains_key("retry-after"), "{:?}", refused.headers());
    conversation.say("still here").await;
    assert!(connector.id().is_ok());
    conversation.ends_well().await;
    has_left(&mut connector).await;
    connector.find(|line| line.contains("connector has left").then_some(())).await.unwrap();
}

#[tokio::test]
async fn what_is_under_way_is_finished_over_quic() {
    what_is_under_way_is_finished("quic").await;
}

#[tokio::test]
async fn what_is_under_way_is_finished_over_http2() {
    what_is_under_way_is_finished("http2").await;
}

/// A tunnel to the origin, up and idle.
async fn tunnel(world: &World, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(world.gateway(0)).await.unwrap();
    let (origin, credentials) =
        (world.origin.address(), STANDARD.encode(format!("{TUNNEL}:{token}")));
    let head = format!(
        "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

async fn what_outlives_the_grace_period_is_cut_and_does_not_look_complete(transport: &str) {
    let world = World::start().await.unwrap();
    let mut connector = connector_with(&world, transport, "1s");
    world.wait_for_health("Healthy").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let conversation = Conversation::begin(&world, &token).await;
    let mut tunnel = tunnel(&world, &token).await;
    leave(&connector).await;
    conversation.breaks_off().await;
    let rest = timeout(PATIENCE, tunnel.read_u8()).await.unwrap();
    assert_eq!(rest.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    has_left(&mut connector).await;
    connector.find(|line| line.contains("connector has left").then_some(())).await.unwrap();
}

#[tokio::test]
async fn what_outlives_the_grace_period_is_cut_and_does_not_look_complete_over_quic() {
    what_outlives_the_grace_period_is_cut_and_does_not_look_complete("quic").await;
}

#[tokio::test]
async fn what_outlives_the_grace_period_is_cut_and_does_not_look_complete_over_http2() {
    what_outlives_the_grace_period_is_cut_and_does_not_look_complete("http2").await;
}

#[tokio::test]
async fn a_second_signal_waits_for_nothing() {
    let world = World::start().await.unwrap();
    let mut connector = connector_with(&world, "auto", "1h");
    world.wait_for_health("Healthy").await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let conversation = Conversation::begin(&world, &token).await;
    leave(&connector).await;
    connector.signal(Signal::SIGTERM).unwrap();
    has_left(&mut connector).await;
    conversation.breaks_off().await;
    // It said goodbye before, so nobody misses it.
    let down = world.wait_for_health("Down").await.unwrap();
    assert!(!down["reason"].as_str().unwrap().contains("without saying goodbye"), "{down}");
}

/// Requests that each gateway serves between two steps of the restart.
const BETWEEN_STEPS: u64 = 150;

async fn a_rolling_restart_loses_no_request(transport: &str) {
    let world = World::start().await.unwrap();
    let mut replicas = [(); 2].map(|()| world.start_connector(transport).unwrap());
    for replica in &replicas {
        has_four_links(replica).await;
    }
    let token = world.proxy_token().await.unwrap();
    let mut gateways = [0, 1].map(|region| Traffic::start(&world, region, &token).unwrap());
    for _ in 0..2 {
        for replica in &mut replicas {
            for traffic in &mut gateways {
                traffic.goes_on_for(BETWEEN_STEPS).await;
            }
            replica.signal(Signal::SIGTERM).unwrap();
            has_left(replica).await;
            for traffic in &mut gateways {
                traffic.goes_on_for(BETWEEN_STEPS).await;
            }
            *replica = world.start_connector(transport).unwrap();
            has_four_links(replica).await;
        }
    }
    let [a, b] = gateways;
    let answered = a.stop().await + b.stop().await;
    println!("two replicas restarted twice over {transport}: {answered} requests, 0 failed");
    assert_eq!(world.origin.requests(), answered, "each was delivered once");
}

#[tokio::test]
async fn a_rolling_restart_loses_no_request_over_quic() {
    a_rolling_restart_loses_no_request("quic").await;
}

#[tokio::test]
async fn a_rolling_restart_loses_no_request_over_http2() {
    a_rolling_restart_loses_no_request("http2").await;
}

/// Restarts after which memory has taken its shape: every buffer and table has had its first use.
const WARM_UP: usize = 10;
const RESTARTS: usize = 30;
/// Most that a process may have grown by over all of them, in bytes: allocators round, and give back late.
/// The links of these restarts, had they stayed behind, would take three times as much at each edge.
const GROWTH: u64 = 1024 * 1024;

#[tokio::test]
async fn thirty_restarts_leave_nothing_behind() {
    let world = World::start_spread().await.unwrap();
    let pids = [world.postern.id(), world.edges[0].id(), world.edges[1].id()];
    let pids = pids.map(Result::unwrap);
    let token = world.proxy_token().await.unwrap();
    let state = || pids.map(|pid| (open_files(pid).unwrap(), usage(pid).unwrap().rss));
    let idle = async |files: Option<[usize; 3]>| {
        let mut pace = interval(std::time::Duration::from_millis(50));
        let settled = async {
            while files.is_some_and(|files| files != state().map(|(files, _)| files)) {
                pace.tick().await;
            }
        };
        let settled = timeout(PATIENCE, settled).await;
        settled.unwrap_or_else(|_| panic!("{files:?} open files became {:?}", state()));
        state()
    };

    let mut before = None;
    for restart in 0..WARM_UP + RESTARTS {
        if restart == WARM_UP {
            before = Some(idle(None).await);
        }
        let mut connector = world.connect(["quic", "http2"][restart % 2]).await.unwrap();
        for region in [0, 1] {
            let answer = world.client(region, &token).unwrap().get(world.origin.url("/hello"));
            assert_eq!(answer.send().await.unwrap().text().await.unwrap(), HELLO);
        }
        connector.signal(Signal::SIGTERM).unwrap();
        has_left(&mut connector).await;
        world.wait_for_health("Down").await.unwrap();
    }
    let before = before.unwrap();
    let after = idle(Some(before.map(|(files, _)| files))).await;
    for (n, name) in ["control plane", "edge a", "edge b"].into_iter().enumerate() {
        let [(files, rss), (files_after, rss_after)] = [before[n], after[n]];
        let (kib, kib_after) = (rss / 1024, rss_after / 1024);
        println!(
            "{RESTARTS} restarts, {name}: {files} -> {files_after} open files, {kib} -> {kib_after} KiB"
        );
        assert!(rss_after < rss + GROWTH, "{name} has grown");
    }
    assert!(world.links().await.unwrap().is_empty());
    let _connector = world.connect("auto").await.unwrap();
    assert_eq!(world.links().await.unwrap().len(), 4);
}
