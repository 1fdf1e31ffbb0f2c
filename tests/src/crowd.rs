//! Connectors that want nothing but links to one edge: many of them, at little cost.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use link::{
    dial::{Dialer, Dialled, Identity, Target},
    tls::Trust,
};
use protocol::{
    SLOTS,
    control::{Facts, FromConnector},
    id::ConnectorId,
    presence::Transport,
    secret::TunnelSecret,
};
use tokio::net::{TcpStream, lookup_host};

use crate::world::REGIONS;

/// A connector whose dial is not answered dials again, and so do these, so often.
const DIALS: usize = 5;
/// Until a dial counts as not answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// They share a secret, and have four links each.
pub struct Crowd {
    dialer: Dialer,
    secret: TunnelSecret,
    target: Target,
}

impl Crowd {
    /// Connectors with this secret, whose links are to lead to the edge of a region.
    ///
    /// # Errors
    /// If the secret is none, or does not name the edge.
    pub async fn of(secret: &str, region: usize, transport: Transport) -> anyhow::Result<Self> {
        let secret = TunnelSecret::decode(secret)?;
        let pin = secret.ca_pin.context("a secret of this deployment holds a pin")?;
        let mut edges = secret.edges.iter();
        let edge = edges.find(|edge| edge.region.as_str() == REGIONS[region]);
        let address = &edge.context("the secret does not name the edge")?.address;
        let server_name = address.host.clone();
        let address = lookup_host((server_name.as_str(), address.port)).await?.next();
        let address = address.context("the edge has no address")?;
        let target = Target { transport, address, server_name, slot: 0, lane: 0 };
        Ok(Self { dialer: Dialer::new(&Trust::Pinned(pin))?, secret, target })
    }

    /// Brings the `n`-th link up.
    ///
    /// # Errors
    /// If no dial is answered, or the edge says no.
    pub async fn dial(&self, n: u32) -> anyhow::Result<Dialled> {
        let (target, identity) = (self.target(n), self.identity(n));
        let mut last = anyhow::anyhow!("no dial was answered");
        for _ in 0..DIALS {
            let dial = self.dialer.dial(&target, &identity);
            match tokio::time::timeout(ANSWER_WITHIN, dial).await {
                Ok(Ok(dialled)) => return greet(dialled, identity.facts).await,
                Ok(Err(error)) => last = error.into(),
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// Brings the `n`-th link up on a connection that is the caller's to break; it must lead to
    /// [`Self::address`], and the crowd's links be over HTTP/2.
    ///
    /// # Errors
    /// If the edge says no.
    pub async fn dial_on(&self, stream: TcpStream, n: u32) -> anyhow::Result<Dialled> {
        let Target { server_name, slot, .. } = self.target(n);
        let identity = self.identity(n);
        let dialled = self.dialer.dial_on(stream, &server_name, slot, &identity).await?;
        greet(dialled, identity.facts).await
    }

    /// Where the edge takes links.
    pub fn address(&self) -> SocketAddr {
        self.target.address
    }

    fn target(&self, n: u32) -> Target {
        Target { slot: (n % u32::from(SLOTS)) as u8, ..self.target.clone() }
    }

    fn identity(&self, n: u32) -> Identity {
        let connector = u128::from(n / u32::from(SLOTS));
        Identity {
            tunnel: self.secret.tunnel,
            key: self.secret.key,
            seed: self.secret.seed.clone(),
            connector: ConnectorId::from_bytes(connector.to_be_bytes()),
            facts: Facts::default(),
        }
    }
}

/// A link is up with its first message.
async fn greet(mut link: Dialled, facts: Facts) -> anyhow::Result<Dialled> {
    link.control_sender.send(&FromConnector::Facts(facts)).await?;
    Ok(link)
}
