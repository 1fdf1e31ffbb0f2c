//! A way from a client to the origin, and what it costs the processes in between.

use std::{net::SocketAddr, time::Duration};

use crate::process;

/// A way to the origin.
#[derive(Debug, Clone)]
pub struct Way {
    /// What it is called where one is chosen: `quic`.
    pub key: &'static str,
    /// What it is called where people read: `Postern, QUIC`.
    pub name: &'static str,
    /// Where clients connect.
    pub address: SocketAddr,
    /// What they put before the path: nothing, or the origin's URL for a proxy.
    pub prefix: String,
    /// `Proxy-Authorization`, for a proxy.
    pub authorization: Option<String>,
    /// Can a connection become a WebSocket?
    pub has_upgrades: bool,
    /// Processes at the clients' end: edge, server.
    pub near: Vec<u32>,
    /// Processes at the origin's end: connector, agent.
    pub far: Vec<u32>,
}

/// What the two ends of a way have used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time of both ends.
    pub cpu: Duration,
    /// Most memory that the clients' end held since [`Way::forget_peaks`], in bytes.
    pub near_peak: u64,
    /// Most memory that the origin's end held since [`Way::forget_peaks`], in bytes.
    pub far_peak: u64,
}

impl Way {
    /// Without anything in between.
    pub fn direct(origin: SocketAddr) -> Self {
        Self::pipe("direct", "direct", origin, Vec::new(), Vec::new())
    }

    /// One that clients take for the origin itself.
    pub fn pipe(
        key: &'static str,
        name: &'static str,
        address: SocketAddr,
        near: Vec<u32>,
        far: Vec<u32>,
    ) -> Self {
        let (prefix, authorization, has_upgrades) = (String::new(), None, true);
        Self { key, name, address, prefix, authorization, has_upgrades, near, far }
    }

    /// What both ends have used so far, their children included.
    ///
    /// # Errors
    /// If one of them has ended.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let (near, far) = (together(&self.near)?, together(&self.far)?);
        Ok(Usage { cpu: near.0 + far.0, near_peak: near.1, far_peak: far.1 })
    }

    /// Peaks of memory count from now on.
    ///
    /// # Errors
    /// If a process has ended.
    pub fn forget_peaks(&self) -> anyhow::Result<()> {
        for pid in self.near.iter().chain(&self.far) {
            for pid in process::tree(*pid)? {
                process::forget_peak(pid)?;
            }
        }
        Ok(())
    }

    /// A request of this way, without a body. `more` holds whole header lines.
    pub fn request(&self, method: &str, path: &str, more: &str) -> Vec<u8> {
        let host = self.prefix.strip_prefix("http://").unwrap_or("origin");
        let mut request = format!("{method} {}{path} HTTP/1.1\r\nhost: {host}\r\n", self.prefix);
        if let Some(authorization) = &self.authorization {
            request += &format!("proxy-authorization: {authorization}\r\n");
        }
        request += more;
        request += "\r\n";
        request.into_bytes()
    }
}

/// CPU time and peak of memory of some processes and their children.
fn together(pids: &[u32]) -> anyhow::Result<(Duration, u64)> {
    let (mut cpu, mut peak) = (Duration::ZERO, 0);
    for pid in pids {
        for pid in process::tree(*pid)? {
            let usage = process::usage(pid)?;
            cpu += usage.cpu;
            peak += usage.peak_rss;
        }
    }
    Ok((cpu, peak))
}
