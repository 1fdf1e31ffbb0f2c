//! A file that is read at the start, and again on SIGHUP or when it has changed. A new text that cannot be
//! used changes nothing: the last good one stays in force, and the log, `/metrics` and `/status` say so.
//!
//! Changes are found by looking at the bytes themselves, once a second: that works on every mount, with
//! editors that write in place, with files that are replaced, and with the symbolic links that Kubernetes
//! swaps. A change counts once the files have stood still between two looks, so that half a file is never
//! taken for a whole one.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use protocol::settings_file::FileError;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::metrics;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Largest file that is read, in bytes: the largest policy, and more than any certificate or header.
const MAX_BYTES: u64 = 256 * 1024;

/// Why a file cannot be used. One line; never holds what stands in a file of secrets.
#[derive(Debug, thiserror::Error)]
pub enum UnusableFile {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What it says has no meaning.
    #[error("{}, {error}", path.display())]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: FileError,
    },
    /// A file that it names holds something else than it should.
    #[error("{}: expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it could hold.
        expected: &'static str,
    },
}

/// Reads files, and remembers which and what was in them.
#[derive(Default)]
pub(crate) struct Reader {
    opened: Vec<PathBuf>,
    contents: DefaultHasher,
}

impl Reader {
    pub(crate) fn bytes(&mut self, path: &Path) -> Result<Zeroizing<Vec<u8>>, UnusableFile> {
        let read = read(path);
        if !self.opened.iter().any(|opened| opened == path) {
            self.opened.push(path.to_owned());
            note(&read, &mut self.contents);
        }
        read.map_err(|error| UnusableFile::Read { path: path.to_owned(), error })
    }

    pub(crate) fn text(&mut self, path: &Path) -> Result<Zeroizing<String>, UnusableFile> {
        let bytes = self.bytes(path)?;
        let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
        text.map_err(|_| UnusableFile::Content { path: path.to_owned(), expected: "UTF-8 text" })
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn note(read: &io::Result<Zeroizing<Vec<u8>>>, contents: &mut DefaultHasher) {
    match read {
        Ok(bytes) => {
            contents.write_u64(bytes.len() as u64);
            contents.write(bytes);
        }
        Err(error) => contents.write(error.to_string().as_bytes()),
    }
}

/// Tells one content of some files from another, as a [`Reader`] of the same files would.
fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut contents = DefaultHasher::new();
    paths.iter().for_each(|path| note(&read(path), &mut contents));
    contents.finish()
}

/// What is in force, and what stands in the way of something newer.
pub(crate) struct InForce<T> {
    pub(crate) value: Arc<T>,
    pub(crate) since: Instant,
    pub(crate) problem: Option<String>,
}

/// What is in force now and later. Cheap to clone.
pub(crate) type Current<T> = watch::Receiver<InForce<T>>;

/// Makes sense of the file at a path, and of the files that it names.
pub(crate) type Load<T> = Arc<dyn Fn(&Path, &mut Reader) -> Result<T, UnusableFile> + Send + Sync>;

/// Keeps what a file says up to date.
pub(crate) struct Watcher<T> {
    /// `policy` or `origins`, for metrics and logs.
    what: &'static str,
    path: PathBuf,
    load: Load<T>,
    in_force: watch::Sender<InForce<T>>,
    opened: Vec<PathBuf>,
    /// Of what was loaded last, whether it could be used or not.
    loaded: u64,
    /// Of what the last look found, if that was something else.
    found: Option<u64>,
}

impl<T: Send + Sync + 'static> Watcher<T> {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be used: then there is nothing to go on with.
    pub(crate) fn start(
        what: &'static str,
        path: PathBuf,
        load: Load<T>,
    ) -> Result<Self, UnusableFile> {
        let mut reader = Reader::default();
        let value = load(&path, &mut reader)?;
        let loaded = reader.contents.finish();
        let in_force = InForce { value: Arc::new(value), since: Instant::now(), problem: None };
        let in_force = watch::Sender::new(in_force);
        metrics::file_is_good(what, true);
        Ok(Self { what, path, load, in_force, opened: reader.opened, loaded, found: None })
    }

    pub(crate) fn current(&self) -> Current<T> {
        self.in_force.subscribe()
    }

    /// Looks for ever, and at once when `again` says so; tells `applied` of what comes into force.
    pub(crate) async fn run(mut self, mut again: watch::Receiver<()>, applied: impl Fn(&T)) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = looks.tick() => false,
                Ok(()) = again.changed() => true,
            };
            let paths = self.opened.clone();
            let look = apart(move || fingerprint(&paths));
            let Some(found) = look.await else { continue };
            let stands_still = self.found.replace(found) == Some(found);
            if is_asked || (stands_still && found != self.loaded) {
                self.reload(&applied).await;
            }
        }
    }

    async fn reload(&mut self, applied: &impl Fn(&T)) {
        let (load, path) = (self.load.clone(), self.path.clone());
        let read = apart(move || {
            let mut reader = Reader::default();
            (load(&path, &mut reader), reader)
        });
        let Some((loaded, reader)) = read.await else { return };
        self.loaded = reader.contents.finish();
        self.opened = reader.opened;
        self.found = None;
        let (file, is_good) = (self.what, loaded.is_ok());
        metrics::file_was_read(file, is_good);
        match loaded {
            Ok(value) => {
                let value = Arc::new(value);
                let in_force =
                    InForce { value: value.clone(), since: Instant::now(), problem: None };
                self.in_force.send_replace(in_force);
                applied(&value);
                info!(file, path = %self.path.display(), "file was read again and is in force");
            }
            Err(error) => {
                let problem = error.to_string();
                warn!(file, problem, "file cannot be used, the last good one stays in force");
                self.in_force.send_modify(|in_force| in_force.problem = Some(problem));
            }
        }
    }
}

/// Does what touches files where a file system that hangs holds up no request. `None` if it panicked.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
