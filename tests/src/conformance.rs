//! Conformance: what the standards say of HTTP/1.1, HTTP/2 and WebSocket, asked of Postern over both
//! carriers, and of a direct connection and of HAProxy beside it.
//!
//! ```text
//!  corpus ──► script ──► client ──► way: direct, QUIC, HTTP/2, HAProxy ──► origin, servers
//!    │                     └──────────────── message ───────────────────────┘
//!    └──────► expect: did the origin see, and the client get, what the standard says?
//!
//!  http2      the gateway's own HTTP/2, frame by frame
//!  websocket  frames to an echo server; autobahn: many more of them
//!  table      verdicts way by way ──► report: docs/conformance.md
//! ```
//!
//! All of it is `make conformance`, which writes `docs/conformance.md`.

pub mod autobahn;
pub mod client;
pub mod corpus;
pub mod expect;
pub mod haproxy;
pub mod http2;
pub mod message;
pub mod origin;
pub mod report;
pub mod run;
pub mod script;
pub mod servers;
pub mod table;
pub mod way;
pub mod websocket;

use std::net::SocketAddr;

use corpus::Case;
use origin::Origin;
use servers::Server;
use table::{Row, Table};
use way::{Kind, Way};
use websocket::Echo;

/// All that stands at the far end of the ways.
pub struct Stage {
    /// The corpus.
    pub cases: Vec<Case>,
    /// Servers that are not installed here, and why.
    pub missing: Vec<(servers::Kind, String)>,
    /// One for each case.
    origins: Vec<Origin>,
    http2: Vec<Origin>,
    servers: Vec<Server>,
    echo: Echo,
}

/// All that was found.
pub struct Tables {
    /// HTTP/1.1 messages.
    pub http1: Table,
    /// HTTP/2 frames.
    pub http2: Table,
    /// What other servers understood.
    pub servers: Table,
    /// WebSocket frames.
    pub websocket: Table,
}

impl Tables {
    /// All of them.
    pub fn all(&self) -> [&Table; 4] {
        [&self.http1, &self.http2, &self.servers, &self.websocket]
    }

    /// See [`Table::surprises`].
    pub fn surprises(&self) -> Vec<String> {
        self.all().into_iter().flat_map(Table::surprises).collect()
    }
}

impl Stage {
    /// Sets everything up, with the cases that `wanted` wants by their names.
    ///
    /// # Errors
    /// If the corpus is not understood, or an origin does not come up.
    pub async fn set(wanted: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        let host = way::origin_address();
        let mut cases = corpus::load()?;
        cases.retain(|case| wanted(&case.name));
        let mut origins = Vec::new();
        for _ in &cases {
            origins.push(Origin::start(host).await?);
        }
        let (mut servers, mut missing) = (Vec::new(), Vec::new());
        for kind in servers::KINDS {
            match Server::start(kind, host).await {
                Ok(server) => servers.push(server),
                // It is the one that no other test needs.
                Err(error) if kind == servers::Kind::Node => {
                    missing.push((kind, format!("{error:#}")));
                }
                Err(error) => return Err(error.context(kind.name())),
            }
        }
        let http2 = http2::origins(host).await?;
        let echo = Echo::start(host).await?;
        Ok(Self { cases, missing, origins, http2, servers, echo })
    }

    /// Tables without verdicts.
    pub fn tables(&self) -> Tables {
        let row = |group: &str, name: &str, known| Row {
            group: group.to_owned(),
            name: name.to_owned(),
            verdicts: Vec::new(),
            known,
        };
        let http1 =
            self.cases.iter().map(|case| row(&case.section, &case.name, case.known.clone()));
        let http2 =
            http2::named().into_iter().map(|case| row(&case.section, case.name, case.known));
        let mut servers = Vec::new();
        for server in &self.servers {
            for name in servers::names(&self.cases) {
                servers.push(row(server.kind.name(), &name, Vec::new()));
            }
        }
        let websocket = websocket::names().into_iter().map(|name| row("frames", name, Vec::new()));
        Tables {
            http1: Table::new("HTTP/1.1", http1.collect()),
            http2: Table::new("HTTP/2", http2.collect()),
            servers: Table::new("Smuggling past other servers", servers),
            websocket: Table::new("WebSocket", websocket.collect()),
        }
    }

    /// Where everything listens, in the order of the ways' doors.
    fn addresses(&self) -> Vec<SocketAddr> {
        let origins = self.origins.iter().chain(&self.http2).map(|origin| origin.address);
        let servers = self.servers.iter().map(|server| server.address);
        origins.chain(servers).chain([self.echo.address]).collect()
    }

    /// Opens a way to all of it.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn open(&self, kind: Kind) -> anyhow::Result<Way> {
        Way::open(kind, &self.addresses(), "").await
    }

    /// Runs everything over one way but Autobahn.
    ///
    /// # Errors
    /// If something is not understood or does not come up; not if something differs.
    pub async fn run(&self, way: &Way, tables: &mut Tables) -> anyhow::Result<()> {
        let kind = way.kind;
        tables.http1.add(kind, run::corpus(&self.cases, &self.origins, way).await?);
        let from = self.origins.len();
        let http2 = match kind {
            Kind::Direct => vec![run::Verdict::Unasked; http2::named().len()],
            Kind::Postern(_) => http2::run(&self.http2, way, from).await?,
            Kind::Haproxy => {
                // A door of its own: this one speaks HTTP/2 to those who begin with it.
                let addresses: Vec<_> = self.http2.iter().map(|origin| origin.address).collect();
                let way = Way::open(kind, &addresses, "proto h2").await?;
                let verdicts = http2::run(&self.http2, &way, 0).await?;
                way.close().await?;
                verdicts
            }
        };
        tables.http2.add(kind, http2);
        let from = from + self.http2.len();
        let mut verdicts = Vec::new();
        for (n, server) in self.servers.iter().enumerate() {
            verdicts.extend(servers::run(&self.cases, server, way, from + n).await?);
        }
        tables.servers.add(kind, verdicts);
        tables.websocket.add(kind, websocket::run(&self.echo, way, self.echo_door()).await?);
        Ok(())
    }

    /// Runs Autobahn over one way.
    ///
    /// # Errors
    /// If it does not come to an end.
    pub async fn autobahn(
        &self,
        autobahn: &autobahn::Autobahn,
        way: &Way,
    ) -> anyhow::Result<autobahn::Report> {
        let host = self.echo.address.ip();
        let door = autobahn::Door::open(host, way, self.echo_door(), self.echo.address).await?;
        autobahn.run(door.address).await
    }

    fn echo_door(&self) -> usize {
        self.origins.len() + self.http2.len() + self.servers.len()
    }
}
