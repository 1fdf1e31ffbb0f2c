//! How an edge becomes part of a deployment. The operator gives it a join token: where the control
//! plane is, how to recognise it, and a one-purpose secret. The edge makes its own key pair, sends
//! a certificate request, and from then on speaks mutual TLS.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    address::{CaPin, EdgeAddress, HostPort},
    armour::{self, ArmourError, Reader},
    credential::CredentialSecret,
    id::{EdgeId, JoinTokenId},
};

/// First characters of every join token.
pub const PREFIX: &str = "ptj1_";
/// Path at the control plane's edge port to which a [`JoinRequest`] is posted.
pub const JOIN_PATH: &str = "/edge/v1/join";

/// An invitation to join, decoded.
#[derive(Debug)]
pub struct JoinToken {
    /// By which the control plane finds it.
    pub id: JoinTokenId,
    /// By which it is proven.
    pub secret: CredentialSecret,
    /// The control plane's edge port.
    pub control_plane: HostPort,
    /// The authority that signed the control plane's certificate, and will sign the edge's.
    pub ca_pin: CaPin,
}

impl JoinToken {
    /// The text that is shown once.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new(Vec::with_capacity(512));
        payload.extend_from_slice(self.id.as_bytes());
        payload.extend_from_slice(self.secret.as_bytes());
        payload.extend_from_slice(self.ca_pin.as_bytes());
        armour::put_text(&self.control_plane.host, &mut payload);
        payload.extend_from_slice(&self.control_plane.port.to_be_bytes());
        armour::encode(PREFIX, &payload)
    }

    /// Reads the text back; white space around it is fine.
    ///
    /// # Errors
    /// Says what is wrong without repeating any of the text.
    pub fn decode(text: &str) -> Result<Self, ArmourError> {
        let payload = armour::decode(PREFIX, text)?;
        let mut reader = Reader(&payload);
        let id = JoinTokenId::from_bytes(reader.array()?);
        let secret = CredentialSecret::from_bytes(reader.array()?);
        let ca_pin = CaPin::from_bytes(reader.array()?);
        let host = reader.text()?.to_owned();
        let port = u16::from_be_bytes(reader.array()?);
        reader.end()?;
        let control_plane = HostPort::new(host, port).map_err(|_| ArmourError::Payload)?;
        Ok(Self { id, secret, control_plane, ca_pin })
    }
}

/// What an edge asks for.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The join token's text, whole.
    pub token: Zeroizing<String>,
    /// Where connectors will reach the edge.
    pub link: EdgeAddress,
    /// Where workflows will reach its gateway.
    pub gateway: HostPort,
    /// PKCS #10 certificate request, PEM; the key pair stays at the edge.
    pub certificate_request: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("link", &self.link)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

/// What it gets: its identity, its certificate, and the authority that everybody here trusts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinResponse {
    /// The edge's identity from now on.
    pub edge: EdgeId,
    /// Certificate for both directions (links are accepted with it, the feed is dialled with it), PEM.
    pub certificate: String,
    /// The authority's certificate, PEM; sent to connectors behind the edge's own.
    pub ca_certificate: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_survives_its_text() {
        let token = JoinToken {
            id: JoinTokenId::from_bytes([1; 16]),
            secret: CredentialSecret::from_bytes([2; 32]),
            control_plane: "[::1]:7843".parse().unwrap(),
            ca_pin: CaPin::from_bytes([3; 32]),
        };
        let back = JoinToken::decode(&token.encode()).unwrap();
        assert_eq!(back.id, token.id);
        assert_eq!(back.control_plane, token.control_plane);
        assert_eq!(back.ca_pin, token.ca_pin);
        assert!(token.secret.digest().matches(&back.secret));
        assert_eq!(JoinToken::decode("ptj1_AAAA").unwrap_err(), ArmourError::Damaged);
    }
}
