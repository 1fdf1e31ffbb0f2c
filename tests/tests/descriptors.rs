//! What clients leave behind that go while nobody reads from them: no descriptor of edge or connector.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postern_tests::{process, world::World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const CLIENTS: usize = 500;
/// The figure is ten seconds; machines are slow.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// Links and requests of the control plane come and go meanwhile.
const OTHERS: usize = 8;

/// Accepts, reads nothing, and closes nothing.
async fn deaf_origin() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (address, accepting)
}

async fn tunnel(gateway: &str, credentials: &str, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let head = format!(
        "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Basic {credentials}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Three kinds of clients: silent ones and ones that have said something, which close; and ones whose bytes
/// nobody takes any more, which reset.
async fn leave(nth: usize, mut stream: TcpStream) {
    match nth % 3 {
        0 => {}
        1 => stream.write_all(b"a few bytes").await.unwrap(),
        _ => {
            let bytes = vec![b'x'; 64 * 1024];
            let nobody_takes = Duration::from_millis(500);
            while timeout(nobody_takes, stream.write(&bytes)).await.is_ok() {}
            stream.set_zero_linger().unwrap();
        }
    }
}

async fn clients_that_go_leave_no_descriptor_behind(transport: &str) {
    let world = World::start().await.unwrap();
    let connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let credentials = STANDARD.encode(format!("office:{token}"));
    let gateway = world.gateway(0);
    let gateway = gateway.rsplit('/').next().unwrap().to_owned();
    let (target, _origin) = deaf_origin().await;
    let pids = [world.edge(0).unwrap(), connector.id().unwrap()];
    let open = || pids.map(|pid| process::open_files(pid).unwrap());
    let before = open();
    let mut clients = JoinSet::new();
    for nth in 0..CLIENTS {
        let (gateway, credentials, target) = (gateway.clone(), credentials.clone(), target.clone());
        clients.spawn(async move { (nth, tunnel(&gateway, &credentials, &target).await) });
    }
    let clients = clients.join_all().await;
    let during = open();
    assert!(
        (0..2).all(|part| during[part] + OTHERS >= before[part] + CLIENTS),
        "{before:?} {during:?}"
    );
    let mut leaving = JoinSet::new();
    for (nth, stream) in clients {
        leaving.spawn(leave(nth, stream));
    }
    leaving.join_all().await;
    let left_at = Instant::now();
    while open().iter().zip(before).any(|(now, before)| *now > before + OTHERS) {
        assert!(left_at.elapsed() < GONE_WITHIN, "{before:?} before, {:?} now", open());
        sleep(Duration::from_millis(100)).await;
    }
    println!("{transport}: {CLIENTS} clients were forgotten after {:?}", left_at.elapsed());
}

#[tokio::test]
async fn clients_that_go_leave_no_descriptor_behind_over_quic() {
    clients_that_go_leave_no_descriptor_behind("quic").await;
}

#[tokio::test]
async fn clients_that_go_leave_no_descriptor_behind_over_http2() {
    clients_that_go_leave_no_descriptor_behind("http2").await;
}
