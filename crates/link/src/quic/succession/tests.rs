use std::{future::poll_fn, net::Ipv4Addr, net::UdpSocket, sync::Arc, time::Duration};

use proptest::prelude::*;
use quinn::AsyncUdpSocket as _;

use super::*;
use crate::quic::{shard::Ids, shard::Shard, socket::Socket};
use quinn_proto::ConnectionIdGenerator as _;

/// Bounds every wait; no test relies on its length.
const PATIENCE: Duration = Duration::from_secs(30);
const OLD: Generation = Generation(255);

fn short(generation: Generation, text: &[u8]) -> Vec<u8> {
    let id = Ids::new(Shard::WHOLE, generation).generate_cid();
    [&[0x40], &id[..], text].concat()
}

fn long(id: &[u8], text: &[u8]) -> Vec<u8> {
    [&[0xc0, 0, 0, 0, 1, id.len() as u8][..], id, text].concat()
}

#[test]
fn a_packet_is_foreign_by_the_id_that_another_process_gave_out() {
    let own = OLD.next();
    assert_eq!(own, Generation(0), "generations go round");
    assert!(own.is_foreign(&short(OLD, b"x")));
    assert!(!own.is_foreign(&short(own, b"x")));
    let drawn = |generation| Ids::new(Shard::WHOLE, generation).generate_cid();
    assert!(own.is_foreign(&long(&drawn(OLD), b"x")));
    assert!(!own.is_foreign(&long(&drawn(own), b"x")));
    for made_up in [&[9; 20][..], &[9; 7], &[]] {
        assert!(!own.is_foreign(&long(made_up, b"x")), "the connector's own id begins a link");
    }
    for noise in [&[][..], &[0x40], &[0xc0], &[0xc0, 0, 0, 0, 1], &[0xc0, 0, 0, 0, 1, 8, 1]] {
        assert!(!own.is_foreign(noise));
    }
}

proptest! {
    #[test]
    fn a_packet_goes_through_a_pipe_unchanged(
        packet in proptest::collection::vec(any::<u8>(), 0..2_000),
        from in any::<(bool, [u8; 16], u16)>(),
        to in proptest::option::of(any::<[u8; 4]>()),
        ecn in 0u8..4,
    ) {
        let (is_v4, ip, port) = from;
        let ip = if is_v4 { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) } else { IpAddr::from(ip) };
        let meta = RecvMeta {
            addr: SocketAddr::new(ip, port),
            len: packet.len(),
            stride: packet.len(),
            ecn: EcnCodepoint::from_bits(ecn),
            dst_ip: to.map(IpAddr::from),
        };
        let mut message = Vec::new();
        encode(&meta, &packet, &mut message);
        let (of, came) = decode(&message).unwrap();
        prop_assert_eq!(came, packet);
        prop_assert_eq!((of.addr, of.len, of.dst_ip), (meta.addr, meta.len, meta.dst_ip));
        prop_assert_eq!(of.ecn.map(|ecn| ecn as u8), meta.ecn.map(|ecn| ecn as u8));
    }

    #[test]
    fn no_message_panics(message in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&message);
    }

    #[test]
    fn of_packets_that_were_joined_each_goes_its_own_way(
        are_old in proptest::collection::vec(any::<bool>(), 1..20),
        last in 1usize..10,
    ) {
        let (outlet, inlet) = pipe().unwrap();
        let own = OLD.next();
        let succession = Succession::new(own, Some(outlet));
        let text = |n: usize| if n + 1 == are_old.len() { vec![n as u8; last] } else { vec![n as u8; 10] };
        let packet = |(n, is_old): (usize, &bool)| short(if *is_old { OLD } else { own }, &text(n));
        let packets: Vec<Vec<u8>> = are_old.iter().enumerate().map(packet).collect();
        let mut joined = packets.concat();
        let mut meta = [RecvMeta { len: joined.len(), stride: packets[0].len().max(19), ..RecvMeta::default() }];
        let count = succession.divert(&mut [IoSliceMut::new(&mut joined)], &mut meta, 1);
        let of = |wanted: bool| {
            let pairs = packets.iter().zip(&are_old).filter(move |(_, is_old)| **is_old == wanted);
            pairs.map(|(packet, _)| packet.clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(count, usize::from(are_old.contains(&false)));
        prop_assert_eq!(&joined[..meta[0].len], of(false).concat());
        for packet in of(true) {
            let mut buffer = [0; 100];
            let length = inlet.recv(&mut buffer).unwrap();
            prop_assert_eq!(decode(&buffer[..length]).unwrap().1, packet);
        }
    }
}

/// What arrives next.
async fn receive(socket: &Socket) -> Vec<u8> {
    let mut room = [0; 64 * 1024];
    let received = poll_fn(|cx| {
        let mut meta = [RecvMeta::default()];
        let count = ready!(socket.poll_recv(cx, &mut [IoSliceMut::new(&mut room)], &mut meta))?;
        assert_eq!(count, 1);
        Poll::Ready(io::Result::Ok(meta[0].len))
    });
    let length = tokio::time::timeout(PATIENCE, received).await.unwrap().unwrap();
    room[..length].to_vec()
}

#[tokio::test]
async fn two_processes_share_a_socket_and_each_gets_what_is_its_own() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let older = Arc::new(Socket::new(socket, Some(Succession::new(OLD, None))).unwrap());
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sender.send_to(&short(OLD, b"before"), address).unwrap();
    assert!(receive(&older).await.ends_with(b"before"));

    // It waits for a packet while the newer one takes over.
    let waiting = tokio::spawn({
        let older = older.clone();
        async move { receive(&older).await }
    });
    tokio::task::yield_now().await;
    let (outlet, inlet) = pipe().unwrap();
    older.succession().unwrap().hand_over(inlet).unwrap();
    let own = OLD.next();
    let newer = UdpSocket::from(older.share().unwrap());
    let newer = Socket::new(newer, Some(Succession::new(own, Some(outlet)))).unwrap();
    sender.send_to(&short(OLD, b"old"), address).unwrap();
    sender.send_to(&short(own, b"new"), address).unwrap();
    assert!(receive(&newer).await.ends_with(b"new"));
    assert!(waiting.await.unwrap().ends_with(b"old"));

    drop(newer);
    older.succession().unwrap().take_back();
    sender.send_to(&short(OLD, b"again"), address).unwrap();
    assert!(receive(&older).await.ends_with(b"again"));
}

#[tokio::test]
async fn once_the_older_process_is_gone_its_packets_come_to_the_newer_one() {
    let (outlet, inlet) = pipe().unwrap();
    let own = OLD.next();
    let succession = Succession::new(own, Some(outlet));
    drop(inlet);
    let mut kept = 0;
    for _ in 0..2 {
        let mut packet = short(OLD, b"late");
        let mut meta =
            [RecvMeta { len: packet.len(), stride: packet.len(), ..RecvMeta::default() }];
        kept += succession.divert(&mut [IoSliceMut::new(&mut packet)], &mut meta, 1);
    }
    assert_eq!(kept, 2, "connectors that do not know it yet are answered");
}
