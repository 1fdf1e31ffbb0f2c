//! One region of `postern up`: an edge in a process of its own, started again whenever it ends.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use protocol::name::RegionName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::signals::LEAVE;

/// Rest before an edge that ended is started again, at first and at most.
const RESTART_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// An edge that ran this long is well, and rests shortly when it ends.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// How long an edge has to leave: its own grace period, and a little for the rest.
const LEAVE_WITHIN: Duration = Duration::from_secs(40);
/// How often to ask an edge whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub(super) struct Region {
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

    /// Keeps an edge running until `shutdown`, then lets it leave in good order.
    pub(super) async fn keep_running(
        self,
        join_token: impl AsRef<str>,
        shutdown: CancellationToken,
    ) {
        let mut rest = RESTART_AFTER.0;
        while !shutdown.is_cancelled() {
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
                        () = shutdown.cancelled() => {
                            if let Some(stdin) = &mut stdin {
                                // One that has ended is told nothing.
                                let _ = stdin.write_all(LEAVE).await;
                            }
                            return leave(child).await;
                        }
                    }
                }
                Err(error) => tracing::error!(region = %self.name, "{error:#}"),
            }
            rest = if started.elapsed() > WELL_AFTER { RESTART_AFTER.0 } else { rest * 2 };
            rest = rest.min(RESTART_AFTER.1);
            shutdown.run_until_cancelled(sleep(rest)).await;
        }
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
        let program = std::env::current_exe().context("cannot find the postern program")?;
        let listen = |port| format!("{}", std::net::SocketAddr::new(self.bind, port));
        Command::new(program)
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
