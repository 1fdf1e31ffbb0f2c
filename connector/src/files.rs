//! Files of the customer's own that the connector obeys while it runs: its policy, and how origins want
//! to be spoken to.

mod watch;

use std::{path::Path, sync::Arc};

use futures_util::future::{OptionFuture, join};
use protocol::{control::Facts, policy::Policy, settings_file::FileError};
use serde_json::{Value, json};
use tokio::sync::watch::{Receiver, Sender};

pub use self::watch::UnusableFile;
use self::watch::Watcher;
pub(crate) use self::watch::{Current, Reader};
use crate::{
    config::{Config, ConfigError},
    origin::Origins,
};

/// The files that were named.
pub(crate) struct Files {
    policy: Option<Watcher<Policy>>,
    origins: Option<Watcher<Origins>>,
}

/// What is in force of them. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct InForce {
    pub(crate) policy: Option<Current<Policy>>,
    pub(crate) origins: Option<Current<Origins>>,
}

impl Files {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// When one cannot be used: then there is nothing to go on with.
    pub(crate) fn start(config: &Config) -> Result<Self, ConfigError> {
        let unusable = |variable| move |error| ConfigError::Unusable { variable, error };
        let policy = config.policy_file.clone().map(|path| {
            Watcher::start("policy", path, Arc::new(policy)).map_err(unusable("TUNNEL_POLICY_FILE"))
        });
        let authorities = config.origin_authorities.clone();
        let origins =
            move |path: &Path, reader: &mut Reader| Origins::load(path, &authorities, reader);
        let origins = config.origins_file.clone().map(|path| {
            let started = Watcher::start("origins", path, Arc::new(origins));
            started.map_err(unusable("TUNNEL_ORIGINS_FILE"))
        });
        Ok(Self { policy: policy.transpose()?, origins: origins.transpose()? })
    }

    pub(crate) fn in_force(&self) -> InForce {
        InForce {
            policy: self.policy.as_ref().map(Watcher::current),
            origins: self.origins.as_ref().map(Watcher::current),
        }
    }

    /// Keeps them up to date for ever, and the facts with them; reads them at once when `again` says so.
    pub(crate) async fn run(self, again: Receiver<()>, facts: Sender<Facts>) {
        let policy = self.policy.map(|policy| {
            let tell = |policy: &Policy| {
                let digest = Some(policy.digest().to_string());
                facts.send_if_modified(|facts| {
                    let is_news = facts.policy != digest;
                    facts.policy = digest;
                    is_news
                });
            };
            policy.run(again.clone(), tell)
        });
        let origins = self.origins.map(|origins| origins.run(again.clone(), |_| {}));
        join(OptionFuture::from(policy), OptionFuture::from(origins)).await;
    }
}

fn policy(path: &Path, reader: &mut Reader) -> Result<Policy, UnusableFile> {
    let meaningless = |error: FileError| UnusableFile::Meaning { path: path.to_owned(), error };
    Policy::from_toml(&reader.text(path)?).map_err(meaningless)
}

impl InForce {
    /// The digest of the policy, if there is one.
    pub(crate) fn policy_digest(&self) -> Option<String> {
        self.policy.as_ref().map(|policy| policy.borrow().value.digest().to_string())
    }

    /// For `/status`.
    pub(crate) fn show(&self) -> Value {
        let policy = self.policy.as_ref().map(|policy| {
            let now = policy.borrow();
            json!({
                "digest": now.value.digest().to_string(),
                "allow": now.value.allow.len(),
                "deny": now.value.deny.len(),
                "age_seconds": now.since.elapsed().as_secs(),
                "problem": now.problem,
            })
        });
        let origins = self.origins.as_ref().map(|origins| {
            let now = origins.borrow();
            let (entries, unverified) = now.value.counts();
            json!({
                "entries": entries,
                "unverified": unverified,
                "age_seconds": now.since.elapsed().as_secs(),
                "problem": now.problem,
            })
        });
        json!({ "policy": policy, "origins": origins })
    }
}
