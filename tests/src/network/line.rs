//! What kind of line leads into a private network: slow, narrow, or moved elsewhere. Both directions are
//! the same, and so are UDP and TCP.

use std::{net::IpAddr, sync::atomic::Ordering};

use anyhow::Context as _;

use super::{Network, Rule, shell};

/// A burst that the line passes at full speed, in bytes: two packets, so that small ones are not delayed.
const BURST: u32 = 3_200;

/// A line with a bandwidth, until it is lifted or dropped.
#[must_use]
pub struct Shape<'a>(&'a Network);

impl Network {
    /// Makes the line slow, in either direction: `rate` as tc(8) writes it, such as `2mbit`; what exceeds
    /// the rate waits in a queue that takes as long as `queue` to drain, such as `500ms`, and is dropped
    /// beyond that.
    ///
    /// # Errors
    /// If tc cannot.
    pub fn shape(&self, rate: &str, queue: &str) -> anyhow::Result<Shape<'_>> {
        let name = &self.name;
        let shape = Shape(self);
        for interface in ["near", "far"] {
            shell(&format!(
                "tc -n {name}r qdisc replace dev {interface} root tbf rate {rate} burst {BURST} latency {queue}"
            ))
            .context("tc (iproute2) cannot make a slow line")?;
        }
        Ok(shape)
    }

    /// Lets no IP packet pass that is longer than `mtu` bytes, and tells nobody: what a tunnel on the way
    /// does whose ICMP messages a firewall drops.
    ///
    /// # Errors
    /// If `ip` cannot.
    pub fn narrow(&self, mtu: u16) -> anyhow::Result<Rule<'_>> {
        let name = &self.name;
        // The kernel passes TCP segments on in bundles, which would be judged by their whole length.
        shell(&format!(
            "ip link set {name}h gso_max_segs 1
             ip -n {name}i link set inside gso_max_segs 1
             ip -n {name}r link set near gso_max_segs 1
             ip -n {name}r link set far gso_max_segs 1"
        ))?;
        self.add_rule(&format!("-m length --length {}:65535 -j DROP", mtu + 1))
    }

    /// Gives the machine inside another address and takes the present one away, as a new lease does.
    /// Returns the new one.
    ///
    /// # Errors
    /// If `ip` cannot.
    pub fn move_inside(&self) -> anyhow::Result<IpAddr> {
        // The address that it begins with, and two that are as good.
        let moved = self.moved.fetch_add(1, Ordering::Relaxed);
        let numbers = [6, 13, 14];
        let at = |n: u32| self.address(numbers[n as usize % numbers.len()]);
        let (old, new, far) = (at(moved), at(moved + 1), self.address(5));
        let name = &self.name;
        shell(&format!(
            "ip -n {name}r route replace {new} dev far
             ip route replace {new} via {near}
             ip -n {name}i address add {new}/32 dev inside
             ip -n {name}i route replace {far} dev inside src {new}
             ip -n {name}i route replace default via {far} src {new}
             ip -n {name}i address flush dev inside to {old}
             ip -n {name}i route replace {far} dev inside src {new}
             ip -n {name}i route replace default via {far} src {new}",
            near = self.address(2),
        ))?;
        Ok(new.into())
    }
}

impl Shape<'_> {
    /// Makes the line fast again.
    pub fn lift(self) {}
}

impl Drop for Shape<'_> {
    fn drop(&mut self) {
        for interface in ["near", "far"] {
            // A network that is gone has no line either.
            let _ = shell(&format!("tc -n {}r qdisc delete dev {interface} root", self.0.name));
        }
    }
}
