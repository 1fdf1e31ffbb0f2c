//! The floor: what Postern's libraries cost alone. A relay of the same crates with the same settings as
//! Postern's own path of a request, hyper at both ends and quinn or h2 between them, and nothing else: no
//! tokens, access, policy, cleaning of fields, phases, metrics, logs, retries, limits or deadlines, no
//! trailers and no upgrades. Over HTTP/2 it writes as h2 does, and holds no small writes back.
//!
//! ```text
//! clients ── HTTP/1.1 ──► near ══ two links, which far has dialled ══► far ── HTTP/1.1 ──► origin
//! ```
//!
//! Each link has a thread of its own at either end, where its clients and its connections to origins are, too.

use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body::Frame;
use protocol::{ALPN_HTTP2, ALPN_QUIC, presence::Transport};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_rustls::rustls::{
    self, CipherSuite, ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{Ends, Place, SERVER_NAME, listens};
use crate::{bench::postern::CARRIERS, process::Process, world::program};

mod far;
mod http2;
mod near;
mod quic;

/// Links: as many as an edge has of a connector's four.
const LINKS: u16 = 2;
const FIRST_SUITE: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Where each link is dialled; one behind the other.
fn links(first: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    (0..LINKS).map(move |n| SocketAddr::new(first.ip(), first.port() + n))
}

/// What the near end says once a link can be dialled.
fn waiting_at(link: SocketAddr) -> String {
    format!("waiting at {link}")
}

pub(super) async fn start(place: &Place, carrier: Transport) -> anyhow::Result<Ends> {
    let (clients, link) = place.addresses(match carrier {
        Transport::Quic => 18_121,
        Transport::Http2 => 18_131,
    });
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
    place.write(CERTIFICATE, &made.cert.pem())?;
    place.write(KEY, &made.signing_key.serialize_pem())?;
    let bare = program("bare")?;
    let run = |end: &str| {
        let mut command = Command::new(&bare);
        command.args([end, carrier.as_str(), &link.to_string(), &clients.to_string()]);
        command.arg(place.dir.path());
        Process::start(end, command)
    };
    let near = run("near")?;
    for link in links(link) {
        let waiting = waiting_at(link);
        near.find(|line| (line == waiting).then_some(())).await?;
    }
    let far = run("far")?;
    listens(clients, &[&near, &far]).await?;
    Ok((clients, near, far))
}

/// One end of a bare relay. Both are told the same.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "bare")]
pub struct Bare {
    /// Which one
    end: End,
    /// What carries the links: quic or http2
    #[arg(value_parser = carrier)]
    carrier: Transport,
    /// Where the near end waits for the first link; the others follow
    link: SocketAddr,
    /// Where the near end serves clients, once it has its links
    clients: SocketAddr,
    /// Directory with the near end's certificate and key
    files: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum End {
    Near,
    Far,
}

fn carrier(name: &str) -> anyhow::Result<Transport> {
    let mut carriers = CARRIERS.into_iter();
    carriers.find(|carrier| carrier.as_str() == name).context("neither quic nor http2")
}

/// Waits until the process is told to end.
fn terminated() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}

impl Bare {
    /// Relays until it is told to end.
    ///
    /// # Errors
    /// If it cannot listen or dial, or a link ends.
    pub fn run(self) -> anyhow::Result<()> {
        let (ended, end) = std::sync::mpsc::channel();
        for link in links(self.link) {
            let (bare, ended) = (self.clone(), ended.clone());
            std::thread::Builder::new().spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let done = runtime.map_err(Into::into).and_then(|rt| rt.block_on(bare.relay(link)));
                // The other threads end with the process.
                let _ = ended.send(done);
            })?;
        }
        std::thread::Builder::new().spawn(move || drop(ended.send(terminated())))?;
        end.recv()?
    }

    async fn relay(self, link: SocketAddr) -> anyhow::Result<()> {
        let Self { end, carrier, clients, files, .. } = self;
        let mut provider = aws_lc_rs::default_provider();
        // As Postern's links do.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != FIRST_SUITE);
        let provider = Arc::new(provider);
        let only = &[&rustls::version::TLS13];
        let certificate = CertificateDer::from_pem_file(files.join(CERTIFICATE))?;
        match end {
            End::Near => {
                let key = PrivateKeyDer::from_pem_file(files.join(KEY))?;
                let mut tls = ServerConfig::builder_with_provider(provider)
                    .with_protocol_versions(only)?
                    .with_no_client_auth()
                    .with_single_cert(vec![certificate], key)?;
                tls.alpn_protocols = vec![alpn(carrier)];
                tls.send_tls13_tickets = 0;
                near::run(carrier, link, tls, clients).await
            }
            End::Far => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate)?;
                let mut tls = ClientConfig::builder_with_provider(provider)
                    .with_protocol_versions(only)?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                tls.alpn_protocols = vec![alpn(carrier)];
                far::run(carrier, link, tls).await
            }
        }
    }
}

fn alpn(carrier: Transport) -> Vec<u8> {
    match carrier {
        Transport::Quic => ALPN_QUIC.to_vec(),
        Transport::Http2 => ALPN_HTTP2.to_vec(),
    }
}

/// A message's body as it comes off a link.
struct Body {
    source: Source,
    /// Sends the request's own body; ends with this.
    _upload: Option<JoinSet<()>>,
}

enum Source {
    Empty,
    Quic(quic::Receiving),
    Http2(h2::RecvStream),
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self { source, _upload: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<anyhow::Result<Frame<Bytes>>>> {
        let data = match &mut self.source {
            Source::Empty => None,
            Source::Quic(receiving) => ready!(receiving.poll_data(cx)),
            Source::Http2(stream) => ready!(http2::poll_data(stream, cx)),
        };
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Quic(receiving) => receiving.is_ended(),
            Source::Http2(stream) => stream.is_end_stream(),
        }
    }
}

/// Sends a request's body while its answer is awaited and read. That it failed shows in the answer.
fn upload(sending: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async { drop(sending.await) });
    task
}
