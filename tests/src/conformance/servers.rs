//! Servers that people use, behind each way: what they understand of the smuggling cases must be what the
//! gateway let through. A second request that hides in the first may reach none of them as its own.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::process::Command;

use super::{
    client,
    corpus::{Audience, Case},
    run::Verdict,
    script::{self, Names},
    way::Way,
};
use crate::process::Process;

/// After the last case, a request that should not be gets so long to show.
const SETTLED: Duration = Duration::from_millis(500);
/// Cases at once.
const AT_ONCE: usize = 16;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Python's own.
    HttpServer,
    /// What uvicorn builds on.
    H11,
    /// Python's best known.
    Gunicorn,
    /// `net/http`.
    Go,
    /// Node's own, where it is installed.
    Node,
}

/// All of them.
pub const KINDS: [Kind; 5] = [Kind::HttpServer, Kind::H11, Kind::Gunicorn, Kind::Go, Kind::Node];

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpServer => "http.server",
            Self::H11 => "h11",
            Self::Gunicorn => "gunicorn",
            Self::Go => "Go",
            Self::Node => "Node",
        }
    }

    async fn command(self, dir: &Path) -> anyhow::Result<Command> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = |name: &str| tests.join("corpus/servers").join(name);
        let python = |name: &str| {
            let mut command = Command::new(tests.join("tools/python"));
            command.arg(file(name));
            command
        };
        Ok(match self {
            Self::HttpServer => python("http_server.py"),
            Self::H11 => python("h11_server.py"),
            Self::Gunicorn => python("gunicorn_server.py"),
            Self::Go => {
                let program: PathBuf = dir.join("server");
                let built = Command::new("go")
                    .args(["build", "-o"])
                    .arg(&program)
                    .arg(file("server.go"))
                    .env("GO111MODULE", "off")
                    .output()
                    .await
                    .context("go")?;
                let said = String::from_utf8_lossy(&built.stderr);
                ensure!(built.status.success(), "go build: {said}");
                Command::new(program)
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(file("server.js"));
                command
            }
        })
    }
}

/// A running server.
pub struct Server {
    /// Which one.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts one on a free port of `host`.
    ///
    /// # Errors
    /// If it is not installed, or does not come up.
    pub async fn start(kind: Kind, host: IpAddr) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = kind.command(dir.path()).await?;
        command.arg(host.to_string());
        let process = Process::start(kind.name(), command)?;
        let port = process.find(|line| line.strip_prefix("PORT ")?.parse().ok()).await?;
        Ok(Self { kind, address: SocketAddr::new(host, port), process, _dir: dir })
    }

    /// What it has understood, by target.
    fn seen(&self) -> anyhow::Result<HashMap<String, Vec<Vec<u8>>>> {
        let mut seen = HashMap::new();
        for line in self.process.said_on_stdout().lines().filter(|line| line.starts_with('{')) {
            let request: Value = serde_json::from_str(line)?;
            let target = request["target"].as_str().context("no target")?.to_owned();
            let body =
                request["body"].as_str().map_or(Ok(Vec::new()), |body| STANDARD.decode(body));
            seen.entry(target).or_insert_with(Vec::new).push(body?);
        }
        Ok(seen)
    }
}

fn theirs(cases: &[Case]) -> impl Iterator<Item = &Case> {
    cases.iter().filter(|case| case.audience == Audience::Servers)
}

/// The names of the cases that are for servers.
pub fn names(cases: &[Case]) -> Vec<String> {
    theirs(cases).map(|case| case.name.clone()).collect()
}

/// Sends the cases that are for servers to one of them, which is the way's `door`th origin.
///
/// # Errors
/// If a case is not understood.
pub async fn run(
    cases: &[Case],
    server: &Server,
    way: &Way,
    door: usize,
) -> anyhow::Result<Vec<Verdict>> {
    let address = server.address.to_string();
    let cases: Vec<&Case> = theirs(cases).collect();
    let id = |n: usize| format!("{}{n:03}", way.kind.letter());
    let mut scripts = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let id = id(n);
        let credentials = way.credentials.as_deref();
        scripts
            .push(script::read(&case.client, &Names { origin: &address, credentials, id: &id })?);
    }
    let door = way.door(door);
    let asked = cases.iter().zip(&scripts);
    let asked =
        asked.map(|(case, steps)| async { client::run(door, steps, &case.methods()).await });
    stream::iter(asked).buffered(AT_ONCE).for_each(|_| async {}).await;
    tokio::time::sleep(SETTLED).await;
    let seen = server.seen()?;
    let mut verdicts = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let id = id(n);
        let names = Names { origin: &address, credentials: None, id: &id };
        let verdict = verdict(case, &seen, &names)?;
        verdicts.push(verdict.map_or(Verdict::Same, Verdict::Differs));
    }
    Ok(verdicts)
}

fn verdict(
    case: &Case,
    seen: &HashMap<String, Vec<Vec<u8>>>,
    names: &Names<'_>,
) -> anyhow::Result<Option<String>> {
    if seen.contains_key(&format!("/canary{}", names.id)) {
        return Ok(Some("the canary arrived".to_owned()));
    }
    let bodies = seen.get(&format!("/{}", names.id)).map_or(&[][..], Vec::as_slice);
    let body = match bodies {
        [] => return Ok(None),
        [body] => body,
        _ => return Ok(Some("it arrived twice".to_owned())),
    };
    // Where a body is laid down, the server must have read that one.
    let mut allowed = Vec::new();
    for (sees, _) in &case.outcomes {
        let mut items = sees.split(" ; ");
        if items.next() == Some("none") {
            continue;
        }
        let items: Vec<&str> = items.collect();
        match items.iter().find_map(|item| item.strip_prefix("body ")) {
            Some(text) => allowed.push(script::bytes(text, names)?),
            None if items.contains(&"body?") => return Ok(None),
            None => allowed.push(Vec::new()),
        }
    }
    Ok(match allowed.contains(body) {
        true => None,
        false if allowed.is_empty() => Some("it arrived".to_owned()),
        false => Some(format!("its body is {:?}", String::from_utf8_lossy(body))),
    })
}
