//! Other software that can stand in Postern's place, for comparison; each is used if it is installed.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use crate::{
    load::Way,
    process::{PATIENCE, Process},
};

/// A peer that is up.
pub struct Peer {
    /// The way through it.
    pub way: Way,
    _processes: Vec<Process>,
    _dir: TempDir,
}

/// Finds a program on the search path.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// nginx in two hops, TLS 1.3 between them, as a reverse proxy to `origin`: what Postern does, with one
/// fixed destination and no policy. `None` if it is not installed.
///
/// # Errors
/// If it is installed and does not come up.
pub async fn nginx(origin: SocketAddr, host: std::net::IpAddr) -> anyhow::Result<Option<Peer>> {
    let (Some(nginx), Some(openssl)) = (installed("nginx"), installed("openssl")) else {
        return Ok(None);
    };
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let certificate = Command::new(openssl)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=peer"])
        .args(["-keyout", &at("key.pem"), "-out", &at("certificate.pem")])
        .output()
        .await?;
    ensure!(
        certificate.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&certificate.stderr)
    );
    let (near, far) = (SocketAddr::new(host, 18_081), SocketAddr::new(host, 18_082));
    let hop = |name: &str, listen: String, upstream: String, more: String| {
        format!(
            "daemon off; master_process off; worker_processes 1; error_log stderr; pid {pid};\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 10000000;\n\
             client_body_temp_path {tmp}; proxy_temp_path {tmp}; fastcgi_temp_path {tmp};\n\
             uwsgi_temp_path {tmp}; scgi_temp_path {tmp};\n\
             upstream next {{ server {upstream}; keepalive 512; keepalive_requests 10000000; }}\n\
             server {{ listen {listen}; proxy_http_version 1.1; proxy_set_header Connection '';\n\
             proxy_buffering off; {more} }} }}\n",
            pid = at(&format!("{name}.pid")),
            tmp = at(&format!("{name}-tmp")),
        )
    };
    let near_more =
        "location / { proxy_pass https://next; proxy_ssl_protocols TLSv1.3; }".to_owned();
    let far_more = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;\n\
         location / {{ proxy_pass http://next; }}",
        at("certificate.pem"),
        at("key.pem")
    );
    std::fs::write(at("near.conf"), hop("near", near.to_string(), far.to_string(), near_more))?;
    std::fs::write(at("far.conf"), hop("far", format!("{far} ssl"), origin.to_string(), far_more))?;
    let mut processes = Vec::new();
    for name in ["far", "near"] {
        let mut command = Command::new(&nginx);
        command.args(["-p", &at(""), "-c", &at(&format!("{name}.conf"))]);
        processes.push(Process::start(name, command)?);
    }
    for address in [far, near] {
        listens(address).await?;
    }
    let way = Way {
        name: "nginx, 2 hops".to_owned(),
        address: near,
        prefix: String::new(),
        authorization: None,
        processes: processes.iter().map(Process::id).collect::<Result<_, _>>()?,
    };
    Ok(Some(Peer { way, _processes: processes, _dir: dir }))
}

/// rathole with its Noise transport: a byte pipe that knows no HTTP. `None` if it is not installed.
///
/// # Errors
/// If it is installed and does not come up.
pub async fn rathole(origin: SocketAddr, host: std::net::IpAddr) -> anyhow::Result<Option<Peer>> {
    let Some(rathole) = installed("rathole") else { return Ok(None) };
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let keys = Command::new(&rathole).arg("--genkey").output().await?;
    let keys = String::from_utf8(keys.stdout)?;
    let key = |label: &str| {
        let behind = keys.split_once(label).map(|(_, rest)| rest);
        behind.and_then(|rest| rest.lines().find(|line| line.ends_with('='))).map(str::trim)
    };
    let private = key("Private Key").context("rathole made no key")?;
    let public = key("Public Key").context("rathole made no key")?;
    let (near, far) = (SocketAddr::new(host, 18_091), SocketAddr::new(host, 18_092));
    std::fs::write(
        at("server.toml"),
        format!(
            "[server]\nbind_addr = \"{far}\"\ndefault_token = \"bench\"\n\
             [server.transport]\ntype = \"noise\"\n\
             [server.transport.noise]\nlocal_private_key = \"{private}\"\n\
             [server.services.origin]\nbind_addr = \"{near}\"\n"
        ),
    )?;
    std::fs::write(
        at("client.toml"),
        format!(
            "[client]\nremote_addr = \"{far}\"\ndefault_token = \"bench\"\n\
             [client.transport]\ntype = \"noise\"\n\
             [client.transport.noise]\nremote_public_key = \"{public}\"\n\
             [client.services.origin]\nlocal_addr = \"{origin}\"\n"
        ),
    )?;
    let mut processes = Vec::new();
    for (side, flag) in [("server", "--server"), ("client", "--client")] {
        let mut command = Command::new(&rathole);
        command.arg(flag).arg(at(&format!("{side}.toml")));
        processes.push(Process::start(side, command)?);
    }
    listens(near).await?;
    let way = Way {
        name: "rathole, Noise".to_owned(),
        address: near,
        prefix: String::new(),
        authorization: None,
        processes: processes.iter().map(Process::id).collect::<Result<_, _>>()?,
    };
    Ok(Some(Peer { way, _processes: processes, _dir: dir }))
}

async fn listens(address: SocketAddr) -> anyhow::Result<()> {
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            pace.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, listening)
        .await
        .with_context(|| format!("{address} stays closed"))
}
