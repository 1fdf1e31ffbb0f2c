//! Whether the gateway speaks TLS, and what it shows then.

use https::{Certificate, Files, Port};
use protocol::ALPN_GATEWAY;

use super::StartError;
use crate::{identity::Identity, options::Options, ports::Addresses};

/// TLS of a gateway.
pub(super) struct GatewayTls {
    pub(super) port: Port,
    /// What the operator keeps, to be followed.
    pub(super) files: Option<Files>,
}

/// `None` for plain HTTP.
pub(super) fn set_up(
    options: &Options,
    identity: &Identity,
    bound: Addresses,
) -> Result<Option<GatewayTls>, StartError> {
    let files = match (&options.gateway_tls_cert, &options.gateway_tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Files { certificate: certificate.clone(), key: key.clone() })
        }
        (None, None) => None,
        _ => return Err(StartError::GatewayTlsOptions),
    };
    if options.gateway_insecure_http {
        let is_contradiction = options.gateway_tls || files.is_some();
        return if is_contradiction { Err(StartError::GatewayTlsOptions) } else { Ok(None) };
    }
    let is_local = https::is_local(bound.gateway.ip(), &identity.gateway.host);
    if is_local && !options.gateway_tls && files.is_none() {
        return Ok(None);
    }
    let own = Certificate::from_pem(&identity.chain(), &identity.key)?;
    let shown = match &files {
        Some(files) => files.read()?,
        None => own.clone(),
    };
    let port = Port::with_insider(shown, Some((ALPN_GATEWAY, own)))?;
    Ok(Some(GatewayTls { port, files }))
}
