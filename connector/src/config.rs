//! What a connector is told at its start: environment variables, and flags of the same names. All of
//! it is checked before anything is dialled, and every complaint is one line that says how to mend it.

mod secret;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::{
    ArmourError, SLOTS, address::EdgeAddress, address::HostPort, name::RegionName,
    secret::TunnelSecret,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    files::UnusableFile,
    log::{LEVELS, Level, LevelSwitch, LogFormat},
    origin::Limits,
    proxy::Proxies,
    supervisor::Transports,
};

/// Where container platforms put a secret of this name.
const MOUNTED_SECRET: &str = "/run/secrets/TUNNEL_SECRET";
/// Where `/metrics`, `/ready`, `/healthz` and `/status` are served, unless told otherwise.
pub const METRICS_PORT: u16 = 9000;
/// How long requests under way may take to finish after SIGTERM, unless told otherwise.
const GRACE_PERIOD: Duration = Duration::from_secs(30);
/// Longest grace period: whoever waits longer waits for something that never ends.
const GRACE_PERIOD_MOST: Duration = Duration::from_secs(3_600);
/// Bounds of the limits for what stands still: what is shorter ends what goes on.
const LIMIT_LEAST: Duration = Duration::from_secs(1);
const LIMIT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// Most edges in `TUNNEL_EDGE`.
const MAX_EDGES: usize = 64;
/// Region of edges that `TUNNEL_EDGE` names without one; corrected by the edge's own word.
const UNNAMED_REGION: &str = "unnamed";

/// How every variable of a connector begins.
const PREFIX: &str = "TUNNEL_";
/// Every variable that a connector reads.
const KNOWN: [&str; 17] = [
    "TUNNEL_SECRET",
    "TUNNEL_SECRET_FILE",
    "TUNNEL_METRICS_PORT",
    "TUNNEL_LOGLEVEL",
    "TUNNEL_LOGLEVEL_FROM_CLOUD",
    "TUNNEL_LOG_FORMAT",
    "TUNNEL_TRANSPORT_PROTOCOL",
    "TUNNEL_REGION",
    "TUNNEL_EDGE",
    "TUNNEL_GRACE_PERIOD",
    "TUNNEL_ORIGIN_CA_FILE",
    "TUNNEL_POLICY_FILE",
    "TUNNEL_ORIGINS_FILE",
    "TUNNEL_WORKERS",
    "TUNNEL_IDLE_TIMEOUT",
    "TUNNEL_HALF_CLOSED_TIMEOUT",
    "TUNNEL_UPLOAD_TIMEOUT",
];

/// A connector's settings as they were given; [`Config::load`] makes sense of them. The secret is not
/// among them: an argument can be read by everybody on the host.
#[derive(Args, Clone, Default)]
pub struct Options {
    /// File that holds the secret; instead of TUNNEL_SECRET.
    #[arg(long, env = "TUNNEL_SECRET_FILE", value_name = "PATH", hide_env_values = true)]
    pub secret_file: Option<String>,
    /// Port of /metrics, /ready, /healthz and /status [default: 9000].
    #[arg(long, env = "TUNNEL_METRICS_PORT", value_name = "PORT")]
    pub metrics_port: Option<String>,
    /// error, warn, info, debug or trace [default: info].
    #[arg(long, env = "TUNNEL_LOGLEVEL", value_name = "LEVEL")]
    pub loglevel: Option<String>,
    /// true lets those who manage the tunnel change the level while the connector runs [default: false].
    #[arg(long, env = "TUNNEL_LOGLEVEL_FROM_CLOUD", value_name = "BOOLEAN")]
    pub loglevel_from_cloud: Option<String>,
    /// json or text [default: json].
    #[arg(long, env = "TUNNEL_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// auto, quic or http2 [default: auto].
    #[arg(long, env = "TUNNEL_TRANSPORT_PROTOCOL", value_name = "PROTOCOL")]
    pub transport_protocol: Option<String>,
    /// Use edges of this region only.
    #[arg(long, env = "TUNNEL_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Use these edges and no others: [REGION=]HOST:PORT, separated by commas.
    #[arg(long, env = "TUNNEL_EDGE", value_name = "EDGES")]
    pub edge: Option<String>,
    /// How long requests under way may take to finish after SIGTERM, such as 30s or 2m [default: 30s].
    #[arg(long, env = "TUNNEL_GRACE_PERIOD", value_name = "TIME")]
    pub grace_period: Option<String>,
    /// PEM file of authorities that sign origins' certificates, besides the public ones.
    #[arg(long, env = "TUNNEL_ORIGIN_CA_FILE", value_name = "PATH")]
    pub origin_ca_file: Option<String>,
    /// TOML file that says which destinations, methods and paths may be reached; read again when it
    /// changes.
    #[arg(long, env = "TUNNEL_POLICY_FILE", value_name = "PATH")]
    pub policy_file: Option<String>,
    /// TOML file that says how origins are spoken to: certificates, headers, HTTP/2; read again when it
    /// changes.
    #[arg(long, env = "TUNNEL_ORIGINS_FILE", value_name = "PATH")]
    pub origins_file: Option<String>,
    /// Threads that links and requests are spread over, from 1 to 4 [default: one for each core, 4 at most].
    #[arg(long, env = "TUNNEL_WORKERS", value_name = "NUMBER")]
    pub workers: Option<String>,
    /// Longest time without a byte in a connection opened by CONNECT or an upgrade [default: 1h].
    #[arg(long, env = "TUNNEL_IDLE_TIMEOUT", value_name = "TIME")]
    pub idle_timeout: Option<String>,
    /// Longest silence of an origin in a connection opened by CONNECT or an upgrade, once its client has closed
    /// its end [default: 8s].
    #[arg(long, env = "TUNNEL_HALF_CLOSED_TIMEOUT", value_name = "TIME")]
    pub half_closed_timeout: Option<String>,
    /// Longest time in which an origin takes nothing of a request's body [default: 2m].
    #[arg(long, env = "TUNNEL_UPLOAD_TIMEOUT", value_name = "TIME")]
    pub upload_timeout: Option<String>,
    /// Has the files above read at once; the program tells it of SIGHUP.
    #[arg(skip)]
    pub reload: watch::Sender<()>,
    /// What `/metrics` shows; the program that installs the metrics recorder hands it over.
    #[arg(skip)]
    pub prometheus: Option<PrometheusHandle>,
    /// What `/loglevel` changes; the program that installs the log hands it over.
    #[arg(skip)]
    pub level_switch: Option<LevelSwitch>,
}

/// Settings that make sense.
#[derive(Debug)]
pub struct Config {
    /// Whose connector this is, and where the edges are.
    pub secret: TunnelSecret,
    /// Port of the status server; 0 takes any.
    pub metrics_port: u16,
    /// Which carriers may be used.
    pub transports: Transports,
    /// The only region whose edges are used, once one is known.
    pub region: Option<RegionName>,
    /// The only edges that are used; empty if the secret and the directory decide.
    pub edges: Vec<EdgeAddress>,
    /// The cloud may change how much is logged.
    pub loglevel_from_cloud: bool,
    /// How long requests under way may take to finish.
    pub grace_period: Duration,
    /// The proxy on the way to the edges, if there is one.
    pub proxies: Proxies,
    /// Authorities besides the public ones.
    pub origin_authorities: Vec<CertificateDer<'static>>,
    /// The connector's own policy.
    pub policy_file: Option<PathBuf>,
    /// How origins are spoken to.
    pub origins_file: Option<PathBuf>,
    /// Threads that links and requests are spread over, from 1 to 4.
    pub workers: u8,
    /// How long what is under way with an origin may stand still.
    pub limits: Limits,
}

/// A setting that cannot be used. Its text is one line and never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No secret was given.
    #[error(
        "no secret: set TUNNEL_SECRET, or TUNNEL_SECRET_FILE, or mount a file at {MOUNTED_SECRET}"
    )]
    NoSecret,
    /// The secret is not valid.
    #[error("the secret in {source_name} cannot be used: {error}")]
    Secret {
        /// Where it stands.
        source_name: &'static str,
        /// What is wrong with it.
        error: ArmourError,
    },
    /// Two different secrets were given.
    #[error("{first} and {second} hold different secrets: keep the right one and remove the other")]
    TwoSecrets {
        /// Where the one stands.
        first: &'static str,
        /// Where the other stands.
        second: &'static str,
    },
    /// A file cannot be read.
    #[error("{variable}: cannot read {}: {error}; check the path and its permissions", path.display())]
    File {
        /// The setting.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A value has no meaning.
    #[error("{variable} is {value:?}: expected {expected}")]
    Value {
        /// The setting.
        variable: &'static str,
        /// What it is set to.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
    /// A proxy that cannot be used. Its URL is not repeated: it may hold a password.
    #[error(
        "{variable} cannot be used: {reason}; expected http://[USER:PASSWORD@]HOST:PORT, \
         socks5://… or socks5h://…"
    )]
    Proxy {
        /// The setting.
        variable: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// QUIC is asked for, where only TCP passes.
    #[error(
        "TUNNEL_TRANSPORT_PROTOCOL is quic, but {variable} sends links through a proxy, which QUIC \
         cannot pass: set it to auto or http2, or name the edges in NO_PROXY"
    )]
    QuicThroughProxy {
        /// The setting that names the proxy.
        variable: &'static str,
    },
    /// A file of the customer's own cannot be used.
    #[error("{variable}: {error}")]
    Unusable {
        /// The setting.
        variable: &'static str,
        /// Which file, and what is wrong with it.
        error: UnusableFile,
    },
    /// The certificate file holds none.
    #[error("TUNNEL_ORIGIN_CA_FILE: {} holds no certificate: expected PEM, -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// A variable that nobody reads, which may be a mistyped one.
    #[error("{unknown} is not a setting of the connector: did you mean {nearest}?")]
    Unknown {
        /// The variable.
        unknown: String,
        /// The known one that looks most like it.
        nearest: &'static str,
    },
}

/// The variables of the process that concern a connector: those that begin with `TUNNEL_`, and those
/// that name proxies.
pub type Environment = BTreeMap<String, Zeroizing<String>>;

/// What the process was started with; a value that is not UTF-8 cannot be valid and is taken for its
/// nearest text.
pub fn environment() -> Environment {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), value));
    let ours = variables.filter(|(name, _)| name.starts_with(PREFIX) || Proxies::reads(name));
    ours.map(|(name, value)| (name, Zeroizing::new(text(value)))).collect()
}

impl Options {
    /// How much is logged, and how it looks.
    ///
    /// # Errors
    /// When either is set to something else.
    pub fn logging(&self) -> Result<(Level, LogFormat), ConfigError> {
        let level = parse("TUNNEL_LOGLEVEL", &self.loglevel, LEVELS, |text| text.parse().ok())?;
        let format =
            parse("TUNNEL_LOG_FORMAT", &self.log_format, "json or text", |text| {
                match text.to_ascii_lowercase().as_str() {
                    "json" => Some(LogFormat::Json),
                    "text" => Some(LogFormat::Text),
                    _ => None,
                }
            })?;
        Ok((level.unwrap_or_default(), format.unwrap_or(LogFormat::Json)))
    }

    /// The port of the status server.
    ///
    /// # Errors
    /// When it is no port.
    pub fn metrics_port(&self) -> Result<u16, ConfigError> {
        let expected = "a port number from 0 to 65535, for instance 9000";
        let port =
            parse("TUNNEL_METRICS_PORT", &self.metrics_port, expected, |text| text.parse().ok())?;
        Ok(port.unwrap_or(METRICS_PORT))
    }
}

impl Config {
    /// Makes sense of `options` and of the process's environment.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(options: &Options, environment: &Environment) -> Result<Self, ConfigError> {
        Self::load_from(options, environment, Path::new(MOUNTED_SECRET))
    }

    fn load_from(
        options: &Options,
        environment: &Environment,
        mounted: &Path,
    ) -> Result<Self, ConfigError> {
        refuse_unknown(environment)?;
        options.logging()?;
        let transports = parse(
            "TUNNEL_TRANSPORT_PROTOCOL",
            &options.transport_protocol,
            "auto, quic or http2",
            |text| match text.to_ascii_lowercase().as_str() {
                "auto" => Some(Transports::Auto),
                "quic" => Some(Transports::Quic),
                "http2" => Some(Transports::Http2),
                _ => None,
            },
        )?;
        let expected = "a region's name: 1 to 63 of a-z, 0-9 and -";
        let region = parse("TUNNEL_REGION", &options.region, expected, |text| text.parse().ok())?;
        let expected = "true or false";
        let from_cloud =
            parse("TUNNEL_LOGLEVEL_FROM_CLOUD", &options.loglevel_from_cloud, expected, |text| {
                text.to_ascii_lowercase().parse().ok()
            })?;
        let expected = "host:port, or region=host:port, separated by commas";
        let edges = parse("TUNNEL_EDGE", &options.edge, expected, edges)?;
        let expected = "a time of at most 1h, for instance 30s or 2m";
        let grace = parse("TUNNEL_GRACE_PERIOD", &options.grace_period, expected, duration)?;
        let expected = "a number from 1 to 4: there are four links";
        let workers = parse("TUNNEL_WORKERS", &options.workers, expected, workers)?;
        let config = Self {
            metrics_port: options.metrics_port()?,
            transports: transports.unwrap_or_default(),
            region,
            edges: edges.unwrap_or_default(),
            loglevel_from_cloud: from_cloud.unwrap_or(false),
            grace_period: grace.unwrap_or(GRACE_PERIOD),
            proxies: Proxies::load(environment)?,
            origin_authorities: authorities(options)?,
            policy_file: given(&options.policy_file).map(PathBuf::from),
            origins_file: given(&options.origins_file).map(PathBuf::from),
            workers: workers.unwrap_or_else(one_for_each_core),
            limits: limits(options)?,
            secret: secret::find(options, environment, mounted)?,
        };
        let mut proxies =
            config.first_edges().iter().filter_map(|edge| config.proxies.before(&edge.address));
        match (config.transports, proxies.next()) {
            (Transports::Quic, Some(proxy)) => {
                Err(ConfigError::QuicThroughProxy { variable: proxy.variable })
            }
            (Transports::Auto | Transports::Http2, _) | (Transports::Quic, None) => Ok(config),
        }
    }

    /// The edges to dial before a directory is known; at least one.
    pub fn first_edges(&self) -> &[EdgeAddress] {
        if self.edges.is_empty() { &self.secret.edges } else { &self.edges }
    }
}

fn refuse_unknown(environment: &Environment) -> Result<(), ConfigError> {
    for name in environment.keys() {
        if KNOWN.contains(&name.as_str()) || !name.starts_with(PREFIX) {
            continue;
        }
        let likeness = |known: &&str| strsim::jaro_winkler(known, name);
        let nearest = KNOWN.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let nearest = nearest.expect("there are known ones");
        return Err(ConfigError::Unknown { unknown: name.clone(), nearest });
    }
    Ok(())
}

/// The setting, or `None` if it is not there; compose files set what they do not mean to be set to the
/// empty text.
fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn parse<T>(
    variable: &'static str,
    value: &Option<String>,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = given(value) else { return Ok(None) };
    match read(text) {
        Some(value) => Ok(Some(value)),
        None => Err(ConfigError::Value { variable, value: text.to_owned(), expected }),
    }
}

fn edges(text: &str) -> Option<Vec<EdgeAddress>> {
    let edge = |text: &str| {
        let (region, address) = text.trim().split_once('=').unwrap_or((UNNAMED_REGION, text));
        let address: HostPort = address.trim().parse().ok()?;
        Some(EdgeAddress { region: region.trim().parse().ok()?, address, fallback_port: None })
    };
    let edges: Vec<_> = text.split(',').map(edge).collect::<Option<_>>()?;
    (edges.len() <= MAX_EDGES).then_some(edges)
}

fn limits(options: &Options) -> Result<Limits, ConfigError> {
    let expected = "a time from 1s to 24h, for instance 30s or 2m";
    let read = |variable, value| {
        parse(variable, value, expected, |text| {
            time(text).filter(|time| (LIMIT_LEAST..=LIMIT_MOST).contains(time))
        })
    };
    let default = Limits::default();
    Ok(Limits {
        tunnel: read("TUNNEL_IDLE_TIMEOUT", &options.idle_timeout)?.unwrap_or(default.tunnel),
        half_closed: read("TUNNEL_HALF_CLOSED_TIMEOUT", &options.half_closed_timeout)?
            .unwrap_or(default.half_closed),
        upload: read("TUNNEL_UPLOAD_TIMEOUT", &options.upload_timeout)?.unwrap_or(default.upload),
    })
}

fn workers(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number| (1..=SLOTS).contains(number))
}

fn one_for_each_core() -> u8 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    u8::try_from(cores).unwrap_or(SLOTS).min(SLOTS)
}

fn duration(text: &str) -> Option<Duration> {
    time(text).filter(|time| *time <= GRACE_PERIOD_MOST)
}

fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}

fn authorities(options: &Options) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(path) = given(&options.origin_ca_file).map(PathBuf::from) else {
        return Ok(Vec::new());
    };
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(error) => {
            return Err(ConfigError::File { variable: "TUNNEL_ORIGIN_CA_FILE", path, error });
        }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(ConfigError::NoCertificate(path)),
    }
}
