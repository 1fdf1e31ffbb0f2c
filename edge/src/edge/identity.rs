//! Who the edge is to be: as an earlier start has joined, or by joining now.

use std::net::IpAddr;

use protocol::address::{EdgeAddress, HostPort, InvalidHostPort};
use zeroize::Zeroizing;

use super::StartError;
use crate::{
    identity::Identity,
    join,
    options::{JOIN_TOKEN_VARIABLE, JoinTokenText, Options},
    ports::Addresses,
};

/// The identity that an earlier start left behind, or a new one.
pub(super) async fn obtain(options: &Options, bound: Addresses) -> Result<Identity, StartError> {
    let data_dir = &options.data_dir;
    let address = match &options.address {
        Some(address) => address.clone(),
        None => HostPort::new(reachable(bound.links.ip())?, bound.links.port())?,
    };
    let fallback_port = options.fallback_port.or(bound.fallback.map(|fallback| fallback.port()));
    let link = EdgeAddress { region: options.region.clone(), address, fallback_port };
    let gateway = match &options.gateway_address {
        Some(gateway) => gateway.clone(),
        None => HostPort::new(link.address.host.clone(), bound.gateway.port())?,
    };
    let known = Identity::load(data_dir).map_err(StartError::DataDir)?;
    let joined = match known {
        Some(identity) if identity.link == link && identity.gateway == gateway => {
            return Ok(identity);
        }
        Some(identity) => Some(identity.link.address),
        None => None,
    };
    let token = match (token(options)?, joined) {
        (Some(token), _) => token,
        (None, Some(joined)) => return Err(StartError::Moved { joined }),
        (None, None) => return Err(StartError::NoToken),
    };
    let identity = join::join(&token, link, gateway, &options.control_planes).await?;
    identity.save(data_dir).map_err(StartError::DataDir)?;
    Ok(identity)
}

fn token(options: &Options) -> Result<Option<JoinTokenText>, StartError> {
    if let Some(token) = &options.join_token {
        return Ok(Some(token.clone()));
    }
    if let Some(file) = &options.join_token_file {
        let text = std::fs::read_to_string(file).map_err(StartError::TokenFile)?;
        return Ok(Some(Zeroizing::new(text).into()));
    }
    let text = std::env::var(JOIN_TOKEN_VARIABLE).ok().filter(|text| !text.is_empty());
    Ok(text.map(|text| Zeroizing::new(text).into()))
}

/// The host under which others reach a listening address: itself, unless it stands for all.
fn reachable(listen: IpAddr) -> Result<String, StartError> {
    if listen.is_unspecified() { Err(InvalidHostPort.into()) } else { Ok(listen.to_string()) }
}
