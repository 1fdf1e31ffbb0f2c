//! What an end of a link understands beyond the first release of the protocol.
//!
//! Edges and connectors are upgraded one at a time. Each end announces its abilities in the handshake, as
//! fields that an older end skips; nothing is sent to a peer that has not announced that it understands it.

use http::Response;
use serde::{Deserialize, Serialize};

use crate::{head, refusal::Code, refusal::Refusal};

/// What a peer understands. A peer that announces nothing is of the first release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Abilities {
    /// Most fields in a head, or in trailers, that it takes.
    pub max_fields: u16,
    /// It takes final statuses from 600 to 999 over QUIC, too.
    pub any_status: bool,
    /// It takes upgrades by any method and with a body.
    pub any_upgrade: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { max_fields: 128, any_status: false, any_upgrade: false }
    }
}

impl Abilities {
    /// Of this build.
    pub const OWN: Self =
        Self { max_fields: head::MAX_FIELDS as u16, any_status: true, any_upgrade: true };

    /// Most fields of a message, in its head or in its trailers, that may be sent to this peer.
    pub fn message_fields(self) -> usize {
        usize::from(self.max_fields).saturating_sub(head::OWN_FIELDS).min(head::MESSAGE_FIELDS)
    }

    /// May the head of an origin's answer be sent to this peer, before Postern adds anything to it?
    ///
    /// # Errors
    /// If not: a refusal that says why.
    pub fn judge_answer<B>(self, response: &Response<B>) -> Result<(), Refusal> {
        let (count, most) = (response.headers().len(), self.message_fields());
        if count > most {
            let detail = format!("the answer has {count} fields; {most} pass");
            return Err(Refusal::new(Code::OriginGarbage, detail));
        }
        let status = response.status().as_u16();
        if status >= 600 && !self.any_status {
            let detail = format!("the edge is too old to pass the origin's status {status} on");
            return Err(Refusal::new(Code::OriginGarbage, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, StatusCode};

    use super::*;

    fn answer(status: u16, fields: usize) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for n in 0..fields {
            let name: HeaderName = format!("x-{n}").parse().unwrap();
            response.headers_mut().insert(name, HeaderValue::from_static("1"));
        }
        response
    }

    #[test]
    fn nothing_is_sent_to_a_peer_that_does_not_understand_it() {
        let old = Abilities::default();
        let passes = |peer: Abilities, status, fields| {
            peer.judge_answer(&answer(status, fields)).map_err(|refusal| refusal.detail)
        };
        assert_eq!(passes(old, 599, 124), Ok(()));
        assert_eq!(passes(old, 200, 125), Err("the answer has 125 fields; 124 pass".into()));
        assert!(passes(old, 600, 0).unwrap_err().contains("too old"));
        let own = Abilities::OWN;
        assert_eq!(passes(own, 999, 256), Ok(()));
        assert_eq!(passes(own, 200, 257), Err("the answer has 257 fields; 256 pass".into()));
    }

    #[test]
    fn a_peer_that_announces_less_or_more_is_understood() {
        assert_eq!(serde_json::from_str::<Abilities>("{}").unwrap(), Abilities::default());
        let newer = r#"{"max_fields":260,"any_status":true,"any_upgrade":true,"flies":true}"#;
        assert_eq!(serde_json::from_str::<Abilities>(newer).unwrap(), Abilities::OWN);
    }
}
