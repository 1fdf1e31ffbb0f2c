//! From a name to a connection: resolve as the host does, let the guard judge every address, dial one
//! that passed, and shake hands in TLS if the URL says https.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use protocol::{
    address::{parse_port, split_authority},
    phases::{Phase, Phases},
    refusal::{Code, Refusal},
};
use rustls::pki_types::{CertificateDer, ServerName};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{
    failure, http2,
    settings::{Origins, Settings, Terms},
    socket::Socket,
    tls::Tls,
};
use crate::{
    files::{Current, InForce},
    guard::{Guard, Pass},
    metrics,
    race::race,
};

/// A resolver that has not answered by then is not going to.
const DNS: Duration = Duration::from_secs(10);
/// All addresses of the origin together.
const CONNECT: Duration = Duration::from_secs(10);
/// The TLS handshake.
const TLS: Duration = Duration::from_secs(10);
/// A silent address lets the next one join in (RFC 8305 §5 suggests this).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// What the system may hold for an origin beyond what is on its way there, in bytes; it would take 4 MiB, for each
/// origin that does not read.
const UNSENT: u32 = 128 * 1024;
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// What there is for each destination. Hashed at every request, by a hash that is quick and seeded.
pub(super) type ByDestination<T> = HashMap<Destination, T, foldhash::quality::RandomState>;

/// Where a request goes. Connections are shared between requests that agree in all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) is_tls: bool,
    /// Name or address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Destination {
    /// Of an absolute URI, or of the authority of a CONNECT, which must name its port.
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let authority = uri.authority().ok_or(Code::BadTarget)?.as_str();
        let (host, port) =
            split_authority(authority.rsplit_once('@').map_or(authority, |(_, behind)| behind));
        let port = match (port, uri.scheme_str()) {
            ("" | ":", Some("http")) => Some(80),
            ("" | ":", Some("https")) => Some(443),
            _ => parse_port(port),
        };
        let port = port.ok_or_else(|| {
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
    pub(crate) fn authority(&self) -> String {
        const BRACKETS_AND_PORT: usize = 8;
        let mut text = String::with_capacity(self.host.len() + BRACKETS_AND_PORT);
        let brackets = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        text.extend([brackets.0, &self.host, brackets.1]);
        if !matches!((self.is_tls, self.port), (false, 80) | (true, 443)) {
            text.extend([":", itoa::Buffer::new().format(self.port)]);
        }
        text
    }
}

/// A connection, in TLS or not.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    fn socket(&mut self) -> &mut Socket;
}

impl Io for Socket {
    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Io for TlsStream<Socket> {
    fn socket(&mut self) -> &mut Socket {
        self.get_mut().0
    }
}

pub(super) type Stream = TokioIo<Box<dyn Io>>;

/// A connection that HTTP can be spoken on.
pub(super) struct Connected {
    pub(super) stream: Stream,
    pub(super) peer: IpAddr,
    pub(super) is_http2: bool,
    pub(super) phases: Phases,
}

pub(super) struct Connector {
    tls: Tls,
    pub(super) guard: Guard,
    origins: Option<Current<Origins>>,
}

impl Connector {
    pub(super) fn new(
        authorities: &[CertificateDer<'static>],
        files: InForce,
    ) -> Result<Self, rustls::Error> {
        let tls = Tls::new(Some(authorities), None)?;
        Ok(Self { tls, guard: Guard::new(files.policy), origins: files.origins })
    }

    /// How this destination is spoken to, if a file says so.
    pub(super) fn settings(&self, destination: &Destination) -> Option<Arc<Settings>> {
        self.origins.as_ref()?.borrow().value.find(destination)
    }

    /// Connects under these terms; over HTTP/2 if that is wanted and can be had.
    pub(super) async fn connect(
        &self,
        destination: &Destination,
        terms: &Terms,
        wants_http2: bool,
    ) -> Result<Connected, Refusal> {
        let (stream, mut phases) = self.tcp(destination, &terms.pass).await?;
        if wants_http2 {
            http2::notice_silence(stream.tcp());
        }
        let peer =
            stream.tcp().peer_addr().map_err(|error| failure::tcp(destination, &error))?.ip();
        if !destination.is_tls {
            let stream: Stream = TokioIo::new(Box::new(stream));
            return Ok(Connected { stream, peer, is_http2: wants_http2, phases });
        }
        let tls = terms.settings.as_ref().map_or(&self.tls, |settings| &settings.tls);
        if !tls.is_verified {
            metrics::unverified_handshake();
        }
        let tls = if wants_http2 { &tls.http2 } else { &tls.http1 };
        let name = ServerName::try_from(destination.host.clone());
        let name = name.map_err(|_| Refusal::from(Code::BadTarget))?;
        let began = Instant::now();
        let stream = timeout(TLS, tls.connect(name, stream))
            .await
            .map_err(|_| failure::late(destination, "the TLS handshake", TLS))?
            .map_err(|error| failure::tls(destination, &error))?;
        set(&mut phases, Phase::Tls, began);
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Connected { stream: TokioIo::new(Box::new(stream)), peer, is_http2, phases })
    }

    /// A plain connection to an address that passed the guard.
    pub(super) async fn tcp(
        &self,
        destination: &Destination,
        pass: &Pass,
    ) -> Result<(Socket, Phases), Refusal> {
        let mut phases = Phases::default();
        let began = Instant::now();
        let addresses = resolve(destination, pass).await?;
        set(&mut phases, Phase::Dns, began);
        let began = Instant::now();
        let stream = timeout(CONNECT, race(addresses, NEXT_ADDRESS, TcpStream::connect))
            .await
            .map_err(|_| failure::late(destination, "the connection", CONNECT))?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream).map_err(Some))
            .inspect(|stream| {
                // A socket that cannot be told so still works.
                let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
            })
            .map_err(|error| failure::tcp(destination, &error.expect("there is an address")))?;
        set(&mut phases, Phase::Tcp, began);
        Ok((Socket::new(stream), phases))
    }
}

/// The addresses of a destination that may be dialled; at least one. IPv6 and IPv4 take turns.
async fn resolve(destination: &Destination, pass: &Pass) -> Result<Vec<SocketAddr>, Refusal> {
    let lookup = timeout(DNS, lookup_host((destination.host.as_str(), destination.port)))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    let all = lookup.map_err(|error| failure::dns(destination, &error))?;
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in take_turns(all).into_iter().take(MAX_ADDRESSES) {
        match pass.judge(destination, address.ip()) {
            Ok(()) => addresses.push(address),
            Err(refusal) => refused = Some(refusal),
        }
    }
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, Some(refusal)) => Err(refusal),
        (true, None) => {
            Err(failure::dns(destination, &io::Error::other("the name has no address")))
        }
    }
}

/// The resolver's order, but no family waits behind all of the other (RFC 8305 §4): if one of them is
/// broken here, the first address of the other comes second.
fn take_turns(all: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let all: Vec<SocketAddr> = all.collect();
    let Some(first) = all.first() else { return all };
    let leads = |address: &SocketAddr| address.is_ipv4() == first.is_ipv4();
    let (leading, mut other): (Vec<SocketAddr>, Vec<_>) = all.iter().partition(|a| leads(a));
    other.reverse();
    let mut turns = Vec::with_capacity(all.len());
    for address in leading {
        turns.push(address);
        turns.extend(other.pop());
    }
    turns.extend(other.into_iter().rev());
    turns
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
            let refusal = resolve(&destination, &pass(&destination)).await.unwrap_err();
            assert_eq!(refusal.code, Code::DestinationRefused, "{host}: {refusal}");
        }
        for host in ["127.0.0.1", "127.1", "0x7f000001", "localhost"] {
            let destination = Destination { is_tls: false, host: host.into(), port: 80 };
            assert!(resolve(&destination, &pass(&destination)).await.is_ok(), "{host}");
        }
    }

    /// Without a policy.
    fn pass(destination: &Destination) -> Pass {
        Guard::default().judge(destination, &http::Request::new(()), None).unwrap()
    }

    #[test]
    fn no_family_of_addresses_waits_behind_all_of_the_other() {
        let turns = |all: &[&str]| {
            let all = all.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 1));
            let turns = take_turns(all).into_iter().map(|address| address.ip().to_string());
            turns.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(turns(&["::1", "::2", "::3", "1.1.1.1"]), "::1 1.1.1.1 ::2 ::3");
        assert_eq!(turns(&["1.1.1.1", "::1", "::2"]), "1.1.1.1 ::1 ::2");
        assert_eq!(turns(&["1.1.1.1", "1.1.1.2"]), "1.1.1.1 1.1.1.2");
        assert_eq!(turns(&[]), "");
    }
}
