//! A certificate chain with its key, and the files that hold them. What is wrong with a file is said with its
//! path and with what to do; nothing of a key's file is ever repeated.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

/// What a server shows: its certificate, those of its issuers, and the key with which it proves that the first one
/// is its own.
#[derive(Clone)]
pub struct Certificate(pub(crate) Arc<CertifiedKey>);

/// Where an operator keeps them, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate first, then those of its issuers.
    pub certificate: PathBuf,
    /// The key, not encrypted: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(
        "cannot read {path}: {source}. Give the path of a file that this process may read",
        path = path.display()
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It holds no certificate.
    #[error(
        "{place} holds no certificate. Give a PEM file with the server's certificate first, then those of its \
         issuers"
    )]
    NoCertificate {
        /// Where it should be.
        place: String,
    },
    /// It holds no key.
    #[error(
        "{place} holds no private key. Give a PEM file with the key of the server's certificate"
    )]
    NoKey {
        /// Where it should be.
        place: String,
    },
    /// Its key is encrypted.
    #[error(
        "the private key in {place} is encrypted with a password. Give it without: openssl pkey -in KEY -out FILE"
    )]
    EncryptedKey {
        /// Where it is.
        place: String,
    },
    /// It is damaged, or of a kind that TLS has no use for.
    #[error("{place} cannot be used: {reason}. Put a PEM file in its place that openssl can read")]
    Malformed {
        /// Where it is.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Certificate and key are not a pair.
    #[error(
        "the private key in {key} does not belong to the first certificate in {certificate}. Give the key that the \
         certificate was issued for, and put the server's certificate before those of its issuers"
    )]
    Mismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
}

impl Files {
    /// Reads both. They are small, so this does not block for long.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(&self) -> Result<Certificate, Error> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        let chain = read(&self.certificate)?;
        let key = Zeroizing::new(read(&self.key)?);
        let place = |path: &Path| path.display().to_string();
        parse(&chain, place(&self.certificate), &key, place(&self.key))
    }
}

impl Certificate {
    /// Reads a chain, the server's certificate first, and its key, both PEM.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, Error> {
        let (chain, key) = (chain.as_bytes(), key.as_bytes());
        parse(chain, "the certificate".to_owned(), key, "the key".to_owned())
    }

    /// True if the same certificates are shown.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

fn parse(
    chain: &[u8],
    chain_place: String,
    key: &[u8],
    key_place: String,
) -> Result<Certificate, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let Ok(chain) = chain else {
        return Err(Error::Malformed { place: chain_place, reason: "it is not valid PEM" });
    };
    if chain.is_empty() {
        return Err(Error::NoCertificate { place: chain_place });
    }
    let is_encrypted = String::from_utf8_lossy(key).contains("BEGIN ENCRYPTED PRIVATE KEY");
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) if is_encrypted => {
            return Err(Error::EncryptedKey { place: key_place });
        }
        Err(pem::Error::NoItemsFound) => return Err(Error::NoKey { place: key_place }),
        // The error itself may repeat a line.
        Err(_) => {
            return Err(Error::Malformed { place: key_place, reason: "it is not valid PEM" });
        }
    };
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(certified) => Ok(Certificate(Arc::new(certified))),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::Mismatch { certificate: chain_place, key: key_place })
        }
        Err(rustls::Error::InvalidCertificate(_)) => {
            Err(Error::Malformed { place: chain_place, reason: "its first certificate is damaged" })
        }
        Err(_) => Err(Error::Malformed {
            place: key_place,
            reason: "the private key is damaged, or is neither RSA, ECDSA nor Ed25519",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;

    fn files(dir: &Path) -> Files {
        Files { certificate: dir.join("tls.crt"), key: dir.join("tls.key") }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_path_and_a_fix_and_nothing_of_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let made = generate_simple_self_signed(["postern.example".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let cut = &key[..key.len() - 40];
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (certificate, key, path, expected) in [
            (Some(chain.as_str()), None, "tls.key", "cannot read"),
            (None, Some(key.as_str()), "tls.crt", "cannot read"),
            (Some(""), Some(&key), "tls.crt", "no certificate"),
            (Some(&key), Some(&chain), "tls.crt", "no certificate"),
            (Some(&chain), Some(""), "tls.key", "no private key"),
            (Some(&chain), Some(encrypted), "tls.key", "encrypted"),
            (Some(&chain), Some(cut), "tls.key", "not valid PEM"),
            (Some(&chain), Some(&other_key), "tls.key", "does not belong"),
            (Some(garbage), Some(&key), "tls.crt", "damaged"),
        ] {
            for (path, content) in [(&files.certificate, certificate), (&files.key, key)] {
                match content {
                    Some(content) => fs::write(path, content).unwrap(),
                    None => drop(fs::remove_file(path)),
                }
            }
            let said = files.read().unwrap_err().to_string();
            assert!(said.contains(path) && said.contains(expected), "{expected}: {said}");
            let secret = key.and_then(|key| key.lines().nth(1)).filter(|line| line.len() > 8);
            assert!(secret.is_none_or(|line| !said.contains(line)), "{said}");
        }
    }

    #[test]
    fn a_certificate_shows_nothing_of_its_key() {
        let made = generate_simple_self_signed(["postern.example".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let certificate = Certificate::from_pem(&made.cert.pem(), &key).unwrap();
        assert_eq!(format!("{certificate:?}"), "Certificate { .. }");
    }
}
