//! What `TUNNEL_SECRET` holds: all that a connector needs to find an edge, to trust it, and to prove
//! whose connector it is. `ptn1_` and base64url of this payload with its CRC-32:
//!
//! ```text
//! tunnel id 16 | key id 16 | seed 32
//! count 1 | count × { region: length 1, text | host: length 1, text | port 2 | fallback port 2, 0 = none }
//! pin: 0, or 1 and 32 bytes
//! ```

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::{
    address::{CaPin, EdgeAddress, HostPort},
    armour::{self, ArmourError, Reader},
    id::{KeyId, TunnelId},
    key::Seed,
};

/// First characters of every secret.
pub const PREFIX: &str = "ptn1_";
/// Most edges that a secret names; the rest come with the directory, once a link is up.
pub const MAX_EDGES: usize = 16;

/// A tunnel's secret, decoded. Its seed is zeroed on drop and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelSecret {
    /// The tunnel that the connector serves.
    pub tunnel: TunnelId,
    /// Which of the tunnel's keys this is.
    pub key: KeyId,
    /// The key pair's seed.
    pub seed: Seed,
    /// Edges to dial first; 1 to [`MAX_EDGES`].
    pub edges: Vec<EdgeAddress>,
    /// The authority of the edges' certificates; without one the public roots decide.
    pub ca_pin: Option<CaPin>,
}

impl TunnelSecret {
    /// The text for `TUNNEL_SECRET`; zeroed on drop.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut payload = Zeroizing::new(Vec::with_capacity(1024));
        payload.extend_from_slice(self.tunnel.as_bytes());
        payload.extend_from_slice(self.key.as_bytes());
        payload.extend_from_slice(self.seed.as_bytes());
        debug_assert!((1..=MAX_EDGES).contains(&self.edges.len()), "1 to 16 edges");
        payload.push(self.edges.len() as u8);
        for edge in &self.edges {
            armour::put_text(edge.region.as_str(), &mut payload);
            armour::put_text(&edge.address.host, &mut payload);
            payload.extend_from_slice(&edge.address.port.to_be_bytes());
            payload.extend_from_slice(&edge.fallback_port.unwrap_or(0).to_be_bytes());
        }
        match &self.ca_pin {
            None => payload.push(0),
            Some(pin) => {
                payload.push(1);
                payload.extend_from_slice(pin.as_bytes());
            }
        }
        armour::encode(PREFIX, &payload)
    }

    /// Reads the text of `TUNNEL_SECRET`; white space around it, such as a trailing newline, is fine.
    ///
    /// # Errors
    /// Says what is wrong without repeating any of the text.
    pub fn decode(text: &str) -> Result<Self, ArmourError> {
        let payload = armour::decode(PREFIX, text)?;
        let mut reader = Reader(&payload);
        let tunnel = TunnelId::from_bytes(reader.array()?);
        let key = KeyId::from_bytes(reader.array()?);
        let mut seed_bytes = reader.array()?;
        let seed = Seed::from_bytes(seed_bytes);
        seed_bytes.zeroize();
        let count = usize::from(reader.byte()?);
        if !(1..=MAX_EDGES).contains(&count) {
            return Err(ArmourError::Payload);
        }
        let edges = (0..count).map(|_| edge(&mut reader)).collect::<Result<_, _>>()?;
        let ca_pin = match reader.byte()? {
            0 => None,
            1 => Some(CaPin::from_bytes(reader.array()?)),
            _ => return Err(ArmourError::Payload),
        };
        reader.end()?;
        Ok(Self { tunnel, key, seed, edges, ca_pin })
    }
}

fn edge(reader: &mut Reader<'_>) -> Result<EdgeAddress, ArmourError> {
    let region = reader.text()?.parse().map_err(|_| ArmourError::Payload)?;
    let host = reader.text()?.to_owned();
    let port = u16::from_be_bytes(reader.array()?);
    let address = HostPort::new(host, port).map_err(|_| ArmourError::Payload)?;
    let fallback_port = Some(u16::from_be_bytes(reader.array()?)).filter(|port| *port != 0);
    Ok(EdgeAddress { region, address, fallback_port })
}

impl fmt::Debug for TunnelSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelSecret")
            .field("tunnel", &self.tunnel)
            .field("key", &self.key)
            .field("edges", &self.edges)
            .field("ca_pin", &self.ca_pin)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> TunnelSecret {
        TunnelSecret {
            tunnel: TunnelId::from_bytes([0x11; 16]),
            key: KeyId::from_bytes([0x22; 16]),
            seed: Seed::from_bytes([0x33; 32]),
            edges: vec![EdgeAddress {
                region: "eu".parse().unwrap(),
                address: "edge.example.com:7844".parse().unwrap(),
                fallback_port: Some(443),
            }],
            ca_pin: Some(CaPin::from_bytes([0x44; 32])),
        }
    }

    const GOLDEN: &str = "ptn1_ERERERERERERERERERERESIiIiIiIiIiIiIiIiIiIiIzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMwECZXUQZWRnZS5leGFtcGxlLmNvbR6kAbsBRERERERERERERERERERERERERERERERERERERERERERMeayK";

    #[test]
    fn the_text_of_a_known_secret_never_changes() {
        let text = example().encode();
        assert_eq!(text.as_str(), GOLDEN);
        assert_eq!(TunnelSecret::decode(&format!(" {}\n", text.as_str())), Ok(example()));
    }

    #[test]
    fn the_largest_secret_can_be_read_back() {
        let edge = EdgeAddress {
            region: "r".repeat(63).parse().unwrap(),
            address: HostPort::new("h".repeat(253), 7844).unwrap(),
            fallback_port: Some(443),
        };
        let largest = TunnelSecret { edges: vec![edge; MAX_EDGES], ..example() };
        assert_eq!(TunnelSecret::decode(&largest.encode()), Ok(largest));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let text = example().encode();
        let decode = |text: &str| TunnelSecret::decode(text).unwrap_err();
        assert_eq!(decode(" \n"), ArmourError::Empty);
        assert_eq!(decode("secret"), ArmourError::Prefix { expected: PREFIX });
        assert_eq!(
            decode(&format!("{}\"", text.as_str())),
            ArmourError::Character { position: text.len() + 1 }
        );
        assert_eq!(decode(&text[..text.len() - 1]), ArmourError::Damaged);
        assert_eq!(decode(PREFIX), ArmourError::Damaged);
        assert_eq!(decode(&armour::encode(PREFIX, b"short")), ArmourError::Payload);
        assert!(!format!("{:?}", example()).contains("51"), "0x33 is 51");
    }

    proptest! {
        #[test]
        fn every_single_typo_is_caught(position in 0usize..180, replacement in "[A-Za-z0-9_-]") {
            let text = example().encode();
            let position = position % text.len();
            let mut typo = text.to_string();
            typo.replace_range(position..=position, &replacement);
            prop_assume!(typo != *text);
            // The last character carries unused bits only if the length leaves some; then the
            // decoder refuses them too.
            prop_assert!(TunnelSecret::decode(&typo).is_err());
        }

        #[test]
        fn every_truncation_is_caught(length in 0usize..180) {
            let text = example().encode();
            prop_assume!(length < text.len());
            prop_assert!(TunnelSecret::decode(&text[..length]).is_err());
        }

        #[test]
        fn no_text_panics(text in ".{0,300}") {
            let _ = TunnelSecret::decode(&text);
            let _ = TunnelSecret::decode(&format!("{PREFIX}{text}"));
        }

        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(secret) = TunnelSecret::decode(&armour::encode(PREFIX, &payload)) {
                prop_assert_eq!(TunnelSecret::decode(&secret.encode()), Ok(secret));
            }
        }
    }
}
