//! Accept loops outlive errors such as too many open files: they rest a moment, say so once, and say
//! when it is over.

use std::{io, time::Duration};

/// Long enough not to spin, short enough that nobody notices once the cause is gone.
const REST: Duration = Duration::from_millis(100);

/// What an accept loop has gone through.
#[derive(Debug, Default)]
pub(crate) struct AcceptTrouble {
    failures: u64,
}

impl AcceptTrouble {
    /// What was accepted; `None`, after a rest, where nothing was.
    pub(crate) async fn pass<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => {
                if self.failures > 0 {
                    tracing::info!(failures = self.failures, "connections are accepted again");
                    self.failures = 0;
                }
                Some(accepted)
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(%error, "cannot accept connections");
                }
                self.failures += 1;
                tokio::time::sleep(REST).await;
                None
            }
        }
    }
}
