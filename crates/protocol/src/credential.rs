//! Opaque, long-lived credentials: proxy tokens for the gateway and keys for the API. Each is an id,
//! by which it is found, and 32 random bytes, of which only the SHA-256 is ever stored.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    armour::{self, ArmourError, Reader},
    base64url,
    id::{ApiKeyId, ProxyTokenId},
};

/// The random half of a credential; zeroed on drop, never shown.
pub struct CredentialSecret(Zeroizing<[u8; 32]>);

impl CredentialSecret {
    /// Wraps 32 bytes that the caller drew from the system's random generator.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is stored and fed in the secret's place. The secret has 256 random bits, so a plain
    /// digest cannot be turned back by guessing.
    pub fn digest(&self) -> CredentialDigest {
        let digest = digest::digest(&digest::SHA256, self.0.as_slice());
        CredentialDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Debug for CredentialSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialSecret(…)")
    }
}

/// SHA-256 of a credential's secret half: base64url as text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    /// Compares in constant time.
    pub fn matches(&self, secret: &CredentialSecret) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &secret.digest().0).is_ok()
    }
}

impl TryFrom<String> for CredentialDigest {
    type Error = ArmourError;

    fn try_from(text: String) -> Result<Self, ArmourError> {
        let bytes = base64url::decode(&text).map_err(|_| ArmourError::Damaged)?;
        bytes.try_into().map(Self).map_err(|_| ArmourError::Damaged)
    }
}

impl From<CredentialDigest> for String {
    fn from(digest: CredentialDigest) -> Self {
        base64url::encode(digest.0)
    }
}

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialDigest(…)")
    }
}

macro_rules! credentials {
    ($($(#[$doc:meta])* $name:ident, $id:ty, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            /// By which it is found.
            pub id: $id,
            /// By which it is proven.
            pub secret: CredentialSecret,
        }

        impl $name {
            /// First characters of every such credential.
            pub const PREFIX: &'static str = $prefix;

            /// The text that is shown once.
            pub fn encode(&self) -> Zeroizing<String> {
                let payload = [self.id.as_bytes().as_slice(), self.secret.as_bytes()].concat();
                armour::encode(Self::PREFIX, &Zeroizing::new(payload))
            }

            /// Reads the text back.
            ///
            /// # Errors
            /// Says what is wrong without repeating any of the text.
            pub fn decode(text: &str) -> Result<Self, ArmourError> {
                let payload = armour::decode(Self::PREFIX, text)?;
                let mut reader = Reader(&payload);
                let id = <$id>::from_bytes(reader.array()?);
                let secret = CredentialSecret::from_bytes(reader.array()?);
                reader.end()?;
                Ok(Self { id, secret })
            }
        }
    )*};
}

credentials! {
    /// A long-lived token for the gateway, bound to a workflow or a team.
    ProxyToken, ProxyTokenId, "ptp1_";
    /// A key for the control plane's API; acts as the user who made it.
    ApiKey, ApiKeyId, "ptk1_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_survives_its_text_and_matches_its_digest() {
        let token = ProxyToken {
            id: ProxyTokenId::from_bytes([1; 16]),
            secret: CredentialSecret::from_bytes([2; 32]),
        };
        let text = token.encode();
        assert!(text.starts_with("ptp1_AQEBAQEB"));
        let back = ProxyToken::decode(&text).unwrap();
        assert_eq!(back.id, token.id);
        assert!(token.secret.digest().matches(&back.secret));
        assert!(!token.secret.digest().matches(&CredentialSecret::from_bytes([3; 32])));
        assert_eq!(
            ApiKey::decode(&text).unwrap_err(),
            ArmourError::Prefix { expected: ApiKey::PREFIX }
        );
    }
}
