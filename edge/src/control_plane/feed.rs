//! Follows the feed: asks for what comes after the generation that is known, takes message by
//! message, and gives up on a connection that has gone quiet.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::SendRequest;
use protocol::{
    address::HostPort,
    feed::{Applied, FEED_PATH, FeedMessage, FeedState, MAX_LINE},
};

use crate::{
    control_plane::{presence::ReportBody, url},
    core::Core,
    disk,
    lines::{Lines, TooLong},
};

/// The control plane says every 3 s that it is there; three misses end the connection.
const SILENCE: Duration = Duration::from_secs(10);
/// A longer line is parsed off the data path's threads.
const LONG_LINE: usize = 256 * 1024;
/// Changes within this time are saved together.
const SAVE_DELAY: Duration = Duration::from_millis(500);
/// How often the saved state is marked as still current: it limits what a restart forgets about
/// the feed's age.
const MARK_EVERY: Duration = Duration::from_secs(60);
const FILE: &str = "feed.json";

/// Why the feed ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("the control plane does not answer")]
    Silent,
    #[error("the feed broke off")]
    Broken(#[from] hyper::Error),
    #[error("the control plane answered {0}")]
    Status(StatusCode),
    #[error("the feed ended")]
    Ended,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("a message of the feed is malformed")]
    Malformed(#[from] serde_json::Error),
    #[error("the control plane is at an older generation than this edge; was it restored?")]
    Older,
}

/// Follows the feed for as long as the connection lasts; `heard` is called at the first message.
pub(crate) async fn follow(
    core: &Core,
    mut sender: SendRequest<ReportBody>,
    control_plane: &HostPort,
    heard: impl FnOnce(),
) -> FeedError {
    match try_follow(core, &mut sender, control_plane, heard).await {
        Ok(()) => FeedError::Ended,
        Err(error) => error,
    }
}

async fn try_follow(
    core: &Core,
    sender: &mut SendRequest<ReportBody>,
    control_plane: &HostPort,
    heard: impl FnOnce(),
) -> Result<(), FeedError> {
    let after = core.knowledge.read().feed().generation;
    let request = Request::get(url(control_plane, &format!("{FEED_PATH}?after={after}")))
        .body(ReportBody::empty())
        .expect("the URL is valid");
    let response = within(sender.send_request(request)).await??;
    if response.status() != StatusCode::OK {
        return Err(FeedError::Status(response.status()));
    }
    let mut body = response.into_body();
    let mut lines = Lines::new(MAX_LINE);
    let mut heard = Some(heard);
    loop {
        while let Some(line) = lines.next()? {
            let message = parse(line).await?;
            if core.apply(message, SystemTime::now()) == Applied::Refused {
                return Err(FeedError::Older);
            }
            if let Some(heard) = heard.take() {
                heard();
            }
        }
        let Some(frame) = within(body.frame()).await? else { return Ok(()) };
        if let Ok(data) = frame?.into_data() {
            lines.push(&data)?;
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, FeedError> {
    tokio::time::timeout(SILENCE, work).await.map_err(|_| FeedError::Silent)
}

async fn parse(line: Bytes) -> Result<FeedMessage, FeedError> {
    if line.len() <= LONG_LINE {
        return Ok(serde_json::from_slice(&line)?);
    }
    let parsed = tokio::task::spawn_blocking(move || serde_json::from_slice(&line)).await;
    parsed.map_or(Err(FeedError::Ended), |message| Ok(message?))
}

/// The last good state that an earlier start saved, and when it was last known to be current. A file
/// that cannot be read counts as none: the next snapshot replaces it.
pub(crate) fn load(data_dir: &Path) -> (FeedState, SystemTime) {
    let nothing = (FeedState::default(), SystemTime::now());
    let path = data_dir.join(FILE);
    let read = || {
        let Some(content) = disk::read(&path)? else { return Ok(None) };
        let state = serde_json::from_slice(&content)?;
        let heard_at = std::fs::metadata(&path)?.modified()?;
        Ok::<_, std::io::Error>(Some((state, heard_at)))
    };
    match read() {
        Ok(found) => found.unwrap_or(nothing),
        Err(error) => {
            tracing::warn!(%error, "the saved feed cannot be read; waiting for a new snapshot");
            nothing
        }
    }
}

/// Saves the state whenever it has changed, until the future is dropped.
pub(crate) async fn save_changes(core: &Core, data_dir: &Path) {
    let mut changes = core.knowledge.subscribe();
    loop {
        match tokio::time::timeout(MARK_EVERY, changes.changed()).await {
            Ok(Err(_)) => return,
            Ok(Ok(())) => {
                tokio::time::sleep(SAVE_DELAY).await;
                changes.mark_unchanged();
                save_now(core, data_dir).await;
            }
            Err(_) => {
                let heard_at = SystemTime::now() - core.knowledge.age(SystemTime::now());
                let path = data_dir.join(FILE);
                blocking(move || mark(&path, heard_at)).await;
            }
        }
    }
}

/// Saves the state as it is now.
pub(crate) async fn save_now(core: &Core, data_dir: &Path) {
    let state = core.knowledge.read().feed().clone();
    let data_dir = data_dir.to_owned();
    blocking(move || save(&data_dir, &state)).await;
}

fn save(data_dir: &Path, state: &FeedState) -> std::io::Result<()> {
    disk::replace(data_dir, FILE, &serde_json::to_vec(state)?)
}

fn mark(path: &Path, heard_at: SystemTime) -> std::io::Result<()> {
    match std::fs::File::options().write(true).open(path) {
        Ok(file) => file.set_modified(heard_at),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
        tracing::warn!(%error, "cannot save the feed; a restart would begin with an older one");
    }
}
