//! Who may begin one more stream of a tunnel, so that nobody can take all of them.
//!
//! A stream that hangs keeps its place for minutes, and a tunnel has some thousand places. So an origin that does
//! not answer, a caller, or a team may begin another stream only while it has fewer than some multiple of what is
//! still free. One that takes all it gets ends at a share that leaves room for others; two of them end at smaller
//! ones; and where there is enough room, nobody meets a limit. There is nothing to configure.
//!
//! | | multiple of what is free | alone, of all | two, each |
//! |---|---|---|---|
//! | origin | 2 | 2/3 | 2/5 |
//! | caller: a token or a workflow | 8 | 8/9 | 8/17 |
//! | team | 32 | 32/33 | 32/65 |
//!
//! The multiples differ, because a caller that asks an origin which hangs should still reach the others, and a
//! team with one such caller, too. (Dynamic thresholds, from shared memory switches: Choudhury and Hahne, 1998.)

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, Hasher},
    sync::LazyLock,
};

use foldhash::{fast, quality::RandomState};
use http::Uri;
use protocol::refusal::{Code, Refusal};

use crate::knowledge::Grant;

/// Unguessable, so that nobody can choose an origin that counts as another one.
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Whose shares a stream counts in, each as a hash of who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharers {
    origin: u64,
    caller: u64,
    team: u64,
}

impl Sharers {
    pub(crate) fn new(grant: &Grant, target: &Uri) -> Self {
        let caller = &grant.caller;
        let team = HASHES.hash_one((0, caller.team));
        let caller = match grant.token {
            Some(token) => HASHES.hash_one((1, token)),
            None => HASHES.hash_one((2, caller.team, caller.workflow)),
        };
        Self { origin: HASHES.hash_one((3, Origin(target))), caller, team }
    }

    /// Each with its multiple of what is free.
    fn each(self) -> [(u64, usize); 3] {
        [(self.origin, 2), (self.caller, 8), (self.team, 32)]
    }
}

/// A target's host and port: one server, however it is written.
struct Origin<'a>(&'a Uri);

impl Hash for Origin<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let host = self.0.host().unwrap_or_default();
        host.bytes().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
        let default = if self.0.scheme() == Some(&http::uri::Scheme::HTTP) { 80 } else { 443 };
        state.write_u16(self.0.port_u16().unwrap_or(default));
    }
}

/// How many streams each sharer has under way.
#[derive(Debug, Default)]
pub(super) struct Shares(HashMap<u64, usize, fast::RandomState>);

impl Shares {
    /// Counts a stream in, where `free` more may begin; or tells whose share is used up.
    pub(super) fn begin(&mut self, sharers: Sharers, free: usize) -> Result<(), Refusal> {
        let has_room = |(sharer, multiple): (u64, usize)| {
            self.0.get(&sharer).copied().unwrap_or(0) < free.saturating_mul(multiple)
        };
        match sharers.each().map(has_room) {
            _ if free == 0 => return Err(Code::TunnelFull.into()),
            [false, ..] => return Err(Code::OriginBusy.into()),
            [true, false, _] => return Err(too_many("this token or workflow")),
            [true, true, false] => return Err(too_many("this team")),
            [true, true, true] => {}
        }
        for (sharer, _) in sharers.each() {
            *self.0.entry(sharer).or_default() += 1;
        }
        Ok(())
    }

    pub(super) fn end(&mut self, sharers: Sharers) {
        for (sharer, _) in sharers.each() {
            let Some(count) = self.0.get_mut(&sharer) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&sharer);
            }
        }
    }
}

fn too_many(who: &str) -> Refusal {
    let detail = format!("{who} has used up its share of the tunnel's requests under way");
    Refusal::new(Code::TooManyRequests, detail)
}

#[cfg(test)]
mod tests {
    use protocol::{
        access::Caller,
        id::{ProxyTokenId, TeamId, TenantId, TunnelId},
    };

    use super::*;

    const PLACES: usize = 1_000;

    fn sharers(team: u8, token: u8, target: &str) -> Sharers {
        let tenant = TenantId::from_bytes([1; 16]);
        let caller = Caller { tenant, team: TeamId::from_bytes([team; 16]), workflow: None };
        let token = Some(ProxyTokenId::from_bytes([token; 16]));
        let tunnel = TunnelId::from_bytes([1; 16]);
        let grant = Grant { tunnel, caller, token, response_timeout: None };
        Sharers::new(&grant, &target.parse().unwrap())
    }

    /// Takes places in turn until nobody gets one more; what each got, and why no more.
    fn fill(shares: &mut Shares, taken: &mut usize, hogs: &[Sharers]) -> Vec<(usize, Code)> {
        let mut got = vec![(0, None); hogs.len()];
        while got.iter().any(|(_, refused)| refused.is_none()) {
            for (hog, (count, refused)) in hogs.iter().zip(&mut got) {
                match shares.begin(*hog, PLACES - *taken) {
                    Ok(()) => (*taken, *count) = (*taken + 1, *count + 1),
                    Err(refusal) => *refused = Some(refusal.code),
                }
            }
        }
        got.into_iter().map(|(count, refused)| (count, refused.unwrap())).collect()
    }

    #[test]
    fn an_origin_that_hangs_leaves_room_for_others_of_the_same_caller() {
        let (mut shares, mut taken) = (Shares::default(), 0);
        let got = fill(&mut shares, &mut taken, &[sharers(1, 1, "http://silent.corp/")]);
        assert_eq!(got, [(667, Code::OriginBusy)]);
        let got = fill(&mut shares, &mut taken, &[sharers(1, 1, "http://healthy.corp/")]);
        assert!(got[0].0 > 200, "{got:?}");
    }

    #[test]
    fn two_origins_that_hang_get_equal_shares_and_leave_room() {
        let (mut shares, mut taken) = (Shares::default(), 0);
        let hogs = [sharers(1, 1, "http://a.corp/"), sharers(1, 1, "http://b.corp/")];
        let got = fill(&mut shares, &mut taken, &hogs);
        assert_eq!(got, [(400, Code::OriginBusy), (400, Code::OriginBusy)]);
        let got = fill(&mut shares, &mut taken, &[sharers(1, 1, "http://healthy.corp/")]);
        assert!(got[0].0 > 80, "{got:?}");
    }

    #[test]
    fn neither_a_caller_nor_a_team_gets_everything() {
        let (mut shares, mut taken) = (Shares::default(), 0);
        let many = |team, token| -> Vec<Sharers> {
            (0..100).map(|n| sharers(team, token, &format!("http://o{n}.corp/"))).collect()
        };
        let got = fill(&mut shares, &mut taken, &many(1, 1));
        assert!(got.iter().all(|(_, code)| *code == Code::TooManyRequests), "{got:?}");
        assert_eq!(taken, 889);
        let callers: Vec<Sharers> = (2..100).flat_map(|token| many(1, token)).collect();
        let got = fill(&mut shares, &mut taken, &callers);
        assert!(got.iter().all(|(_, code)| *code == Code::TooManyRequests), "{got:?}");
        assert_eq!(taken, 970);
        let got = fill(&mut shares, &mut taken, &[sharers(2, 200, "http://o1.corp/")]);
        assert!(got[0].0 > 10, "{got:?}");
    }

    #[test]
    fn what_has_ended_counts_no_more() {
        let (mut shares, mut taken) = (Shares::default(), 0);
        let hog = sharers(1, 1, "http://a.corp/");
        assert_eq!(fill(&mut shares, &mut taken, &[hog])[0].0, 667);
        (0..667).for_each(|_| shares.end(hog));
        assert!(shares.0.is_empty());
    }

    #[test]
    fn one_server_is_one_origin_however_it_is_written() {
        let written = ["http://Wiki.corp/a", "http://wiki.corp:80/b", "http://wiki.CORP"];
        let [first, rest @ ..] = written.map(|target| sharers(1, 1, target));
        assert!(rest.iter().all(|other| *other == first));
        assert_ne!(sharers(1, 1, "https://wiki.corp/"), first);
        assert_eq!(sharers(1, 1, "https://wiki.corp/"), sharers(1, 1, "wiki.corp:443"));
    }
}
