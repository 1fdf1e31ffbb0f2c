//! What the operator can set. Every flag has an environment variable; secrets come by environment or
//! file only, so that they never stand in a process list.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::builder::BoolishValueParser;
use protocol::address::HostPort;
use zeroize::Zeroizing;

use crate::store::{DatabaseUrl, Location};

/// The environment variable that presets the first owner's password.
const OWNER_PASSWORD: &str = "POSTERN_OWNER_PASSWORD";
/// The environment variable with the URL of a PostgreSQL database.
const DATABASE_URL: &str = "POSTERN_DATABASE_URL";
/// The database's file in the data directory, unless there is such a URL.
const DATABASE_FILE: &str = "postern.db";
/// Shortest password of a user, in characters (NIST SP 800-63B §3.1.1.2).
pub(crate) const MIN_PASSWORD: usize = 8;
/// Longest password of a user, in bytes: more only costs time.
pub(crate) const MAX_PASSWORD: usize = 256;

/// Settings of the control plane.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory of the database and the keys; created if it is missing.
    #[arg(long, env = "POSTERN_DATA_DIR", default_value = "postern-data")]
    pub data_dir: PathBuf,
    /// File with the URL of a PostgreSQL database, postgres://USER:PASSWORD@HOST/NAME, which several
    /// control planes can share; without it (and without POSTERN_DATABASE_URL) the database is a file
    /// in the data directory.
    #[arg(long, env = "POSTERN_DATABASE_URL_FILE")]
    pub database_url_file: Option<PathBuf>,
    /// Directory of the keys that all control planes of a deployment have in common: ca.key, ca.crt and
    /// token.key; the data directory if nothing else is said.
    #[arg(long, env = "POSTERN_KEYS_DIR")]
    pub keys_dir: Option<PathBuf>,
    /// Where the API and the console listen.
    #[arg(long, env = "POSTERN_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// PEM file with the certificate of the API and the console, and behind it those of its issuers;
    /// read again when it changes.
    #[arg(long, env = "POSTERN_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's key, not encrypted.
    #[arg(long, env = "POSTERN_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Without such files: name or address under which browsers reach the console, for a certificate of
    /// the deployment's own authority (ca.crt); with commas if there are several.
    #[arg(long, env = "POSTERN_TLS_HOST", value_name = "HOST", value_delimiter = ',')]
    pub tls_host: Vec<String>,
    /// Offer the API and the console over plain HTTP although others reach them: on a network that you
    /// trust, or behind a proxy that ends TLS.
    #[arg(long, env = "POSTERN_INSECURE_HTTP", value_parser = BoolishValueParser::new())]
    pub insecure_http: bool,
    /// Where edges are listened for.
    #[arg(long, env = "POSTERN_EDGE_PORT_LISTEN", default_value = "0.0.0.0:7843")]
    pub edge_listen: SocketAddr,
    /// Address of the edge port as edges dial it; stands in join tokens and in the certificate. With
    /// port 0 in `--edge-listen`, the port that was bound is taken.
    #[arg(long, env = "POSTERN_EDGE_PORT_ADDRESS", default_value = "127.0.0.1:7843")]
    pub edge_address: HostPort,
    /// Let actions without a tunnel call private, loopback and link-local addresses.
    #[arg(long, env = "POSTERN_ALLOW_PRIVATE_DESTINATIONS", value_parser = BoolishValueParser::new())]
    pub allow_private_destinations: bool,
    /// Send session cookies over HTTPS only. That is so wherever the control plane speaks HTTPS itself;
    /// set it where a proxy does.
    #[arg(long, env = "POSTERN_SECURE_COOKIES", value_parser = BoolishValueParser::new())]
    pub secure_cookies: bool,
    /// The first owner, who is made on the first start.
    #[arg(long, env = "POSTERN_OWNER_EMAIL", default_value = "owner@localhost")]
    pub owner_email: String,
    /// File with the first owner's password; without it (and without POSTERN_OWNER_PASSWORD) a random
    /// one is drawn.
    #[arg(long, env = "POSTERN_OWNER_PASSWORD_FILE")]
    pub owner_password_file: Option<PathBuf>,
    /// What a password hash costs.
    #[arg(skip)]
    pub password_cost: PasswordCost,
}

/// What argon2id spends on one password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, in KiB; at least 8.
    pub memory_kib: u32,
    /// Passes over the memory; at least 1.
    pub passes: u32,
}

impl Default for PasswordCost {
    /// 64 MiB and 3 passes: some 160 ms on a small server's core.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3 }
    }
}

impl Options {
    /// Where the database is.
    pub(crate) fn database(&self) -> anyhow::Result<Location> {
        let url = secret(self.database_url_file.as_deref(), DATABASE_URL)
            .context("cannot read the database's URL")?;
        Ok(match url {
            Some(url) => Location::Server(DatabaseUrl::new(url)?),
            None => Location::File(self.data_dir.join(DATABASE_FILE)),
        })
    }

    /// The first owner's password, if the operator chose one.
    pub(crate) fn owner_password(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let password = secret(self.owner_password_file.as_deref(), OWNER_PASSWORD)
            .context("cannot read the owner's password")?;
        let Some(password) = password else { return Ok(None) };
        ensure!(
            password.chars().count() >= MIN_PASSWORD && password.len() <= MAX_PASSWORD,
            "the owner's password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"
        );
        Ok(Some(password))
    }
}

/// A secret of one line in a file, or else in the environment.
fn secret(file: Option<&Path>, variable: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    let secret = match (file, std::env::var(variable)) {
        (Some(file), _) => Zeroizing::new(
            std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
        ),
        (None, Ok(secret)) => Zeroizing::new(secret),
        (None, Err(_)) => return Ok(None),
    };
    Ok(Some(Zeroizing::new(secret.trim_end_matches(['\r', '\n']).to_owned())))
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
    fn without_flags_nothing_but_the_edge_port_is_reachable_from_outside() {
        let options = Command::parse_from(["control-plane"]).options;
        assert!(options.listen.ip().is_loopback());
        assert_eq!(options.edge_listen.port(), options.edge_address.port);
        assert!(!options.allow_private_destinations && !options.secure_cookies);
        assert_eq!(options.password_cost, PasswordCost { memory_kib: 65_536, passes: 3 });
        let set = ["control-plane", "--secure-cookies", "--listen", "[::1]:0"];
        let options = Command::parse_from(set).options;
        assert!(options.secure_cookies && options.listen.port() == 0);
        assert!(Command::try_parse_from(["control-plane", "--edge-address", "nowhere"]).is_err());
    }
}
