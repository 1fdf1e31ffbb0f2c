//! The processes of a world's cloud side: started, and up.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde_json::json;
use tokio::process::Command;

use super::{GATEWAY_PORT, OWNER_PASSWORD, REGIONS, Site, program, text};
use crate::{api::Api, process::Process};

/// Starts all of it with `postern up`, and tells where the API is. It speaks plain HTTP, unless the
/// arguments say otherwise.
pub(super) async fn postern(
    data_dir: &Path,
    host: IpAddr,
    arguments: &[OsString],
) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(program("postern")?);
    command.arg("up").arg("--data-dir").arg(data_dir).arg("--bind").arg(host.to_string());
    command.args(arguments);
    if arguments.is_empty() && !host.is_loopback() {
        command.arg("--insecure-http");
    }
    command.env("POSTERN_OWNER_PASSWORD", OWNER_PASSWORD);
    let process = Process::start("postern", command)?;
    process.find(|line| line.starts_with("Postern is up.").then_some(())).await?;
    let base =
        process.find(|line| Some(line.trim().strip_prefix("Console")?.trim().to_owned())).await?;
    Ok((process, base))
}

/// Starts a control plane; with a database at a server it has a data directory of its own, and the
/// keys in common with others.
pub(super) async fn control_plane(
    data_dir: &Path,
    host: IpAddr,
    database: Option<&Path>,
) -> anyhow::Result<Process> {
    let mut command = Command::new(program("postern")?);
    command
        .arg("control-plane")
        .env("POSTERN_OWNER_PASSWORD", OWNER_PASSWORD)
        .args(["--listen", &format!("{host}:8080")])
        .args(["--edge-listen", &format!("{host}:7843")])
        .args(["--edge-address", &format!("{host}:7843")]);
    if !host.is_loopback() {
        command.arg("--insecure-http");
    }
    match database {
        None => command.arg("--data-dir").arg(data_dir.join("control-plane")),
        Some(url_file) => command
            .arg("--data-dir")
            .arg(data_dir.join(format!("control-plane-{host}")))
            .arg("--keys-dir")
            .arg(data_dir.join("keys"))
            .arg("--database-url-file")
            .arg(url_file),
    };
    let process = Process::start("control-plane", command)?;
    process.find(|line| line.contains("the control plane serves").then_some(())).await?;
    Ok(process)
}

/// Starts both edges. With `control_planes` they report to any of those.
pub(super) async fn edges(
    data_dir: &Path,
    host: IpAddr,
    sites: &[Site; 2],
    api: &Api,
    control_planes: &[IpAddr],
) -> anyhow::Result<Vec<Process>> {
    let mut edges = Vec::new();
    for (region, site) in sites.iter().enumerate() {
        let token = text(&api.post("/api/v1/edges/join-tokens", &json!({})).await?, "token")?;
        edges.push(edge(data_dir, host, region, site, Some(&token), control_planes).await?);
    }
    Ok(edges)
}

/// Starts the edge of a region; one that has been there before needs no token.
pub(super) async fn edge(
    data_dir: &Path,
    host: IpAddr,
    region: usize,
    site: &Site,
    token: Option<&str>,
    control_planes: &[IpAddr],
) -> anyhow::Result<Process> {
    let n = region as u16;
    let listen = SocketAddr::from((site.listen, 7844 + n));
    let address = site.name.as_ref().map(|name| format!("{name}:{}", listen.port()));
    let mut command = Command::new(program("postern")?);
    command
        .arg("edge")
        .arg("--data-dir")
        .arg(data_dir.join(REGIONS[region]))
        .args(["--region", REGIONS[region]])
        .args(["--listen", &listen.to_string()])
        .args(["--address", &address.unwrap_or_else(|| listen.to_string())])
        .args(["--gateway-listen", &format!("{host}:{}", GATEWAY_PORT + n)])
        .args(["--gateway-address", &format!("{host}:{}", GATEWAY_PORT + n)])
        .args(["--metrics-listen", &format!("{host}:{}", 9001 + n)]);
    if !host.is_loopback() {
        command.arg("--gateway-insecure-http");
    }
    if let Some(port) = site.fallback_port {
        let fallback = SocketAddr::from((site.listen, port));
        command.args(["--fallback-listen", &fallback.to_string()]);
    }
    if !control_planes.is_empty() {
        let addresses: Vec<_> = control_planes.iter().map(|ip| format!("{ip}:7843")).collect();
        command.args(["--control-planes", &addresses.join(",")]);
    }
    if let Some(token) = token {
        command.env("POSTERN_JOIN_TOKEN", token);
    }
    let process = Process::start(REGIONS[region], command)?;
    process.find(|line| line.contains("the edge is up").then_some(())).await?;
    Ok(process)
}
