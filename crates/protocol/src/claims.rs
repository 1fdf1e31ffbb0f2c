//! What a capability says: the short-lived EdDSA token with which the runner enters the gateway.

use serde::{Deserialize, Serialize};

use crate::{
    access::Caller,
    id::{TeamId, TenantId, TunnelId, WorkflowId},
};

/// `iss` of every capability.
pub const ISSUER: &str = "postern";
/// `aud` of every capability.
pub const AUDIENCE: &str = "postern-gateway";
/// `typ` in the header of every capability.
pub const TYPE: &str = "postern-capability+jwt";
/// Longest life of a capability, in seconds.
pub const MAX_LIFETIME_S: u64 = 300;

/// The claims of a capability; all are required. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// [`ISSUER`].
    pub iss: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// The workflow on whose behalf the request is made.
    pub sub: WorkflowId,
    /// The workflow's tenant.
    pub tenant: TenantId,
    /// The workflow's team.
    pub team: TeamId,
    /// The one tunnel that may be used.
    pub tunnel: TunnelId,
    /// Not valid from this second on.
    pub exp: u64,
    /// Not valid before this second.
    pub nbf: u64,
    /// When it was made.
    pub iat: u64,
    /// Unique, for the audit trail.
    pub jti: String,
}

impl Capability {
    /// Who asks.
    pub fn caller(&self) -> Caller {
        Caller { tenant: self.tenant, team: self.team, workflow: Some(self.sub) }
    }

    /// True if issuer, audience and lifetime are as they must be at `now` (seconds since 1970),
    /// allowing `leeway_s` for clocks that differ.
    pub fn is_valid_at(&self, now: u64, leeway_s: u64) -> bool {
        self.iss == ISSUER
            && self.aud == AUDIENCE
            && self.nbf <= now.saturating_add(leeway_s)
            && now < self.exp.saturating_add(leeway_s)
            && self.exp.saturating_sub(self.nbf) <= MAX_LIFETIME_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_valid_for_its_time_only() {
        let capability = Capability {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: WorkflowId::from_bytes([1; 16]),
            tenant: TenantId::from_bytes([2; 16]),
            team: TeamId::from_bytes([3; 16]),
            tunnel: TunnelId::from_bytes([4; 16]),
            exp: 1_300,
            nbf: 1_000,
            iat: 1_000,
            jti: "j".into(),
        };
        assert!(capability.is_valid_at(1_000, 0));
        assert!(capability.is_valid_at(1_299, 0));
        assert!(!capability.is_valid_at(999, 0));
        assert!(capability.is_valid_at(999, 60));
        assert!(!capability.is_valid_at(1_300, 0));
        assert!(capability.is_valid_at(1_359, 60));
        assert!(!capability.is_valid_at(1_360, 60));
        let eternal = Capability { exp: 9_999, ..capability.clone() };
        assert!(!eternal.is_valid_at(1_000, 0), "lives longer than 300 s");
        assert!(!Capability { aud: "api".into(), ..capability.clone() }.is_valid_at(1_000, 0));
        assert!(!Capability { iss: "x".into(), ..capability }.is_valid_at(1_000, 0));
    }
}
