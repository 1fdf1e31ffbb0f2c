//! The key pair behind a tunnel's secret, and the proof that a connector holds it.
//!
//! The proof is an Ed25519 signature over everything that makes this link this link: the TLS
//! exporter of the connection, the edge, the connector, the slot. Copied to another connection, or
//! relayed by somebody in between, it does not verify.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    base64url,
    id::{ConnectorId, EdgeId, KeyId, TunnelId},
};

/// Separates this signature from any other that the same key could ever make.
const DOMAIN: &[u8] = b"postern link proof v1\0";

/// An Ed25519 public key: 32 bytes, base64url as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// The text or the bytes were no Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a public key: expected 32 bytes, base64url")]
pub struct InvalidKey;

impl PublicKey {
    /// Wraps raw bytes; whether they are a point of the curve shows when a signature is verified.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = InvalidKey;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidKey> {
        bytes.try_into().map(Self).map_err(|_| InvalidKey)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let bytes = base64url::decode(&text).map_err(|_| InvalidKey)?;
        Self::try_from(bytes.as_slice())
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        base64url::encode(key.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", base64url::encode(self.0))
    }
}

/// The 32 bytes from which a tunnel's key pair is derived. Zeroed on drop, never shown.
#[derive(Clone)]
pub struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    /// Wraps 32 bytes that the caller drew from the system's random generator.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half, which is all that the control plane and the edges ever know.
    pub fn public_key(&self) -> PublicKey {
        let pair = self.pair();
        let bytes = pair.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Signs the proof for one link.
    pub fn prove(&self, binding: &Binding<'_>) -> Signature {
        let signature = self.pair().sign(&binding.message());
        Signature(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(self.0.as_slice()).expect("any 32 bytes are a seed")
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_slice(), other.0.as_slice())
            .is_ok()
    }
}

impl Eq for Seed {}

/// An Ed25519 signature: 64 bytes, base64url as text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps raw bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Signature {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let bytes = base64url::decode(&text).map_err(|_| InvalidKey)?;
        bytes.try_into().map(Self).map_err(|_| InvalidKey)
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        base64url::encode(signature.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

/// What a proof is about: the link that it opens, and no other.
#[derive(Debug, Clone)]
pub struct Binding<'a> {
    /// 32 bytes that only the two ends of this TLS connection know ([`crate::EXPORTER_LABEL`]).
    pub exporter: &'a [u8; 32],
    /// The edge that the connector means to talk to.
    pub edge: EdgeId,
    /// The tunnel that the link will serve.
    pub tunnel: TunnelId,
    /// Which of the tunnel's keys signs.
    pub key: KeyId,
    /// The process that dialled.
    pub connector: ConnectorId,
    /// Which of its links this is.
    pub slot: u8,
}

impl Binding<'_> {
    /// True if `signature` was made by the holder of `key` for exactly this link.
    pub fn verify(&self, key: &PublicKey, signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, key.0).verify(&self.message(), &signature.0).is_ok()
    }

    fn message(&self) -> Vec<u8> {
        [
            DOMAIN,
            self.exporter,
            self.edge.as_bytes(),
            self.tunnel.as_bytes(),
            self.key.as_bytes(),
            self.connector.as_bytes(),
            &[self.slot],
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(exporter: &[u8; 32]) -> Binding<'_> {
        Binding {
            exporter,
            edge: EdgeId::from_bytes([1; 16]),
            tunnel: TunnelId::from_bytes([2; 16]),
            key: KeyId::from_bytes([3; 16]),
            connector: ConnectorId::from_bytes([4; 16]),
            slot: 0,
        }
    }

    #[test]
    fn a_proof_opens_its_own_link_and_no_other() {
        let seed = Seed::from_bytes([7; 32]);
        let key = seed.public_key();
        let here = binding(&[9; 32]);
        let proof = seed.prove(&here);
        assert!(here.verify(&key, &proof));

        let others = [
            binding(&[8; 32]),
            Binding { edge: EdgeId::from_bytes([5; 16]), ..here.clone() },
            Binding { tunnel: TunnelId::from_bytes([5; 16]), ..here.clone() },
            Binding { key: KeyId::from_bytes([5; 16]), ..here.clone() },
            Binding { connector: ConnectorId::from_bytes([5; 16]), ..here.clone() },
            Binding { slot: 1, ..here.clone() },
        ];
        for other in others {
            assert!(!other.verify(&key, &proof), "{other:?}");
        }
        assert!(!here.verify(&Seed::from_bytes([6; 32]).public_key(), &proof));
    }

    #[test]
    fn the_key_of_a_known_seed_is_the_one_of_rfc_8032() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(String::from(Seed::from_bytes(seed).public_key()), public);
    }

    #[test]
    fn a_seed_shows_nothing_of_itself() {
        assert_eq!(format!("{:?}", Seed::from_bytes([7; 32])), "Seed(…)");
    }
}
