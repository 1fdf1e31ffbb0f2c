//! When to stop: at the first SIGTERM or SIGINT in good order, at the second one at once. SIGUSR2 has `postern up`
//! start anew in its place.

use std::{io::Read as _, process, time::Duration};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was told twice to stop: 128 and the signal's number, by custom.
const STOPPED_AT_ONCE: i32 = 130;

/// A token that is cancelled at the first signal.
///
/// # Errors
/// If signals cannot be listened for.
pub(crate) fn shutdown() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    // Owned by the runtime, and needed as long as it.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                process::exit(STOPPED_AT_ONCE);
            }
            token.cancel();
        }
    });
    Ok(shutdown)
}

/// Resolves when the process is to be started anew in its place.
///
/// # Errors
/// If signals cannot be listened for.
pub(crate) fn restart() -> anyhow::Result<impl Future<Output = ()>> {
    let mut again = signal(SignalKind::user_defined2()).context("cannot listen for SIGUSR2")?;
    Ok(async move {
        again.recv().await;
    })
}

/// What a parent writes to its child's standard input to have it leave in good order.
pub(crate) const LEAVE: &[u8] = b"leave\n";
/// How long a child goes on without its parent: whoever starts the parent again finds everything served, and the
/// new child takes over.
const ORPHANED_FOR: Duration = Duration::from_secs(10);

/// Cancels `shutdown` when the parent says so on standard input. When standard input just ends, the parent is gone,
/// however it went: that cancels `orphaned`, and `shutdown` some time later.
pub(crate) fn follow_parent(orphaned: CancellationToken, shutdown: CancellationToken) {
    // A thread of its own: a read from standard input cannot be given up, and must not hold the
    // runtime when that stops.
    std::thread::spawn(move || {
        let mut word = [0; LEAVE.len()];
        if !matches!(std::io::stdin().read(&mut word), Ok(1..)) {
            orphaned.cancel();
            std::thread::sleep(ORPHANED_FOR);
        }
        shutdown.cancel();
    });
}
