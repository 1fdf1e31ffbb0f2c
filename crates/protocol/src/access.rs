//! Who may use a tunnel. The one place that decides, for every stream, at the edge and wherever the
//! control plane wants to know in advance.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{TeamId, TenantId, WorkflowId};

/// A tunnel's access list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Access {
    /// Every team of the tunnel's tenant.
    #[default]
    AnyTeam,
    /// These teams of the tunnel's tenant; none, if the list is empty.
    Teams {
        /// The teams that an admin picked.
        teams: BTreeSet<TeamId>,
    },
}

/// Who asks, as proven by a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The caller's tenant.
    pub tenant: TenantId,
    /// The team that owns the workflow, or the proxy token.
    pub team: TeamId,
    /// The workflow, if the token belongs to one.
    pub workflow: Option<WorkflowId>,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The tunnel may be used.
    Allowed,
    /// The caller's tenant does not own the tunnel: to this caller it does not exist.
    OtherTenant,
    /// The caller's team is not on the list.
    TeamNotListed,
}

impl Access {
    /// May `caller` use a tunnel of `owner` that has this access list?
    pub fn evaluate(&self, owner: TenantId, caller: &Caller) -> Decision {
        if caller.tenant != owner {
            return Decision::OtherTenant;
        }
        match self {
            Self::AnyTeam => Decision::Allowed,
            Self::Teams { teams } if teams.contains(&caller.team) => Decision::Allowed,
            Self::Teams { .. } => Decision::TeamNotListed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_open_to_its_tenants_teams_until_an_admin_picks_some() {
        let owner = TenantId::from_bytes([1; 16]);
        let listed = TeamId::from_bytes([2; 16]);
        let caller = |tenant, team| Caller { tenant, team, workflow: None };
        let picked = Access::Teams { teams: BTreeSet::from([listed]) };
        let stranger = TenantId::from_bytes([9; 16]);
        let other = TeamId::from_bytes([3; 16]);

        assert_eq!(Access::default().evaluate(owner, &caller(owner, other)), Decision::Allowed);
        assert_eq!(picked.evaluate(owner, &caller(owner, listed)), Decision::Allowed);
        assert_eq!(picked.evaluate(owner, &caller(owner, other)), Decision::TeamNotListed);
        assert_eq!(picked.evaluate(owner, &caller(stranger, listed)), Decision::OtherTenant);
        assert_eq!(
            Access::AnyTeam.evaluate(owner, &caller(stranger, listed)),
            Decision::OtherTenant
        );
        let nobody = Access::Teams { teams: BTreeSet::new() };
        assert_eq!(nobody.evaluate(owner, &caller(owner, listed)), Decision::TeamNotListed);
    }
}
