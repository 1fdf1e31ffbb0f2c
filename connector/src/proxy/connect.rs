//! A TCP connection through the proxy: HTTP CONNECT (RFC 9110 §9.3.6) with Basic credentials, or
//! SOCKS 5 (RFC 1928, RFC 1929). Every "no" is told with what to do about it.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use protocol::address::HostPort;
use tokio::net::{TcpStream, lookup_host};
use tokio_util::task::AbortOnDropHandle;

use super::{Proxy, Scheme};
use crate::{race::race, supervisor::FailureKind};

/// A silent address of the proxy lets the next one join in (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Most addresses of the proxy that are tried.
const MAX_ADDRESSES: usize = 8;

/// There is no way through the proxy. Never shows its login.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Its name does not resolve.
    #[error("the proxy {proxy} cannot be found; check the host in {variable}", variable = proxy.variable)]
    Dns {
        /// The proxy.
        proxy: Proxy,
        /// What the resolver says.
        #[source]
        error: io::Error,
    },
    /// Nobody answers there.
    #[error(
        "the proxy {proxy} cannot be reached; check {variable}, and that the proxy runs",
        variable = proxy.variable
    )]
    Unreachable {
        /// The proxy.
        proxy: Proxy,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// It wants a login, and none was given.
    #[error(
        "the proxy {proxy} wants a login; put it into {variable}, as {scheme}://USER:PASSWORD@HOST:PORT",
        variable = proxy.variable, scheme = proxy.scheme.as_str()
    )]
    LoginMissing {
        /// The proxy.
        proxy: Proxy,
    },
    /// It does not take the login.
    #[error(
        "the proxy {proxy} does not accept the user and password in {variable}; check them \
         (special characters are written as %40 for @, %3A for :)",
        variable = proxy.variable
    )]
    LoginRefused {
        /// The proxy.
        proxy: Proxy,
    },
    /// It wants a kind of login that is not spoken here.
    #[error(
        "the proxy {proxy} offers {offered} for logins, and the connector speaks Basic alone; let \
         the proxy's administrator allow Basic, or exempt this host from logging in"
    )]
    LoginKind {
        /// The proxy.
        proxy: Proxy,
        /// What it offers instead.
        offered: String,
    },
    /// It does not let anybody through to there.
    #[error(
        "the proxy {proxy} forbids connections to {target} ({said}); let its administrator allow \
         CONNECT to that host and port"
    )]
    Forbidden {
        /// The proxy.
        proxy: Proxy,
        /// Where to.
        target: HostPort,
        /// Its own words.
        said: String,
    },
    /// It has not reached the edge itself.
    #[error("the proxy {proxy} does not get through to {target} ({said})")]
    NoWayOn {
        /// The proxy.
        proxy: Proxy,
        /// Where to.
        target: HostPort,
        /// Its own words.
        said: String,
    },
    /// It speaks another protocol.
    #[error(
        "{proxy} does not behave like a proxy of its kind; check scheme and port in {variable}",
        variable = proxy.variable
    )]
    Protocol {
        /// The proxy.
        proxy: Proxy,
        /// What came instead.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ProxyError {
    /// What this means for the next try.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Dns { .. }
            | Self::Unreachable { .. }
            | Self::NoWayOn { .. }
            | Self::Protocol { .. } => FailureKind::Proxy,
            Self::LoginMissing { .. }
            | Self::LoginRefused { .. }
            | Self::LoginKind { .. }
            | Self::Forbidden { .. } => FailureKind::ProxyRefused,
        }
    }
}

impl Proxy {
    /// Connects to the proxy itself.
    ///
    /// # Errors
    /// When its name does not resolve, or nobody answers.
    pub(crate) async fn reach(&self) -> Result<TcpStream, ProxyError> {
        let proxy = || self.clone();
        let addresses = lookup_host((self.address.host.as_str(), self.address.port)).await;
        let addresses = addresses.map_err(|error| ProxyError::Dns { proxy: proxy(), error })?;
        let reached = race(addresses.take(MAX_ADDRESSES), NEXT_ADDRESS, TcpStream::connect);
        reached.await.map_err(|error| match error {
            Some(error) => ProxyError::Unreachable { proxy: proxy(), error },
            None => {
                let error = io::Error::other("the name has no address");
                ProxyError::Dns { proxy: proxy(), error }
            }
        })
    }

    /// A connection to `target`, which is a name or an address, through the proxy.
    ///
    /// # Errors
    /// Says who stands in the way, and what to do about it.
    pub(crate) async fn connect(&self, target: &HostPort) -> Result<TcpStream, ProxyError> {
        let stream = self.reach().await?;
        match self.scheme {
            Scheme::Http => self.connect_http(stream, target).await,
            Scheme::Socks5 | Scheme::Socks5h => self.connect_socks(stream, target).await,
        }
    }

    async fn connect_http(
        &self,
        stream: TcpStream,
        target: &HostPort,
    ) -> Result<TcpStream, ProxyError> {
        let odd = |error: hyper::Error| self.odd(error.into());
        let handshaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshaken.map_err(odd)?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let authority = target.to_string();
        let mut request = Request::connect(&authority).header(header::HOST, &authority);
        if let Some(login) = self.intercept.basic_auth() {
            request = request.header(header::PROXY_AUTHORIZATION, login);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| self.odd(error.into()))?;
        let response = sender.send_request(request).await.map_err(odd)?;
        if !response.status().is_success() {
            return Err(self.refusal(&response, target));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(odd)?;
        let parts = upgraded
            .downcast::<TokioIo<TcpStream>>()
            .map_err(|_| self.odd("no connection is left".into()))?;
        if !parts.read_buf.is_empty() {
            return Err(self.odd("somebody spoke before TLS began".into()));
        }
        Ok(parts.io.into_inner())
    }

    fn refusal(&self, response: &Response<Incoming>, target: &HostPort) -> ProxyError {
        let (proxy, target) = (self.clone(), target.clone());
        let status = response.status();
        let said = status.to_string();
        if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return if status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED {
                ProxyError::Forbidden { proxy, target, said }
            } else {
                ProxyError::NoWayOn { proxy, target, said }
            };
        }
        let offers = response.headers().get_all(header::PROXY_AUTHENTICATE).iter();
        let offers = offers.filter_map(|offer| offer.to_str().ok()?.split_whitespace().next());
        let offers: Vec<&str> = offers.collect();
        let is_basic = offers.iter().any(|offer| offer.eq_ignore_ascii_case("basic"));
        if !is_basic && !offers.is_empty() {
            let offered = offers.join(", ").chars().filter(|c| !c.is_control()).take(100).collect();
            return ProxyError::LoginKind { proxy, offered };
        }
        if self.has_login() {
            ProxyError::LoginRefused { proxy }
        } else {
            ProxyError::LoginMissing { proxy }
        }
    }

    async fn connect_socks(
        &self,
        stream: TcpStream,
        target: &HostPort,
    ) -> Result<TcpStream, ProxyError> {
        use tokio_socks::{Error, tcp::Socks5Stream};
        let to = (target.host.as_str(), target.port);
        let connected = match self.intercept.raw_auth() {
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, to, user, password).await
            }
            None => Socks5Stream::connect_with_socket(stream, to).await,
        };
        connected.map(Socks5Stream::into_inner).map_err(|error| {
            let (proxy, target) = (self.clone(), target.clone());
            match error {
                Error::PasswordAuthFailure(_) => ProxyError::LoginRefused { proxy },
                Error::NoAcceptableAuthMethods if self.has_login() => {
                    ProxyError::LoginRefused { proxy }
                }
                Error::NoAcceptableAuthMethods => ProxyError::LoginMissing { proxy },
                Error::ConnectionNotAllowedByRuleset | Error::CommandNotSupported => {
                    ProxyError::Forbidden { proxy, target, said: error.to_string() }
                }
                Error::GeneralSocksServerFailure
                | Error::NetworkUnreachable
                | Error::HostUnreachable
                | Error::ConnectionRefused
                | Error::TtlExpired
                | Error::AddressTypeNotSupported => {
                    ProxyError::NoWayOn { proxy, target, said: error.to_string() }
                }
                error => self.odd(error.into()),
            }
        })
    }

    fn odd(&self, error: Box<dyn std::error::Error + Send + Sync>) -> ProxyError {
        ProxyError::Protocol { proxy: self.clone(), error }
    }
}
