//! A world: a deployment started by `postern up`, a private origin, and connectors, all of them real
//! processes on a loopback address of the world's own.

use std::{
    cell::Cell,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

mod start;

use crate::{
    api::Api,
    network::Network,
    origin::Origin,
    postgres::Postgres,
    process::{PATIENCE, Process, children},
    way::Way,
};

/// The regions of every world, in order; the second one's ports are one higher.
pub const REGIONS: [&str; 2] = ["region-a", "region-b"];
const GATEWAY_PORT: u16 = 3128;
const OWNER: &str = "owner@localhost";
/// Of the owner of every world.
const OWNER_PASSWORD: &str = "correct horse battery";

/// One deployment with a team, a tunnel that the team may use, and a private origin.
pub struct World {
    /// `postern up`, or `postern control-plane` where the parts are spread.
    pub postern: Process,
    /// The edges, where the parts are spread.
    pub edges: Vec<Process>,
    /// The API, as the owner.
    pub api: Api,
    /// The private server.
    pub origin: Origin,
    /// The team that owns the workflows.
    pub team: String,
    /// The tunnel's secret.
    pub secret: String,
    host: IpAddr,
    dir: TempDir,
    /// Of `postern up`.
    arguments: Vec<OsString>,
    /// To the API, where it speaks HTTPS.
    _way: Option<Way>,
}

/// Where an edge stands.
#[derive(Debug, Clone)]
pub struct Site {
    /// The address on which it takes links.
    pub listen: IpAddr,
    /// The name under which connectors know it, if it has one.
    pub name: Option<String>,
    /// Its second TCP port.
    pub fallback_port: Option<u16>,
}

impl Site {
    /// An edge that is known by its address alone.
    pub fn at(listen: IpAddr) -> Self {
        Self { listen, name: None, fallback_port: None }
    }
}

/// A link of the world's tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where its edge stands.
    pub region: String,
    /// `quic` or `http2`.
    pub transport: String,
    /// When it came up; tells one link from a later one.
    pub since: String,
}

/// The tunnel of every world.
pub const TUNNEL: &str = "office";

impl World {
    /// A link to the console that signs in once, as the owner.
    ///
    /// # Errors
    /// If the control plane says no.
    pub async fn sign_in_link(&self) -> anyhow::Result<String> {
        let link = self.api.post("/api/v1/me/sign-in-links", &json!({})).await?;
        Ok(format!("http://{}:8080/sign-in#{}", self.host, text(&link, "secret")?))
    }

    /// Starts everything but a connector.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(own_address()).await
    }

    /// Starts everything but a connector, on a given address.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start_at(host: IpAddr) -> anyhow::Result<Self> {
        Self::start_in(host, tempfile::tempdir()?).await
    }

    /// Starts everything but a connector, with its data on a given volume.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start_on(volume: &Path) -> anyhow::Result<Self> {
        Self::start_in(own_address(), tempfile::tempdir_in(volume)?).await
    }

    async fn start_in(host: IpAddr, dir: TempDir) -> anyhow::Result<Self> {
        let (postern, base) = start::postern(dir.path(), host, &[]).await?;
        let api = Api::log_in(&base, OWNER, OWNER_PASSWORD).await?;
        Self::furnish(host, dir, postern, Vec::new(), api).await
    }

    /// Starts everything but a connector; console, API and gateways speak HTTPS, as the arguments of
    /// `postern up` say. `authority` is that of the console's certificate (PEM), if not the deployment's own.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start_https(
        host: IpAddr,
        arguments: Vec<OsString>,
        authority: Option<&str>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (postern, base) = start::postern(dir.path(), host, &arguments).await?;
        ensure!(base == format!("https://{host}:8080"), "the console is at {base}");
        let own = std::fs::read_to_string(dir.path().join("ca.crt"))?;
        let way = Way::open((host, 8080).into(), authority.unwrap_or(&own)).await?;
        let api = Api::log_in(&way.base(), OWNER, OWNER_PASSWORD).await?;
        let world = Self::furnish(host, dir, postern, Vec::new(), api).await?;
        Ok(Self { arguments, _way: Some(way), ..world })
    }

    /// Starts the control plane and each edge as a process of its own, as on machines of their own.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start_spread() -> anyhow::Result<Self> {
        let host = own_address();
        Self::start_spread_over(host, [Site::at(host), Site::at(host)]).await
    }

    /// The same with the edges at given places; everything else is at `host`.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start_spread_over(host: IpAddr, sites: [Site; 2]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let postern = start::control_plane(dir.path(), host, None).await?;
        let api = Api::log_in(&format!("http://{host}:8080"), OWNER, OWNER_PASSWORD).await?;
        let edges = start::edges(dir.path(), host, &sites, &api, &[]).await?;
        Self::furnish(host, dir, postern, edges, api).await
    }

    /// The same with two control planes on one PostgreSQL database: the world's, and another one with
    /// its API.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn start_shared() -> anyhow::Result<(Self, Postgres, (Process, Api))> {
        let (host, other) = (own_address(), own_address());
        let dir = tempfile::tempdir()?;
        let database = Postgres::start(dir.path()).await?;
        let url_file = Some(database.url_file());
        let postern = start::control_plane(dir.path(), host, url_file).await?;
        let api = Api::log_in(&format!("http://{host}:8080"), OWNER, OWNER_PASSWORD).await?;
        let second = start::control_plane(dir.path(), other, url_file).await?;
        let second_api =
            Api::log_in(&format!("http://{other}:8080"), OWNER, OWNER_PASSWORD).await?;
        let sites = [Site::at(host), Site::at(host)];
        let edges = start::edges(dir.path(), host, &sites, &api, &[host, other]).await?;
        let world = Self::furnish(host, dir, postern, edges, api).await?;
        Ok((world, database, (second, second_api)))
    }

    /// Kills an edge of a spread world and starts it again elsewhere, under the same name.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn move_edge(&mut self, region: usize, site: &Site) -> anyhow::Result<()> {
        let edge = self.edges.get_mut(region).context("the edges are not spread")?;
        edge.signal(Signal::SIGKILL)?;
        edge.ended().await?;
        self.start_edge(region, site).await
    }

    /// Starts an edge of a spread world again, which has ended.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start_edge(&mut self, region: usize, site: &Site) -> anyhow::Result<()> {
        let edge = start::edge(self.dir.path(), self.host, region, site, None, &[]).await?;
        *self.edges.get_mut(region).context("the edges are not spread")? = edge;
        Ok(())
    }

    /// Starts `postern up`, or the control plane of a spread world, again, which has ended.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start_postern(&mut self) -> anyhow::Result<()> {
        self.postern = match self.edges.is_empty() {
            true => start::postern(self.dir.path(), self.host, &self.arguments).await?.0,
            false => start::control_plane(self.dir.path(), self.host, None).await?,
        };
        Ok(())
    }

    async fn furnish(
        host: IpAddr,
        dir: TempDir,
        postern: Process,
        edges: Vec<Process>,
        api: Api,
    ) -> anyhow::Result<Self> {
        let team = api.post("/api/v1/teams", &json!({ "name": "automation" })).await?;
        let team = text(&team, "id")?;
        let tunnel = api.post("/api/v1/admin/tunnel", &json!({ "name": TUNNEL })).await?;
        let secret = text(&tunnel, "secret")?;
        let origin = Origin::start(host).await?;
        let (arguments, _way) = (Vec::new(), None);
        Ok(Self { postern, edges, api, origin, team, secret, host, dir, arguments, _way })
    }

    /// The address on which everything of this world listens.
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// Where the world keeps what lasts.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Stops `postern up` in good order and starts it again with the same data.
    ///
    /// # Errors
    /// If it does not leave, or does not come back.
    pub async fn restart_postern(&mut self) -> anyhow::Result<()> {
        self.postern.signal(Signal::SIGTERM)?;
        let status = self.postern.ended().await?;
        ensure!(status.success(), "postern up: {status}\n{}", self.postern.said());
        self.start_postern().await
    }

    /// Has `postern up` start anew in its place, and waits until it is up.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn restart_postern_in_place(&self) -> anyhow::Result<()> {
        let is_up = |line: &str| line.starts_with("Postern is up.");
        let before = self.postern.said_on_stdout().lines().filter(|line| is_up(line)).count();
        self.postern.signal(Signal::SIGUSR2)?;
        let seen = Cell::new(0);
        self.postern
            .find(|line| {
                seen.set(seen.get() + usize::from(is_up(line)));
                (seen.get() > before).then_some(())
            })
            .await
    }

    /// Ends its processes in good order.
    ///
    /// # Errors
    /// If one does not end.
    pub async fn end(self) -> anyhow::Result<()> {
        for process in self.edges.into_iter().chain([self.postern]) {
            process.end().await?;
        }
        Ok(())
    }

    /// A connector with nothing but the tunnel's secret; `transport` is `auto`, `quic` or `http2`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_connector(&self, transport: &str) -> anyhow::Result<Process> {
        Process::start("connector", self.connector(transport)?)
    }

    /// The same inside a private network.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_connector_in(
        &self,
        network: &Network,
        transport: &str,
    ) -> anyhow::Result<Process> {
        Process::start("connector", network.enter(self.connector(transport)?))
    }

    /// The command that starts a connector, for those who want to add to its environment.
    ///
    /// # Errors
    /// If the program was not built.
    pub fn connector(&self, transport: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(program("postern-connector")?);
        // How whoever runs the tests gets out is no matter of the world's.
        for name in ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command
            .env("TUNNEL_SECRET", &self.secret)
            .env("TUNNEL_TRANSPORT_PROTOCOL", transport)
            // Any free port: several worlds share this machine.
            .env("TUNNEL_METRICS_PORT", "0");
        Ok(command)
    }

    /// A connector whose four links the control plane has seen.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn connect(&self, transport: &str) -> anyhow::Result<Process> {
        let connector = self.start_connector(transport)?;
        self.wait_for_health("Healthy").await.with_context(|| connector.said())?;
        Ok(connector)
    }

    /// Waits until the tunnel's health is `wanted`.
    ///
    /// # Errors
    /// If it does not become so.
    pub async fn wait_for_health(&self, wanted: &str) -> anyhow::Result<Value> {
        let path = format!("/api/v1/admin/tunnel/{TUNNEL}/health");
        self.wait_for(&path, |health| health["health"] == wanted).await
    }

    /// Asks the API until the answer is as `wanted`.
    ///
    /// # Errors
    /// If it does not become so.
    pub async fn wait_for(
        &self,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let asking = async {
            let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
            loop {
                pace.tick().await;
                last = self.api.get(path).await?;
                if wanted(&last) {
                    return anyhow::Ok(());
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asking).await;
        asked.with_context(|| format!("{path} stays {last}\n{}", self.postern.said()))??;
        Ok(last)
    }

    /// The tunnel's links, as the control plane knows them.
    ///
    /// # Errors
    /// If the API does not tell.
    pub async fn links(&self) -> anyhow::Result<Vec<Link>> {
        links(&self.api.get(&format!("/api/v1/admin/tunnel/{TUNNEL}")).await?)
    }

    /// Waits until the tunnel has four links that are as `wanted`.
    ///
    /// # Errors
    /// If it does not become so.
    pub async fn wait_for_links(&self, wanted: impl Fn(&[Link]) -> bool) -> anyhow::Result<()> {
        let path = format!("/api/v1/admin/tunnel/{TUNNEL}");
        let are_wanted =
            |tunnel: &Value| links(tunnel).is_ok_and(|links| links.len() == 4 && wanted(&links));
        self.wait_for(&path, are_wanted).await?;
        Ok(())
    }

    /// Waits until every edge obeys a change, as its answer's `rollout` tells it. The answer itself
    /// waits for a second, which a busy machine may need longer than.
    ///
    /// # Errors
    /// If they do not come to obey it.
    pub async fn wait_for_rollout(&self, answer: &Value) -> anyhow::Result<()> {
        let rollout = &answer["rollout"];
        let generation = rollout["generation"].as_u64().context("no generation")?;
        let named =
            ["applied", "pending"].map(|field| rollout[field].as_array().map_or(0, Vec::len));
        ensure!(named.iter().sum::<usize>() == REGIONS.len(), "not every edge is named: {rollout}");
        let obey = |edges: &Value| {
            let mut edges = edges["items"].as_array().into_iter().flatten();
            edges.all(|edge| edge["applied_generation"].as_u64() >= Some(generation))
        };
        self.wait_for("/api/v1/edges", obey).await.map(drop)
    }

    /// A long-lived token for the gateways, owned by the world's team.
    ///
    /// # Errors
    /// If the API says no.
    pub async fn proxy_token(&self) -> anyhow::Result<String> {
        let body = json!({ "name": "test", "team": self.team });
        let created = self.api.post("/api/v1/proxy-tokens", &body).await?;
        self.wait_for_rollout(&created).await?;
        text(&created, "token")
    }

    /// A client that sends everything through a region's gateway.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn client(&self, region: usize, token: &str) -> anyhow::Result<reqwest::Client> {
        let proxy = reqwest::Proxy::all(format!("http://{}", self.gateway(region)))?;
        let client = reqwest::Client::builder().proxy(proxy.basic_auth(TUNNEL, token));
        Ok(client.build()?)
    }

    /// Address of a region's gateway.
    pub fn gateway(&self, region: usize) -> String {
        format!("{}:{}", self.host, GATEWAY_PORT + region as u16)
    }

    /// Process id of a region's edge.
    ///
    /// # Errors
    /// If it does not run.
    pub fn edge(&self, region: usize) -> anyhow::Result<u32> {
        if let Some(edge) = self.edges.get(region) {
            return edge.id();
        }
        let is_it = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == REGIONS[region].as_bytes())
        };
        children(self.postern.id()?)?.into_iter().find(is_it).context("the edge does not run")
    }

    /// Takes a workflow with one action to its end.
    ///
    /// # Errors
    /// If the API says no, or the run does not end within a minute.
    pub async fn run(&self, action: Value) -> anyhow::Result<Value> {
        let body = json!({ "team": self.team, "name": "test", "actions": [action] });
        let workflow = text(&self.api.post("/api/v1/workflows", &body).await?, "id")?;
        self.api.post(&format!("/api/v1/workflows/{workflow}/runs?wait=60"), &Value::Null).await
    }

    /// A GET through the tunnel, as an action.
    pub fn get_action(&self, url: &str) -> Value {
        json!({ "type": "http", "name": "get", "url": url, "use_tunnel": TUNNEL })
    }
}

fn links(tunnel: &Value) -> anyhow::Result<Vec<Link>> {
    let connectors = tunnel["connectors"].as_array().context("no connectors")?;
    let links = connectors.iter().filter_map(|connector| connector["links"].as_array());
    let link = |link| {
        Ok(Link {
            region: text(link, "region")?,
            transport: text(link, "transport")?,
            since: text(link, "since")?,
        })
    };
    links.flatten().map(link).collect()
}

/// A program of this workspace, built beside the one that runs.
///
/// # Errors
/// If it was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let mut directories = here.ancestors().skip(1).take(2);
    let found = directories.find_map(|directory| {
        let program = directory.join(name);
        program.is_file().then_some(program)
    });
    found.with_context(|| format!("{name} is not built: cargo build --workspace --bins"))
}

/// A loopback address that no other world has: worlds then need not share ports.
pub fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let [_, _, high, low] = process.to_be_bytes();
    // 127.0/16 is left to others.
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// A text field of a JSON object.
///
/// # Errors
/// If there is none.
pub fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    let text = value[field].as_str().with_context(|| format!("no {field} in {value}"))?;
    Ok(text.to_owned())
}
