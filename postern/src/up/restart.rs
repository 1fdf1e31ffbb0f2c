//! Starting anew in the same process, so that a service manager or a container sees no end: the program file is run
//! again with the same arguments. The edges notice that nobody holds their standard input any more, go on, and hand
//! over to the edges that the new program starts.

use std::{env, io, os::unix::process::CommandExt as _, path::PathBuf, process::Command, thread};

use rustix::process::{Pid, WaitOptions, waitpid};

/// Names the edges that the program before has left, by their process numbers.
pub(super) const LEFT_BEHIND: &str = "POSTERN_LEFT_BEHIND";

/// What is to be run, once all else has ended.
#[derive(Debug)]
pub(crate) struct Restart {
    pub(super) program: PathBuf,
    pub(super) left: Vec<u32>,
}

impl Restart {
    /// Returns only if the program cannot be run.
    pub(crate) fn exec(self) -> io::Error {
        let left = self.left.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut arguments = env::args_os();
        let mut command = Command::new(self.program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env(LEFT_BEHIND, left).exec()
    }
}

/// Takes note of the end of edges that were left behind: they are still children of this process.
pub(super) fn reap() {
    let left = env::var(LEFT_BEHIND).unwrap_or_default();
    for pid in left.split(',').filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        // One that is no child is nobody's business here.
        thread::spawn(move || waitpid(Some(pid), WaitOptions::empty()));
    }
}
