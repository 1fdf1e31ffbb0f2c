//! A child process whose output is kept and can be waited for.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
};

/// Bounds every wait for something that must happen; nothing relies on its length.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running program. Dropped, it is killed.
pub struct Process {
    name: String,
    child: Child,
    output: Output,
    _readers: JoinSet<()>,
}

#[derive(Clone)]
struct Output {
    lines: Arc<Mutex<Vec<Line>>>,
    count: watch::Sender<usize>,
}

struct Line {
    text: String,
    is_log: bool,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Most resident memory ever, in bytes.
    pub peak_rss: u64,
}

impl Process {
    /// Starts a program; its lines are kept, and shown if POSTERN_TEST_OUTPUT is set.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let output = Output { lines: Arc::default(), count: watch::channel(0).0 };
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(output.clone().collect(name.to_owned(), stdout, false));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(output.clone().collect(name.to_owned(), stderr, true));
        }
        Ok(Self { name: name.to_owned(), child, output, _readers: readers })
    }

    /// The first line, said already or to come, for which `wanted` finds something.
    ///
    /// # Errors
    /// If it does not come within [`PATIENCE`]; the error holds what was said instead.
    pub async fn find<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let mut count = self.output.count.subscribe();
        let search = async {
            let mut seen = 0;
            loop {
                let found = {
                    let lines = self.output.lock();
                    let found = lines[seen..].iter().find_map(|line| wanted(&line.text));
                    seen = lines.len();
                    found
                };
                match found {
                    Some(found) => return found,
                    None => drop(count.wait_for(|count| *count > seen).await),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => Ok(found),
            Err(_) => bail!("{} did not say what was waited for:\n{}", self.name, self.said()),
        }
    }

    /// All that was said so far.
    pub fn said(&self) -> String {
        self.output.joined(|_| true)
    }

    /// All that was said so far on standard output.
    pub fn said_on_stdout(&self) -> String {
        self.output.joined(|line| !line.is_log)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.id()? as i32), signal).context("cannot send the signal")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within [`PATIENCE`].
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("{} does not end", self.name))?
            .context("cannot wait for it")
    }

    /// Has it end in good order, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.ended().await?;
        ensure!(status.success(), "{}: {status}\n{}", self.name, self.said());
        Ok(())
    }

    /// Process id.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended:\n{}", self.name, self.said()))
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.id()?)
    }
}

/// What a process has used so far, as `/proc` tells it.
///
/// # Errors
/// If there is no such process.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse::<u64>().ok()).map(|kib| kib * 1024)
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the program's name, which may hold anything, in parentheses.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
    let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 10);
    Ok(Usage {
        cpu,
        rss: field("VmRSS:").context("no memory")?,
        peak_rss: field("VmHWM:").context("no memory")?,
    })
}

/// What all cores have done so far, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    total: u64,
    idle: u64,
}

impl Cores {
    /// As `/proc/stat` tells it.
    ///
    /// # Errors
    /// If it does not.
    pub fn now() -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?).context("no line for all cores")
    }

    /// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, and guests,
    /// whose time is counted before as well.
    fn parse(text: &str) -> Option<Self> {
        let ticks = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<u64> =
            ticks.take(8).map(|ticks| ticks.parse().ok()).collect::<Option<_>>()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(Self { total: ticks.iter().sum(), idle })
    }

    /// The share of time since `earlier` in which nothing ran, from 0 to 1.
    pub fn idle_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.idle.saturating_sub(earlier.idle) as f64 / total as f64
    }
}

/// How many files, sockets among them, a process has open.
///
/// # Errors
/// If there is no such process, or it is somebody else's.
pub fn open_files(pid: u32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Lets a process's peak of memory count from now on.
///
/// # Errors
/// If there is no such process, or it is somebody else's.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    // See proc_pid_clear_refs(5).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak")
}

/// A process, its children, and theirs.
///
/// # Errors
/// If there is no such process.
pub fn tree(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut tree = vec![pid];
    let mut seen = 0;
    while let Some(pid) = tree.get(seen) {
        tree.extend(children(*pid)?);
        seen += 1;
    }
    Ok(tree)
}

/// The children of a process.
///
/// # Errors
/// If there is no such process.
pub fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(found)
}

impl Output {
    async fn collect(self, name: String, from: impl AsyncRead + Unpin, is_log: bool) {
        let shows = std::env::var_os("POSTERN_TEST_OUTPUT").is_some();
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(text)) = lines.next_line().await {
            if shows {
                eprintln!("[{name}] {text}");
            }
            let count = {
                let mut lines = self.lock();
                lines.push(Line { text, is_log });
                lines.len()
            };
            self.count.send_replace(count);
        }
    }

    fn joined(&self, wanted: impl Fn(&Line) -> bool) -> String {
        let lines = self.lock();
        let texts: Vec<&str> =
            lines.iter().filter(|line| wanted(line)).map(|line| line.text.as_str()).collect();
        texts.join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.lines.lock().expect("nobody panics while holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::Cores;

    #[test]
    fn idle_time_is_that_in_which_nothing_ran() {
        let cores = |text: &str| Cores::parse(text).unwrap();
        let before = cores("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1 2 3 4\n");
        let after = cores("cpu  40 0 20 90 20 5 5 0 9 9\n");
        assert_eq!(after.idle_since(&before), 0.375);
        assert_eq!(after.idle_since(&after), 0.0);
        assert!(Cores::parse("intr 1").is_none());
    }
}
