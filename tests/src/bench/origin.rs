//! The private server of the benchmark. It has a thread of its own and answers from memory that is
//! there already, so that it costs the same little on every way.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes |
//! | `/upload` | length of the request's body, in decimal |
//! | `/stream` | an event at once, another after [`PAUSE`], and the end; chunked |
//! | `/hold` | an event at once, and no end |
//! | `/echo` | a WebSocket that sends back what comes |

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, on},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::oneshot,
    task::JoinSet,
};

use super::websocket;

/// Large bodies are sent in pieces like this.
pub static PIECE: [u8; 256 * 1024] = [b'x'; 256 * 1024];
/// An event of a stream.
pub const EVENT: &str = "data: something has happened\n\n";
/// Between the two events of a stream. Who gathers what belongs together shows it by at least this.
const PAUSE: Duration = Duration::from_millis(2);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server; gone when dropped.
pub struct Origin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts it on a free port of `host`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(host: IpAddr) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((host, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("origin".into()).spawn(serve);
        let thread = thread.context("no thread for the origin")?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Failing to set this only makes it slower.
        let _ = stream.set_nodelay(true);
        connections.spawn(async move {
            let upgrade = Mutex::default();
            let service = service_fn(|request| {
                let response = answer(request, &upgrade);
                async { Ok::<_, Infallible>(response.await) }
            });
            let served = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A client that goes away is nobody's concern.
            let _ = served.await;
            let upgrade = upgrade.into_inner().ok().flatten();
            if let Some(upgrade) = upgrade {
                echo(upgrade).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Puts what the connection becomes into `upgrade`.
async fn answer(
    mut request: Request<Incoming>,
    upgrade: &Mutex<Option<OnUpgrade>>,
) -> Response<Body> {
    let path = request.uri().path();
    if let Some(length) = path.strip_prefix("/bytes/").and_then(|length| length.parse().ok()) {
        return bytes(length);
    }
    match path {
        "/upload" => {
            let (mut length, mut body) = (0, request.into_body());
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            Response::new(Full::from(length.to_string()).boxed_unsync())
        }
        "/stream" => Response::new(events(async { tokio::time::sleep(PAUSE).await })),
        "/hold" => Response::new(events(std::future::pending())),
        "/echo" => {
            *upgrade.lock().expect("nobody panics while holding this lock") =
                Some(on(&mut request));
            let mut response = Response::new(Full::default().boxed_unsync());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let accept = HeaderValue::from_static(websocket::ACCEPT);
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            response
        }
        _ => {
            let mut response = Response::new(Full::default().boxed_unsync());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn bytes(length: u64) -> Response<Body> {
    let rest = Bytes::from_static(&PIECE[..(length % PIECE.len() as u64) as usize]);
    let whole = (length / PIECE.len() as u64) as usize;
    let body = if whole == 0 {
        Full::new(rest).boxed_unsync()
    } else {
        let pieces = std::iter::repeat_n(Bytes::from_static(&PIECE), whole).chain([rest]);
        StreamBody::new(stream::iter(pieces.map(|piece| Ok(Frame::data(piece))))).boxed_unsync()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// An event at once, and another after `pause`.
fn events(pause: impl Future<Output = ()> + Send + 'static) -> Body {
    let event = || Ok(Frame::data(Bytes::from_static(EVENT.as_bytes())));
    let late = stream::once(async move {
        pause.await;
        event()
    });
    StreamBody::new(stream::once(std::future::ready(event())).chain(late)).boxed_unsync()
}

async fn echo(upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut stream = BufReader::new(TokioIo::new(upgraded));
    let mut frame = [0; websocket::QUESTION.len()];
    while stream.read_exact(&mut frame).await.is_ok() {
        let Some(echo) = websocket::echo(&frame) else { return };
        if stream.get_mut().write_all(&echo).await.is_err() {
            return;
        }
    }
}
