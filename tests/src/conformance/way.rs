//! The ways from a client to an origin that are compared.

use std::net::{IpAddr, SocketAddr};

use protocol::presence::Transport;

use super::haproxy::Haproxy;
use crate::{
    bench::postern,
    process::Process,
    world::{World, own_address},
};

/// A way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing in between.
    Direct,
    /// Postern, its links over one carrier.
    Postern(Transport),
    /// HAProxy, one of it, as a reverse proxy.
    Haproxy,
}

impl Kind {
    /// What it is called where one is chosen.
    pub fn key(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Postern(carrier) => carrier.as_str(),
            Self::Haproxy => "haproxy",
        }
    }

    /// What tells it from the others in a name.
    pub fn letter(self) -> char {
        match self {
            Self::Direct => 'd',
            Self::Postern(Transport::Quic) => 'q',
            Self::Postern(Transport::Http2) => '2',
            Self::Haproxy => 'p',
        }
    }

    /// What it is called where people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Postern(carrier) => postern::name(carrier),
            Self::Haproxy => "HAProxy",
        }
    }

    /// Is Postern in between?
    pub fn is_postern(self) -> bool {
        matches!(self, Self::Postern(_))
    }
}

/// A way that is up.
pub struct Way {
    /// Which one.
    pub kind: Kind,
    /// What `Proxy-Authorization` holds, for a proxy.
    pub credentials: Option<String>,
    doors: Doors,
}

enum Doors {
    Origins(Vec<SocketAddr>),
    Gateway { gateway: SocketAddr, world: Box<World>, connector: Process },
    Haproxy(Haproxy),
}

impl Way {
    /// Opens a way to `origins`; `bind` are options for HAProxy's doors, if it speaks anything but HTTP/1.1.
    ///
    /// # Errors
    /// If anything does not come up.
    pub async fn open(kind: Kind, origins: &[SocketAddr], bind: &str) -> anyhow::Result<Self> {
        let (credentials, doors) = match kind {
            Kind::Direct => (None, Doors::Origins(origins.to_vec())),
            Kind::Postern(carrier) => {
                let world = Box::new(World::start().await?);
                let connector = world.connect(carrier.as_str()).await?;
                let way = postern::way(&world, carrier, "", Vec::new()).await?;
                let gateway = way.address;
                (way.authorization, Doors::Gateway { gateway, world, connector })
            }
            Kind::Haproxy => {
                let haproxy = Haproxy::start(own_address(), origins, bind).await?;
                (None, Doors::Haproxy(haproxy))
            }
        };
        Ok(Self { kind, credentials, doors })
    }

    /// Where the client of the `n`th origin connects.
    pub fn door(&self, n: usize) -> SocketAddr {
        match &self.doors {
            Doors::Origins(origins) => origins[n],
            Doors::Gateway { gateway, .. } => *gateway,
            Doors::Haproxy(haproxy) => haproxy.doors[n],
        }
    }

    /// The version of what stands in between, if it is not of this repository.
    pub fn version(&self) -> Option<&str> {
        match &self.doors {
            Doors::Haproxy(haproxy) => Some(&haproxy.version),
            Doors::Origins(_) | Doors::Gateway { .. } => None,
        }
    }

    /// Closes it.
    ///
    /// # Errors
    /// If a process does not end.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.doors {
            Doors::Origins(_) => Ok(()),
            Doors::Gateway { world, connector, .. } => {
                connector.end().await?;
                world.end().await
            }
            Doors::Haproxy(haproxy) => haproxy.end().await,
        }
    }
}

/// A loopback address for origins.
pub fn origin_address() -> IpAddr {
    own_address()
}
