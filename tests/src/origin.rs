//! A private server: what a request through a tunnel is for.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_RANGE, RANGE, TRAILER},
};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::PrivatePkcs8KeyDer},
};

/// What [`Origin`] answers to `/hello`.
pub const HELLO: &str = "hello from the private network\n";

/// What [`Origin`] answers to `/range`, in parts.
pub const RANGED: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// Length of one piece of a large answer, in bytes.
const PIECE: usize = 64 * 1024;
/// Connections that wait to be accepted: on a busy machine hundreds that come at once would overflow the usual 128,
/// and wait for seconds until their first packet is sent again.
const BACKLOG: u32 = 1_024;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// An HTTP server on the loopback interface.
///
/// | path | answer |
/// |---|---|
/// | `/hello` | [`HELLO`] |
/// | `/echo` | the request's body, as it comes |
/// | `/bytes/N` | N bytes of [`pattern`], streamed |
/// | `/range` | of [`RANGED`] the bytes that `Range` names, as `bytes=FIRST-LAST` |
/// | `/trailers` | [`HELLO`], chunked, and a trailer `checksum` |
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
    pub async fn start(host: IpAddr) -> anyhow::Result<Self> {
        Self::start_with(host, None).await
    }

    /// Starts one that speaks HTTPS; the second value is the PEM of the private authority that signed
    /// its certificate.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start_tls(host: IpAddr) -> anyhow::Result<(Self, String)> {
        let (acceptor, authority) = private_tls(host)?;
        Ok((Self::start_with(host, Some(acceptor)).await?, authority))
    }

    async fn start_with(host: IpAddr, tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let socket = match host {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind((host, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, tls, requests.clone()));
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

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, requests: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Failing to set this only makes it slower.
        let _ = stream.set_nodelay(true);
        let (tls, requests) = (tls.clone(), requests.clone());
        connections.spawn(async move {
            match tls {
                None => serve_connection(stream, requests).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_connection(stream, requests).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection<S>(stream: S, requests: Arc<AtomicU64>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        requests.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    // A client that goes away is nobody's concern.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

/// A certificate for `host`, and the authority that signed it.
fn private_tls(host: IpAddr) -> anyhow::Result<(TlsAcceptor, String)> {
    let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate whose issuer has its own name for self-signed.
    params.distinguished_name.push(DnType::CommonName, "private authority");
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);
    let leaf = CertificateParams::new([host.to_string()])?.signed_by(&key, &issuer)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key).into())?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority.pem()))
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
        "/range" => range(request.headers()),
        "/trailers" => {
            let trailers = HeaderMap::from_iter([(
                HeaderName::from_static("checksum"),
                HeaderValue::from_static("good"),
            )]);
            let frames = [Frame::data(Bytes::from(HELLO)), Frame::trailers(trailers)];
            let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert(TRAILER, HeaderValue::from_static("checksum"));
            response
        }
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

fn range(headers: &HeaderMap) -> Response<Body> {
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    let range = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let part = range
        .and_then(|(first, last): (usize, usize)| Some((first, last, RANGED.get(first..=last)?)));
    let Some((first, last, part)) = part else { return Response::new(full(RANGED)) };
    let mut response = Response::new(full(part));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let place = format!("bytes {first}-{last}/{}", RANGED.len());
    let place = HeaderValue::try_from(place).expect("digits are a valid value");
    response.headers_mut().insert(CONTENT_RANGE, place);
    response
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}
