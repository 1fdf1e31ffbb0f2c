//! Links and clients come and go in every way there is, thousands of times, and the edge is as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use link::{CloseReason, dial::Dialled};
use postern_tests::{
    crowd::Crowd,
    process::{PATIENCE, Process, open_files, usage},
    world::{TUNNEL, World, text},
};
use protocol::{control::FromConnector, presence::Transport};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
    task::{JoinSet, spawn_blocking},
    time::{interval, timeout},
};

/// How often something comes and goes, if [`CYCLES_VARIABLE`] does not say otherwise.
const CYCLES: u32 = 2_000;
const CYCLES_VARIABLE: &str = "POSTERN_CYCLES";
/// Cycles after which everything is left to settle, and is measured.
const LAP: u32 = 500;
/// Cycles under way at once.
const AT_ONCE: usize = 8;
/// Most that control plane and edge may have grown by from the first lap to the last, in bytes. What
/// allocators keep for later goes up and down by half of it; a link that stays behind takes some 60 KiB,
/// and even in a short run some 500 come and go in each lap and kind of carrier.
const GROWTH: u64 = 4 * MEBIBYTE;
/// Most that the connector may ever take, in bytes. It grows more slowly than it is measured here: over
/// QUIC each of the 1,024 streams that a link has room for keeps room for what it once had unread.
const CONNECTOR: u64 = 40 * MEBIBYTE;
const MEBIBYTE: u64 = 1024 * 1024;
/// The edge that everything comes to.
const REGION: usize = 0;
/// A tunnel whose links carry nothing.
const IDLE: &str = "idle";
/// A tunnel whose links are cut below a request.
const BUSY: &str = "busy";

/// What is cut, and when.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// A link that says goodbye.
    Goodbye,
    /// A link that is closed without one.
    Close,
    /// A link whose connection is reset; over QUIC, dropped.
    Reset,
    /// A link of which nothing is heard any more.
    Silence,
    /// A link on which half of an answer has passed.
    MidAnswer,
    /// A connection that was to become a link.
    MidHandshake,
    /// A client, in the middle of its request's head.
    ClientHead,
    /// A client, in the middle of its request's body.
    ClientUpload,
    /// A client that waits for an answer.
    ClientWaiting,
    /// A client, in the middle of an answer.
    ClientDownload,
    /// A client with a tunnel to the origin.
    ClientTunnel,
}

const CUTS: [Cut; 11] = [
    Cut::Goodbye,
    Cut::Close,
    Cut::Reset,
    Cut::Silence,
    Cut::MidAnswer,
    Cut::MidHandshake,
    Cut::ClientHead,
    Cut::ClientUpload,
    Cut::ClientWaiting,
    Cut::ClientDownload,
    Cut::ClientTunnel,
];

/// Those who dial, over either carrier, with one secret.
struct Dialers {
    secret: String,
    quic: Crowd,
    http2: Crowd,
}

impl Dialers {
    /// Those of a new tunnel.
    async fn new(world: &World, tunnel: &str) -> Self {
        let tunnel = world.api.post("/api/v1/admin/tunnel", &json!({ "name": tunnel })).await;
        let secret = text(&tunnel.unwrap(), "secret").unwrap();
        let [quic, http2] = [Transport::Quic, Transport::Http2]
            .map(async |transport| Crowd::of(&secret, REGION, transport).await.unwrap());
        let (quic, http2) = (quic.await, http2.await);
        Self { secret, quic, http2 }
    }

    fn over(&self, transport: Transport) -> &Crowd {
        match transport {
            Transport::Quic => &self.quic,
            Transport::Http2 => &self.http2,
        }
    }
}

struct Endurance {
    world: World,
    token: String,
    /// Serves what clients ask for through the world's own tunnel.
    connector: Process,
    idle: Dialers,
    busy: Dialers,
    /// One at a time: a request must find no link but its own.
    turn: Mutex<()>,
    /// Links that are held open, and say nothing.
    silent: Mutex<Vec<Dialled>>,
}

impl Endurance {
    async fn start() -> Self {
        let world = World::start_spread().await.unwrap();
        let connector = world.connect("auto").await.unwrap();
        let token = world.proxy_token().await.unwrap();
        let idle = Dialers::new(&world, IDLE).await;
        let busy = Dialers::new(&world, BUSY).await;
        let (turn, silent) = Default::default();
        Self { world, token, connector, idle, busy, turn, silent }
    }

    async fn cycle(&self, n: u32) {
        let cut = CUTS[n as usize % CUTS.len()];
        let is_quic = (n as usize / CUTS.len()).is_multiple_of(2);
        let transport = if is_quic { Transport::Quic } else { Transport::Http2 };
        let cycle = async {
            match cut {
                Cut::Goodbye => {
                    let mut link = self.idle.over(transport).dial(n).await.unwrap();
                    link.control_sender.send(&FromConnector::Goodbye).await.unwrap();
                    assert!(link.inbound.accept().await.is_none());
                }
                Cut::Close => {
                    let mut link = self.idle.over(transport).dial(n).await.unwrap();
                    link.inbound.close(CloseReason::Shutdown);
                }
                Cut::Reset if is_quic => drop(self.idle.quic.dial(n).await.unwrap()),
                Cut::Reset => {
                    let stream = TcpStream::connect(self.idle.http2.address()).await.unwrap();
                    stream.set_zero_linger().unwrap();
                    drop(self.idle.http2.dial_on(stream, n).await.unwrap());
                }
                Cut::Silence if is_quic => self.lose_the_socket(n).await,
                Cut::Silence => {
                    let link = self.idle.http2.dial(n).await.unwrap();
                    self.silent.lock().await.push(link);
                }
                Cut::MidAnswer => self.cut_mid_answer(transport, n).await,
                Cut::MidHandshake if is_quic => {
                    let dial = self.idle.quic.dial(n);
                    // Whether it comes up just in time is of no importance.
                    let _ = timeout(Duration::from_millis(2), dial).await;
                }
                Cut::MidHandshake => {
                    let mut stream = TcpStream::connect(self.idle.http2.address()).await.unwrap();
                    stream.set_zero_linger().unwrap();
                    // The head of a TLS record that does not follow.
                    stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
                }
                Cut::ClientHead => {
                    let head = self.request(TUNNEL, "GET", &self.world.origin.url("/hello"));
                    self.client(&head[..head.len() / 2]).await;
                }
                Cut::ClientUpload => {
                    let head = self.request(TUNNEL, "POST", &self.world.origin.url("/sum"));
                    let head = head.replace("\r\n\r\n", "\r\nContent-Length: 1000000\r\n\r\n");
                    let mut client = self.client(&head).await;
                    client.write_all(&[b'x'; 100_000]).await.unwrap();
                }
                Cut::ClientWaiting => {
                    let head = self.request(TUNNEL, "GET", &self.world.origin.url("/hang"));
                    self.client(&head).await;
                }
                Cut::ClientDownload => {
                    let head =
                        self.request(TUNNEL, "GET", &self.world.origin.url("/bytes/9000000"));
                    succeeds(&mut self.client(&head).await).await;
                }
                Cut::ClientTunnel => {
                    let origin = self.world.origin.address().to_string();
                    let head = self.request(TUNNEL, "CONNECT", &origin);
                    succeeds(&mut self.client(&head).await).await;
                }
            }
        };
        let ended = timeout(PATIENCE, cycle).await;
        ended.unwrap_or_else(|_| panic!("cycle {n}, {cut:?} over {transport:?}, does not end"));
    }

    /// A link whose process is gone at once, with its socket: nothing is sent for it any more.
    async fn lose_the_socket(&self, n: u32) {
        let secret = self.idle.secret.clone();
        let process = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let link = runtime.block_on(async {
                Crowd::of(&secret, REGION, Transport::Quic).await.unwrap().dial(n).await.unwrap()
            });
            drop(runtime);
            drop(link);
        };
        spawn_blocking(process).await.unwrap();
    }

    /// The client gets what came, and must see that something is missing: its connection ends in order, so that
    /// nothing is lost, and the answer has no last chunk.
    async fn cut_mid_answer(&self, transport: Transport, n: u32) {
        let _turn = self.turn.lock().await;
        let mut link = self.busy.over(transport).dial(n).await.unwrap();
        let mut client = self.client(&self.request(BUSY, "GET", "http://wiki.corp/")).await;
        let mut answers = JoinSet::new();
        let serving = async {
            while let Some(arrival) = link.inbound.accept().await {
                answers.spawn(async move {
                    let exchange = arrival.exchange().await.unwrap();
                    let half =
                        stream::once(async { Ok::<_, Infallible>(Frame::data("half".into())) });
                    let half: StreamBody<_> = StreamBody::new(half.chain(stream::pending()));
                    let _: Result<(), _> = exchange.reply.send(Response::new(half)).await;
                });
            }
        };
        tokio::select! {
            () = serving => panic!("the link is gone"),
            () = succeeds(&mut client) => {}
        }
        drop((link, answers));
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(b"4\r\nhalf\r\n".starts_with(&read), "{:?}", String::from_utf8_lossy(&read));
    }

    fn request(&self, tunnel: &str, method: &str, target: &str) -> String {
        let credentials = STANDARD.encode(format!("{tunnel}:{}", self.token));
        let host = target.trim_start_matches("http://").split('/').next().unwrap();
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
        )
    }

    /// A client that has said something, and vanishes when dropped.
    async fn client(&self, says: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.world.gateway(REGION)).await.unwrap();
        client.set_zero_linger().unwrap();
        client.write_all(says.as_bytes()).await.unwrap();
        client
    }

    /// Open files and resident memory of control plane, edge and connector, once nothing is going on
    /// any more; no more files than `files` are open then.
    async fn settle(&self, files: Option<[usize; 3]>) -> [(usize, u64); 3] {
        let pids = [&self.world.postern, &self.world.edges[REGION], &self.connector];
        let pids = pids.map(|process| process.id().unwrap());
        let state = || pids.map(|pid| (open_files(pid).unwrap(), usage(pid).unwrap().rss));
        let url = format!("http://{}:{}/metrics", self.world.host(), 9001 + REGION);
        let mut pace = interval(Duration::from_millis(100));
        let mut metrics = String::new();
        let settling = async {
            loop {
                pace.tick().await;
                metrics = reqwest::get(&url).await.unwrap().text().await.unwrap();
                let value = |name: &str| {
                    let lines = metrics.lines().filter(|line| line.starts_with(name));
                    let values = lines.filter_map(|line| line.rsplit(' ').next());
                    values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>()
                };
                // The connector has half of its links here.
                let is_quiet = value("postern_edge_links{") == 2.0
                    && value("postern_edge_requests_in_flight") == 0.0;
                let few = |files: [usize; 3]| {
                    let open = state().map(|(files, _)| files);
                    open.iter().zip(files).all(|(open, most)| *open <= most)
                };
                if is_quiet && files.is_none_or(few) {
                    return;
                }
            }
        };
        let settled = timeout(PATIENCE, settling).await;
        settled.unwrap_or_else(|_| panic!("{files:?} open files: {:?}\n{metrics}", state()));
        self.silent.lock().await.clear();
        state()
    }
}

/// Reads the head of an answer, which must be a success.
async fn succeeds(client: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
}

#[tokio::test]
async fn thousands_of_connections_come_and_go_and_leave_nothing_behind() {
    let cycles = std::env::var(CYCLES_VARIABLE).map_or(CYCLES, |cycles| cycles.parse().unwrap());
    let endurance = Endurance::start().await;
    let mut laps: Vec<[(usize, u64); 3]> = Vec::new();
    for begin in (0..cycles).step_by(LAP as usize) {
        let began = Instant::now();
        let lap = begin..cycles.min(begin + LAP);
        let cycles = stream::iter(lap.clone()).map(|n| endurance.cycle(n));
        cycles.buffer_unordered(AT_ONCE).collect::<()>().await;
        let took = began.elapsed();
        let files = laps.first().map(|lap| lap.map(|(files, _)| files));
        let state = endurance.settle(files).await;
        let told = state.map(|(files, rss)| (files, rss / 1024));
        println!(
            "{} cycles, the last {} in {:?}, settled in {:?}; open files, KiB of control plane, edge, connector: {told:?}",
            lap.end,
            lap.len(),
            took,
            began.elapsed() - took
        );
        laps.push(state);
    }
    let (first, last) = (laps.first().unwrap(), laps.last().unwrap());
    let bounds = [first[0].1 + GROWTH, first[1].1 + GROWTH, CONNECTOR];
    for (n, name) in ["control plane", "edge", "connector"].into_iter().enumerate() {
        let [(files, rss), (files_after, rss_after)] = [first[n], last[n]];
        let (kib, kib_after) = (rss / 1024, rss_after / 1024);
        println!("{name}: {files} -> {files_after} open files, {kib} -> {kib_after} KiB");
        assert!(rss_after < bounds[n], "{name} has grown");
    }
}
