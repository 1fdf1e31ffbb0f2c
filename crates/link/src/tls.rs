//! TLS for links: version 1.3 alone, aws-lc-rs, X25519MLKEM768 and AES-128-GCM preferred. An edge shows a
//! certificate; a connector judges it by the pin in its secret, or by the public roots.

use std::{fmt, sync::Arc};

use protocol::{ALPN_HTTP2, ALPN_QUIC, address::CaPin};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime, pem::PemObject as _,
    },
};

use crate::error::TlsError;

/// The cipher suite that is offered first.
const FIRST_SUITE: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;

/// How a connector judges the certificate that an edge shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It must lead to the one authority with this pin, which the edge sends along.
    Pinned(CaPin),
    /// It must lead to one of the public roots.
    PublicRoots,
}

/// What an edge shows: its certificate chain, leaf first, and its key.
#[derive(Clone)]
pub struct ServerIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl ServerIdentity {
    /// Reads chain and key from PEM.
    ///
    /// # Errors
    /// When either is missing or malformed, or when they do not belong together.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(TlsError::Pem)?;
        if chain.is_empty() {
            return Err(TlsError::Missing("certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(TlsError::Pem)?;
        let identity = Self { chain, key: Arc::new(key) };
        identity.server_config(ALPN_QUIC)?;
        Ok(identity)
    }

    pub(crate) fn server_config(&self, alpn: &[u8]) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        // A link lives long and its proof is bound to the full handshake: tickets would only cost.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Bytes that only this identity knows, the same after a restart.
    pub(crate) fn derive_key(&self, purpose: &[u8]) -> [u8; 32] {
        use ::aws_lc_rs::hmac;
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der());
        hmac::sign(&key, purpose).as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

pub(crate) fn client_configs(trust: &Trust) -> Result<(ClientConfig, ClientConfig), TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier(trust)?)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let mut quic = config.clone();
    quic.alpn_protocols = vec![ALPN_QUIC.to_vec()];
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok((quic, config))
}

/// Judges a server's certificate as `trust` says; the name is checked in either case.
///
/// # Errors
/// When the public roots cannot be loaded, which does not happen in practice.
pub fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    match trust {
        Trust::Pinned(pin) => Ok(Arc::new(PinVerifier { pin: *pin, provider: provider() })),
        Trust::PublicRoots => {
            let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider());
            let verifier = verifier.build().map_err(|error| {
                TlsError::Unusable(Error::General(format!("public roots: {error}")))
            })?;
            Ok(verifier)
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    // The suite that every peer has; the next one, with keys of 256 bits, takes two fifths more rounds.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != FIRST_SUITE);
    Arc::new(provider)
}

/// Finds the pinned authority among the certificates that the server sends, then leaves the judgement
/// to webpki with that authority as the only root.
#[derive(Debug)]
struct PinVerifier {
    pin: CaPin,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    fn anchor(&self, chain: &[CertificateDer<'_>]) -> Option<TrustAnchor<'static>> {
        let anchors = chain.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok());
        anchors
            .map(|anchor| anchor.to_owned())
            .find(|anchor| CaPin::of_spki(&sequence(&anchor.subject_public_key_info)) == self.pin)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(anchor) = self.anchor(intermediates) else {
            return Err(Error::General(
                "the certificate does not come from the authority that the secret pins: \
                 this is another server, or something on the way opens TLS"
                    .into(),
            ));
        };
        let roots = RootCertStore { roots: vec![anchor] };
        WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(leaf, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("links speak TLS 1.3 alone".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A trust anchor holds its SubjectPublicKeyInfo without the outer SEQUENCE (X.690 §8.9); the pin is
/// over all of it.
fn sequence(contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![0x30];
    match length {
        0..0x80 => der.push(length as u8),
        0x80..0x100 => der.extend([0x81, length as u8]),
        _ => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend_from_slice(contents);
    der
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    #[test]
    fn links_agree_on_the_first_suite() {
        let made = rcgen::generate_simple_self_signed(["edge.example.com".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = ServerIdentity::from_pem(&chain, &key).unwrap();
        let server = identity.server_config(ALPN_HTTP2).unwrap();
        let (_, client) = client_configs(&Trust::PublicRoots).unwrap();
        let name = "edge.example.com".try_into().unwrap();
        let mut client = ClientConnection::new(client.into(), name).unwrap();
        let mut server = ServerConnection::new(server.into()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        server.read_tls(&mut hello.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), FIRST_SUITE);
    }
}
