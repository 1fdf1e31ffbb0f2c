//! The deployment's own certificate authority. It certifies the control plane's edge port and each
//! edge; connectors and edges trust it by the pin of its public key. Its key never leaves the data
//! directory.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use protocol::{
    address::{CaPin, HostPort},
    id::EdgeId,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::files;

/// Prefix of the URI in an edge's certificate that names the edge.
const EDGE_URI: &str = "postern:edge:";
/// URI in the control plane's own certificate, which no edge's has.
const CONTROL_PLANE_URI: &str = "postern:control-plane";
/// Browsers take no certificate that is valid for much longer, 398 days; clocks may differ by a day.
const CONSOLE_VALID: Duration = Duration::days(396);
const CLOCKS_DIFFER: Duration = Duration::DAY;
/// First year that no certificate of ours is valid in any more.
const END: (i32, u8, u8) = (2100, 1, 1);

/// A certificate request that cannot be granted.
#[derive(Debug, thiserror::Error)]
#[error("the certificate request is not valid: {0}")]
pub(crate) struct BadRequest(rcgen::Error);

/// The authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    pin: CaPin,
}

impl Authority {
    /// Reads the authority from the data directory, or founds it on the first start. Later it is
    /// never founded anew: no edge and no tunnel would trust it.
    pub(crate) fn open(dir: &Path, is_first_start: bool) -> anyhow::Result<Self> {
        let (key_file, certificate_file) = (dir.join("ca.key"), dir.join("ca.crt"));
        let read = |path: &Path| {
            files::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let key = read(&key_file)?.map(Zeroizing::new);
        let (key, certificate_pem) = match (key, read(&certificate_file)?) {
            (Some(key), Some(certificate)) => (parse_key(&key)?, String::from_utf8(certificate)?),
            (None, Some(_)) => anyhow::bail!(
                "ca.key is missing from the data directory, where ca.crt is: restore it from a backup"
            ),
            (None, None) if !is_first_start => anyhow::bail!(
                "ca.key and ca.crt are missing from the data directory, where a database in use is: \
                 restore both from a backup"
            ),
            (Some(_), None) if !is_first_start => anyhow::bail!(
                "ca.crt is missing from the data directory, where ca.key and a database in use are: \
                 restore it from a backup"
            ),
            // The key is written first: alone it is a first start that was cut short.
            (key, None) => {
                let key = match key {
                    Some(key) => parse_key(&key)?,
                    None => {
                        let key = KeyPair::generate()?;
                        files::write(&key_file, Zeroizing::new(key.serialize_pem()).as_bytes())?;
                        key
                    }
                };
                let certificate = root_params().self_signed(&key)?.pem();
                files::write(&certificate_file, certificate.as_bytes())?;
                (key, certificate)
            }
        };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .context("ca.crt in the data directory is damaged")?;
        let pin = CaPin::of_spki(&key.subject_public_key_info());
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .context("ca.crt in the data directory is damaged")?;
        Ok(Self { issuer, certificate_pem, certificate, pin })
    }

    /// By which connectors and edges recognise it.
    pub(crate) fn pin(&self) -> CaPin {
        self.pin
    }

    /// Its certificate, PEM.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Certifies an edge for the hosts under which it is reached; of the request only the public key
    /// counts.
    pub(crate) fn certify_edge(
        &self,
        edge: EdgeId,
        hosts: BTreeSet<&str>,
        request_pem: &str,
    ) -> Result<String, BadRequest> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request_pem).map_err(BadRequest)?;
        let mut params = leaf_params(&edge.to_string(), hosts).map_err(BadRequest)?;
        let uri = format!("{EDGE_URI}{edge}").try_into().map_err(BadRequest)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        Ok(request.signed_by(&self.issuer).map_err(BadRequest)?.pem())
    }

    /// Certifies the API and the console under the names and addresses by which browsers reach them. The key
    /// is a fresh one, and lives in memory alone.
    pub(crate) fn certify_console<'a>(
        &self,
        hosts: impl Iterator<Item = &'a str>,
        now_ms: u64,
    ) -> anyhow::Result<https::Certificate> {
        let key = KeyPair::generate()?;
        let hosts = hosts.chain(["localhost", "127.0.0.1", "::1"]).collect();
        let mut params = leaf_params("Postern", hosts)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::from_unix_timestamp(i64::try_from(now_ms / 1000)?)?;
        params.not_before = now - CLOCKS_DIFFER;
        params.not_after = now + CONSOLE_VALID;
        let leaf = params.signed_by(&key, &self.issuer)?.pem();
        let key = Zeroizing::new(key.serialize_pem());
        Ok(https::Certificate::from_pem(&format!("{leaf}{}", self.certificate_pem), &key)?)
    }

    /// TLS towards gateways: the authority's edges are trusted, and nobody else.
    pub(crate) fn to_gateways(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol::ALPN_GATEWAY.to_vec()];
        Ok(config)
    }

    /// TLS for the edge port: with a certificate of this authority, and certificates of edges asked
    /// for but not insisted on, since an edge that joins has none yet.
    pub(crate) fn edge_port(
        &self,
        address: &HostPort,
        provider: Arc<CryptoProvider>,
    ) -> anyhow::Result<ServerConfig> {
        let key = KeyPair::generate()?;
        let hosts = BTreeSet::from([address.host.as_str(), "localhost", "127.0.0.1", "::1"]);
        let mut params = leaf_params("control plane", hosts)?;
        params.subject_alt_names.push(SanType::URI(CONTROL_PLANE_URI.try_into()?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| anyhow::anyhow!("the edge port's key is not usable: {reason}"))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone(), self.certificate.clone()], private)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The edge that a certificate names. Whether it is valid, TLS has judged.
pub(crate) fn edge_of(certificate: &CertificateDer<'_>) -> Option<EdgeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_uri_names().find_map(|uri| uri.strip_prefix(EDGE_URI)?.parse().ok())
}

fn parse_key(pem: &[u8]) -> anyhow::Result<KeyPair> {
    KeyPair::from_pem(std::str::from_utf8(pem)?).context("ca.key in the data directory is damaged")
}

fn root_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Postern private CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = rcgen::date_time_ymd(END.0, END.1, END.2);
    params
}

fn leaf_params(name: &str, hosts: BTreeSet<&str>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.try_into()?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_after = rcgen::date_time_ymd(END.0, END.1, END.2);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_the_same_after_a_restart_and_names_the_edge() {
        let dir = tempfile::tempdir().unwrap();
        let pin = Authority::open(dir.path(), true).unwrap().pin();
        let authority = Authority::open(dir.path(), false).unwrap();
        assert_eq!(authority.pin(), pin);

        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        let request = request.serialize_request(&key).unwrap().pem().unwrap();
        let edge = EdgeId::from_bytes([7; 16]);
        let hosts = BTreeSet::from(["127.0.0.1", "edge.example"]);
        let pem = authority.certify_edge(edge, hosts, &request).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(edge_of(&der), Some(edge));
        let names = webpki::EndEntityCert::try_from(&der).unwrap();
        assert_eq!(names.valid_dns_names().collect::<Vec<_>>(), ["edge.example"]);
        assert!(authority.certify_edge(edge, BTreeSet::new(), "nonsense").is_err());
    }

    #[test]
    fn a_first_start_that_was_cut_short_goes_on_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let pin = Authority::open(dir.path(), true).unwrap().pin();
        std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
        assert_eq!(Authority::open(dir.path(), true).unwrap().pin(), pin);
    }
}
