//! What an operator can set. Every flag has an environment variable; the join token has no flag,
//! because arguments can be read by everybody on the machine.

use std::{fmt, net::SocketAddr, num::NonZero, path::PathBuf, thread, time::Duration};

use clap::builder::BoolishValueParser;
use protocol::{address::HostPort, name::RegionName};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Most workers of one edge.
pub const MAX_WORKERS: u8 = 64;
/// Variable that holds the join token.
pub const JOIN_TOKEN_VARIABLE: &str = "POSTERN_JOIN_TOKEN";

/// Settings of one edge.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory for the edge's identity and its last good feed
    #[arg(long, env = "POSTERN_EDGE_DATA_DIR", default_value = "postern-edge")]
    pub data_dir: PathBuf,

    /// Region in which the edge stands
    #[arg(long, env = "POSTERN_EDGE_REGION", default_value = "default")]
    pub region: RegionName,

    /// Where connectors' links are accepted: UDP and TCP
    #[arg(long, env = "POSTERN_EDGE_LISTEN", default_value = "0.0.0.0:7844")]
    pub listen: SocketAddr,

    /// Where connectors reach the edge, if not at the address of --listen
    #[arg(long, env = "POSTERN_EDGE_ADDRESS", value_name = "HOST:PORT")]
    pub address: Option<HostPort>,

    /// A second TCP address for links, for networks that let nothing but 443 out
    #[arg(long, env = "POSTERN_EDGE_FALLBACK_LISTEN")]
    pub fallback_listen: Option<SocketAddr>,

    /// Port under which connectors reach --fallback-listen, if another one
    #[arg(long, env = "POSTERN_EDGE_FALLBACK_PORT", requires = "fallback_listen")]
    pub fallback_port: Option<u16>,

    /// Where the gateway, an HTTP proxy, is offered
    #[arg(long, env = "POSTERN_EDGE_GATEWAY_LISTEN", default_value = "0.0.0.0:3128")]
    pub gateway_listen: SocketAddr,

    /// Where workflows reach the gateway, if not at the host of --address
    #[arg(long, env = "POSTERN_EDGE_GATEWAY_ADDRESS", value_name = "HOST:PORT")]
    pub gateway_address: Option<HostPort>,

    /// PEM file with the gateway's certificate, and behind it those of its issuers; read again when it changes.
    /// Without it the gateway shows the edge's own certificate
    #[arg(long, env = "POSTERN_EDGE_GATEWAY_TLS_CERT", value_name = "FILE")]
    pub gateway_tls_cert: Option<PathBuf>,

    /// PEM file with that certificate's key, not encrypted
    #[arg(long, env = "POSTERN_EDGE_GATEWAY_TLS_KEY", value_name = "FILE")]
    pub gateway_tls_key: Option<PathBuf>,

    /// Have the gateway speak TLS where only this machine reaches it, too; elsewhere it does without being told
    #[arg(long, env = "POSTERN_EDGE_GATEWAY_TLS", value_parser = BoolishValueParser::new())]
    pub gateway_tls: bool,

    /// Have the gateway speak plain HTTP although others reach it: on a network that you trust, or behind a
    /// proxy that ends TLS
    #[arg(long, env = "POSTERN_EDGE_GATEWAY_INSECURE_HTTP", value_parser = BoolishValueParser::new())]
    pub gateway_insecure_http: bool,

    /// Where /metrics, /healthz and /ready are offered
    #[arg(long, env = "POSTERN_EDGE_METRICS_LISTEN", default_value = "0.0.0.0:9001")]
    pub metrics_listen: SocketAddr,

    /// Take over from an edge that runs with the same data directory: it drains, and no client finds the
    /// ports closed. From one that leaves anyway, an edge always takes over
    #[arg(long)]
    pub replace: bool,

    /// Cancelled when the edge's parent is gone: from then on another edge may take over
    #[arg(skip)]
    pub orphaned: CancellationToken,

    /// File that holds the join token; needed once
    #[arg(long, env = "POSTERN_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,

    /// The join token itself, where the caller has it at hand; otherwise POSTERN_JOIN_TOKEN counts
    #[arg(skip)]
    pub join_token: Option<JoinTokenText>,

    /// The control planes that share the database, each by its edge port; the edge reports to one of
    /// them at a time [default: the one of the join token]
    #[arg(
        long,
        env = "POSTERN_EDGE_CONTROL_PLANES",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    pub control_planes: Vec<HostPort>,

    /// How long the edge serves without a word from the control plane
    #[arg(long, env = "POSTERN_EDGE_FEED_MAX_AGE", default_value = "24h", value_parser = duration)]
    pub feed_max_age: Duration,

    /// How long requests under way may take to finish after a signal to stop
    #[arg(long, env = "POSTERN_EDGE_GRACE_PERIOD", default_value = "30s", value_parser = duration)]
    pub grace_period: Duration,

    /// How long the edge goes on as before after a signal to stop, while /ready already says no: as long as
    /// a load balancer in front needs to notice
    #[arg(long, env = "POSTERN_EDGE_LEAVE_DELAY", default_value = "0s", value_parser = duration)]
    pub leave_delay: Duration,

    /// Largest request body in bytes; no limit where it is not set
    #[arg(long, env = "POSTERN_EDGE_MAX_REQUEST_BODY", value_name = "BYTES")]
    pub max_request_body: Option<u64>,

    /// Longest time without a byte in a tunnel that was opened by CONNECT or an upgrade
    #[arg(long, env = "POSTERN_EDGE_TUNNEL_IDLE", default_value = "1h", value_parser = some_time)]
    pub tunnel_idle: Duration,

    /// Longest time without a byte in such a tunnel once its client has closed its end behind bytes that the link
    /// does not take. An origin that takes little at a time shows only when its connector has room for more
    #[arg(long, env = "POSTERN_EDGE_TUNNEL_UNREAD_END", default_value = "30s", value_parser = some_time)]
    pub tunnel_unread_end: Duration,

    /// Answer clients of HTTP/1.1 that close their end of the connection before they have their answer;
    /// otherwise they count as gone
    #[arg(long, env = "POSTERN_EDGE_ANSWER_HALF_CLOSED", value_parser = BoolishValueParser::new())]
    pub answer_half_closed: bool,

    /// Threads that serve clients and links [default: one for each core]
    #[arg(long, env = "POSTERN_EDGE_WORKERS", value_name = "NUMBER",
          value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_WORKERS)))]
    pub workers: Option<u8>,

    /// Most requests under way through one tunnel
    #[arg(long, env = "POSTERN_EDGE_MAX_STREAMS_PER_TUNNEL", default_value_t = 4096)]
    pub max_streams_per_tunnel: usize,

    /// Most client connections to the gateway
    #[arg(long, env = "POSTERN_EDGE_MAX_CLIENTS", default_value_t = 10_000)]
    pub max_clients: usize,

    /// Most links
    #[arg(long, env = "POSTERN_EDGE_MAX_LINKS", default_value_t = 20_000)]
    pub max_links: usize,
}

impl Options {
    /// How many workers there are to be.
    pub(crate) fn workers(&self) -> u8 {
        self.workers.unwrap_or_else(|| {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            u8::try_from(cores).unwrap_or(u8::MAX).min(MAX_WORKERS)
        })
    }
}

/// A join token's text: zeroed on drop, never shown.
#[derive(Clone)]
pub struct JoinTokenText(pub(crate) Zeroizing<String>);

impl From<Zeroizing<String>> for JoinTokenText {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for JoinTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinTokenText(…)")
    }
}

/// The same, and a second at least: what is shorter ends what goes on.
fn some_time(text: &str) -> Result<Duration, &'static str> {
    let time = duration(text)?;
    if time < Duration::from_secs(1) { Err("expected a second at least") } else { Ok(time) }
}

/// Reads `250ms`, `30s`, `5m` or `24h`.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a number and its unit: 250ms, 30s, 5m or 24h";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "s", "30", "-1s", "1d", "1.5h", "99999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(some_time("1s"), Ok(Duration::from_secs(1)));
        assert!(some_time("999ms").is_err());
    }

    #[test]
    fn a_join_token_is_never_shown() {
        let text = JoinTokenText::from(Zeroizing::new("ptj1_x".to_owned()));
        assert_eq!(format!("{text:?}"), "JoinTokenText(…)");
    }
}
