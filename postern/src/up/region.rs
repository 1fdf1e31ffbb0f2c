//! One region of `postern up`: an edge in a process of its own, started again whenever it ends.

use std::{ffi::OsString, mem, net::IpAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use protocol::name::RegionName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::restart::LEFT_BEHIND;
use crate::signals::LEAVE;

/// Rest before an edge that ended is started again, at first and at most.
const RESTART_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// An edge that ran this long is well, and rests shortly when it ends.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// How long an edge has to leave: its own grace period, and a little for the rest.
const LEAVE_WITHIN: Duration = Duration::from_secs(40);
/// How often to ask an edge whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What stops the edges.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// They leave in good order.
    pub(super) shutdown: CancellationToken,
    /// They go on without this process, until those of the next one take over.
    pub(super) abandon: CancellationToken,
}

impl Stop {
    fn is_told(&self) -> bool {
        self.shutdown.is_cancelled() || self.abandon.is_cancelled()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Region {
    /// The program that is an edge, too.
    pub(super) program: PathBuf,
    pub(super) name: RegionName,
    pub(super) data_dir: PathBuf,
    pub(super) bind: IpAddr,
    pub(super) host: String,
    /// Environment that says how to log.
    pub(super) log: Vec<(&'static str, String)>,
    /// Arguments that say what the gateway speaks.
    pub(super) https: Vec<OsString>,
    /// None for one for each core.
    pub(super) workers: Option<u8>,
    pub(super) link_port: u16,
    pub(super) gateway_port: u16,
    pub(super) metrics_port: u16,
}

impl Region {
    /// A port of this region, as others reach it.
    pub(super) fn address(&self, port: u16) -> String {
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }

    /// Keeps an edge running until it is to stop; tells which process was abandoned.
    pub(super) async fn keep_running(self, join_token: impl AsRef<str>, stop: Stop) -> Option<u32> {
        let mut rest = RESTART_AFTER.0;
        while !stop.is_told() {
            let started = Instant::now();
            match self.start(join_token.as_ref()) {
                Ok(mut child) => {
                    // Waiting for a child closes its standard input, unless that is held apart.
                    let mut stdin = child.stdin.take();
                    tokio::select! {
                        ended = child.wait() => {
                            let status = ended.map(|status| status.to_string()).unwrap_or_default();
                            let region = &self.name;
                            tracing::warn!(%region, status, "an edge ended; starting it again");
                        }
                        () = stop.shutdown.cancelled() => {
                            if let Some(stdin) = &mut stdin {
                                // One that has ended is told nothing.
                                let _ = stdin.write_all(LEAVE).await;
                            }
                            leave(child).await;
                            return None;
                        }
                        () = stop.abandon.cancelled() => {
                            let pid = child.id();
                            // To drop the one would kill it, to drop the other would tell it too soon.
                            mem::forget((child, stdin));
                            return pid;
                        }
                    }
                }
                Err(error) => tracing::error!(region = %self.name, "{error:#}"),
            }
            rest = if started.elapsed() > WELL_AFTER { RESTART_AFTER.0 } else { rest * 2 };
            rest = rest.min(RESTART_AFTER.1);
            tokio::select! {
                () = sleep(rest) => {}
                () = stop.shutdown.cancelled() => {}
                () = stop.abandon.cancelled() => {}
            }
        }
        None
    }

    /// Resolves once the edge says that it can serve.
    pub(super) async fn ready(&self) {
        loop {
            if self.is_ready().await.unwrap_or(false) {
                return;
            }
            sleep(ASK_EVERY).await;
        }
    }

    async fn is_ready(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect((self.bind, self.metrics_port)).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n").await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok(status.ends_with(b" 200"))
    }

    fn start(&self, join_token: &str) -> anyhow::Result<Child> {
        let listen = |port| format!("{}", std::net::SocketAddr::new(self.bind, port));
        Command::new(&self.program)
            .arg("edge")
            .arg("--until-stdin-ends")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--region", self.name.as_str()])
            .args(["--listen", &listen(self.link_port)])
            .args(["--address", &self.address(self.link_port)])
            .args(["--gateway-listen", &listen(self.gateway_port)])
            .args(["--gateway-address", &self.address(self.gateway_port)])
            .args(["--metrics-listen", &listen(self.metrics_port)])
            .args(&self.https)
            .args(self.workers.map(|workers| format!("--workers={workers}")))
            // Used once; later starts know the control plane already.
            .env("POSTERN_JOIN_TOKEN", join_token)
            .env_remove("POSTERN_OWNER_PASSWORD")
            .env_remove(LEFT_BEHIND)
            .envs(self.log.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            // An interrupt from the terminal is for the parent, which passes it on in its own way.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the edge of region {}", self.name))
    }
}

/// Waits for an edge that was told to leave.
async fn leave(mut child: Child) {
    if tokio::time::timeout(LEAVE_WITHIN, child.wait()).await.is_err() {
        // It has had its time; dropping the handle kills it.
        tracing::warn!("an edge did not leave in time and is stopped");
    }
}
