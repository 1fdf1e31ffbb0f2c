use protocol::{
    abilities::Abilities,
    access::Access,
    control::Facts,
    feed::{FeedMessage, FeedTunnel, FeedTunnelKey, Item},
    id::{ConnectorId, KeyId, TenantId, TunnelId},
    key::Signature,
};

use super::*;

const TUNNEL: TunnelId = TunnelId::from_bytes([1; 16]);
const KEY: KeyId = KeyId::from_bytes([2; 16]);

fn core() -> Arc<Core> {
    let core = Core::empty();
    core.apply(FeedMessage::Snapshot { generation: 1, items: vec![] }, SystemTime::now());
    core
}

fn hello() -> Hello {
    Hello {
        version: LINK_VERSION,
        tunnel: TUNNEL,
        key: KEY,
        connector: ConnectorId::from_bytes([3; 16]),
        slot: 0,
        proof: Signature::from_bytes([0; 64]),
        facts: Facts::default(),
        abilities: Abilities::default(),
        probe: false,
    }
}

#[tokio::test]
async fn a_secret_that_is_faster_than_the_feed_waits_for_it() {
    let core = core();
    let workers = Workers::start(1).unwrap();
    let links = Links::new(core.clone(), Tasks::default(), &workers, Duration::ZERO);
    let hello = hello();
    let mut judged = std::pin::pin!(links.judge(&hello));
    tokio::select! {
        biased;
        judged = &mut judged => panic!("nobody knows the key yet: {judged:?}"),
        () = std::future::ready(()) => {}
    }
    let public_key = PublicKey::from_bytes([7; 32]);
    let tunnel = FeedTunnel {
        id: TUNNEL,
        tenant: TenantId::from_bytes([4; 16]),
        name: "office".parse().unwrap(),
        access: Access::AnyTeam,
        keys: vec![FeedTunnelKey { id: KEY, public_key, revoked: false }],
        orders: vec![],
    };
    let put = vec![Item::Tunnel(tunnel)];
    core.apply(FeedMessage::Change { generation: 2, put, remove: vec![] }, SystemTime::now());
    assert_eq!(judged.await, Ok(public_key));
}

#[tokio::test]
async fn a_secret_that_the_feed_does_not_bring_is_unknown() {
    let core = core();
    let workers = Workers::start(1).unwrap();
    let links = Links::new(core.clone(), Tasks::default(), &workers, Duration::ZERO);
    assert_eq!(links.judge(&hello()).await, Err(LinkRefusalCode::UnknownTunnel));
    let newer = Hello { version: LINK_VERSION + 1, ..hello() };
    assert_eq!(links.judge(&newer).await, Err(LinkRefusalCode::Malformed));
    let older = Hello { version: LINK_VERSION - 1, ..hello() };
    assert_eq!(links.judge(&older).await, Err(LinkRefusalCode::VersionTooOld));
    links.drain();
    assert_eq!(links.judge(&hello()).await, Err(LinkRefusalCode::Draining));
}

#[test]
fn only_a_passing_refusal_says_when_to_come_back() {
    for code in [LinkRefusalCode::Draining, LinkRefusalCode::Capacity, LinkRefusalCode::FeedStale] {
        assert!(code.is_retryable() && refuse(code, 0).retry_after_ms.is_some());
    }
    for code in [LinkRefusalCode::RevokedSecret, LinkRefusalCode::BadProof] {
        assert!(!code.is_retryable() && refuse(code, 0).retry_after_ms.is_none());
    }
}

#[test]
fn an_edge_that_leaves_spreads_those_who_ask_whether_it_is_back() {
    for (drained, least) in [(0, 500), (4, 501), (20_000, 5_500)] {
        let refusal = refuse(LinkRefusalCode::Draining, drained);
        assert!((least..=2 * least).contains(&refusal.retry_after_ms.unwrap()), "{refusal:?}");
    }
}
