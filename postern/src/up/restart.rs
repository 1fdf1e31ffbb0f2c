//! Starting anew in the same process, so that a service manager or a container sees no end: the program file is run
//! again with the same arguments. The edges notice that nobody holds their standard input any more, go on, and hand
//! over to the edges that the new program starts.

use std::{
    collections::BTreeSet,
    env, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf, absolute},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::process::{Pid, WaitOptions, waitpid};

/// Names the edges that the program before has left, by their process numbers.
pub(super) const LEFT_BEHIND: &str = "POSTERN_LEFT_BEHIND";

/// Those of them that have not ended.
static LEFT: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// The program's file, to be asked for at the start: later it may have been replaced. A path by which it was started
/// comes first, since that may be a link, which leads to another file after an update.
pub(super) fn program() -> io::Result<PathBuf> {
    let path = env::args_os().next().map(PathBuf::from);
    let path = path.filter(|path| path.components().count() > 1);
    let path = path.and_then(|path| absolute(path).ok()).filter(|path| path.is_file());
    path.map_or_else(env::current_exe, Ok)
}

/// Runs the program in place of this one. Returns only if that cannot be done.
pub(super) fn exec(program: &Path, abandoned: impl Iterator<Item = u32>) -> io::Error {
    let mut pids: Vec<String> = left().iter().map(i32::to_string).collect();
    pids.extend(abandoned.map(|pid| pid.to_string()));
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(LEFT_BEHIND, pids.join(",")).exec()
}

/// Takes note of the end of edges that were left behind: they are still children of this process.
pub(super) fn reap() {
    let named = env::var(LEFT_BEHIND).unwrap_or_default();
    for pid in named.split(',').filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        left().insert(pid.as_raw_nonzero().get());
        thread::spawn(move || {
            // One that is no child is nobody's business here.
            let _ = waitpid(Some(pid), WaitOptions::empty());
            left().remove(&pid.as_raw_nonzero().get());
        });
    }
}

fn left() -> MutexGuard<'static, BTreeSet<i32>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}
