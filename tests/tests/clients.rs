//! Clients that people use, unchanged: curl, httpx, websockets, gRPC. All they know of Postern is a
//! proxy and its credentials.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::{path::Path, process::Output};

use postern_tests::{
    origin::{HELLO, Origin, RANGED, Sum, pattern},
    process::{PATIENCE, Process},
    world::{TUNNEL, World},
};
use tokio::process::Command;

/// Makes each async function `name(transport)` two tests: `name::over_quic` and `name::over_http2`.
macro_rules! over_both_carriers {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn over_quic() {
                super::$name("quic").await;
            }

            #[tokio::test]
            async fn over_http2() {
                super::$name("http2").await;
            }
        }
    )*};
}

over_both_carriers! {
    curl_gets_puts_and_asks_as_it_would_directly,
    curl_reaches_an_https_origin_and_judges_its_certificate,
    httpx_streams_both_ways,
    server_sent_events_arrive_as_they_happen,
    websockets_carry_a_thousand_messages,
    grpc_calls_and_chats,
}

struct Client {
    world: World,
    proxy: String,
    _connector: Process,
}

impl Client {
    async fn start(transport: &str) -> Self {
        let world = World::start().await.unwrap();
        let connector = world.connect(transport).await.unwrap();
        let token = world.proxy_token().await.unwrap();
        let proxy = format!("http://{TUNNEL}:{token}@{}", world.gateway(0));
        Self { world, proxy, _connector: connector }
    }

    async fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        // Nobody's ~/.curlrc; not for ever.
        curl.args(["-q", "-sS", "--fail", "--max-time", "60", "--proxy", &self.proxy]);
        curl.args(arguments).output().await.unwrap()
    }

    /// What curl prints, if it succeeds.
    async fn curled(&self, arguments: &[&str]) -> String {
        let output = self.curl(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a script of `clients`; what it asserts must hold.
    async fn python(&self, script: &str) {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let before = self.requests().await;
        let output = Command::new(tests.join("tools/python"))
            .arg(tests.join("clients").join(script))
            .env("PROXY", &self.proxy)
            .env("HOST", self.world.host().to_string())
            .env("ORIGIN", self.world.origin.url(""))
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {}\n{said}", output.status);
        // A request counts once its end is known, which may be a moment later.
        let counted = async { while self.requests().await == before {} };
        tokio::time::timeout(PATIENCE, counted).await.expect("it uses the proxy");
    }

    /// Requests that the gateway has seen the end of.
    async fn requests(&self) -> u64 {
        let metrics = format!("http://{}:9001/metrics", self.world.host());
        let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
        let counts = metrics.lines().filter(|line| line.starts_with("postern_edge_requests_total"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

async fn curl_gets_puts_and_asks_as_it_would_directly(transport: &str) {
    const LENGTH: u64 = 10_000_000;
    let client = Client::start(transport).await;
    let url = |path: &str| client.world.origin.url(path);

    assert_eq!(client.curled(&[&url("/hello")]).await, HELLO);
    assert_eq!(client.curled(&["--proxytunnel", &url("/hello")]).await, HELLO);
    let head = client.curled(&["--head", &url("/bytes/12345")]).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 12345"), "{head}");
    let range = ["--range", "10-15", "--include", &url("/range")];
    let range = client.curled(&range).await;
    assert!(range.starts_with("HTTP/1.1 206"), "{range}");
    assert!(range.contains(&format!("content-range: bytes 10-15/{}", RANGED.len())), "{range}");
    assert!(range.ends_with("\r\n\r\nabcdef"), "{range}");
    let trailers = ["--raw", "--header", "TE: trailers", "--header", "Connection: TE"];
    let trailers = client.curled(&[&trailers[..], &[&url("/trailers")]].concat()).await;
    assert!(trailers.ends_with("0\r\nchecksum: good\r\n\r\n"), "{trailers}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pattern(LENGTH).collect::<Vec<_>>().concat()).unwrap();
    let body = format!("@{}", file.path().display());
    let upload = ["--data-binary", &body, "--verbose", "--header", "Expect: 100-continue"];
    let upload = client.curl(&[&upload[..], &[&url("/sum")]].concat()).await;
    let said = String::from_utf8_lossy(&upload.stderr);
    assert!(said.contains("HTTP/1.1 100 Continue"), "{said}");
    assert_eq!(String::from_utf8_lossy(&upload.stdout), Sum::of_pattern(LENGTH), "{said}");
    let chunked = ["--data-binary", &body, "--header", "Transfer-Encoding: chunked"];
    let chunked = client.curled(&[&chunked[..], &[&url("/sum")]].concat()).await;
    assert_eq!(chunked, Sum::of_pattern(LENGTH));
}

async fn curl_reaches_an_https_origin_and_judges_its_certificate(transport: &str) {
    let client = Client::start(transport).await;
    let (origin, authority) = Origin::start_tls(client.world.host()).await.unwrap();
    let url = format!("https://{}/hello", origin.address());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority).unwrap();
    let cacert = file.path().to_str().unwrap();
    assert_eq!(client.curled(&["--cacert", cacert, &url]).await, HELLO);
    // TLS is between curl and the origin: curl knows nothing of this authority by itself.
    let refused = client.curl(&[&url]).await;
    assert_eq!(refused.status.code(), Some(60), "{}", String::from_utf8_lossy(&refused.stderr));
}

async fn httpx_streams_both_ways(transport: &str) {
    Client::start(transport).await.python("httpx_streams.py").await;
}

async fn server_sent_events_arrive_as_they_happen(transport: &str) {
    Client::start(transport).await.python("events.py").await;
}

async fn websockets_carry_a_thousand_messages(transport: &str) {
    Client::start(transport).await.python("websocket.py").await;
}

async fn grpc_calls_and_chats(transport: &str) {
    Client::start(transport).await.python("grpc_calls.py").await;
}
