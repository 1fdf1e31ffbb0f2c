use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};

use super::*;

/// Sockets that share one address, and who sends to it.
fn sockets(count: usize) -> (Vec<UdpSocket>, UdpSocket) {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut sockets: Vec<UdpSocket> = Vec::new();
    while sockets.len() < count {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        sockets.push(socket.into());
        address = sockets[0].local_addr().unwrap();
    }
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sender.connect(address).unwrap();
    (sockets, sender)
}

/// Which of the sockets a packet comes to: over loopback it is there when it has been sent.
fn arrival(sockets: &[UdpSocket]) -> usize {
    let mut buffer = [0; 64];
    let mut arrivals = sockets.iter().enumerate().filter(|(_, s)| s.recv(&mut buffer).is_ok());
    let (nth, _) = arrivals.next().expect("the packet has arrived");
    assert_eq!(arrivals.count(), 0, "at one socket alone");
    nth
}

fn long(id: &[u8]) -> Vec<u8> {
    [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], id, &[0; 24]].concat()
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x40], id, &[0; 24]].concat()
}

#[test]
fn every_packet_of_a_link_comes_to_the_socket_that_gave_out_its_id() {
    for count in [2, 3, 5, 64] {
        let (sockets, _) = sockets(count);
        let shards = Shard::split(&sockets).unwrap();
        for (nth, shard) in shards.into_iter().enumerate() {
            let mut ids = Ids::new(shard, Generation::default());
            for _ in 0..20 {
                let id = ids.generate_cid();
                // From a new address each time, so that the kernel's hash is none of the reasons.
                let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                sender.send_to(&short(&id), sockets[0].local_addr().unwrap()).unwrap();
                assert_eq!(arrival(&sockets), nth);
            }
        }
    }
}

#[test]
fn a_link_begins_where_its_lane_leads_and_goes_on_there() {
    let (sockets, sender) = sockets(3);
    let shards = Shard::split(&sockets).unwrap();
    for lane in 0..=u8::MAX {
        let id = beginning(lane);
        sender.send(&long(&id)).unwrap();
        let nth = arrival(&sockets);
        assert_eq!(nth, usize::from(lane) % 3);
        // What the connector sends when it has heard of the edge's own id, while keys are agreed on.
        sender.send(&long(&Ids::new(shards[nth], Generation::default()).generate_cid())).unwrap();
        assert_eq!(arrival(&sockets), nth);
    }
    let ids: HashSet<ConnectionId> = (0..64).map(|_| beginning(7)).collect();
    assert_eq!(ids.len(), 64, "none is like another");
}

#[test]
fn what_is_no_packet_harms_nobody() {
    let (sockets, sender) = sockets(3);
    Shard::split(&sockets).unwrap();
    for noise in [&[][..], &[0x40], &[0xc0], &[0xc0, 0, 0, 0, 1]] {
        sender.send(noise).unwrap();
        assert_eq!(arrival(&sockets), 0);
    }
}

#[test]
fn an_id_is_known_by_the_shard_that_drew_it_alone() {
    let (sockets, _) = sockets(3);
    let shards = Shard::split(&sockets).unwrap();
    for drawn_by in &shards {
        let id = Ids::new(*drawn_by, Generation::default()).generate_cid();
        for shard in &shards {
            assert_eq!(
                Ids::new(*shard, Generation::default()).validate(&id).is_ok(),
                shard == drawn_by
            );
        }
        assert!(
            Ids::new(Shard::WHOLE, Generation::default()).validate(&id).is_ok(),
            "after a restart as one"
        );
    }
}

#[test]
fn a_lone_socket_has_everything() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(Shard::split(&[socket]).unwrap(), [Shard::WHOLE]);
}
