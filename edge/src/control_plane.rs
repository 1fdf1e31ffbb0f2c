//! The one connection to the control plane: HTTP/2 over mutual TLS, dialled by the edge, carrying the
//! [`feed`] one way and [`presence`] the other. When it breaks, the edge goes on with what it knows
//! and dials again.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::Uri;
use http_body::Body;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use link::BoxError;
use protocol::address::HostPort;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use crate::{backoff::Backoff, core::Core, identity::Identity, tasks::Tasks};

pub(crate) mod feed;
pub(crate) mod presence;

/// Longest wait for TCP, TLS and HTTP/2 to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Silence on the connection after which it is probed.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Silence after a probe that ends the connection.
const PROBE_ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A connection that has held for less is no success: what broke it may break the next one too.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// Receive window: a snapshot of many megabytes should not wait for round trips.
const WINDOW: u32 = 1024 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no TCP connection")]
    Tcp(#[source] io::Error),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("HTTP/2 failed")]
    Http(#[from] hyper::Error),
}

/// The URL of a path at the control plane's edge port.
pub(crate) fn url(control_plane: &HostPort, path_and_query: &str) -> Uri {
    Uri::builder()
        .scheme("https")
        .authority(control_plane.to_string())
        .path_and_query(path_and_query)
        .build()
        .expect("a HostPort is an authority, and the path is ours")
}

/// Dials; the connection's own tasks belong to `tasks`.
pub(crate) async fn connect<B>(
    control_plane: &HostPort,
    tls: &Arc<ClientConfig>,
    tasks: &Tasks,
) -> Result<SendRequest<B>, ConnectError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let timed_out = |_| ConnectError::Tcp(io::ErrorKind::TimedOut.into());
    let (sender, connection) = tokio::time::timeout(CONNECT_WITHIN, async {
        let address = (control_plane.host.as_str(), control_plane.port);
        let tcp = TcpStream::connect(address).await.map_err(ConnectError::Tcp)?;
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let name = ServerName::try_from(control_plane.host.clone())
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let connector = TlsConnector::from(tls.clone());
        let tls = connector.connect(name, tcp).await.map_err(ConnectError::Tls)?;
        let handshake = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(PROBE_EVERY)
            .keep_alive_timeout(PROBE_ANSWER_WITHIN)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(tls))
            .await?;
        Ok::<_, ConnectError>(handshake)
    })
    .await
    .map_err(timed_out)??;
    tasks.spawn(async move {
        if let Err(error) = connection.await {
            let error = &error as &dyn Error;
            tracing::debug!(error, "the connection to the control plane ended");
        }
    });
    Ok(sender)
}

/// TLS towards the control plane, for an edge that has joined.
pub(crate) fn mutual_tls(identity: &Identity) -> Result<Arc<ClientConfig>, rustls::Error> {
    let malformed = |_| rustls::Error::General("the edge's identity holds malformed PEM".into());
    let mut roots = RootCertStore::empty();
    roots.add(
        CertificateDer::from_pem_slice(identity.ca_certificate.as_bytes()).map_err(malformed)?,
    )?;
    let chain = identity.chain();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
    let chain = chain.collect::<Result<_, _>>().map_err(malformed)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(malformed)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Keeps a connection up until the future is dropped: to any of the control planes, of which there is
/// one at least, and to the next when it breaks.
pub(crate) async fn run(core: Arc<Core>, control_planes: Vec<HostPort>, tls: Arc<ClientConfig>) {
    let mut backoff = Backoff::default();
    let mut was_up = true;
    // Each edge begins with another one, so that they share the edges.
    let first = rand::random_range(0..control_planes.len());
    for control_plane in control_planes.iter().cycle().skip(first) {
        let tasks = Tasks::default();
        let _stop = tasks.stop_on_drop();
        let ended = match connect(control_plane, &tls, &tasks).await {
            Err(error) => BoxError::from(error),
            Ok(sender) => {
                let since = Instant::now();
                let presence = presence::report(&core, sender.clone(), control_plane);
                let connected = || {
                    if !std::mem::replace(&mut was_up, true) {
                        tracing::info!(%control_plane, "the feed is back");
                    }
                };
                let ended = tokio::select! {
                    ended = feed::follow(&core, sender, control_plane, connected) => ended.into(),
                    ended = presence => ended.into(),
                };
                if since.elapsed() >= STEADY_AFTER {
                    backoff.reset();
                }
                ended
            }
        };
        tasks.stop().await;
        if std::mem::replace(&mut was_up, false) {
            let error: &(dyn Error + 'static) = &*ended;
            tracing::warn!(%control_plane, error, "no feed: going on with what is known");
        }
        backoff.wait().await;
    }
}
