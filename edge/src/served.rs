//! Which tunnels have links here, kept on disk: an edge that starts again knows which links to expect back
//! before it calls itself ready.

use std::{collections::HashSet, io, path::Path, time::Duration};

use protocol::id::TunnelId;
use tokio_util::sync::CancellationToken;

use crate::{core::Core, disk};

const FILE: &str = "served.json";
/// Links come and go in crowds. What a crash forgets are those of the last second, and nobody waits for them.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What an earlier start left behind. A file that cannot be read counts as none: nobody is waited for.
pub(crate) fn load(data_dir: &Path) -> HashSet<TunnelId> {
    let read = || -> io::Result<Option<HashSet<TunnelId>>> {
        let Some(content) = disk::read(&data_dir.join(FILE))? else { return Ok(None) };
        Ok(serde_json::from_slice(&content)?)
    };
    read().ok().flatten().unwrap_or_default()
}

/// Saves them whenever they have changed, once more when `leaving` begins, and not after that: links that
/// leave because the edge does are expected back.
pub(crate) async fn save_changes(core: &Core, data_dir: &Path, leaving: &CancellationToken) {
    let mut saved = (None, HashSet::new());
    loop {
        let pause = tokio::time::sleep(SAVE_EVERY);
        let is_last = leaving.run_until_cancelled(pause).await.is_none();
        let version = core.registry.version();
        if saved.0 != Some(version) {
            let served = core.registry.served();
            if saved.0.is_none() || served != saved.1 {
                save(data_dir, &served).await;
            }
            saved = (Some(version), served);
        }
        if is_last {
            return;
        }
    }
}

/// Saves them at once.
pub(crate) async fn save(data_dir: &Path, served: &HashSet<TunnelId>) {
    let (data_dir, served) = (data_dir.to_owned(), served.clone());
    let work = move || disk::replace(&data_dir, FILE, &serde_json::to_vec(&served)?);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(%error, "cannot save which tunnels have links; a restart would not wait for them");
    }
}
