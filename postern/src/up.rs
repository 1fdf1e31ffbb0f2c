//! `postern up`: a whole deployment on one machine. The control plane runs in this process, each edge
//! in a child of its own, so that one can die without the other. They talk over real sockets, as they
//! would on different machines: nothing here is a shortcut.

mod region;
mod restart;

use std::{
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::builder::BoolishValueParser;
use control_plane::{ControlPlane, FirstRun};
use protocol::{address::HostPort, name::RegionName};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::region::{Region, Stop};
use crate::signals;

/// How long the edges may take to come up before that is worth a word.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of a whole deployment.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Directory of everything that lasts: database, keys, what edges know
    #[arg(long, env = "POSTERN_DATA_DIR", default_value = "postern-data")]
    data_dir: PathBuf,
    /// Address to listen on, for everything
    #[arg(long, env = "POSTERN_BIND", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Name or address under which connectors and workflows reach this machine [default: --bind]
    #[arg(long, env = "POSTERN_HOST")]
    host: Option<String>,
    /// Port of the API and the console
    #[arg(long, env = "POSTERN_PORT", default_value_t = 8080)]
    port: u16,
    /// Port at which edges reach the control plane
    #[arg(long, env = "POSTERN_EDGE_PORT", default_value_t = 7843)]
    edge_port: u16,
    /// Regions, one edge each; give it once for each region, two or more
    #[arg(long = "region", env = "POSTERN_REGIONS", value_delimiter = ',',
          default_values = ["region-a", "region-b"])]
    regions: Vec<RegionName>,
    /// Port of the first region's links (UDP and TCP); the next regions take the ports behind it
    #[arg(long, env = "POSTERN_LINK_PORT", default_value_t = 7844)]
    link_port: u16,
    /// Port of the first region's gateway; the next regions take the ports behind it
    #[arg(long, env = "POSTERN_GATEWAY_PORT", default_value_t = 3128)]
    gateway_port: u16,
    /// Port of the first edge's metrics; the next ones take the ports behind it
    #[arg(long, env = "POSTERN_METRICS_PORT", default_value_t = 9001)]
    metrics_port: u16,
    /// Threads of each edge that serve clients and links [default: one for each core]
    #[arg(long, env = "POSTERN_EDGE_WORKERS", value_name = "NUMBER",
          value_parser = clap::value_parser!(u8).range(1..=i64::from(edge::MAX_WORKERS)))]
    edge_workers: Option<u8>,
    /// Let actions without a tunnel call private, loopback and link-local addresses
    #[arg(long, env = "POSTERN_ALLOW_PRIVATE_DESTINATIONS")]
    allow_private_destinations: bool,
    /// PEM file with the certificate of the API, the console and the gateways, and behind it those of its
    /// issuers; read again when it changes. Without it, where others reach this machine, they show
    /// certificates of the deployment's own authority
    #[arg(long, env = "POSTERN_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with that certificate's key, not encrypted
    #[arg(long, env = "POSTERN_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak HTTPS where only this machine reaches it, too; elsewhere that is so without being told
    #[arg(long, env = "POSTERN_TLS", value_parser = BoolishValueParser::new())]
    tls: bool,
    /// Speak plain HTTP although others reach this machine: on a network that you trust, or behind a proxy
    /// that ends TLS
    #[arg(long, env = "POSTERN_INSECURE_HTTP", value_parser = BoolishValueParser::new())]
    insecure_http: bool,
    /// Send session cookies over HTTPS only. That is so wherever Postern speaks HTTPS itself; set it where
    /// a proxy does
    #[arg(long, env = "POSTERN_SECURE_COOKIES")]
    secure_cookies: bool,
    /// The first owner, who is made on the first start
    #[arg(long, env = "POSTERN_OWNER_EMAIL", default_value = "owner@localhost")]
    owner_email: String,
    /// File with the first owner's password; otherwise POSTERN_OWNER_PASSWORD, or a set-up link is printed
    #[arg(long, env = "POSTERN_OWNER_PASSWORD_FILE")]
    owner_password_file: Option<PathBuf>,
}

/// Runs until told to stop, or to start anew.
///
/// # Errors
/// If the control plane cannot start. An edge that cannot is tried again, and says why.
pub(crate) async fn run(
    options: Options,
    log: [(&'static str, String); 2],
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let told_to_restart = signals::restart()?;
    restart::reap();
    let program = restart::program().context("cannot find the postern program")?;
    let https = Https::of(&options)?;
    let regions = regions(&options, &https, &log, &program)?;
    let opened = ControlPlane::open(control_plane_options(&options, &https)?).await?;
    let (control_plane, first_run) = opened;
    let console = console(&options, control_plane.scheme(), control_plane.api_address()?.port());
    // At once: whatever happens next, the set-up link is told here or never.
    if let Some(first_run) = first_run {
        introduce(&first_run, &console);
    }
    let token = control_plane.create_join_token().await.context("cannot make a join token")?;
    let token = token.encode();

    let ending = shutdown.child_token();
    let serving = tokio::spawn(control_plane.serve(ending.clone()));
    let stop = Stop { shutdown, abandon: CancellationToken::new() };
    let mut children = JoinSet::new();
    for region in regions.clone() {
        children.spawn(region.keep_running(token.clone(), stop.clone()));
    }
    let announced = async {
        announce(&console, &regions, &https, &options).await;
        std::future::pending::<()>().await;
    };
    let is_restart = tokio::select! {
        () = announced => false,
        () = stop.shutdown.cancelled() => false,
        () = told_to_restart => true,
    };
    if is_restart {
        tracing::info!("starting anew; the edges go on meanwhile");
        ending.cancel();
    }
    let served = async { serving.await.context("the control plane broke down") };
    if !is_restart {
        children.join_all().await;
        served.await?;
        return Ok(());
    }
    served.await?;
    stop.abandon.cancel();
    let left = children.join_all().await.into_iter().flatten();
    if stop.shutdown.is_cancelled() {
        return Ok(());
    }
    // At once: a signal to stop that came later would be lost.
    Err(restart::exec(&program, left)).context("cannot start anew")
}

/// What the API, the console and the gateways speak.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Https {
    /// HTTPS, with a certificate and a key in files.
    Files(PathBuf, PathBuf),
    /// HTTPS, with certificates of the deployment's own authority.
    Authority,
    /// Plain HTTP, since nobody else reaches it.
    Local,
    /// Plain HTTP, since the operator wants it.
    Insecure,
}

impl Https {
    fn of(options: &Options) -> anyhow::Result<Self> {
        let is_local = https::is_local(options.bind, &host(options));
        match (&options.tls_cert, &options.tls_key) {
            _ if options.insecure_http => {
                let is_contradiction = options.tls || options.tls_cert.is_some();
                ensure!(!is_contradiction, "give either --insecure-http, or --tls and --tls-cert");
                Ok(Self::Insecure)
            }
            (Some(certificate), Some(key)) => Ok(Self::Files(certificate.clone(), key.clone())),
            _ if is_local && !options.tls => Ok(Self::Local),
            _ => Ok(Self::Authority),
        }
    }

    /// Arguments of an edge.
    fn of_gateway(&self) -> Vec<OsString> {
        match self {
            Self::Files(certificate, key) => vec![
                "--gateway-tls-cert".into(),
                certificate.into(),
                "--gateway-tls-key".into(),
                key.into(),
            ],
            Self::Authority => vec!["--gateway-tls".into()],
            Self::Local => vec![],
            Self::Insecure => vec!["--gateway-insecure-http".into()],
        }
    }
}

fn control_plane_options(
    options: &Options,
    https: &Https,
) -> anyhow::Result<control_plane::Options> {
    let (tls_cert, tls_key) = match https {
        Https::Files(certificate, key) => (Some(certificate.clone()), Some(key.clone())),
        _ => (None, None),
    };
    Ok(control_plane::Options {
        data_dir: options.data_dir.clone(),
        database_url_file: None,
        keys_dir: None,
        listen: (options.bind, options.port).into(),
        tls_cert,
        tls_key,
        tls_host: if *https == Https::Authority { vec![host(options)] } else { vec![] },
        insecure_http: *https == Https::Insecure,
        edge_listen: (options.bind, options.edge_port).into(),
        edge_address: HostPort::new(host(options), options.edge_port)?,
        allow_private_destinations: options.allow_private_destinations,
        secure_cookies: options.secure_cookies,
        owner_email: options.owner_email.clone(),
        owner_password_file: options.owner_password_file.clone(),
        password_cost: control_plane::PasswordCost::default(),
    })
}

fn regions(
    options: &Options,
    https: &Https,
    log: &[(&'static str, String)],
    program: &Path,
) -> anyhow::Result<Vec<Region>> {
    ensure!(options.regions.len() >= 2, "give two regions or more: --region eu --region us");
    ensure!(
        options.host.is_some() || !options.bind.is_unspecified(),
        "tell under which name or address others reach this machine: --host"
    );
    let numbered = options.regions.iter().zip(0u16..);
    let regions = numbered.map(|(name, n)| {
        let port = |base: u16| base.checked_add(n).context("the ports run over 65535");
        Ok(Region {
            program: program.to_owned(),
            name: name.clone(),
            data_dir: options.data_dir.join(format!("edge-{name}")),
            bind: options.bind,
            host: host(options),
            log: log.to_vec(),
            https: https.of_gateway(),
            workers: options.edge_workers,
            link_port: port(options.link_port)?,
            gateway_port: port(options.gateway_port)?,
            metrics_port: port(options.metrics_port)?,
        })
    });
    regions.collect()
}

fn host(options: &Options) -> String {
    options.host.clone().unwrap_or_else(|| options.bind.to_string())
}

/// The console's address, as a browser reaches it.
fn console(options: &Options, scheme: &str, port: u16) -> String {
    let host = host(options);
    let is_ipv6 = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    if is_ipv6 {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

/// Tells how the owner gets in, until the owner has chosen a password.
fn introduce(first_run: &FirstRun, console: &str) {
    println!("  Owner     {}", first_run.owner_email);
    match first_run.set_up_path() {
        Some(path) => {
            println!("  Set up    {console}{}", path.as_str());
            println!(
                "            Choose the owner's password there. The link works once, for 24 hours."
            );
        }
        None => println!("            The password is the one that you have set."),
    }
}

/// Tells where everything is, once it is there.
async fn announce(console: &str, regions: &[Region], https: &Https, options: &Options) {
    let ready = async {
        for region in regions {
            region.ready().await;
        }
    };
    let is_ready = tokio::time::timeout(PATIENCE, ready).await.is_ok();
    println!("Postern is up{}.", if is_ready { "" } else { ", but not every edge is ready yet" });
    println!("  Console   {console}");
    for region in regions {
        println!(
            "  {:<9} gateway {}{}, links {} (UDP and TCP)",
            region.name.as_str(),
            match https {
                Https::Files(..) | Https::Authority => "https://",
                Https::Local | Https::Insecure => "",
            },
            region.address(region.gateway_port),
            region.address(region.link_port)
        );
    }
    println!("  Data      {}", options.data_dir.display());
    if *https == Https::Authority {
        println!("  Trust     {}", options.data_dir.join("ca.crt").display());
        println!(
            "            Browsers and clients must trust that authority, or give a certificate that they trust \
             already: --tls-cert and --tls-key."
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn plain_http_is_spoken_where_nobody_else_reaches_it_or_where_it_is_meant() {
        let files = || Https::Files("a.crt".into(), "a.key".into());
        for (arguments, expected) in [
            (&[][..], Some(Https::Local)),
            (&["--bind", "::1"], Some(Https::Local)),
            (&["--tls"], Some(Https::Authority)),
            (&["--host", "postern.example.com"], Some(Https::Authority)),
            (&["--bind", "0.0.0.0", "--host", "localhost"], Some(Https::Authority)),
            (&["--bind", "192.0.2.1"], Some(Https::Authority)),
            (&["--bind", "192.0.2.1", "--insecure-http"], Some(Https::Insecure)),
            (&["--tls-cert", "a.crt", "--tls-key", "a.key"], Some(files())),
            (&["--tls-cert", "a.crt", "--tls-key", "a.key", "--insecure-http"], None),
            (&["--tls", "--insecure-http"], None),
        ] {
            let options = Command::parse_from(["up"].iter().chain(arguments)).options;
            let https = Https::of(&options);
            assert_eq!(https.as_ref().ok(), expected.as_ref(), "{arguments:?}");
            let Ok(https) = https else { continue };
            let of_control_plane = control_plane_options(&options, &https).unwrap();
            let has_certificate = !of_control_plane.tls_host.is_empty();
            assert_eq!(has_certificate, https == Https::Authority, "{arguments:?}");
        }
    }
}
