use std::{net::Ipv4Addr, sync::Arc};

use link::{
    dial::{Dialer, Identity, Target},
    listen::Http2Listener,
    tls::{ServerIdentity, Trust},
    workers::Workers,
};
use protocol::{address::CaPin, id::EdgeId, key::Seed};

use super::*;

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
    let tunnel = Tunnel::new(100);
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
    let tunnel = Tunnel::new(100);
    tunnel.links.write().unwrap().extend(links.clone());
    // Each is over before the next one begins.
    let picked = (0..4 * TURN).map(|_| tunnel.pick(third, &[]).unwrap().link().clone());
    let picked: Vec<Arc<Link>> = picked.collect();
    for (turn, picked) in picked.chunks(TURN).enumerate() {
        assert!(picked.iter().all(|link| Arc::ptr_eq(link, &links[turn % 2])), "turn {turn}");
    }
}
