//! One HTTP/1.1 request on one connection, with the time that each phase took.

use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, response::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use protocol::{
    phases::Phase,
    refusal::{Code, Refusal},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::http_action::{Failure, Prepared, Trace, microseconds};

/// Largest header of a response, in bytes; hyper's limit of 100 fields stands as well.
const MAX_HEAD: usize = 64 * 1024;

/// An answer, as far as it came.
#[derive(Debug)]
pub(super) struct Exchanged {
    pub(super) head: Parts,
    pub(super) body: Bytes,
    /// The body was longer than what is kept.
    pub(super) truncated: bool,
    /// The body broke off.
    pub(super) broken: Option<Refusal>,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct Broken {
    /// True if nothing of the request was sent.
    pub(super) is_unsent: bool,
    /// The bytes that came were no HTTP.
    pub(super) is_garbage: bool,
}

/// A connection with its driver, which ends when this is dropped.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    pub(super) async fn new<T>(io: T) -> Result<Self, Broken>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_| Broken { is_unsent: true, is_garbage: false })?;
        let driver = tokio::spawn(async move {
            // The request's own future reports what went wrong.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, _driver: AbortOnDropHandle::new(driver) })
    }

    /// Sends the request and waits for the response's head.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, Broken> {
        self.sender.send_request(request).await.map_err(|error| Broken {
            is_unsent: error.is_canceled(),
            is_garbage: error.is_parse(),
        })
    }
}

/// Reads the body up to the limit; `broken_by` says what a body that breaks off means here.
pub(super) async fn finish(
    response: http::Response<Incoming>,
    limit: u64,
    broken_by: Code,
    trace: &mut Trace,
) -> Exchanged {
    let started = Instant::now();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut truncated, mut broken) = (BytesMut::new(), false, None);
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            broken = Some(Refusal::new(broken_by, "the answer broke off in its body"));
            break;
        };
        let Ok(data) = frame.into_data() else { continue };
        let room = limit - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            truncated = true;
            break;
        }
    }
    trace.phases.set(Phase::Body, microseconds(started));
    Exchanged { head, body: body.freeze(), truncated, broken }
}

/// Shakes hands with an origin as its client.
pub(super) async fn tls<T>(
    io: T,
    request: &Prepared,
    trace: &mut Trace,
) -> Result<TlsStream<T>, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let started = Instant::now();
    let name = ServerName::try_from(request.host.clone())
        .map_err(|_| Refusal::new(Code::BadTarget, "the URL's host is no name for TLS"))?;
    let config = client_config(request.ca_certificates.as_deref())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
        .map_err(|error| Failure::Tls(format!("{}: {error}", request.host)))?;
    trace.phases.set(Phase::Tls, microseconds(started));
    Ok(stream)
}

fn client_config(extra: Option<&str>) -> Result<ClientConfig, Failure> {
    let bad = || Failure::Tls("the action's ca_certificates are not valid PEM".to_owned());
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for certificate in CertificateDer::pem_slice_iter(extra.unwrap_or_default().as_bytes()) {
        roots.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
