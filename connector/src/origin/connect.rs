//! From a name to a connection: resolve as the host does, let the guard judge every address, dial one
//! that passed, and shake hands in TLS if the URL says https.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use protocol::{
    phases::{Phase, Phases},
    refusal::{Code, Refusal},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::failure;
use crate::{guard, race::race};

/// A resolver that has not answered by then is not going to.
const DNS: Duration = Duration::from_secs(10);
/// All addresses of the origin together.
const CONNECT: Duration = Duration::from_secs(10);
/// The TLS handshake.
const TLS: Duration = Duration::from_secs(10);
/// A silent address lets the next one join in (RFC 8305 §5 suggests this).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Where a request goes. Connections are shared between requests that agree in all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) is_tls: bool,
    /// Name or address, IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Destination {
    /// Of an absolute URI, or of the authority of a CONNECT, which must name its port.
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let authority = uri.authority().ok_or(Code::BadTarget)?;
        let host = authority.host();
        let behind_user = authority.as_str().rsplit('@').next().unwrap_or_default();
        // Read strictly: the parser lets some texts pass as a port that are none.
        let port = match behind_user.strip_prefix(host).map(|port| port.strip_prefix(':')) {
            Some(Some(port)) if !port.is_empty() => port.parse().ok(),
            Some(_) if behind_user.len() <= host.len() + 1 => match uri.scheme_str() {
                Some("http") => Some(80),
                Some("https") => Some(443),
                Some(_) | None => None,
            },
            Some(_) | None => None,
        };
        let port = port.filter(|port| *port != 0).ok_or_else(|| {
            Refusal::new(Code::BadTarget, "the target needs a port from 1 to 65535")
        })?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(Code::BadTarget.into());
        }
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        Ok(Self { is_tls, host: host.to_ascii_lowercase(), port })
    }

    /// As the Host header has it: without the scheme's own port.
    pub(super) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(super) type Stream = TokioIo<Box<dyn Io>>;

pub(super) struct Connector {
    tls: TlsConnector,
}

impl Connector {
    pub(super) fn new(authorities: Vec<CertificateDer<'static>>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for authority in authorities {
            roots.add(authority)?;
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// A connection that HTTP can be spoken on.
    pub(super) async fn connect(
        &self,
        destination: &Destination,
    ) -> Result<(Stream, Phases), Refusal> {
        let (stream, mut phases) = self.tcp(destination).await?;
        if !destination.is_tls {
            return Ok((TokioIo::new(Box::new(stream)), phases));
        }
        let name = ServerName::try_from(destination.host.clone());
        let name = name.map_err(|_| Refusal::from(Code::BadTarget))?;
        let began = Instant::now();
        let stream = timeout(TLS, self.tls.connect(name, stream))
            .await
            .map_err(|_| failure::late(destination, "the TLS handshake", TLS))?
            .map_err(|error| failure::tls(destination, &error))?;
        set(&mut phases, Phase::Tls, began);
        Ok((TokioIo::new(Box::new(stream)), phases))
    }

    /// A plain connection to an address that passed the guard.
    pub(super) async fn tcp(
        &self,
        destination: &Destination,
    ) -> Result<(TcpStream, Phases), Refusal> {
        let mut phases = Phases::default();
        let began = Instant::now();
        let addresses = resolve(destination).await?;
        set(&mut phases, Phase::Dns, began);
        let began = Instant::now();
        let stream = timeout(CONNECT, race(addresses, NEXT_ADDRESS, TcpStream::connect))
            .await
            .map_err(|_| failure::late(destination, "the connection", CONNECT))?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream).map_err(Some))
            .map_err(|error| failure::tcp(destination, &error.expect("there is an address")))?;
        set(&mut phases, Phase::Tcp, began);
        Ok((stream, phases))
    }
}

/// The addresses of a destination that may be dialled; at least one.
async fn resolve(destination: &Destination) -> Result<Vec<SocketAddr>, Refusal> {
    let lookup = timeout(DNS, lookup_host((destination.host.as_str(), destination.port)))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    let all = lookup.map_err(|error| failure::dns(destination, &error))?;
    let mut forbidden = None;
    let mut addresses = Vec::new();
    for address in all.take(MAX_ADDRESSES) {
        match guard::vet(address.ip()) {
            Ok(()) => addresses.push(address),
            Err(why) => forbidden = Some(why),
        }
    }
    match (addresses.is_empty(), forbidden) {
        (false, _) => Ok(addresses),
        (true, Some(why)) => Err(failure::forbidden(destination, why)),
        (true, None) => {
            Err(failure::dns(destination, &io::Error::other("the name has no address")))
        }
    }
}

fn set(phases: &mut Phases, phase: Phase, began: Instant) {
    phases.set(phase, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Result<(bool, String, u16), Code> {
        let destination = Destination::of(&uri.parse().unwrap());
        destination.map(|d| (d.is_tls, d.authority(), d.port)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_destination_is_read_from_every_form_of_target() {
        assert_eq!(of("http://wiki.corp/a?b"), Ok((false, "wiki.corp".into(), 80)));
        assert_eq!(of("https://Wiki.Corp"), Ok((true, "wiki.corp".into(), 443)));
        assert_eq!(of("https://wiki.corp:80/"), Ok((true, "wiki.corp:80".into(), 80)));
        assert_eq!(of("http://[::1]:8080/"), Ok((false, "[::1]:8080".into(), 8080)));
        assert_eq!(of("http://user:secret@wiki.corp/"), Ok((false, "wiki.corp".into(), 80)));
        assert_eq!(of("wiki.corp:22"), Ok((false, "wiki.corp:22".into(), 22)));
        assert_eq!(of("wiki.corp"), Err(Code::BadTarget));
        assert_eq!(of("http://wiki.corp:/"), Ok((false, "wiki.corp".into(), 80)));
        assert_eq!(of("http://wiki.corp:0/"), Err(Code::BadTarget));
        assert_eq!(of("http://wiki.corp:80*"), Err(Code::BadTarget));
        assert_eq!(of("/path"), Err(Code::BadTarget));
    }

    #[tokio::test]
    async fn addresses_are_judged_after_resolution_whatever_their_spelling() {
        for host in [
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "169.254.43518",
            "::ffff:a9fe:a9fe",
            "0",
            "0.0.0.0",
            "fe80::1",
        ] {
            let destination = Destination { is_tls: false, host: host.into(), port: 80 };
            let refusal = resolve(&destination).await.unwrap_err();
            assert_eq!(refusal.code, Code::DestinationRefused, "{host}: {refusal}");
        }
        for host in ["127.0.0.1", "127.1", "0x7f000001", "localhost"] {
            let destination = Destination { is_tls: false, host: host.into(), port: 80 };
            assert!(resolve(&destination).await.is_ok(), "{host}");
        }
    }
}
