//! The load that goes on while things happen: requests at a steady rate, whatever becomes of the earlier
//! ones, and streams of events and WebSockets beside them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::interval,
};

use super::{
    client::{Client, Failure, within},
    origin::{EVENT, EVENTS, PACE},
};
use crate::{
    bench::websocket,
    origin::{HELLO, Sum},
};

/// How long a client waits for the end of an answer. Nobody waits longer for a small one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Length of a download, in bytes.
const DOWNLOAD: u64 = 1_000_000;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A small answer, which may be asked for again.
    Get,
    /// Something that must happen once.
    Post,
    /// A large answer.
    Download,
    /// A large request.
    Upload,
    /// A stream of server-sent events.
    Events,
    /// A WebSocket.
    WebSocket,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Events => "events",
            Self::WebSocket => "WebSocket",
        }
    }
}

/// One exchange, from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What was asked for.
    pub kind: Kind,
    /// When.
    pub begun: Instant,
    /// When the answer's end was here, or the failure was.
    pub ended: Instant,
    /// The gateway that answered or failed.
    pub gateway: usize,
    /// What became of it.
    pub outcome: Result<(), Failure>,
    /// What the ledger knows a POST by.
    pub id: Option<u64>,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// GETs and POSTs a second, five to three.
    pub small: f64,
    /// Of so many of them one is a download instead; none, if it is 0.
    pub download_every: u64,
    /// Streams of events, and as many WebSockets, at any time.
    pub streams: usize,
}

/// Where it goes.
#[derive(Clone)]
pub struct Target {
    /// Who asks.
    pub client: Arc<Client>,
    /// The origin, as its URL begins.
    pub origin: Arc<str>,
}

/// The load, until it is stopped.
pub struct Load {
    stop: watch::Sender<bool>,
    driver: JoinHandle<Vec<Exchange>>,
}

impl Load {
    /// Starts it.
    pub fn start(target: Target, mix: Mix) -> Self {
        let (stop, stopped) = watch::channel(false);
        let driver = tokio::spawn(drive(target, mix, stopped));
        Self { stop, driver }
    }

    /// Begins nothing more, waits for the end of what was begun, and tells of all of it.
    ///
    /// # Errors
    /// If it broke down.
    pub async fn stop(self) -> anyhow::Result<Vec<Exchange>> {
        self.stop.send_replace(true);
        Ok(self.driver.await?)
    }
}

async fn drive(target: Target, mix: Mix, mut stopped: watch::Receiver<bool>) -> Vec<Exchange> {
    let mut under_way = JoinSet::new();
    for n in 0..mix.streams {
        for kind in [Kind::Events, Kind::WebSocket] {
            under_way.spawn(again_and_again(target.clone(), kind, n, stopped.clone()));
        }
    }
    let mut done = Vec::new();
    let mut pace = interval(Duration::from_secs_f64(1.0 / mix.small));
    for n in 0.. {
        tokio::select! {
            _ = pace.tick() => {}
            _ = stopped.changed() => break,
        }
        let kind = match n {
            _ if mix.download_every > 0 && n % mix.download_every == 0 => Kind::Download,
            _ if n % 8 < 5 => Kind::Get,
            _ => Kind::Post,
        };
        let target = target.clone();
        under_way.spawn(async move { vec![target.exchange(kind, n as usize).await] });
        while let Some(ended) = under_way.try_join_next() {
            done.extend(ended.expect("nobody aborts it, and it does not panic"));
        }
    }
    done.extend(under_way.join_all().await.into_iter().flatten());
    done
}

async fn again_and_again(
    target: Target,
    kind: Kind,
    gateway: usize,
    stopped: watch::Receiver<bool>,
) -> Vec<Exchange> {
    let mut done = Vec::new();
    while !*stopped.borrow() {
        let exchange = target.exchange(kind, gateway).await;
        if exchange.outcome.is_err() {
            // As a browser does, which waits for longer even.
            tokio::time::sleep(PACE).await;
        }
        done.push(exchange);
    }
    done
}

impl Target {
    /// One exchange, at first with this gateway.
    pub async fn exchange(&self, kind: Kind, gateway: usize) -> Exchange {
        self.exchange_of(kind, DOWNLOAD, gateway % 2, PATIENCE).await
    }

    /// A transfer of so many bytes, for which the client waits for so long.
    pub async fn transfer(&self, kind: Kind, length: u64, patience: Duration) -> Exchange {
        self.exchange_of(kind, length, length as usize % 2, patience).await
    }

    async fn exchange_of(
        &self,
        kind: Kind,
        length: u64,
        first: usize,
        patience: Duration,
    ) -> Exchange {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = (kind == Kind::Post).then(|| NEXT.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        let mut gateway = first;
        let outcome = within(patience, async {
            let sent = self.client.send(&self.request(kind, length, id), first).await;
            let answer = sent.map_err(|(failed, failure)| {
                gateway = failed;
                failure
            })?;
            gateway = answer.gateway;
            match kind {
                Kind::Get => expect(&self.client.whole(answer, StatusCode::OK).await?, HELLO),
                Kind::Post => {
                    let body = self.client.whole(answer, StatusCode::OK).await?;
                    expect(&body, &id.map(|id| id.to_string()).unwrap_or_default())
                }
                Kind::Upload => {
                    let body = self.client.whole(answer, StatusCode::OK).await?;
                    expect(&body, &Sum::of_pattern(length))
                }
                Kind::Download => {
                    let body = self.client.whole(answer, StatusCode::OK).await?;
                    let mut sum = Sum::default();
                    sum.add(&body);
                    expect(sum.finish().as_bytes(), &Sum::of_pattern(length))
                }
                Kind::Events => {
                    let body = self.client.whole(answer, StatusCode::OK).await?;
                    expect(&body, &EVENT.repeat(EVENTS))
                }
                Kind::WebSocket => {
                    let (mut socket, _connection) = answer.switch().await?;
                    for _ in 0..EVENTS {
                        let mut echo = [0; websocket::ECHO.len()];
                        let asked = socket.write_all(&websocket::QUESTION).await;
                        asked.map_err(|_| Failure::BrokenOff)?;
                        let heard = socket.read_exact(&mut echo).await;
                        heard.map_err(|_| Failure::BrokenOff)?;
                        if echo != websocket::ECHO {
                            return Err(Failure::Wrong("another echo".into()));
                        }
                        tokio::time::sleep(PACE).await;
                    }
                    Ok(())
                }
            }
        });
        let outcome = outcome.await;
        Exchange { kind, begun, ended: Instant::now(), gateway, outcome, id }
    }

    fn request(&self, kind: Kind, length: u64, id: Option<u64>) -> Request<Bytes> {
        let origin = &self.origin;
        let path = match kind {
            Kind::Get => "/hello".to_owned(),
            Kind::Post => format!("/ledger/{}", id.unwrap_or_default()),
            Kind::Download => format!("/bytes/{length}"),
            Kind::Upload => "/sum".to_owned(),
            Kind::Events => "/events".to_owned(),
            Kind::WebSocket => "/echo".to_owned(),
        };
        let (method, body) = match kind {
            Kind::Post => (Method::POST, Bytes::from("once and no more")),
            Kind::Upload => (Method::POST, crate::origin::pattern(length).flatten().collect()),
            Kind::Get | Kind::Download | Kind::Events | Kind::WebSocket => {
                (Method::GET, Bytes::new())
            }
        };
        let authority = origin.trim_start_matches("http://");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{origin}{path}"))
            .header(header::HOST, authority);
        if kind == Kind::WebSocket {
            for line in websocket::HANDSHAKE.lines() {
                if let Some((name, value)) = line.split_once(": ") {
                    request = request.header(name, value);
                }
            }
        }
        request.body(body).expect("made of valid parts")
    }
}

/// A request that the origin never answers, held until the future is dropped.
pub async fn hang(target: &Target, gateway: usize) {
    let request = Request::get(format!("{}/silent", target.origin)).body(Bytes::new());
    let request = request.expect("made of valid parts");
    if let Ok(answer) = target.client.send(&request, gateway).await {
        // Nothing is to come; should something, it is read and forgotten.
        let _ = target.client.whole(answer, StatusCode::OK).await;
    }
}

fn expect(body: &[u8], wanted: &str) -> Result<(), Failure> {
    if body == wanted.as_bytes() {
        return Ok(());
    }
    let begin = &body[..body.len().min(40)];
    Err(Failure::Wrong(format!("{} bytes: {}", body.len(), String::from_utf8_lossy(begin))))
}
