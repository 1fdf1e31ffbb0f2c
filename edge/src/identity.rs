//! Who the edge is: what joining gave it, kept in its data directory and nowhere else.

use std::{io, path::Path};

use link::{TlsError, tls::ServerIdentity};
use protocol::{
    address::{EdgeAddress, HostPort},
    id::EdgeId,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::disk;

const FILE: &str = "identity.json";

/// Everything that a later start needs: with it, no token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The edge's identity.
    pub(crate) edge: EdgeId,
    /// The control plane's edge port.
    pub(crate) control_plane: HostPort,
    /// The address for links that the certificate was issued for.
    pub(crate) link: EdgeAddress,
    /// The gateway's address, likewise.
    pub(crate) gateway: HostPort,
    /// Certificate for links and for the feed, PEM.
    pub(crate) certificate: String,
    /// The authority's certificate, PEM.
    pub(crate) ca_certificate: String,
    /// The certificate's key, PEM.
    pub(crate) key: Zeroizing<String>,
}

impl Identity {
    /// What an earlier start left behind.
    pub(crate) fn load(data_dir: &Path) -> io::Result<Option<Self>> {
        let Some(content) = disk::read(&data_dir.join(FILE))?.map(Zeroizing::new) else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(&content)?))
    }

    /// Keeps it for later starts.
    pub(crate) fn save(&self, data_dir: &Path) -> io::Result<()> {
        disk::replace(data_dir, FILE, &Zeroizing::new(serde_json::to_vec(self)?))
    }

    /// What connectors are shown: the edge's certificate, and the authority that they pin.
    pub(crate) fn server_identity(&self) -> Result<ServerIdentity, TlsError> {
        ServerIdentity::from_pem(&self.chain(), &self.key)
    }

    /// The edge's certificate and the authority's, PEM.
    pub(crate) fn chain(&self) -> String {
        format!("{}\n{}", self.certificate.trim_end(), self.ca_certificate)
    }
}
