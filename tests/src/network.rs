//! A private network behind a router that can be told what to let through: what a firewall or a broken
//! line does to a connector. Made of network namespaces, so it needs root.
//!
//! ```text
//!  this machine ── veth ── router ── veth ── inside: the connector
//! ```
//!
//! What is dropped is dropped by the router, as on a real path: a rule of the connector's own machine
//! would tell it by an error that its packets do not leave.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// Networks that one process may make, each with a /29 of 10/8.
const MOST: u32 = 16;

/// The network; gone when dropped.
pub struct Network {
    /// Begins the name of everything it is made of. Short: an interface's name has 15 bytes at most.
    name: String,
    base: Ipv4Addr,
}

/// A rule of the router, until it is lifted.
#[must_use]
pub struct Rule<'a> {
    network: &'a Network,
    rule: String,
}

impl Network {
    /// Makes a network from which this machine can be reached.
    ///
    /// # Errors
    /// If this is not root, or `ip` or `iptables` does not work here.
    pub fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ensure!(n < MOST, "a process can make {MOST} networks");
        let number = (pid * MOST + n) % (1 << 21);
        let network = Self {
            name: format!("p{pid}n{n}"),
            base: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + (number << 3)),
        };
        let name = &network.name;
        let [here, near, far, inside] = [1, 2, 5, 6].map(|n| network.address(n));
        let made = shell(&format!(
            "ip netns add {name}r
             ip netns add {name}i
             ip link add {name}h type veth peer name near netns {name}r
             ip -n {name}i link add inside type veth peer name far netns {name}r
             ip address add {here}/30 dev {name}h
             ip -n {name}r address add {near}/30 dev near
             ip -n {name}r address add {far}/30 dev far
             ip -n {name}i address add {inside}/30 dev inside
             ip link set {name}h up
             ip -n {name}r link set near up
             ip -n {name}r link set far up
             ip -n {name}i link set inside up
             ip -n {name}i link set lo up
             ip route add {inside} via {near}
             ip -n {name}i route add default via {far}
             ip netns exec {name}r sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
             ip netns exec {name}r iptables -w -P FORWARD ACCEPT"
        ));
        made.context("this test makes network namespaces: it needs root, iproute2 and iptables")?;
        Ok(network)
    }

    /// This machine's address, as the network sees it.
    pub fn host(&self) -> IpAddr {
        self.address(1).into()
    }

    /// The address of the machine inside, as this machine sees it.
    pub fn inside(&self) -> IpAddr {
        self.address(6).into()
    }

    /// The network namespace of the machine inside.
    pub fn namespace(&self) -> String {
        format!("{}i", self.name)
    }

    /// The same command, to be run inside.
    pub fn enter(&self, command: Command) -> Command {
        let command = command.as_std();
        let mut entered = Command::new("ip");
        entered.args(["netns", "exec", &self.namespace()]);
        entered.arg(command.get_program()).args(command.get_args());
        entered.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        entered
    }

    /// Adds a rule for what is to pass the router, in the words of iptables.
    ///
    /// # Errors
    /// If iptables does not take it.
    pub fn add_rule(&self, rule: &str) -> anyhow::Result<Rule<'_>> {
        let rule = Rule { network: self, rule: rule.to_owned() };
        rule.iptables("-A")?;
        Ok(rule)
    }

    fn address(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + n)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let name = &self.name;
        let parts = [format!("link delete {name}h"), format!("netns delete {name}i")];
        for part in parts.into_iter().chain([format!("netns delete {name}r")]) {
            // One that could not be made cannot be removed.
            let _ = shell(&format!("ip {part}"));
        }
    }
}

impl Rule<'_> {
    /// Takes the rule away again.
    ///
    /// # Errors
    /// If iptables cannot.
    pub fn lift(self) -> anyhow::Result<()> {
        self.iptables("-D")
    }

    fn iptables(&self, verb: &str) -> anyhow::Result<()> {
        let (name, rule) = (&self.network.name, &self.rule);
        shell(&format!("ip netns exec {name}r iptables -w {verb} FORWARD {rule}"))
    }
}

fn shell(script: &str) -> anyhow::Result<()> {
    let mut shell = std::process::Command::new("sh");
    // Not everybody has these in the path.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = shell.env("PATH", path).args(["-ec", script]).output().context("no shell")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}\n{}: {said}", output.status);
    Ok(())
}
