//! A private network behind a router that can be told what to let through: what a firewall or a broken
//! line does to a connector. Made of network namespaces, so it needs root.
//!
//! ```text
//!  this machine ── veth ── router ── veth ── inside: the connector
//! ```
//!
//! The router is also where a proxy stands that a firewall leaves as the only way out: what the router
//! itself sends is not what it lets through.
//!
//! What is dropped is dropped by the router, as on a real path: a rule of the connector's own machine
//! would tell it by an error that its packets do not leave.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

mod inside;
mod line;

pub use self::{
    inside::{Inside, Task},
    line::Shape,
};

/// Networks that one process may make, each with a /28 of 10/8.
const MOST: u32 = 16;

/// The network; gone when dropped.
pub struct Network {
    /// Begins the name of everything it is made of. Short: an interface's name has 15 bytes at most.
    name: String,
    base: Ipv4Addr,
    /// How often the machine inside got a new address.
    moved: AtomicU32,
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
        let number = (pid * MOST + n) % (1 << 20);
        let network = Self {
            name: format!("p{pid}n{n}"),
            base: Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + (number << 4)),
            moved: AtomicU32::new(0),
        };
        let name = &network.name;
        let [here, near, far, inside, other, others] =
            [1, 2, 5, 6, 9, 8].map(|n| network.address(n));
        let made = shell(&format!(
            "ip netns add {name}r
             ip netns add {name}i
             ip link add {name}h type veth peer name near netns {name}r
             ip -n {name}i link add inside type veth peer name far netns {name}r
             ip address add {here}/30 dev {name}h
             ip address add {other}/32 dev {name}h
             ip -n {name}r address add {near}/30 dev near
             ip -n {name}r address add {far}/30 dev far
             ip -n {name}i address add {inside}/30 dev inside
             ip link set {name}h up
             ip -n {name}r link set near up
             ip -n {name}r link set far up
             ip -n {name}i link set inside up
             ip -n {name}i link set lo up
             ip -n {name}r link set lo up
             ip -n {name}r route add {others}/29 via {here}
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

    /// Another address of this machine: as good as a second machine.
    pub fn other_host(&self) -> IpAddr {
        self.address(9).into()
    }

    /// Gives all three IPv6 addresses, too; returns this machine's.
    ///
    /// # Errors
    /// If there is no IPv6 here.
    pub fn add_ipv6(&self) -> anyhow::Result<IpAddr> {
        let [_, a, b, c] = self.base.octets().map(u16::from);
        let address = |net, n| Ipv6Addr::new(0xfd00, 0, a, b, c, net, 0, n);
        let [here, near] = [1, 2].map(|n| address(0, n));
        let [far, inside] = [5, 6].map(|n| address(1, n));
        let name = &self.name;
        shell(&format!(
            "ip address add {here}/96 dev {name}h nodad
             ip -n {name}r address add {near}/96 dev near nodad
             ip -n {name}r address add {far}/96 dev far nodad
             ip -n {name}i address add {inside}/96 dev inside nodad
             ip route add {inside} via {near}
             ip -n {name}i route add default via {far}
             ip netns exec {name}r sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'"
        ))?;
        Ok(here.into())
    }

    /// The router's address, as the machine inside sees it.
    pub fn router(&self) -> IpAddr {
        self.address(5).into()
    }

    /// The same command, to be run on the router.
    pub fn enter_router(&self, command: Command) -> Command {
        self.enter_namespace("r", command)
    }

    /// Has the machine inside ask the router for names.
    ///
    /// # Errors
    /// If that cannot be configured.
    pub fn resolve_by_router(&self) -> anyhow::Result<()> {
        let settings = self.settings();
        fs::create_dir_all(&settings)?;
        let resolver = format!("nameserver {}\noptions timeout:1 attempts:1\n", self.router());
        fs::write(settings.join("resolv.conf"), resolver)?;
        Ok(())
    }

    /// What lies here takes the place of files in `/etc` for the machine inside (ip-netns(8)).
    fn settings(&self) -> PathBuf {
        PathBuf::from(format!("/etc/netns/{}i", self.name))
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
        self.enter_namespace("i", command)
    }

    fn enter_namespace(&self, which: &str, command: Command) -> Command {
        let command = command.as_std();
        let mut entered = Command::new("ip");
        entered.args(["netns", "exec", &format!("{}{which}", self.name)]);
        entered.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
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
        // It is there only if names were to be resolved.
        let _ = fs::remove_dir_all(self.settings());
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
