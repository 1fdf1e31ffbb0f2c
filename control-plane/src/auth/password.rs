//! Passwords, hashed with argon2id. A hash costs a core for a while, so no more of them run at a time
//! than there are cores, and none on the threads that serve requests. Those who wait for a core are few: a short queue
//! for strangers, which they share by their source, and another one for those who are logged in.

use std::{num::NonZero, sync::Arc, thread, time::Duration};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use room::{Room, Source};
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
    /// The queue is full, and must be tried again.
    #[error("too many passwords are being checked")]
    Busy,
    #[error("the hashing task did not finish")]
    Task(#[from] tokio::task::JoinError),
}

/// Passwords that wait, for each core. One takes some 160 ms, so that the last one waits for little more than a second.
const QUEUE: usize = 8;

/// On whose behalf a core is used.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker {
    /// Nobody that is known yet.
    Stranger(Source),
    /// Somebody with a session, a key or a link.
    Known(Source),
    /// The deployment itself, when it starts.
    Deployment,
}

/// Hashes and verifies.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    cores: Arc<Semaphore>,
    strangers: Arc<Room>,
    known: Arc<Room>,
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
            strangers: Room::queue("passwords of strangers", QUEUE * cores),
            known: Room::queue("passwords of users", QUEUE * cores),
            dummy: String::new(),
        };
        let dummy = Zeroizing::new("no user has this".to_owned());
        passwords.dummy = passwords.hash(dummy, Asker::Deployment).await?;
        Ok(passwords)
    }

    /// A password's hash in PHC form, with a salt of its own.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub(crate) async fn hash(
        &self,
        password: Zeroizing<String>,
        asker: Asker,
    ) -> Result<String, Error> {
        let salt = *crate::random::bytes::<16>();
        self.on_a_core(asker, move |argon2| {
            let hash: PasswordHash = argon2.hash_password_with_salt(password.as_bytes(), &salt)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// True if `hash` is there and is the password's. Without a hash it takes as long to say no.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub(crate) async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: Option<&str>,
        asker: Asker,
    ) -> Result<bool, Error> {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or(&self.dummy).to_owned();
        self.on_a_core(asker, move |argon2| {
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
        asker: Asker,
        work: impl FnOnce(Argon2<'static>) -> Result<T, argon2::password_hash::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = match asker {
            Asker::Stranger(source) => Some(self.strangers.try_enter(source).ok_or(Error::Busy)?),
            Asker::Known(source) => Some(self.known.try_enter(source).ok_or(Error::Busy)?),
            Asker::Deployment => None,
        };
        let core = self.cores.clone().acquire_owned();
        let core = match &place {
            Some(place) => place.hold(Duration::MAX, core).await.ok_or(Error::Busy)?,
            None => core.await,
        };
        let core = core.expect("the semaphore is never closed");
        // It has left the queue.
        drop(place);
        let argon2 = self.argon2.clone();
        let work = move || {
            let done = work(argon2);
            // Not before: whoever asked may be gone, and the core is still in use.
            drop(core);
            done
        };
        tokio::task::spawn_blocking(work).await?.map_err(Error::Argon2)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::future::join_all;

    use super::*;

    fn stranger(n: u8) -> Asker {
        Asker::Stranger(IpAddr::from([192, 0, 2, n]).into())
    }

    fn secret() -> Zeroizing<String> {
        Zeroizing::new("wrong".to_owned())
    }

    #[tokio::test]
    async fn the_queue_is_short_and_shared_by_source() {
        let cost = PasswordCost { memory_kib: 8, passes: 1 };
        let passwords = Passwords::new(cost).await.unwrap();
        let cores = passwords.cores.available_permits();
        let busy = passwords.cores.clone().acquire_many_owned(cores as u32).await.unwrap();
        let ask = |asker| tokio::task::unconstrained(passwords.verify(secret(), None, asker));
        // They ask in this order, and all before a core is free.
        let hostile = join_all((0..150).map(|_| ask(stranger(1))));
        let other = ask(stranger(2));
        let known = ask(Asker::Known(IpAddr::from([192, 0, 2, 1]).into()));
        let free = async {
            tokio::task::yield_now().await;
            drop(busy);
        };
        let (hostile, other, known, ()) =
            tokio::join!(tokio::task::unconstrained(hostile), other, known, free);
        assert!(!other.expect("another source has its share"));
        assert!(!known.expect("strangers take nothing from those who are known"));
        let mut served = 0;
        for asked in hostile {
            match asked {
                Ok(is_right) => served += usize::from(!is_right),
                Err(error) => assert!(matches!(error, Error::Busy), "{error}"),
            }
        }
        assert_eq!(served, QUEUE * cores - 1);
    }

    #[tokio::test]
    async fn a_core_is_in_use_even_when_nobody_waits_for_the_answer() {
        let cost = PasswordCost { memory_kib: 64 * 1024, passes: 2 };
        let passwords = Passwords::new(cost).await.unwrap();
        let cores = passwords.cores.available_permits();
        {
            let asked = passwords.verify(secret(), None, stranger(1));
            tokio::pin!(asked);
            tokio::select! {
                biased;
                _ = &mut asked => panic!("it cannot be done at once"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(passwords.cores.available_permits(), cores - 1);
    }
}
