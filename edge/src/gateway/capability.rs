//! Verifies capabilities, the runner's short-lived tokens: EdDSA and nothing else, a key of the feed
//! and no other, every claim typed and required.
//!
//! One Ed25519 verification costs as much as the rest of a request, so what was verified is remembered
//! by the token's digest. Time and keys are judged again at each use.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use protocol::{
    access::Caller,
    claims::{self, Capability},
    id::TunnelId,
    key::PublicKey,
};

use crate::knowledge::State;

/// By how much clocks may differ, in seconds.
const LEEWAY_S: u64 = 60;
/// Verified tokens that are remembered, twice: some 600 bytes each.
const REMEMBERED: usize = 4096;

type Digest = [u8; 32];

/// Verifies, and remembers what was verified.
pub(crate) struct Capabilities {
    validation: Validation,
    verified: Mutex<Remembered>,
}

/// Two generations: when the younger one is full it becomes the older one, and what nobody has used
/// since is forgotten.
#[derive(Default)]
struct Remembered {
    younger: HashMap<Digest, Verified>,
    older: HashMap<Digest, Verified>,
}

#[derive(Clone)]
struct Verified {
    capability: Capability,
    kid: String,
    key: PublicKey,
}

impl Default for Capabilities {
    fn default() -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Time, issuer and audience are judged by `Capability::is_valid_at`, at each use.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { validation, verified: Mutex::default() }
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capabilities").finish_non_exhaustive()
    }
}

impl Capabilities {
    /// Who asks, for which tunnel and until when, if the token is valid at `now`; times in seconds
    /// since 1970.
    pub(crate) fn verify(
        &self,
        token: &str,
        state: &State,
        now: u64,
    ) -> Option<(Caller, TunnelId, u64)> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let digest: Digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let judge = |verified: &Verified| {
            let known = state.feed().token_keys.get(&verified.kid)?;
            let capability = &verified.capability;
            let holds = known.public_key == verified.key && capability.is_valid_at(now, LEEWAY_S);
            let until = capability.exp.saturating_add(LEEWAY_S);
            holds.then(|| (capability.caller(), capability.tunnel, until))
        };
        if let Some(verified) = self.remembered().get(&digest) {
            return judge(verified);
        }
        let verified = self.decode(token, state)?;
        let judged = judge(&verified)?;
        self.remembered().put(digest, verified);
        Some(judged)
    }

    fn decode(&self, token: &str, state: &State) -> Option<Verified> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let is_capability = header.alg == Algorithm::EdDSA
            && header.typ.as_deref() == Some(claims::TYPE)
            && header.crit.is_none();
        let kid = header.kid.filter(|_| is_capability)?;
        let key = state.feed().token_keys.get(&kid)?.public_key;
        let decoding = DecodingKey::from_ed_der(key.as_bytes());
        let decoded =
            jsonwebtoken::decode::<Capability>(token, &decoding, &self.validation).ok()?;
        Some(Verified { capability: decoded.claims, kid, key })
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn get(&mut self, digest: &Digest) -> Option<&Verified> {
        if !self.younger.contains_key(digest) {
            let verified = self.older.remove(digest)?;
            self.put(*digest, verified);
        }
        self.younger.get(digest)
    }

    fn put(&mut self, digest: Digest, verified: Verified) {
        if self.younger.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(digest, verified);
    }
}

#[cfg(test)]
mod tests;
