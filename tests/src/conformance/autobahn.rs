//! Autobahn's WebSocket cases, some 300 of them, sent to the echo server behind each way. Its package,
//! autobahntestsuite, is written for Python 2.7 alone, which few machines still have; where one is
//! (`PYTHON2`, or `python2.7` on the path), it is installed beside the build.
//!
//! Autobahn speaks to servers, not to proxies: what it sends to Postern passes a door that makes its
//! request a proxy's and leaves every byte behind it alone.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
    time::timeout,
};

use super::way::Way;

const PACKAGE: &str = "autobahntestsuite==25.10.1";
/// All but the performance of 9.*, which measures the machine, and compression (12 and 13), which is
/// between client and server and quadruples the time.
const CASES: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What Autobahn makes of each case: how the messages went, and how the end.
pub type Report = BTreeMap<String, (String, String)>;

/// An installed Autobahn.
pub struct Autobahn {
    python: PathBuf,
    packages: PathBuf,
}

impl Autobahn {
    /// Installs it.
    ///
    /// # Errors
    /// If there is no Python 2.7, or the packages cannot be had.
    pub async fn install() -> anyhow::Result<Self> {
        let python = std::env::var_os("PYTHON2").unwrap_or_else(|| "python2.7".into());
        let python = PathBuf::from(python);
        let version = Command::new(&python).arg("--version").output().await;
        let version = version.context("it needs Python 2.7: set PYTHON2 to one")?;
        ensure!(version.status.success(), "it needs Python 2.7: set PYTHON2 to one");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/autobahn");
        let packages = std::env::var_os("CARGO_TARGET_DIR")
            .map_or(target, |target| PathBuf::from(target).join("autobahn"));
        if !packages.join("autobahntestsuite").is_dir() {
            let installed = Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "--target"])
                .arg(&packages)
                .arg(PACKAGE)
                .output()
                .await?;
            let said = String::from_utf8_lossy(&installed.stderr);
            ensure!(installed.status.success(), "pip: {said}");
        }
        Ok(Self { python, packages })
    }

    /// Sends the cases to the server at `url`.
    ///
    /// # Errors
    /// If it does not come to an end.
    pub async fn run(&self, address: SocketAddr) -> anyhow::Result<Report> {
        let dir = tempfile::tempdir()?;
        let spec = json!({
            "outdir": dir.path().join("reports"),
            "servers": [{ "agent": "way", "url": format!("ws://{address}") }],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        });
        let file = dir.path().join("spec.json");
        std::fs::write(&file, spec.to_string())?;
        let mut command = Command::new(&self.python);
        command
            .args(["-c", "from autobahntestsuite.wstest import run; run()"])
            .args(["-m", "fuzzingclient", "-s"])
            .arg(&file)
            .env("PYTHONPATH", &self.packages)
            .current_dir(dir.path())
            .kill_on_drop(true);
        let output = timeout(PATIENCE, command.output()).await.context("it does not end")??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "wstest: {said}");
        let index = std::fs::read_to_string(dir.path().join("reports/index.json"));
        let index: Value = serde_json::from_str(&index.with_context(|| said.into_owned())?)?;
        let cases = index["way"].as_object().context("no report")?;
        let told = |case: &Value, field: &str| case[field].as_str().unwrap_or_default().to_owned();
        let report = cases.iter().map(|(name, case)| {
            (name.clone(), (told(case, "behavior"), told(case, "behaviorClose")))
        });
        Ok(report.collect())
    }
}

/// Where Autobahn connects for one way. Its connections end when this is dropped.
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Door {
    /// Opens a door of the way to `server`, which is its `n`th origin.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn open(
        host: IpAddr,
        way: &Way,
        n: usize,
        server: SocketAddr,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let (to, credentials) = (way.door(n), way.credentials.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let passing = pass(stream, to, credentials.clone(), server);
                connections.spawn(async move {
                    let _ = passing.await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, _serving: serving })
    }
}

async fn pass(
    mut client: TcpStream,
    to: SocketAddr,
    credentials: Option<String>,
    server: SocketAddr,
) -> std::io::Result<()> {
    let mut way = TcpStream::connect(to).await?;
    way.set_nodelay(true)?;
    client.set_nodelay(true)?;
    if let Some(credentials) = credentials {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(client.read_u8().await?);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.replacen(" /", &format!(" http://{server}/"), 1);
        let line = format!("{line}Proxy-Authorization: {credentials}\r\n");
        way.write_all(line.as_bytes()).await?;
    }
    copy_bidirectional(&mut client, &mut way).await.map(drop)
}

/// Where this way is worse than the direct one.
pub fn worse(direct: &Report, way: &Report) -> Vec<String> {
    let rank = |behaviour: &str| match behaviour {
        "OK" => 0,
        "INFORMATIONAL" | "NON-STRICT" | "UNIMPLEMENTED" => 1,
        _ => 2,
    };
    let worse = |(name, (behaviour, close)): (&String, &(String, String))| {
        let (now, end) = way.get(name).map_or(("missing", "missing"), |(a, b)| (a, b));
        let is_worse = rank(now) > rank(behaviour) || rank(end) > rank(close);
        is_worse.then(|| format!("{name}: {now}, {end} instead of {behaviour}, {close}"))
    };
    direct.iter().filter_map(worse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_worse_that_was_better_without_anything_between() {
        let report = |behaviour: &str, close: &str| {
            Report::from([("1.1".to_owned(), (behaviour.to_owned(), close.to_owned()))])
        };
        let direct = report("OK", "OK");
        assert!(worse(&direct, &report("OK", "OK")).is_empty());
        assert_eq!(worse(&direct, &report("FAILED", "OK")).len(), 1);
        assert_eq!(worse(&direct, &report("OK", "UNCLEAN")).len(), 1);
        assert_eq!(worse(&direct, &Report::new()).len(), 1);
        assert!(worse(&report("FAILED", "OK"), &report("FAILED", "OK")).is_empty());
    }
}
