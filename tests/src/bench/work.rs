//! The catalogue: what is measured, how, and which figures of it are shown.

use super::{
    load::{Ask, Until},
    metric::Metric::{self, *},
};

const GIGABYTE: u64 = 1_000_000_000;

/// Something that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// What it is called where one is chosen: `small-64`.
    pub key: &'static str,
    /// What it is called where people read.
    pub title: &'static str,
    /// How it is done.
    pub kind: Kind,
    /// The figures of its table; the first is the one that ways are compared by.
    pub shows: &'static [Metric],
}

/// How a work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Load over every way.
    Load {
        /// What each client asks for.
        ask: Ask,
        /// Clients at once.
        clients: usize,
        /// How often each asks.
        until: Until,
    },
    /// Memory of an idle deployment, and for each stream that it holds.
    Memory,
    /// Links in numbers: how fast an edge takes them, and its memory for each.
    Links,
    /// A connector starts.
    ColdStart,
    /// An edge is killed.
    EdgeDeath,
    /// UDP packets vanish under live links.
    UdpDeath,
}

const REQUESTS: &[Metric] =
    &[Rate, P50, P99, CpuPerRequest, NearPeak, FarPeak, OwnCpuPerRequest, Idle];
const BODIES: &[Metric] = &[Throughput, CpuPerGigabyte, NearPeak, FarPeak];

/// Everything that `make bench` measures, in this order.
pub const WORKS: [Work; 17] = [
    requests("small-1", "1 KB requests, 1 client", Ask::Download(1_000), 1),
    requests("small-16", "1 KB requests, 16 clients", Ask::Download(1_000), 16),
    requests("small-64", "1 KB requests, 64 clients", Ask::Download(1_000), 64),
    requests("small-256", "1 KB requests, 256 clients", Ask::Download(1_000), 256),
    requests(
        "connections",
        "1 KB requests, each on a new connection, 16 clients",
        Ask::Reconnect(1_000),
        16,
    ),
    Work {
        key: "100k",
        title: "100 KB answers, 64 clients",
        kind: Kind::Load { ask: Ask::Download(100_000), clients: 64, until: Until::Elapsed },
        shows: &[Rate, Throughput, CpuPerRequest, CpuPerGigabyte, P99, NearPeak, FarPeak],
    },
    bodies("down", "1 GB down, one stream", Ask::Download(GIGABYTE), 1),
    bodies("up", "1 GB up, one stream", Ask::Upload(GIGABYTE), 1),
    bodies("parallel", "10 MB down, 64 streams at once", Ask::Download(10_000_000), 64),
    requests("websocket-1", "WebSocket echoes of 64 bytes, 1 client", Ask::Echo, 1),
    requests("websocket-64", "WebSocket echoes of 64 bytes, 64 clients", Ask::Echo, 64),
    Work {
        key: "first-byte",
        title: "First byte of a streamed answer, 1 client",
        kind: Kind::Load { ask: Ask::FirstByte, clients: 1, until: Until::Elapsed },
        shows: &[P50, P99],
    },
    Work {
        key: "memory",
        title: "Memory, idle and for each open stream",
        kind: Kind::Memory,
        shows: &[ConnectorIdle, EdgeIdle, ConnectorPerStream, EdgePerStream],
    },
    Work {
        key: "links",
        title: "Links that an edge takes and holds",
        kind: Kind::Links,
        shows: &[Handshakes, CpuPerHandshake, EdgePerLink],
    },
    Work {
        key: "cold-start",
        title: "From a connector's start to the first answer through it",
        kind: Kind::ColdStart,
        shows: &[ColdStart],
    },
    Work {
        key: "edge-death",
        title: "From an edge's SIGKILL to four links, spread as before",
        kind: Kind::EdgeDeath,
        shows: &[Recovery],
    },
    Work {
        key: "udp-death",
        title: "From the loss of all UDP to four links on HTTP/2",
        kind: Kind::UdpDeath,
        shows: &[Recovery],
    },
];

const fn requests(key: &'static str, title: &'static str, ask: Ask, clients: usize) -> Work {
    let kind = Kind::Load { ask, clients, until: Until::Elapsed };
    Work { key, title, kind, shows: REQUESTS }
}

const fn bodies(key: &'static str, title: &'static str, ask: Ask, clients: usize) -> Work {
    let kind = Kind::Load { ask, clients, until: Until::Once };
    Work { key, title, kind, shows: BODIES }
}

impl Work {
    /// Is it meant by `name`, its own or that of its family, such as `small`?
    pub fn is_named(&self, name: &str) -> bool {
        self.key == name || self.key.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_is_named_by_itself_or_by_its_family() {
        let named = |name| WORKS.iter().filter(move |work| work.is_named(name)).count();
        assert_eq!((named("small"), named("small-1"), named("100k"), named("sm")), (4, 1, 1, 0));
    }
}
