//! How a link comes up, or does not, and what is said on its control stream.

use std::net::SocketAddr;

use link::{CloseReason, DialError, LinkError, dial::Dialer, tls::Trust};
use protocol::{
    control::{DirectoryEdge, FromConnector, FromEdge, LinkRefusal, LinkRefusalCode},
    key::Seed,
    presence::Transport,
};
use tokio::io::AsyncReadExt;

use crate::{
    over_both_carriers,
    world::{Authority, EDGE, Listener, World, identity, patiently, seed, target},
};

over_both_carriers!(
    a_link_brings_the_directory,
    a_probe_is_answered_as_a_link_would_be_and_is_none,
    control_messages_pass_both_ways,
    only_the_holder_of_the_key_is_proven,
    a_refusal_is_told_with_its_reason,
    an_edge_under_another_authority_is_not_trusted,
    an_edge_that_bears_another_name_is_not_trusted,
    a_link_that_the_edge_closes_is_over_for_the_connector,
);

async fn a_link_brings_the_directory(transport: Transport) {
    let authority = Authority::new();
    let listener = Listener::bind(transport, &authority.identity()).await;
    let directory = vec![DirectoryEdge {
        edge: EDGE,
        link: protocol::address::EdgeAddress {
            region: "eu".parse().unwrap(),
            address: "localhost:7844".parse().unwrap(),
            fallback_port: Some(443),
        },
    }];
    let dialer = Dialer::new(&Trust::Pinned(authority.pin)).unwrap();
    let target = target(transport, listener.address());
    let identity = identity();
    let (_link, dialled) = patiently(async {
        tokio::join!(
            async {
                let candidate = listener.candidate().await;
                assert_eq!(candidate.transport(), transport);
                assert_eq!(candidate.hello().facts.host, "office");
                candidate.register(directory.clone()).await.unwrap()
            },
            dialer.dial(&target, &identity),
        )
    })
    .await;
    let dialled = dialled.unwrap();
    assert_eq!(dialled.edge, EDGE);
    assert_eq!(dialled.region.as_str(), "eu");
    assert_eq!(dialled.directory, directory);
}

async fn a_probe_is_answered_as_a_link_would_be_and_is_none(transport: Transport) {
    let authority = Authority::new();
    let listener = Listener::bind(transport, &authority.identity()).await;
    let dialer = Dialer::new(&Trust::Pinned(authority.pin)).unwrap();
    let (target, identity) = (target(transport, listener.address()), identity());
    let probe = async {
        match transport {
            Transport::Quic => dialer.probe(&target, &identity).await,
            Transport::Http2 => {
                let stream = tokio::net::TcpStream::connect(target.address).await.unwrap();
                dialer.probe_on(stream, &target.server_name, 0, &identity).await
            }
        }
    };
    let edge = async {
        let candidate = listener.candidate().await;
        assert!(candidate.hello().probe && candidate.is_proven_by(&seed().public_key()));
        let (session, _sender, _receiver) = candidate.register(vec![]).await.unwrap();
        session.closed().await;
    };
    let (probed, ()) = patiently(async { tokio::join!(probe, edge) }).await;
    let probed = probed.unwrap();
    assert_eq!((probed.edge, probed.region.as_str()), (EDGE, "eu"));

    let code = LinkRefusalCode::RevokedSecret;
    let refused = patiently(async {
        tokio::join!(dialer.probe(&target, &identity), async {
            let refusal = LinkRefusal { code, retry_after_ms: None };
            listener.candidate().await.refuse(refusal).await;
        })
        .0
    });
    assert_eq!(refused.await.unwrap_err().refusal().unwrap().code, code);
}

async fn control_messages_pass_both_ways(transport: Transport) {
    let mut world = World::new(transport).await;
    let inbound = &mut world.inbound;
    let conversation = async {
        for sequence in 1..=100 {
            let ping = FromConnector::Ping { sequence, rtt_us: None };
            world.connector_sender.send(&ping).await.unwrap();
            assert_eq!(world.edge_receiver.receive().await.unwrap(), Some(ping));
            let pong = FromEdge::Pong { sequence };
            world.edge_sender.send(&pong).await.unwrap();
            assert_eq!(world.connector_receiver.receive().await.unwrap(), Some(pong));
        }
    };
    patiently(async {
        tokio::select! {
            () = conversation => {}
            _ = inbound.accept() => panic!("no request was sent"),
        }
    })
    .await;
}

async fn only_the_holder_of_the_key_is_proven(transport: Transport) {
    let authority = Authority::new();
    let listener = Listener::bind(transport, &authority.identity()).await;
    let dialer = Dialer::new(&Trust::Pinned(authority.pin)).unwrap();
    let target = target(transport, listener.address());
    let mut thief = identity();
    thief.seed = Seed::from_bytes([8; 32]);
    let refusal = LinkRefusal { code: LinkRefusalCode::BadProof, retry_after_ms: None };
    let ((), dialled) = patiently(async {
        tokio::join!(
            async {
                let candidate = listener.candidate().await;
                assert!(!candidate.is_proven_by(&seed().public_key()));
                candidate.refuse(refusal.clone()).await;
            },
            dialer.dial(&target, &thief),
        )
    })
    .await;
    assert_eq!(dialled.err().unwrap().refusal(), Some(&refusal));
}

async fn a_refusal_is_told_with_its_reason(transport: Transport) {
    let authority = Authority::new();
    let listener = Listener::bind(transport, &authority.identity()).await;
    let dialer = Dialer::new(&Trust::Pinned(authority.pin)).unwrap();
    let target = target(transport, listener.address());
    let identity = identity();
    let refusal = LinkRefusal { code: LinkRefusalCode::FeedStale, retry_after_ms: Some(2_000) };
    let ((), dialled) = patiently(async {
        tokio::join!(
            async { listener.candidate().await.refuse(refusal.clone()).await },
            dialer.dial(&target, &identity),
        )
    })
    .await;
    assert_eq!(dialled.err().unwrap().refusal(), Some(&refusal));
}

async fn dial_in_vain(transport: Transport, trust: &Authority, server_name: &str) -> DialError {
    let authority = Authority::new();
    let pin = if server_name == "localhost" { trust.pin } else { authority.pin };
    let listener = Listener::bind(transport, &authority.identity()).await;
    let dialer = Dialer::new(&Trust::Pinned(pin)).unwrap();
    let mut target = target(transport, listener.address());
    server_name.clone_into(&mut target.server_name);
    let identity = identity();
    let (failed, dialled) = patiently(async {
        tokio::join!(
            async { listener.accept().await.handshake(EDGE, "eu".parse().unwrap()).await.is_err() },
            dialer.dial(&target, &identity),
        )
    })
    .await;
    assert!(failed);
    dialled.err().unwrap()
}

async fn an_edge_under_another_authority_is_not_trusted(transport: Transport) {
    let error = dial_in_vain(transport, &Authority::new(), "localhost").await;
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
}

async fn an_edge_that_bears_another_name_is_not_trusted(transport: Transport) {
    let error = dial_in_vain(transport, &Authority::new(), "elsewhere").await;
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
}

async fn a_link_that_the_edge_closes_is_over_for_the_connector(transport: Transport) {
    let mut world = World::new(transport).await;
    world.session.close(CloseReason::Revoked);
    assert!(patiently(world.inbound.accept()).await.is_none());
    assert!(!matches!(patiently(world.connector_receiver.receive()).await, Ok(Some(_))));
    let why = patiently(world.session.closed()).await;
    assert!(matches!(why, LinkError::Closed(_)), "{why:?}");
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_sent_away_after_five_seconds() {
    let authority = Authority::new();
    let listener = Listener::bind(Transport::Http2, &authority.identity()).await;
    let mut stranger = tokio::net::TcpStream::connect(listener.address()).await.unwrap();
    let handshake = listener.accept().await.handshake(EDGE, "eu".parse().unwrap());
    assert!(matches!(patiently(handshake).await, Err(LinkError::TimedOut)));
    assert_eq!(patiently(stranger.read(&mut [0; 16])).await.unwrap(), 0);
}

/// An address that never answered gets back no more than it sent (RFC 9000 §8.1 allows three times).
#[tokio::test]
async fn an_unproven_address_is_never_sent_more_than_it_sent() {
    let authority = Authority::new();
    let listener = Listener::bind(Transport::Quic, &authority.identity()).await;
    let edge = listener.address();
    let accepting = tokio::spawn(async move { drop(listener.accept().await) });
    // A relay that lets the client's first packet through and counts what comes back for it.
    let relay = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = relay.local_addr().unwrap();
    let dialer = Dialer::new(&Trust::Pinned(authority.pin)).unwrap();
    let dialling = tokio::spawn(async move {
        let _ = dialer.dial(&target(Transport::Quic, address), &identity()).await;
    });
    let mut packet = [0; 2048];
    let (sent, _) = patiently(relay.recv_from(&mut packet)).await.unwrap();
    relay.send_to(&packet[..sent], edge).await.unwrap();
    loop {
        let (length, from) = patiently(relay.recv_from(&mut packet)).await.unwrap();
        if from == edge {
            assert!(length < sent / 3, "{length} bytes for {sent}");
            break;
        }
    }
    dialling.abort();
    accepting.abort();
}
