//! HAProxy as a reverse proxy: a door for every origin.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use crate::process::Process;

/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first of its ports, on an address of its own.
const FIRST_PORT: u16 = 10_000;

/// A running HAProxy.
pub struct Haproxy {
    /// Its doors, in the order of the origins.
    pub doors: Vec<SocketAddr>,
    /// What it calls itself.
    pub version: String,
    process: Process,
    _dir: TempDir,
}

/// Where the program is.
///
/// # Errors
/// If it is not installed, with the way to install it.
pub fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = directories.map(|directory| directory.join("haproxy"));
    let found = programs.find(|program| program.is_file());
    found.context("HAProxy is not installed: apt-get install haproxy")
}

impl Haproxy {
    /// Starts one on `host`; `options` of `bind` are for all doors, as `proto h2`.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub async fn start(
        host: IpAddr,
        origins: &[SocketAddr],
        options: &str,
    ) -> anyhow::Result<Self> {
        let program = program()?;
        let version = std::process::Command::new(&program).arg("-v").output()?;
        let version = String::from_utf8_lossy(&version.stdout);
        let version = version.split_whitespace().nth(2).unwrap_or_default().to_owned();
        // All that is set are times, so that a request which hangs here is known to.
        let mut settings = "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n\
             \x20 timeout connect 5s\n  timeout client 15s\n  timeout server 15s\n  timeout tunnel 15s\n"
            .to_owned();
        let mut doors = Vec::new();
        for (n, origin) in origins.iter().enumerate() {
            let door = SocketAddr::new(host, FIRST_PORT + n as u16);
            settings +=
                &format!("listen case{n}\n  bind {door} {options}\n  server origin {origin}\n");
            doors.push(door);
        }
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("conf");
        std::fs::write(&file, settings)?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&file);
        let process = Process::start("haproxy", command)?;
        let last = *doors.last().context("no origins")?;
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let listening = async {
            while TcpStream::connect(last).await.is_err() {
                pace.tick().await;
            }
        };
        if tokio::time::timeout(PATIENCE, listening).await.is_err() {
            bail!("HAProxy does not come up: {}", process.said());
        }
        Ok(Self { doors, version, process, _dir: dir })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.ended().await?;
        Ok(())
    }
}
