//! A private server: what a request through a tunnel is for.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinSet};

/// What [`Origin`] answers to `/hello`.
pub const HELLO: &str = "hello from the private network\n";

/// Length of one piece of a large answer, in bytes.
const PIECE: usize = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// An HTTP server on the loopback interface.
///
/// | path | answer |
/// |---|---|
/// | `/hello` | [`HELLO`] |
/// | `/echo` | the request's body, as it comes |
/// | `/bytes/N` | N bytes of [`pattern`], streamed |
/// | `/sum` | length and CRC-32 of the request's body, as `length crc` |
/// | `/hang` | none, ever |
pub struct Origin {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    _serving: JoinSet<()>,
}

impl Origin {
    /// Starts one on a free port of `host`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(host: std::net::IpAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, requests.clone()));
        Ok(Self { address, requests, _serving: serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many requests have reached it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// The bytes of a large answer: `length` of them, in pieces.
pub fn pattern(length: u64) -> impl Iterator<Item = Bytes> + Send {
    let piece: Bytes =
        (0..PIECE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = (length / PIECE as u64) as usize;
    let rest = piece.slice(..(length % PIECE as u64) as usize);
    std::iter::repeat_n(piece, whole).chain(Some(rest))
}

/// Length and CRC-32 of bytes that come in pieces.
#[derive(Default)]
pub struct Sum {
    length: u64,
    crc: crc32fast::Hasher,
}

impl Sum {
    /// The sum of [`pattern`].
    pub fn of_pattern(length: u64) -> String {
        let mut sum = Self::default();
        pattern(length).for_each(|piece| sum.add(&piece));
        sum.finish()
    }

    /// Adds a piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        self.crc.update(piece);
    }

    /// `length crc`.
    pub fn finish(self) -> String {
        format!("{} {:08x}", self.length, self.crc.finalize())
    }
}

async fn serve(listener: TcpListener, requests: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Failing to set this only makes it slower.
        let _ = stream.set_nodelay(true);
        let requests = requests.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                requests.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, Infallible>(answer(request).await) }
            });
            // A client that goes away is nobody's concern.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(length) = path.strip_prefix("/bytes/").and_then(|length| length.parse().ok()) {
        let pieces = pattern(length).map(|piece| Ok(Frame::data(piece)));
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        return response;
    }
    match path.as_str() {
        "/hello" => Response::new(full(HELLO)),
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        "/sum" => {
            let mut sum = Sum::default();
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Some(data) = frame.data_ref() {
                    sum.add(data);
                }
            }
            Response::new(full(sum.finish()))
        }
        "/hang" => std::future::pending().await,
        _ => {
            let mut response = Response::new(full("no such page\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}
