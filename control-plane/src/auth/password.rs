//! Passwords, hashed with argon2id. A hash costs a core for a while, so no more of them run at a time
//! than there are cores, and none on the threads that serve requests.

use std::{num::NonZero, sync::Arc, thread};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::options::PasswordCost;

/// A password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("argon2 failed: {0}")]
    Argon2(argon2::password_hash::Error),
    #[error("argon2 does not accept the cost: {0}")]
    Cost(argon2::Error),
    #[error("the hashing task did not finish")]
    Task(#[from] tokio::task::JoinError),
}

/// Hashes and verifies.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    cores: Arc<Semaphore>,
    /// Verified in the place of an unknown user's, so that both take the same time.
    dummy: String,
}

impl Passwords {
    /// # Errors
    /// If argon2 does not accept the cost.
    pub(crate) async fn new(cost: PasswordCost) -> Result<Self, Error> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(Error::Cost)?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let mut passwords = Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            cores: Arc::new(Semaphore::new(cores)),
            dummy: String::new(),
        };
        passwords.dummy = passwords.hash(Zeroizing::new("no user has this".to_owned())).await?;
        Ok(passwords)
    }

    /// A password's hash in PHC form, with a salt of its own.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, Error> {
        let salt = *crate::random::bytes::<16>();
        self.on_a_core(move |argon2| {
            let hash: PasswordHash = argon2.hash_password_with_salt(password.as_bytes(), &salt)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// True if `hash` is there and is the password's. Without a hash it takes as long to say no.
    pub(crate) async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: Option<&str>,
    ) -> Result<bool, Error> {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or(&self.dummy).to_owned();
        self.on_a_core(move |argon2| {
            match argon2.verify_password(password.as_bytes(), hash.as_str()) {
                Ok(()) => Ok(is_known),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce(Argon2<'static>) -> Result<T, argon2::password_hash::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let argon2 = self.argon2.clone();
        let _core = self.cores.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(move || work(argon2)).await?.map_err(Error::Argon2)
    }
}
