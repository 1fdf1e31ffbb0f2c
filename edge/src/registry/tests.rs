use std::{net::Ipv4Addr, sync::Arc, time::SystemTime};

use ::link::{
    dial::{Dialer, Identity, Target},
    listen::Http2Listener,
    tls::{ServerIdentity, Trust},
    workers::Workers,
};
use protocol::{
    address::CaPin,
    control::Facts,
    id::{ConnectorId, EdgeId, KeyId},
    key::Seed,
    presence::Transport,
};

use super::{link::CROSSING, *};

/// A link at the edge's end, and what keeps its control stream open.
async fn accept(listener: &Http2Listener, worker: WorkerId) -> (Arc<Link>, impl Sized) {
    let pending = listener.accept().await.unwrap();
    let edge = EdgeId::from_bytes([5; 16]);
    let candidate = pending.handshake(edge, "eu".parse().unwrap()).await.unwrap();
    let hello = candidate.hello().clone();
    let (session, sender, receiver) = candidate.register(vec![]).await.unwrap();
    (Arc::new(Link::new(&hello, session, worker, SystemTime::now())), (sender, receiver))
}

/// Links of one connector in one slot, one on each of these workers.
async fn links<const N: usize>(workers: [WorkerId; N]) -> [Arc<Link>; N] {
    let key = rcgen::KeyPair::generate().unwrap();
    let pin = CaPin::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&key));
    let mut authority = rcgen::CertificateParams::new([]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let chain = leaf.pem() + &root.pem();
    let server = ServerIdentity::from_pem(&chain, &key.serialize_pem()).unwrap();
    let listener = Http2Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), &server).await.unwrap();
    let target = Target {
        transport: Transport::Http2,
        address: listener.local_addr(),
        server_name: "127.0.0.1".into(),
        slot: 0,
        lane: 0,
    };
    let identity = Identity {
        tunnel: TunnelId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        seed: Seed::from_bytes([3; 32]),
        connector: ConnectorId::from_bytes([4; 16]),
        facts: Facts::default(),
    };
    let dialer = Dialer::new(&Trust::Pinned(pin)).unwrap();
    let mut links = Vec::new();
    for worker in workers {
        let ((link, _control), dialled) =
            tokio::join!(accept(&listener, worker), dialer.dial(&target, &identity));
        dialled.unwrap();
        links.push(link);
    }
    links.try_into().unwrap()
}

#[tokio::test]
async fn the_last_word_on_a_place_is_about_the_link_that_holds_it() {
    let [older, newer] = links([WorkerId::FIRST; 2]).await;
    let (registry, unreported) = (Registry::new(10, 10), Unreported::default());
    registry.insert(&older, &unreported);
    registry.insert(&newer, &unreported);
    registry.renew(&older, &unreported);
    registry.remove(&older, &unreported);
    let report = unreported.take();
    assert_eq!(report.up, [newer.presence()]);
    assert!(report.down.is_empty());

    registry.remove(&newer, &unreported);
    registry.renew(&newer, &unreported);
    let report = unreported.take();
    assert!(report.up.is_empty(), "a link that is gone has no news");
    assert_eq!(report.down.len(), 1);
}

#[tokio::test]
async fn a_request_leaves_its_worker_only_for_a_link_that_is_much_less_busy() {
    let workers = Workers::start(3).unwrap();
    let [first, second, third] = [0, 1, 2].map(|n| workers.iter().nth(n).unwrap().id);
    let [own, others] = links([first, second]).await;
    let tunnel = Tunnel::new(100, Arc::default());
    tunnel.links.write().unwrap().extend([own.clone(), others.clone()]);

    let mut under_way: Vec<InFlight> = Vec::new();
    for _ in 0..=CROSSING {
        let picked = tunnel.pick(first, &[]).unwrap();
        assert!(Arc::ptr_eq(picked.link(), &own));
        under_way.push(picked);
    }
    for expected in [&others, &own, &others, &own] {
        let picked = tunnel.pick(first, &[]).unwrap();
        assert!(Arc::ptr_eq(picked.link(), expected), "the difference stays the same");
        under_way.push(picked);
    }
    let picked = tunnel.pick(first, std::slice::from_ref(&own)).unwrap();
    assert!(Arc::ptr_eq(picked.link(), &others), "a link that failed is no choice");
    drop((picked, under_way));

    let picked: Vec<InFlight> = (0..4).map(|_| tunnel.pick(third, &[]).unwrap()).collect();
    let on_own = picked.iter().filter(|picked| Arc::ptr_eq(picked.link(), &own)).count();
    assert_eq!(on_own, 2, "a worker without links has no favourites");
}

#[tokio::test]
async fn links_that_are_equally_good_take_turns_many_requests_each() {
    let workers = Workers::start(3).unwrap();
    let [first, second, third] = [0, 1, 2].map(|n| workers.iter().nth(n).unwrap().id);
    let links = links([first, second]).await;
    let tunnel = Tunnel::new(100, Arc::default());
    tunnel.links.write().unwrap().extend(links.clone());
    // Each is over before the next one begins.
    let picked = (0..4 * TURN).map(|_| tunnel.pick(third, &[]).unwrap().link().clone());
    let picked: Vec<Arc<Link>> = picked.collect();
    for (turn, picked) in picked.chunks(TURN).enumerate() {
        assert!(picked.iter().all(|link| Arc::ptr_eq(link, &links[turn % 2])), "turn {turn}");
    }
}

/// A registry with one link, and the link's tunnel.
async fn one_link() -> (Registry, Unreported, Arc<Link>, TunnelId) {
    let [link] = links([WorkerId::FIRST]).await;
    let (registry, unreported) = (Registry::new(10, 10), Unreported::default());
    registry.insert(&link, &unreported);
    let id = link.key.tunnel;
    (registry, unreported, link, id)
}

#[tokio::test]
async fn a_tunnel_that_lost_its_last_link_is_missed_for_a_while_and_then_forgotten() {
    let (registry, unreported, link, id) = one_link().await;
    let tunnel = registry.get(id).unwrap();
    assert!(!tunnel.is_missed(), "it has a link");
    tokio::time::pause();
    registry.remove(&link, &unreported);
    assert!(tunnel.is_missed());
    let tidy = registry.tidy();
    tokio::pin!(tidy);
    let pass = async |time, tidy: std::pin::Pin<&mut _>| {
        let _: Result<(), _> = tokio::time::timeout(time, tidy).await;
    };
    pass(MISSED_FOR / 2, tidy.as_mut()).await;
    assert!(tunnel.is_missed());
    pass(3 * MISSED_FOR, tidy.as_mut()).await;
    assert!(!tunnel.is_missed());
    assert!(registry.get(id).is_some(), "somebody has it still");
    drop(tunnel);
    pass(2 * MISSED_FOR, tidy.as_mut()).await;
    assert!(registry.get(id).is_none());
}

#[tokio::test]
async fn a_tunnel_whose_links_all_leave_is_missed_until_there_is_another() {
    let [older, newer] = links([WorkerId::FIRST; 2]).await;
    let (registry, unreported) = (Registry::new(10, 10), Unreported::default());
    registry.insert(&older, &unreported);
    let tunnel = registry.get(older.key.tunnel).unwrap();
    let _under_way = tunnel.pick(WorkerId::FIRST, &[]).unwrap();
    registry.say_goodbye(&older);
    assert_eq!(tunnel.pick(WorkerId::FIRST, &[]).unwrap_err(), NoPick::NoLink);
    assert!(tunnel.is_missed());
    let mut arrives = std::pin::pin!(tunnel.link_arrives());
    arrives.as_mut().enable();
    registry.insert(&newer, &unreported);
    arrives.await;
    assert!(!tunnel.is_missed());
    assert!(tunnel.pick(WorkerId::FIRST, &[]).is_ok());
}

#[tokio::test]
async fn links_that_were_there_before_the_start_are_awaited_for_ten_seconds_at_most() {
    let [link] = links([WorkerId::FIRST]).await;
    let (registry, unreported) = (Registry::new(10, 10), Unreported::default());
    let gone = TunnelId::from_bytes([9; 16]);
    tokio::time::pause();
    registry.miss([link.key.tunnel, gone]);
    assert_eq!(registry.awaited(|_| true), 2);
    assert_eq!(registry.awaited(|id| id != gone), 1, "one that is deleted is not waited for");
    assert!(registry.get(gone).unwrap().is_missed(), "requests wait for it");
    registry.insert(&link, &unreported);
    assert_eq!(registry.awaited(|_| true), 1);
    assert_eq!(registry.served(), [link.key.tunnel, gone].into(), "what is awaited is kept");
    registry.settled(|id| id != gone).await;
    let before = Instant::now();
    registry.settled(|_| true).await;
    // Timers are a millisecond late at most.
    let took = before.elapsed().as_millis();
    assert!((10_000..=10_001).contains(&took), "{took} ms");
    assert_eq!(registry.awaited(|_| true), 0);
    assert_eq!(registry.served(), [link.key.tunnel].into());
}

#[tokio::test]
async fn no_more_requests_than_there_is_room_for_wait_for_a_link() {
    let registry = Registry::new(10, 10);
    let waiting: Vec<_> = (0..WAITERS).map(|_| registry.wait().unwrap()).collect();
    assert!(registry.wait().is_none());
    drop(waiting);
    assert!(registry.wait().is_some());
}

#[tokio::test]
async fn a_full_link_is_not_picked() {
    let [first, second] = links([WorkerId::FIRST; 2]).await;
    let tunnel = Tunnel::new(usize::MAX, Arc::default());
    tunnel.links.write().unwrap().extend([first.clone(), second.clone()]);
    let room = first.capacity + second.capacity;
    assert_eq!(room, 2_000);
    let mut under_way: Vec<InFlight> =
        (0..room).map(|_| tunnel.pick(WorkerId::FIRST, &[]).unwrap()).collect();
    assert!(first.is_full() && second.is_full());
    assert_eq!(tunnel.pick(WorkerId::FIRST, &[]).unwrap_err(), NoPick::Full);
    let ended = under_way.pop().unwrap().link().clone();
    let picked = tunnel.pick(WorkerId::FIRST, &[]).unwrap();
    assert!(Arc::ptr_eq(picked.link(), &ended));

    drop((under_way, picked));
    first.say_goodbye();
    second.say_goodbye();
    assert_eq!(tunnel.pick(WorkerId::FIRST, &[]).unwrap_err(), NoPick::NoLink);
}
