use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use protocol::{access::Access, id::TeamId};

use super::*;

const TENANT: TenantId = TenantId::from_bytes([1; 16]);

fn tunnel(id: u8, name: &str) -> FeedTunnel {
    FeedTunnel {
        id: TunnelId::from_bytes([id; 16]),
        tenant: TENANT,
        name: name.parse().unwrap(),
        access: Access::AnyTeam,
        keys: vec![],
        orders: vec![],
    }
}

fn snapshot(generation: u64, tunnels: Vec<FeedTunnel>) -> FeedMessage {
    FeedMessage::Snapshot { generation, items: tunnels.into_iter().map(Item::Tunnel).collect() }
}

fn change(generation: u64, put: Vec<FeedTunnel>, remove: Vec<TunnelId>) -> FeedMessage {
    FeedMessage::Change {
        generation,
        put: put.into_iter().map(Item::Tunnel).collect(),
        remove: remove.into_iter().map(ItemKey::Tunnel).collect(),
    }
}

fn named(knowledge: &Knowledge, name: &str) -> Option<u8> {
    knowledge.read().tunnel_named(TENANT, name).map(|tunnel| tunnel.id.as_bytes()[0])
}

#[test]
fn names_follow_the_tunnels() {
    let now = SystemTime::now();
    let knowledge = Knowledge::new(FeedState::default(), now, Duration::from_secs(60));
    knowledge.apply(snapshot(1, vec![tunnel(1, "office"), tunnel(2, "plant")]), now);
    assert_eq!(named(&knowledge, "office"), Some(1));
    let (applied, touched) = knowledge
        .apply(change(2, vec![tunnel(3, "office")], vec![TunnelId::from_bytes([1; 16])]), now);
    assert_eq!(applied, Applied::Changed);
    assert_eq!(touched.tunnels.len(), 2);
    assert_eq!(named(&knowledge, "office"), Some(3), "a name may be given again");
    knowledge.apply(change(3, vec![], vec![TunnelId::from_bytes([3; 16])]), now);
    assert_eq!(named(&knowledge, "office"), None);
    assert_eq!(named(&knowledge, "plant"), Some(2));
    knowledge.apply(snapshot(9, vec![tunnel(4, "office")]), now);
    assert_eq!((named(&knowledge, "office"), named(&knowledge, "plant")), (Some(4), None));
}

#[test]
fn an_older_generation_changes_nothing() {
    let now = SystemTime::now();
    let knowledge = Knowledge::new(FeedState::default(), now, Duration::from_secs(60));
    knowledge.apply(snapshot(5, vec![tunnel(1, "office")]), now);
    assert_eq!(knowledge.apply(snapshot(4, vec![]), now).0, Applied::Refused);
    assert_eq!(knowledge.apply(change(5, vec![tunnel(2, "x")], vec![]), now).0, Applied::Refused);
    assert_eq!((named(&knowledge, "office"), named(&knowledge, "x")), (Some(1), None));
}

#[test]
fn knowledge_without_a_snapshot_or_without_a_fresh_word_is_stale() {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3_600);
    let knowledge = Knowledge::new(FeedState::default(), now, hour);
    assert!(knowledge.is_stale(now), "no snapshot");
    knowledge.apply(snapshot(1, vec![]), now);
    assert!(!knowledge.is_stale(now + hour));
    assert!(knowledge.is_stale(now + hour + Duration::from_secs(2)));
    knowledge.apply(FeedMessage::Alive { generation: 1 }, now + hour);
    assert!(!knowledge.is_stale(now + hour + hour));
}

#[test]
fn a_grant_holds_as_long_as_tunnel_access_and_token_do() {
    let now = SystemTime::now();
    let knowledge = Knowledge::new(FeedState::default(), now, Duration::from_secs(60));
    let team = TeamId::from_bytes([7; 16]);
    let caller = Caller { tenant: TENANT, team, workflow: None };
    let grant = Grant {
        tunnel: TunnelId::from_bytes([1; 16]),
        caller,
        token: None,
        response_timeout: None,
    };
    let judge = |grant: &Grant| knowledge.read().judge(grant);

    assert_eq!(judge(&grant), Err(Code::UnknownTunnel));
    knowledge.apply(snapshot(1, vec![tunnel(1, "office")]), now);
    assert_eq!(judge(&grant), Ok(()));
    let token = Some(ProxyTokenId::from_bytes([1; 16]));
    assert_eq!(judge(&Grant { token, ..grant }), Err(Code::BadCredentials));
    let stranger = Caller { tenant: TenantId::from_bytes([2; 16]), ..caller };
    assert_eq!(judge(&Grant { caller: stranger, ..grant }), Err(Code::UnknownTunnel));
    let nobody = Access::Teams { teams: BTreeSet::new() };
    knowledge
        .apply(change(2, vec![FeedTunnel { access: nobody, ..tunnel(1, "office") }], vec![]), now);
    assert_eq!(judge(&grant), Err(Code::AccessDenied));
}

proptest! {
    #[test]
    fn every_name_leads_to_the_tunnel_that_bears_it(
        steps in proptest::collection::vec((0u8..5, 0u8..4, any::<bool>()), 1..40),
    ) {
        let now = SystemTime::now();
        let knowledge = Knowledge::new(FeedState::default(), now, Duration::from_secs(60));
        knowledge.apply(snapshot(1, vec![]), now);
        let mut expected: BTreeMap<u8, u8> = BTreeMap::new();
        for (n, (id, name, is_put)) in steps.into_iter().enumerate() {
            let removed = TunnelId::from_bytes([id; 16]);
            // Two tunnels never bear one name at a time; the control plane sees to that.
            let is_free = expected.iter().all(|(other, taken)| *other == id || *taken != name);
            let is_put = is_put && is_free;
            let put = if is_put { vec![tunnel(id, &format!("n{name}"))] } else { vec![] };
            let remove = if put.is_empty() { vec![removed] } else { vec![] };
            if put.is_empty() { expected.remove(&id) } else { expected.insert(id, name) };
            knowledge.apply(change(2 + n as u64, put, remove), now);
            for name in 0..4 {
                let bearer = expected.iter().find(|(_, taken)| **taken == name);
                prop_assert_eq!(named(&knowledge, &format!("n{name}")), bearer.map(|(id, _)| *id));
            }
        }
    }
}
