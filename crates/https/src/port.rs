//! Handshakes of one port, and the certificate that it shows.

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{self, Ticketer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Certificate, Error, Files, HTTP1, HTTP2};

/// A handshake must be over by then. Each holds some 50 KiB at most; how many there may be is for whoever accepts.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First byte of a TLS connection: the content type of a handshake (RFC 8446 §5.1). No HTTP request begins with it.
const TLS: u8 = 0x16;

/// TLS of one port.
pub struct Port {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

/// A handshake that a client has begun.
pub struct Handshake {
    acceptor: TlsAcceptor,
    deadline: Instant,
}

impl Port {
    /// A port that shows a certificate.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(certificate: Certificate) -> Result<Self, rustls::Error> {
        Self::with_insider(certificate, None)
    }

    /// The same. Whoever asks for `insider` by ALPN is shown that certificate instead.
    ///
    /// # Errors
    /// As [`Port::new`].
    pub fn with_insider(
        certificate: Certificate,
        insider: Option<(&'static [u8], Certificate)>,
    ) -> Result<Self, rustls::Error> {
        let protocols = [HTTP2, HTTP1].into_iter().chain(insider.as_ref().map(|(alpn, _)| *alpn));
        let protocols = protocols.map(<[u8]>::to_vec).collect();
        let shown = Arc::new(Shown { certificate: RwLock::new(certificate), insider });
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(shown.clone());
        config.alpn_protocols = protocols;
        // Sessions are resumed by what the client keeps: nothing here grows with their number.
        config.ticketer = Ticketer::new()?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), shown })
    }

    /// Shows another certificate from the next handshake on.
    pub fn show(&self, certificate: Certificate) {
        *self.shown.certificate.write().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// Waits for a client's first byte. `None` if the client does not speak TLS; nothing has been read then.
    ///
    /// # Errors
    /// When the client goes, or stays silent for 5 s.
    pub async fn begin(&self, socket: &TcpStream) -> io::Result<Option<Handshake>> {
        let deadline = Instant::now() + HANDSHAKE_WITHIN;
        let mut first = [0];
        let count = timeout_at(deadline, socket.peek(&mut first)).await.map_err(late)??;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let is_tls = first[0] == TLS;
        Ok(is_tls.then(|| Handshake { acceptor: self.acceptor.clone(), deadline }))
    }

    /// Shows what the files hold whenever that has changed, until the future is dropped. What cannot be used is said
    /// in the log, and the port goes on with what it had.
    pub async fn follow(&self, files: &Files) {
        let mut trouble: Option<Trouble> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let task = tokio::task::spawn_blocking({
                let files = files.clone();
                move || files.read()
            });
            let Ok(read) = task.await else { continue };
            match read {
                Ok(certificate) => {
                    let file = files.certificate.display();
                    if !self.shown().is(&certificate) {
                        self.show(certificate);
                        tracing::info!(%file, "a new TLS certificate is in use");
                    } else if trouble.is_some_and(|trouble| trouble.is_told) {
                        tracing::info!(%file, "the TLS certificate can be read again");
                    }
                    trouble = None;
                }
                Err(error) => trouble = Some(Trouble::next(trouble, &error)),
            }
        }
    }

    fn shown(&self) -> Certificate {
        self.shown.certificate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

impl Handshake {
    /// Shakes hands over the socket that was begun with, or over what wraps it.
    ///
    /// # Errors
    /// When there is no agreement, or 5 s have passed since the first byte.
    pub async fn finish<S>(self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        timeout_at(self.deadline, self.acceptor.accept(stream)).await.map_err(late)?
    }
}

fn late(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took longer than 5 s")
}

/// What is wrong with the files.
struct Trouble {
    said: String,
    is_told: bool,
}

impl Trouble {
    /// Two files are not replaced at the same instant: only what stays wrong is told, and once.
    fn next(before: Option<Self>, error: &Error) -> Self {
        let said = error.to_string();
        let Some(before) = before.filter(|before| before.said == said) else {
            return Self { said, is_told: false };
        };
        if !before.is_told {
            tracing::error!(
                error = said,
                "the TLS certificate was not reloaded, the one before stays in use"
            );
        }
        Self { said, is_told: true }
    }
}

/// Chooses what a client is shown.
#[derive(Debug)]
struct Shown {
    certificate: RwLock<Certificate>,
    insider: Option<(&'static [u8], Certificate)>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some((alpn, certificate)) = &self.insider
            && hello.alpn().is_some_and(|mut offered| offered.any(|offer| offer == *alpn))
        {
            return Some(certificate.0.clone());
        }
        Some(self.certificate.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}
