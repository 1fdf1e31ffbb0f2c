//! How some origins want to be spoken to: `TUNNEL_ORIGINS_FILE`. Credentials stand here, in files of the
//! private network, and go to the origins that are named and to nobody else; the cloud never holds them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use protocol::{
    fields,
    policy::{Host, HostPattern, Ports},
    settings_file::{self, filled},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;

use super::{Destination, tls::Tls};
use crate::{
    files::{Reader, UnusableFile},
    guard::Pass,
};

/// Largest file, in bytes.
const MAX_FILE: usize = 256 * 1024;
/// Longest value of a header, in bytes.
const MAX_VALUE: usize = 16 * 1024;
/// Longest time that an answer may take to begin, in seconds.
const MAX_RESPONSE_TIMEOUT: u64 = 3_600;

/// Every origin that is named.
#[derive(Default)]
pub(crate) struct Origins(Vec<Arc<Settings>>);

/// How one kind of origin is spoken to.
pub(super) struct Settings {
    hosts: BTreeSet<HostPattern>,
    ports: BTreeSet<Ports>,
    /// Values are marked as sensitive.
    headers: HeaderMap,
    /// The headers may be told to an origin that is spoken to without TLS.
    plaintext: bool,
    pub(super) http2: Http2,
    response_timeout: Option<Duration>,
    /// Names of fields are sent in Title-Case over HTTP/1.1.
    title_case: bool,
    pub(super) tls: Tls,
}

/// What a connection must agree with to carry a request.
pub(super) struct Terms {
    pub(super) settings: Option<Arc<Settings>>,
    pub(super) pass: Pass,
}

impl Terms {
    /// May a connection to this address be used, which was made with these settings?
    pub(super) fn admit(&self, peer: IpAddr, settings: Option<&Arc<Settings>>) -> bool {
        let are_same = match (&self.settings, settings) {
            (None, None) => true,
            (Some(ours), Some(its)) => Arc::ptr_eq(ours, its),
            (Some(_), None) | (None, Some(_)) => false,
        };
        are_same && self.pass.allows_again(peer)
    }

    pub(super) fn title_case(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.title_case)
    }

    pub(super) fn http2(&self) -> Http2 {
        self.settings.as_ref().map_or(Http2::Auto, |settings| settings.http2)
    }

    /// How long the origin's answer may take to begin, if the file says so.
    pub(super) fn response_timeout(&self) -> Option<Duration> {
        self.settings.as_ref()?.response_timeout
    }
}

/// Which requests are sent over HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Http2 {
    /// gRPC, which knows nothing else.
    #[default]
    Auto,
    /// Everything but upgrades. Over TLS the origin may still choose HTTP/1.1.
    Always,
    /// None.
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, deserialize_with = "settings_file::bounded")]
    origin: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(try_from = "Written")]
struct Entry(Written);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "filled")]
    hosts: BTreeSet<HostPattern>,
    #[serde(default, deserialize_with = "filled")]
    ports: BTreeSet<Ports>,
    #[serde(default = "yes")]
    verify: bool,
    ca_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, PathBuf>,
    #[serde(default)]
    plaintext: bool,
    #[serde(default)]
    http2: Http2,
    /// In seconds.
    response_timeout: Option<u64>,
    #[serde(default)]
    title_case: bool,
}

fn yes() -> bool {
    true
}

impl TryFrom<Written> for Entry {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        for host in &written.hosts {
            let is_wide = matches!(host, HostPattern::Network(net) if net.prefix_len() < net.max_prefix_len());
            if is_wide {
                return Err(format!("{host}: an origin is a name or an address, not a network"));
            }
        }
        let has_credentials = !written.headers.is_empty() || written.client_certificate.is_some();
        if has_credentials && written.hosts.contains(&HostPattern::Any) {
            return Err("credentials for every host would go to whoever is asked for: name the \
                        hosts that they are for"
                .into());
        }
        if written.client_certificate.is_some() != written.client_key.is_some() {
            return Err("client_certificate and client_key need each other".into());
        }
        if !written.verify && written.ca_file.is_some() {
            return Err("ca_file means nothing with verify = false: remove one of them".into());
        }
        if written.plaintext && written.headers.is_empty() {
            return Err("plaintext means nothing without headers: remove it".into());
        }
        let is_timeout = |seconds: u64| (1..=MAX_RESPONSE_TIMEOUT).contains(&seconds);
        if !written.response_timeout.is_none_or(is_timeout) {
            return Err(format!("response_timeout is 1 to {MAX_RESPONSE_TIMEOUT} seconds"));
        }
        for name in written.headers.keys() {
            if !header_name(name).is_some_and(|name| can_be_set(&name)) {
                return Err(format!("{name:?} is no header that can be set for an origin"));
            }
        }
        Ok(Self(written))
    }
}

fn header_name(text: &str) -> Option<HeaderName> {
    text.parse().ok()
}

/// What belongs to a connection, or frames a message, is not the file's to say.
fn can_be_set(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 5] =
        [header::HOST, header::CONTENT_LENGTH, header::TE, header::TRAILER, header::EXPECT];
    let mut fields = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
    fields::strip(&mut fields);
    !fields.is_empty() && !FRAMING.contains(name)
}

impl Origins {
    /// Reads the file and all that it names. Besides what each origin trusts, all trust `authorities`.
    pub(crate) fn load(
        path: &Path,
        authorities: &[CertificateDer<'static>],
        reader: &mut Reader,
    ) -> Result<Self, UnusableFile> {
        let text = reader.text(path)?;
        let document: Document = settings_file::read(&text, MAX_FILE)
            .map_err(|error| UnusableFile::Meaning { path: path.to_owned(), error })?;
        let settings = |Entry(entry)| Settings::load(entry, authorities, reader).map(Into::into);
        let origins = Self(document.origin.into_iter().map(settings).collect::<Result<_, _>>()?);
        origins.warn();
        Ok(origins)
    }

    fn warn(&self) {
        for settings in self.unverified() {
            let hosts: Vec<String> = settings.hosts.iter().map(ToString::to_string).collect();
            let hosts = hosts.join(" ");
            tracing::warn!(hosts, "certificates of these origins are not verified");
        }
        crate::metrics::unverified_origins(self.unverified().count());
    }

    fn unverified(&self) -> impl Iterator<Item = &Arc<Settings>> {
        self.0.iter().filter(|settings| !settings.tls.is_verified)
    }

    /// How many entries there are, and how many of them verify nobody.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.0.len(), self.unverified().count())
    }

    /// The first entry that is for this destination.
    pub(super) fn find(&self, destination: &Destination) -> Option<Arc<Settings>> {
        let host = Host::parse(&destination.host)?;
        let is_it = |settings: &&Arc<Settings>| {
            let mut ports = settings.ports.iter();
            let is_port = settings.ports.is_empty() || ports.any(|p| p.hold(destination.port));
            is_port && settings.hosts.iter().any(|pattern| pattern.matches(&host))
        };
        self.0.iter().find(is_it).cloned()
    }
}

impl Settings {
    fn load(
        entry: Written,
        authorities: &[CertificateDer<'static>],
        reader: &mut Reader,
    ) -> Result<Self, UnusableFile> {
        let mut headers = HeaderMap::new();
        for (name, path) in &entry.headers {
            let name = header_name(name).expect("it was one when the file was read");
            headers.insert(name, value(path, reader)?);
        }
        let own = entry.ca_file.as_ref().map(|path| certificates(path, reader)).transpose()?;
        let own = own.unwrap_or_default();
        let trusted = entry.verify.then(|| authorities.iter().chain(&own));
        let identity = match (&entry.client_certificate, &entry.client_key) {
            (Some(chain), Some(key)) => {
                Some((certificates(chain, reader)?, private_key(key, reader)?))
            }
            (None, _) | (_, None) => None,
        };
        let culprit = entry.client_certificate.or(entry.ca_file).unwrap_or_default();
        let tls = Tls::new(trusted, identity).map_err(|_| UnusableFile::Content {
            path: culprit,
            expected: "certificates that can be used, with the key that belongs to them",
        })?;
        let Written { hosts, ports, plaintext, http2, response_timeout, title_case, .. } = entry;
        let response_timeout = response_timeout.map(Duration::from_secs);
        Ok(Self { hosts, ports, headers, plaintext, http2, response_timeout, title_case, tls })
    }

    /// Sets what the origin is to be told, whatever the client said, also under names that some servers
    /// take for the same. Nothing, where others could read it on the way.
    pub(super) fn credit(&self, destination: &Destination, fields: &mut HeaderMap) {
        if !destination.is_tls && !self.plaintext {
            return;
        }
        for (name, value) in &self.headers {
            if name.as_str().contains('-') {
                let is_twin = |other: &&HeaderName| {
                    *other != name && other.as_str().replace('_', "-") == name.as_str()
                };
                let twins: Vec<HeaderName> = fields.keys().filter(is_twin).cloned().collect();
                for twin in twins {
                    fields.remove(twin);
                }
            }
            fields.insert(name, value.clone());
        }
    }
}

fn value(path: &Path, reader: &mut Reader) -> Result<HeaderValue, UnusableFile> {
    let bytes = reader.bytes(path)?;
    let text = bytes.trim_ascii();
    let value = HeaderValue::from_bytes(text).ok();
    let value = value.filter(|value| !value.is_empty() && value.len() <= MAX_VALUE);
    let mut value = value.ok_or_else(|| UnusableFile::Content {
        path: path.to_owned(),
        expected: "the value of a header: one line, 16 KiB at most",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn certificates(
    path: &Path,
    reader: &mut Reader,
) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
    let pem = reader.bytes(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(UnusableFile::Content {
            path: path.to_owned(),
            expected: "PEM, -----BEGIN CERTIFICATE-----",
        }),
    }
}

fn private_key(path: &Path, reader: &mut Reader) -> Result<PrivateKeyDer<'static>, UnusableFile> {
    let pem = reader.bytes(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| UnusableFile::Content {
        path: path.to_owned(),
        expected: "PEM, -----BEGIN PRIVATE KEY-----, without a password",
    })
}
