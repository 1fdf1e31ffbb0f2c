//! A PostgreSQL server of a test's own, started by `tests/tools/postgres`; it ends with this process.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The server.
pub struct Postgres {
    url_file: PathBuf,
    words: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Postgres {
    /// Starts it, with an empty database whose URL is written into a file in `dir`.
    ///
    /// # Errors
    /// If it does not start; where it is not installed, `tests/tools/prepare` installs it.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_at(dir, None).await
    }

    /// The same, also reached at an address, which the URL then names.
    ///
    /// # Errors
    /// The same.
    pub async fn start_at(dir: &Path, address: Option<IpAddr>) -> anyhow::Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/postgres");
        let mut child = Command::new(script)
            .args(address.map(|address| address.to_string()))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let words = child.stdin.take().context("it has no standard input")?;
        let stdout = child.stdout.take().context("it has no standard output")?;
        let mut answers = BufReader::new(stdout).lines();
        let socket = answers.next_line().await?;
        let socket = socket.context("PostgreSQL does not start: run tests/tools/prepare")?;
        let url_file = dir.join("database-url");
        let host = address.map_or(socket.replace('/', "%2F"), |address| address.to_string());
        std::fs::write(&url_file, format!("postgres://postern:postern@{host}/postgres\n"))?;
        Ok(Self { url_file, words, answers, _child: child })
    }

    /// A file with the database's URL.
    pub fn url_file(&self) -> &Path {
        &self.url_file
    }

    /// Ends it as a crash would, in the middle of whatever it does.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        self.say("crash").await
    }

    /// Starts it again after a crash.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.say("restart").await
    }

    async fn say(&mut self, word: &str) -> anyhow::Result<()> {
        self.words.write_all(format!("{word}\n").as_bytes()).await?;
        let answer = self.answers.next_line().await?;
        ensure!(answer.as_deref() == Some(word), "{word}: {answer:?}");
        Ok(())
    }
}
