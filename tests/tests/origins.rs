//! From a connector to origins that are not what they seem, and to those that speak gRPC. Needs root, for
//! a DNS server and a `resolv.conf` of the connector's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postern_tests::{
    dns::Dns,
    process::Process,
    world::{TUNNEL, World, own_address, program},
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => panic!("{v6}: worlds stand on IPv4"),
    }
}

/// A server that counts who comes.
struct Trap {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Trap {
    async fn at(host: IpAddr, port: u16) -> Self {
        let listener = TcpListener::bind((host, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let count = visits.clone();
        serving.spawn(async move {
            while let Ok(visit) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                drop(visit);
            }
        });
        Self { address, visits, _serving: serving }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// A connector that resolves names as `dns` says.
async fn connect(world: &World, dns: &Dns, policy: &NamedTempFile) -> (Process, NamedTempFile) {
    let resolv_conf = file(&dns.resolv_conf());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc/resolv.conf && exec \"$2\"", "sh"])
        .arg(resolv_conf.path())
        .arg(program("postern-connector").unwrap())
        .env("TUNNEL_SECRET", &world.secret)
        .env("TUNNEL_METRICS_PORT", "0")
        .env("TUNNEL_POLICY_FILE", policy.path());
    let connector = Process::start("connector", command).unwrap();
    world.wait_for_health("Healthy").await.unwrap_or_else(|e| panic!("{e}\n{}", connector.said()));
    (connector, resolv_conf)
}

/// Asks for a tunnel to `name`, which is dialled anew each time, and waits for its end; the head of the
/// answer.
async fn tunnel(world: &World, token: &str, name: &str, port: u16) -> String {
    let mut stream = TcpStream::connect(world.gateway(0)).await.unwrap();
    let credentials = STANDARD.encode(format!("{TUNNEL}:{token}"));
    let request = format!(
        "CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\
         Proxy-Authorization: Basic {credentials}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    // The other end closes when it has counted.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_name_that_is_bound_anew_leads_nowhere_it_should_not() {
    let world = World::start().await.unwrap();
    let good = Trap::at(world.host(), 0).await;
    let port = good.address.port();
    let bad = Trap::at(own_address(), port).await;
    let dns = Dns::start(world.host()).await.unwrap();
    let policy = file(&format!(
        "[[allow]]\nhosts = ['rebound.test']\n[[deny]]\nname = 'bad'\nhosts = ['{}']\n",
        bad.address.ip()
    ));
    let _connector = connect(&world, &dns, &policy).await;
    let token = world.proxy_token().await.unwrap();
    let ask = async || tunnel(&world, &token, "rebound.test", port).await;
    let [good_address, bad_address] = [&good, &bad].map(|trap| v4(trap.address.ip()));

    dns.answer(&[good_address]);
    let head = ask().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(good.visits(), 1);

    dns.answer(&[bad_address]);
    let head = ask().await;
    assert!(head.contains("postern-error: policy_refused"), "{head}");
    for special in ["169.254.169.254", "100.100.100.200", "0.0.0.0"] {
        dns.answer(&[special.parse().unwrap()]);
        let head = ask().await;
        assert!(head.contains("postern-error: destination_refused"), "{special}: {head}");
    }
    // Of several addresses those that may not be dialled are left out, first or not.
    dns.answer(&[bad_address, "169.254.169.254".parse().unwrap(), good_address]);
    for _ in 0..5 {
        let head = ask().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert_eq!((good.visits(), bad.visits()), (6, 0));
}

async fn grpc_reaches_its_origin_without_a_tunnel(transport: &str) {
    let world = World::start().await.unwrap();
    let _connector = world.connect(transport).await.unwrap();
    let token = world.proxy_token().await.unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(tests.join("tools/python"))
        .arg(tests.join("clients/grpc_origin.py"))
        .env("PROXY", format!("http://{TUNNEL}:{token}@{}", world.gateway(0)))
        .env("HOST", world.host().to_string())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", output.status);
}

#[tokio::test]
async fn grpc_reaches_its_origin_without_a_tunnel_over_quic() {
    grpc_reaches_its_origin_without_a_tunnel("quic").await;
}

#[tokio::test]
async fn grpc_reaches_its_origin_without_a_tunnel_over_http2() {
    grpc_reaches_its_origin_without_a_tunnel("http2").await;
}
