//! A running edge with everything around it.

use std::{collections::BTreeSet, future::Future, net::SocketAddr, sync::LazyLock, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use edge::{Edge, Options};
use http::Request;
use hyper_util::rt::TokioIo;
use protocol::{
    access::Access,
    claims::{AUDIENCE, Capability, ISSUER, TYPE},
    credential::{CredentialSecret, ProxyToken},
    feed::{FeedProxyToken, FeedTokenKey, FeedTunnel, FeedTunnelKey, Item},
    id::{KeyId, ProxyTokenId, TeamId, TenantId, TunnelId, WorkflowId},
    key::{PublicKey, Seed},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    client::{self, Whole},
    control_plane::ControlPlane,
};

pub const TENANT: TenantId = TenantId::from_bytes([0x10; 16]);
pub const OTHER_TENANT: TenantId = TenantId::from_bytes([0x11; 16]);
pub const TEAM: TeamId = TeamId::from_bytes([0x20; 16]);
pub const TUNNEL: TunnelId = TunnelId::from_bytes([0x30; 16]);
pub const OTHER_TUNNEL: TunnelId = TunnelId::from_bytes([0x31; 16]);
pub const KEY: KeyId = KeyId::from_bytes([0x40; 16]);
pub const TOKEN: ProxyTokenId = ProxyTokenId::from_bytes([0x50; 16]);
pub const NAME: &str = "office";

/// Bounds every wait; no test relies on its length.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens within 30 seconds")
}

pub fn seed() -> Seed {
    Seed::from_bytes([7; 32])
}

static SIGNER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap().as_ref().to_vec()
});

pub fn tunnel() -> FeedTunnel {
    FeedTunnel {
        id: TUNNEL,
        tenant: TENANT,
        name: NAME.parse().unwrap(),
        access: Access::AnyTeam,
        keys: vec![FeedTunnelKey { id: KEY, public_key: seed().public_key(), revoked: false }],
        orders: vec![],
    }
}

/// The tunnel, closed to every team.
pub fn closed_tunnel() -> FeedTunnel {
    FeedTunnel { access: Access::Teams { teams: BTreeSet::new() }, ..tunnel() }
}

/// The tunnel with its secret revoked.
pub fn revoked_tunnel() -> FeedTunnel {
    let mut tunnel = tunnel();
    tunnel.keys[0].revoked = true;
    tunnel
}

pub fn items() -> Vec<Item> {
    let signer = Ed25519KeyPair::from_pkcs8(&SIGNER).unwrap();
    let public_key = PublicKey::try_from(signer.public_key().as_ref()).unwrap();
    let stranger = FeedTunnel {
        id: OTHER_TUNNEL,
        tenant: OTHER_TENANT,
        name: "theirs".parse().unwrap(),
        ..tunnel()
    };
    vec![
        Item::Tunnel(tunnel()),
        Item::Tunnel(stranger),
        Item::TokenKey(FeedTokenKey { kid: "k1".into(), public_key }),
        Item::ProxyToken(token()),
    ]
}

/// The proxy token, as the feed has it.
pub fn token() -> FeedProxyToken {
    FeedProxyToken {
        id: TOKEN,
        digest: CredentialSecret::from_bytes([9; 32]).digest(),
        tenant: TENANT,
        team: TEAM,
        workflow: None,
        expires_at: u64::MAX,
        response_timeout_s: None,
    }
}

pub fn proxy_token() -> String {
    let secret = CredentialSecret::from_bytes([9; 32]);
    ProxyToken { id: TOKEN, secret }.encode().to_string()
}

pub fn capability(tunnel: TunnelId, tenant: TenantId) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let capability = Capability {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        sub: WorkflowId::from_bytes([0x60; 16]),
        tenant,
        team: TEAM,
        tunnel,
        exp: now + 300,
        nbf: now,
        iat: now,
        jti: "1".into(),
    };
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    header.typ = Some(TYPE.into());
    header.kid = Some("k1".into());
    let key = jsonwebtoken::EncodingKey::from_ed_der(&SIGNER);
    jsonwebtoken::encode(&header, &capability, &key).unwrap()
}

pub struct World {
    pub control_plane: ControlPlane,
    pub options: Options,
    pub links: SocketAddr,
    pub gateway: SocketAddr,
    pub metrics: SocketAddr,
    pub shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
    _data_dir: tempfile::TempDir,
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// Options as an operator would give them, on free ports of this machine; with one worker, so that the
/// links with the least under way are always the ones that are picked.
pub fn options(data_dir: &std::path::Path) -> Options {
    let arguments = ["edge", "--region", "eu", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let more = ["--gateway-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    let more = more.into_iter().chain(["--workers", "1", "--data-dir"]);
    let arguments = arguments.into_iter().chain(more.map(str::to_owned));
    let arguments = arguments.chain([data_dir.to_str().unwrap().to_owned()]);
    <Arguments as clap::Parser>::parse_from(arguments).options
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with_workers(count: u8) -> Self {
        Self::with(|options| options.workers = Some(count)).await
    }

    pub async fn with(set: impl FnOnce(&mut Options)) -> Self {
        let control_plane = ControlPlane::start(items()).await;
        let data_dir = tempfile::tempdir().unwrap();
        let mut options = options(data_dir.path());
        options.join_token = Some(Zeroizing::new(control_plane.join_token()).into());
        set(&mut options);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = Self {
            control_plane,
            options,
            links: any,
            gateway: any,
            metrics: any,
            shutdown: CancellationToken::new(),
            running: None,
            _data_dir: data_dir,
        };
        world.start().await;
        let generation = world.control_plane.generation();
        world.control_plane.until(|heard| heard.applied >= generation).await;
        world
    }

    /// Starts the edge, at the same addresses if it ran before.
    pub async fn start(&mut self) {
        let edge = patiently(Edge::bind(self.options.clone())).await.unwrap();
        (self.links, self.gateway) = (edge.link_addr(), edge.gateway_addr());
        self.metrics = edge.metrics_addr();
        self.options.listen = self.links;
        self.options.gateway_listen = self.gateway;
        self.options.metrics_listen = self.metrics;
        self.shutdown = CancellationToken::new();
        self.running = Some(tokio::spawn(edge.run(self.shutdown.clone())));
    }

    /// Starts another edge beside the one that runs, which it takes over from; returns the older one.
    pub async fn start_beside(&mut self) -> JoinHandle<()> {
        let older = self.running.take().unwrap();
        let before = (self.links, self.gateway, self.metrics);
        self.start().await;
        assert_eq!((self.links, self.gateway, self.metrics), before);
        older
    }

    /// Ends the edge as a crash would.
    pub async fn crash(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = patiently(running).await;
    }

    /// Goes on with an edge that was there before.
    pub fn resume(&mut self, running: JoinHandle<()>) {
        self.running = Some(running);
    }

    /// What the edge tells about itself.
    pub async fn observe(&self, path: &str) -> Whole {
        let io = TokioIo::new(client::connect(self.metrics).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "edge").body(client::empty()).unwrap();
        Whole::of(patiently(sender.send_request(request)).await.unwrap()).await
    }

    /// One of the edge's metrics.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.observe("/metrics").await.body;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().parse().unwrap()
    }

    /// Waits until one of the edge's metrics has this value.
    pub async fn metric_until(&self, name: &str, value: u64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently(reached).await;
    }

    /// Stops the edge and waits until it has left.
    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        self.left().await;
    }

    /// Waits until the edge has left.
    pub async fn left(&mut self) {
        patiently(self.running.take().unwrap()).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}
