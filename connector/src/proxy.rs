//! The outbound proxy that the environment names, and which edges stand behind it. Only links go
//! through it: origins are on the connector's own side of the network.
//!
//! What passes a proxy is TCP, so links through one are on HTTP/2.

mod connect;

use std::{fmt, net::IpAddr, sync::Arc};

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use protocol::address::HostPort;

pub use self::connect::ProxyError;
use crate::config::{ConfigError, Environment};

/// Where a proxy is looked for, the first one that is not empty.
const PROXY: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Where it is said which hosts need no proxy, likewise.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// What the environment says of proxies: one, or none.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Option<Arc<Rules>>);

struct Rules {
    proxy: Proxy,
    matcher: Matcher,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.proxy, f)
    }
}

/// One proxy. Shown without its login.
#[derive(Clone)]
pub struct Proxy {
    /// The variable that named it.
    pub variable: &'static str,
    address: HostPort,
    scheme: Scheme,
    intercept: Arc<Intercept>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// HTTP CONNECT.
    Http,
    /// SOCKS 5; names are resolved here.
    Socks5,
    /// SOCKS 5; names are resolved by the proxy.
    Socks5h,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    /// The port that a URL without one means.
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

impl Proxies {
    /// Is `name` one of the variables that are read here?
    pub fn reads(name: &str) -> bool {
        PROXY.contains(&name) || NO_PROXY.contains(&name)
    }

    /// What `environment` says.
    ///
    /// # Errors
    /// When a proxy is named that cannot be used.
    pub fn load(environment: &Environment) -> Result<Self, ConfigError> {
        let first = |names: &[&'static str]| {
            let mut values = names.iter().filter_map(|name| {
                let value = environment.get(*name)?.trim();
                (!value.is_empty()).then_some((*name, value))
            });
            values.next()
        };
        let Some((variable, url)) = first(&PROXY) else { return Ok(Self::default()) };
        let except = first(&NO_PROXY).map_or("", |(_, hosts)| hosts);
        // The matcher takes the star for names alone.
        if except.split(',').any(|host| host.trim() == "*") {
            return Ok(Self::default());
        }
        let intercept = Matcher::builder().https(url).build().intercept(&any_uri());
        let proxy = Proxy::new(variable, intercept)?;
        let matcher = Matcher::builder().https(url).no(except).build();
        Ok(Self(Some(Arc::new(Rules { proxy, matcher }))))
    }

    /// Does the environment name a proxy at all?
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The proxy that an edge stands behind; `None` if it is dialled directly, as this host itself
    /// always is.
    pub fn before(&self, edge: &HostPort) -> Option<&Proxy> {
        let rules = self.0.as_deref()?;
        let is_here = match edge.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => edge.host.eq_ignore_ascii_case("localhost"),
        };
        if is_here {
            return None;
        }
        // A host that makes no URI is matched by no exception.
        let is_exempt = format!("https://{edge}")
            .parse()
            .is_ok_and(|uri: Uri| rules.matcher.intercept(&uri).is_none());
        (!is_exempt).then_some(&rules.proxy)
    }
}

fn any_uri() -> Uri {
    Uri::from_static("https://edge.invalid")
}

impl Proxy {
    fn new(variable: &'static str, intercept: Option<Intercept>) -> Result<Self, ConfigError> {
        let unusable = |reason| ConfigError::Proxy { variable, reason };
        let Some(intercept) = intercept else {
            return Err(unusable("it is no URL of a proxy"));
        };
        let uri = intercept.uri();
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("socks5") => Scheme::Socks5,
            Some("socks5h") => Scheme::Socks5h,
            Some("https") => {
                return Err(unusable(
                    "TLS to the proxy itself is not supported; use the proxy's http:// port, \
                     what passes is encrypted anyway",
                ));
            }
            _ => return Err(unusable("its scheme is not supported")),
        };
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let has_port = uri.authority().is_some_and(|authority| {
            authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
        });
        let port = match uri.port_u16() {
            Some(port) => port,
            None if has_port => return Err(unusable("its port is no number from 1 to 65535")),
            None => scheme.default_port(),
        };
        let address = HostPort::new(host.to_owned(), port)
            .map_err(|_| unusable("it names no host, or no port from 1 to 65535"))?;
        if intercept.raw_auth().is_some_and(|(user, password)| {
            !(1..=255).contains(&user.len()) || !(1..=255).contains(&password.len())
        }) {
            return Err(unusable("SOCKS 5 wants user and password of 1 to 255 bytes"));
        }
        Ok(Self { variable, address, scheme, intercept: Arc::new(intercept) })
    }

    /// True if the proxy looks names up, false if that is done here.
    pub fn resolves(&self) -> bool {
        match self.scheme {
            Scheme::Http | Scheme::Socks5h => true,
            Scheme::Socks5 => false,
        }
    }

    fn has_login(&self) -> bool {
        self.intercept.basic_auth().is_some() || self.intercept.raw_auth().is_some()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Proxies, String> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).into(), Zeroizing::new((*value).into())));
        Proxies::load(&variables.collect()).map_err(|error| error.to_string())
    }

    fn before(proxies: &Proxies, edge: &str) -> Option<String> {
        proxies.before(&edge.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn the_first_variable_that_is_set_names_the_proxy() {
        for (variables, proxy) in [
            (vec![], None),
            (vec![("HTTPS_PROXY", " ")], None),
            (vec![("HTTPS_PROXY", "http://a:3128")], Some("http://a:3128")),
            (vec![("https_proxy", "a:3128")], Some("http://a:3128")),
            (vec![("HTTPS_PROXY", "http://a/")], Some("http://a:80")),
            (vec![("ALL_PROXY", "socks5h://a")], Some("socks5h://a:1080")),
            (vec![("all_proxy", "socks5://[::1]:9")], Some("socks5://[::1]:9")),
            (vec![("HTTPS_PROXY", ""), ("ALL_PROXY", "b:1")], Some("http://b:1")),
            (vec![("HTTPS_PROXY", "a:1"), ("ALL_PROXY", "b:1")], Some("http://a:1")),
            (vec![("HTTPS_PROXY", "http://u:p%40@a:1")], Some("http://a:1")),
        ] {
            let proxies = load(&variables).unwrap();
            assert_eq!(before(&proxies, "edge.example:7844").as_deref(), proxy, "{variables:?}");
        }
    }

    #[test]
    fn what_stands_in_no_proxy_is_dialled_directly() {
        let except = "example.com, .example.org, 10.0.0.0/8, 192.0.2.7, fd00::/8";
        let proxies = load(&[("HTTPS_PROXY", "http://a:1"), ("no_proxy", except)]).unwrap();
        for direct in ["example.com:1", "a.example.com:7844", "b.EXAMPLE.org:1", "10.2.3.4:7844"] {
            assert_eq!(before(&proxies, direct), None, "{direct}");
        }
        for direct in ["192.0.2.7:1", "[fd00::1]:7844"] {
            assert_eq!(before(&proxies, direct), None, "{direct}");
        }
        for other in ["example.net:1", "notexample.com:1", "11.0.0.1:1", "[fe80::1]:1"] {
            assert!(before(&proxies, other).is_some(), "{other}");
        }
        for here in ["localhost:1", "127.0.0.1:1", "127.8.9.1:1", "[::1]:1"] {
            assert_eq!(before(&proxies, here), None, "{here}");
        }
        let proxies = load(&[("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", "b, *")]).unwrap();
        for direct in ["example.com:1", "10.0.0.1:1"] {
            assert_eq!(before(&proxies, direct), None, "the star is for everything");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_told_without_its_password() {
        for (url, why) in [
            ("ftp://u:hush@a:1", "URL of a proxy"),
            ("socks4://u:hush@a:1", "scheme"),
            ("https://u:hush@a:1", "TLS to the proxy"),
            ("http://u:hush@a:99999", "port"),
            ("http://u:hush@a:x", "port"),
            ("http://u:hush@a:0", "port"),
            ("http://u:hu sh@a:1", "URL of a proxy"),
            ("http://u:hush@", "URL of a proxy"),
            ("socks5://hush@a:1", "user and password"),
        ] {
            let error = load(&[("ALL_PROXY", url)]).unwrap_err();
            assert!(error.starts_with("ALL_PROXY"), "{error}");
            assert!(error.contains(why) && !error.contains("hush"), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let proxies = load(&[("HTTPS_PROXY", "http://user:hush@a:1")]).unwrap();
        let shown = format!("{proxies:?}");
        assert!(shown.contains("http://a:1") && !shown.contains("hush"), "{shown}");
    }
}
