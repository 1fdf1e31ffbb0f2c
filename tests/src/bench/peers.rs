//! Other software that can stand in Postern's place, each if it is installed, and as it comes: with its
//! own defaults, apart from what two hops on one machine need.
//!
//! All of them connect the same two ends as Postern does, over TLS or SSH, and none of them does what
//! Postern does besides: one fixed destination, no access list, no policy, no phases. One is no other
//! software: [`bare`] is what Postern's own libraries cost.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use protocol::presence::Transport;
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use super::{machine::Machine, way::Way};
use crate::process::Process;

pub mod bare;
mod haproxy;
mod nginx;
mod openssh;
mod rathole;

/// How long a peer may take to come up.
const PATIENCE: Duration = Duration::from_secs(15);
/// The name in the certificate of whatever is at the other end.
const SERVER_NAME: &str = "peer";

/// Software that can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Postern's libraries alone, over one of its carriers.
    Bare(Transport),
    /// rathole over TLS: a byte pipe that knows no HTTP; the agent dials out.
    Rathole,
    /// nginx in two hops, HTTP/1.1 over TLS 1.3 between them.
    Nginx,
    /// haproxy in two hops, HTTP/2 over TLS 1.3 between them.
    Haproxy,
    /// OpenSSH with a forwarded port: a byte pipe; the agent dials out.
    OpenSsh,
}

/// All of them.
pub const KINDS: [Kind; 6] = [
    Kind::Bare(Transport::Quic),
    Kind::Bare(Transport::Http2),
    Kind::Rathole,
    Kind::Haproxy,
    Kind::Nginx,
    Kind::OpenSsh,
];

/// A peer that is up.
pub struct Peer {
    /// The way through it.
    pub way: Way,
    processes: Vec<Process>,
    _dir: TempDir,
}

impl Peer {
    /// Ends it.
    ///
    /// # Errors
    /// If it does not.
    pub async fn end(self) -> anyhow::Result<()> {
        for mut process in self.processes {
            process.signal(Signal::SIGTERM)?;
            // Many of them do not call a signal success.
            process.ended().await?;
        }
        Ok(())
    }
}

/// Where a peer is to stand.
struct Place {
    origin: SocketAddr,
    host: IpAddr,
    dir: TempDir,
}

impl Kind {
    /// What it is called where one is chosen.
    pub fn key(self) -> &'static str {
        match self {
            Self::Bare(Transport::Quic) => "bare-quic",
            Self::Bare(Transport::Http2) => "bare-http2",
            Self::Rathole => "rathole",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::OpenSsh => "openssh",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bare(Transport::Quic) => "bare, QUIC",
            Self::Bare(Transport::Http2) => "bare, HTTP/2",
            Self::Rathole => "rathole, TLS",
            Self::Nginx => "nginx, two hops",
            Self::Haproxy => "haproxy, two hops",
            Self::OpenSsh => "OpenSSH",
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Bare(_) => &[],
            Self::Rathole => &["rathole", "openssl"],
            Self::Nginx => &["nginx", "openssl"],
            Self::Haproxy => &["haproxy", "openssl"],
            Self::OpenSsh => &["sshd", "ssh", "ssh-keygen"],
        }
    }

    fn how_to_install(self) -> &'static str {
        match self {
            Self::Bare(_) => "cargo build --workspace --bins",
            Self::Rathole => "cargo install rathole",
            Self::Nginx => "apt-get install nginx-light openssl",
            Self::Haproxy => "apt-get install haproxy openssl",
            Self::OpenSsh => "apt-get install openssh-server openssh-client",
        }
    }

    /// The program that knows its version, and how it is asked.
    fn version(self) -> Option<(&'static str, &'static str)> {
        match self {
            // They are those that Postern is built with.
            Self::Bare(_) => None,
            Self::Rathole => Some(("rathole", "--version")),
            Self::Nginx => Some(("nginx", "-v")),
            Self::Haproxy => Some(("haproxy", "-v")),
            Self::OpenSsh => Some(("ssh", "-V")),
        }
    }

    /// Starts it on `host`, in front of `origin`, and notes its version.
    ///
    /// # Errors
    /// If it is not installed, with the way to install it, or does not come up.
    pub async fn start(
        self,
        origin: SocketAddr,
        host: IpAddr,
        machine: &mut Machine,
    ) -> anyhow::Result<Peer> {
        for name in self.programs() {
            if program(name).is_err() {
                bail!("not installed: {name} ({})", self.how_to_install());
            }
        }
        let place = Place { origin, host, dir: tempfile::tempdir()? };
        if let Some((of, flag)) = self.version() {
            machine.note(self.key(), std::process::Command::new(program(of)?).arg(flag));
        }
        let (address, near, far) = match self {
            Self::Bare(carrier) => bare::start(&place, carrier).await?,
            Self::Rathole => rathole::start(&place).await?,
            Self::Nginx => nginx::start(&place).await?,
            Self::Haproxy => haproxy::start(&place).await?,
            Self::OpenSsh => openssh::start(&place).await?,
        };
        let ends = (vec![near.id()?], vec![far.id()?]);
        let mut way = Way::pipe(self.key(), self.name(), address, ends.0, ends.1);
        if let Self::Bare(_) = self {
            way.prefix = format!("http://{origin}");
            way.has_upgrades = false;
        }
        Ok(Peer { way, processes: vec![near, far], _dir: place.dir })
    }
}

/// Where clients connect, and the processes at their end and at the origin's.
type Ends = (SocketAddr, Process, Process);

impl Place {
    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Addresses for the clients, and for the other hop.
    fn addresses(&self, port: u16) -> (SocketAddr, SocketAddr) {
        (SocketAddr::new(self.host, port), SocketAddr::new(self.host, port + 1))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        std::fs::write(self.at(name), text)?;
        Ok(self.at(name))
    }

    /// Makes a certificate that trusts itself, and the paths of it and its key.
    async fn certificate(&self) -> anyhow::Result<(String, String)> {
        let (certificate, key) = (self.at("certificate.pem"), self.at("key.pem"));
        let mut openssl = Command::new(program("openssl")?);
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", &format!("/CN={SERVER_NAME}")])
            .args(["-addext", &format!("subjectAltName=DNS:{SERVER_NAME}")])
            .args(["-keyout", &key, "-out", &certificate]);
        output(openssl).await?;
        Ok((certificate, key))
    }
}

/// Finds a program on the search path, or where servers live.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut programs = directories.map(|directory| directory.join(name));
    programs.find(|program| program.is_file()).with_context(|| format!("no program {name}"))
}

/// What a program says that must succeed.
async fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until something accepts connections; whoever is to do that must live meanwhile.
async fn listens(address: SocketAddr, processes: &[&Process]) -> anyhow::Result<()> {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            pace.tick().await;
        }
    };
    if tokio::time::timeout(PATIENCE, listening).await.is_err() {
        let said: Vec<String> = processes.iter().map(|process| process.said()).collect();
        bail!("it does not come up: {}", said.join("\n"));
    }
    Ok(())
}
