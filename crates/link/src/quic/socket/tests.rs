use std::{
    future::poll_fn,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, RawFd},
    task::Waker,
    time::Duration,
};

use quinn::Runtime as _;

use super::*;

/// Bounds every wait; no test relies on its length.
const PATIENCE: Duration = Duration::from_secs(30);
/// As many packets as are read at once.
const BATCH: usize = 4;

fn socket() -> (Arc<dyn AsyncUdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = Runtime.wrap_udp_socket(socket).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn packet(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
    Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
}

/// The lengths of packets that are there, which may have been joined.
async fn receive(socket: &dyn AsyncUdpSocket) -> usize {
    let mut room = [[0; 64 * 1024]; BATCH];
    let received = poll_fn(|cx| {
        let mut buffers = room.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut meta = [RecvMeta::default(); BATCH];
        let count = ready!(socket.poll_recv(cx, &mut buffers, &mut meta))?;
        Poll::Ready(io::Result::Ok(meta[..count].iter().map(|meta| meta.len).sum()))
    });
    tokio::time::timeout(PATIENCE, received).await.unwrap().unwrap()
}

#[tokio::test]
async fn every_packet_arrives_however_many_come_at_once() {
    let ((sender, _), (receiver, address)) = (socket(), socket());
    for burst in [1, 2, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH, 1] {
        for _ in 0..burst {
            sender.try_send(&packet(address, b"seven b")).unwrap();
        }
        let mut received = 0;
        while received < burst * 7 {
            received += receive(&*receiver).await;
        }
        assert_eq!(received, burst * 7);
    }
}

/// What the system is asked to tell of a file, by whichever set of files: bits of epoll_ctl(2).
fn asked(file: RawFd) -> Vec<u32> {
    let sets = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    // Files come and go in other tests.
    let texts = sets.filter_map(|set| std::fs::read_to_string(set.ok()?.path()).ok());
    let texts: Vec<String> = texts.collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    let of_file = lines.filter_map(|line| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let is_it = words.next()?.parse() == Ok(file);
        let bits = words.nth(1).and_then(|bits| u32::from_str_radix(bits, 16).ok());
        bits.filter(|_| is_it)
    });
    of_file.collect()
}

#[tokio::test]
async fn the_system_is_not_asked_to_tell_of_room() {
    const EPOLLIN: u32 = 1;
    const EPOLLOUT: u32 = 4;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let file = socket.as_raw_fd();
    let _socket = Runtime.wrap_udp_socket(socket).unwrap();
    // The runtime has its set of files twice.
    let asked = asked(file);
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|bits| bits & (EPOLLIN | EPOLLOUT) == EPOLLIN), "{asked:?}");
}

#[tokio::test]
async fn whoever_waits_for_room_is_told_of_it() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = Arc::new(Socket::new(socket, None).unwrap());
    socket.is_full.store(true, Ordering::Relaxed);
    // Two links share a socket that is said to be full. It is not, so the system tells both.
    let mut rooms = [socket.clone().create_io_poller(), socket.clone().create_io_poller()];
    let mut cx = Context::from_waker(Waker::noop());
    for room in &mut rooms {
        // Not before the runtime has asked the system.
        assert!(room.as_mut().poll_writable(&mut cx).is_pending());
    }
    for room in &mut rooms {
        let told = poll_fn(|cx| room.as_mut().poll_writable(cx));
        tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();
    }
    assert!(!socket.is_full.load(Ordering::Relaxed));
    assert!(rooms[0].as_mut().poll_writable(&mut cx).is_ready(), "and nobody waits any more");
}
