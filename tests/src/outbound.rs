//! What companies put between their networks and the world, as they do it: squid, a SOCKS server, a
//! name server. All of it runs on a [`Network`]'s router.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{network::Network, process::Process};

/// Who may use the proxies.
pub const USER: &str = "postern";
/// The password, with a character that a URL wants escaped.
pub const PASSWORD: &str = "hush@hush";
/// The same in a URL.
pub const PASSWORD_IN_URL: &str = "hush%40hush";
/// The same as squid's helper reads it: `openssl passwd -apr1`.
const PASSWORD_HASH: &str = "$apr1$postern$ABUpvCcIBiO/fX0l/.u710";

/// A squid as Debian ships it: CONNECT for those who log in, to port 443 alone.
pub struct Squid<'a> {
    network: &'a Network,
    dir: TempDir,
    process: Process,
}

impl<'a> Squid<'a> {
    /// Starts it on port 3128.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(network: &'a Network) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        // Started by root, it becomes a user of its own.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let path = dir.path().display();
        fs::write(dir.path().join("users"), format!("{USER}:{PASSWORD_HASH}\n"))?;
        let settings = format!(
            "http_port 3128
             visible_hostname proxy.example
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {path}/users
             auth_param basic children 2
             acl employees proxy_auth REQUIRED
             acl https port 443
             http_access deny CONNECT !https
             http_access allow employees
             http_access deny all
             cache deny all
             access_log none
             cache_log /dev/null
             pid_filename {path}/pid
             coredump_dir {path}
             shutdown_lifetime 0 seconds\n"
        );
        fs::write(dir.path().join("conf"), settings)?;
        let process = Self::run(network, dir.path()).await?;
        Ok(Self { network, dir, process })
    }

    async fn run(network: &Network, dir: &Path) -> anyhow::Result<Process> {
        let mut command = Command::new("squid");
        command.args(["-N", "-d", "1", "-f"]).arg(dir.join("conf")).envs(sbin());
        let process = Process::start("squid", network.enter_router(command))?;
        process.find(|line| line.contains("Accepting HTTP").then_some(())).await?;
        Ok(process)
    }

    /// `HTTPS_PROXY` for somebody with this password, as it stands in a URL.
    pub fn url(&self, password: &str) -> String {
        format!("http://{USER}:{password}@{}:3128", self.network.router())
    }

    /// Kills it.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.ended().await?;
        let _ = fs::remove_file(self.dir.path().join("pid"));
        Ok(())
    }

    /// Starts it again.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.process = Self::run(self.network, self.dir.path()).await?;
        Ok(())
    }
}

/// Starts a SOCKS 5 server on the router's port 1080.
///
/// # Errors
/// If it cannot be started.
pub fn start_socks(network: &Network) -> anyhow::Result<Process> {
    let mut command = Command::new("microsocks");
    let router = network.router().to_string();
    command.args(["-i", &router, "-p", "1080", "-u", USER, "-P", PASSWORD]);
    Process::start("microsocks", network.enter_router(command))
}

/// A name server on the router, which the machine inside asks.
pub struct Names {
    hosts: TempDir,
    process: Process,
}

impl Names {
    /// Starts it; it knows nobody yet.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(network: &Network) -> anyhow::Result<Self> {
        network.resolve_by_router()?;
        let hosts = tempfile::tempdir()?;
        fs::set_permissions(hosts.path(), fs::Permissions::from_mode(0o755))?;
        let file = hosts.path().join("hosts");
        fs::write(&file, "")?;
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-"])
            .args(["--no-resolv", "--no-hosts", "--local-ttl=0", "--pid-file="])
            .args(["--user=root", "--bind-interfaces"])
            .arg(format!("--listen-address={}", network.router()))
            .arg(format!("--addn-hosts={}", file.display()))
            .envs(sbin());
        let process = Process::start("dnsmasq", network.enter_router(command))?;
        process.find(|line| line.contains("started, version").then_some(())).await?;
        Ok(Self { hosts, process })
    }

    /// From now on these are the names, and no others.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn set(&self, names: &[(&str, IpAddr)]) -> anyhow::Result<()> {
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n"));
        fs::write(self.hosts.path().join("hosts"), lines.collect::<String>())?;
        self.process.signal(Signal::SIGHUP)
    }
}

/// Not everybody has these in the path.
fn sbin() -> [(&'static str, String); 1] {
    [("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))]
}
