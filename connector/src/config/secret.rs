//! Where the secret comes from: a variable, a file that a variable names, or the file that container
//! platforms mount. Two that differ are an error, for either could be the wrong one.

use std::{fs, path::Path};

use protocol::secret::TunnelSecret;
use zeroize::Zeroizing;

use super::{ConfigError, Environment, MOUNTED_SECRET, Options, given};

/// The one secret that was given, in whichever way.
pub(super) fn find(
    options: &Options,
    environment: &Environment,
    mounted: &Path,
) -> Result<TunnelSecret, ConfigError> {
    let mut found: Option<(&'static str, TunnelSecret)> = None;
    let mut take = |source_name, text: &str| {
        let secret = TunnelSecret::decode(text)
            .map_err(|error| ConfigError::Secret { source_name, error })?;
        match &found {
            Some((first, other)) if *other != secret => {
                Err(ConfigError::TwoSecrets { first, second: source_name })
            }
            Some(_) => Ok(()),
            None => {
                found = Some((source_name, secret));
                Ok(())
            }
        }
    };
    if let Some(text) = environment.get("TUNNEL_SECRET").filter(|text| !text.trim().is_empty()) {
        take("TUNNEL_SECRET", text)?;
    }
    if let Some(path) = given(&options.secret_file) {
        take("TUNNEL_SECRET_FILE", &read_secret(Path::new(path))?)?;
    }
    if mounted.exists() {
        take(MOUNTED_SECRET, &read_secret(mounted)?)?;
    }
    found.map(|(_, secret)| secret).ok_or(ConfigError::NoSecret)
}

fn read_secret(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    fs::read_to_string(path).map(Zeroizing::new).map_err(|error| ConfigError::File {
        variable: "TUNNEL_SECRET_FILE",
        path: path.to_owned(),
        error,
    })
}
