//! The connector's own policy: where requests go, and how it changes while they do.

use std::{convert::Infallible, fs, os::unix::fs::symlink, path::Path, process::Stdio};

use ::connector::Options;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use link::{Opened, Session};
use protocol::{fields, head::Protocol, presence::Transport, refusal::Code};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    binary::connector,
    deployment::{Deployment, Edges, file, open_whole, patiently, send_whole},
    origins::{Origin, body, head},
    over_both_carriers,
};

over_both_carriers!(
    a_policy_decides_where_requests_go,
    tunnels_go_only_where_nothing_inside_them_is_judged,
    a_new_policy_is_obeyed_while_links_and_streams_go_on,
);

fn options(policy: &Path, transport: Transport) -> Options {
    Options {
        policy_file: Some(policy.to_str().unwrap().into()),
        transport_protocol: Some(transport.as_str().into()),
        ..Options::default()
    }
}

async fn ask(session: &Session, method: Method, url: &str) -> Response<link::Body> {
    let request = Request::builder().method(method).uri(url).body(Empty::<Bytes>::new());
    patiently(send_whole(session, request.unwrap(), |_| {})).await.unwrap()
}

async fn get(session: &Session, url: &str) -> Result<StatusCode, String> {
    answer(ask(session, Method::GET, url).await).await
}

/// The status, or why the policy refused.
async fn answer(response: Response<link::Body>) -> Result<StatusCode, String> {
    let (head, body) = response.into_parts();
    let Some(code) = head.headers.get(fields::ERROR) else { return Ok(head.status) };
    assert_eq!(code, Code::PolicyRefused.as_str());
    assert_eq!(head.headers[fields::ERROR_SOURCE], "connector");
    assert_eq!(head.status, StatusCode::FORBIDDEN);
    let body = patiently(body.collect()).await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    Err(problem["detail"].as_str().unwrap().to_owned())
}

async fn hello() -> Origin {
    Origin::http(|_| async { Response::new(body(Full::from("hello"))) }).await
}

async fn a_policy_decides_where_requests_go(transport: Transport) {
    let (origin, other) = (hello().await, hello().await);
    let port = origin.address.port();
    let policy = file(&format!(
        "[[allow]]\nname = 'loopback'\nhosts = ['127.0.0.0/8']\nports = [{port}]\n\
         methods = ['GET']\npaths = ['/public']\n\
         [[deny]]\nname = 'internal'\nhosts = ['*']\npaths = ['/public/internal']\n"
    ));
    let deployment = Deployment::with(options(policy.path(), transport)).await;
    let session = deployment.session();
    let url = |path: &str| origin.url(path);

    assert_eq!(get(&session, &url("/public/a?b=/..")).await, Ok(StatusCode::OK));
    let by_name = url("/public").replace("127.0.0.1", "LOCALHOST");
    assert_eq!(get(&session, &by_name).await, Ok(StatusCode::OK));
    let by_number = url("/public").replace("127.0.0.1", "0x7f000001");
    assert_eq!(get(&session, &by_number).await, Ok(StatusCode::OK));

    let denied = get(&session, &url("/public/%69nternal")).await.unwrap_err();
    assert!(denied.contains("deny rule 1 (internal)"), "{denied}");
    for path in ["/", "/publicity", "/public/../secret", "/public//internal", "/public%2f.."] {
        get(&session, &url(path)).await.unwrap_err();
    }
    let post = answer(ask(&session, Method::POST, &url("/public")).await).await;
    assert!(post.unwrap_err().contains("no allow rule matches"));
    get(&session, &other.url("/public")).await.unwrap_err();
    // The connection is at rest in the pool by now; this request may not take it.
    get(&session, &url("/private")).await.unwrap_err();
    let elsewhere = get(&session, "http://192.0.2.1/public").await.unwrap_err();
    assert!(elsewhere.contains("192.0.2.1"), "{elsewhere}");

    let (_, metrics) = deployment.status("/metrics").await;
    for reason in ["denied", "not_allowed"] {
        let line = format!("postern_connector_policy_refusals_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

async fn tunnels_go_only_where_nothing_inside_them_is_judged(transport: Transport) {
    let origin = Origin::raw(|mut stream| async move {
        let head = head(&mut stream).await;
        let answer = match head.contains("upgrade: ") {
            true => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n",
            false => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let (host, port) = (origin.address.ip(), origin.address.port());
    let policy = file(&format!(
        "[[allow]]\nhosts = ['{host}']\nports = [{port}]\npaths = ['/chat']\n\
         [[allow]]\nhosts = ['localhost']\nmethods = ['CONNECT']\n"
    ));
    let deployment = Deployment::with(options(policy.path(), transport)).await;
    let session = deployment.session();
    let open = async |request| match patiently(open_whole(&session, request)).await.unwrap() {
        Opened::Tunnel(response, _) => Ok(response.status()),
        Opened::Response(response) => answer(response).await,
    };
    let connect = |target: String| Request::connect(target).body(()).unwrap();
    let upgrade = |to: &'static str| {
        let mut request = Request::get(origin.url("/chat")).body(()).unwrap();
        request.extensions_mut().insert(Protocol(HeaderValue::from_static(to)));
        request
    };
    assert_eq!(open(connect(format!("localhost:{port}"))).await, Ok(StatusCode::OK));
    let blind = open(connect(origin.address.to_string())).await.unwrap_err();
    assert!(blind.contains("need TLS at the connector"), "{blind}");
    assert_eq!(open(upgrade("websocket")).await, Ok(StatusCode::SWITCHING_PROTOCOLS));
    // What follows would be requests that nobody judges.
    let smuggled = open(upgrade("h2c")).await.unwrap_err();
    assert!(smuggled.contains("allow rule 1"), "{smuggled}");
}

async fn a_new_policy_is_obeyed_while_links_and_streams_go_on(transport: Transport) {
    let (say, said) = mpsc::channel::<Bytes>(1);
    let said = std::sync::Arc::new(tokio::sync::Mutex::new(Some(said)));
    let origin = Origin::http(move |_| {
        let said = said.clone();
        async move {
            let Some(said) = said.lock().await.take() else {
                return Response::new(body(Full::from("hello")));
            };
            let frames = stream::unfold(said, |mut said| async {
                let bytes = said.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(bytes)), said))
            });
            Response::new(body(StreamBody::new(Box::pin(frames))))
        }
    })
    .await;
    let policy = file("[[allow]]\nhosts = ['127.0.0.1']");
    let deployment = Deployment::with(options(policy.path(), transport)).await;
    let links = deployment.edges[0].links();
    let digest = links[0].facts.policy.clone().unwrap();
    let session = deployment.session();
    let mut streaming = ask(&session, Method::GET, &origin.url("/")).await.into_body();
    assert_eq!(get(&session, &origin.url("/")).await, Ok(StatusCode::OK));

    fs::write(policy.path(), "[[allow]]\nhosts = ['elsewhere']").unwrap();
    let has_heard = |link: &crate::deployment::Up| link.facts.policy.as_ref() != Some(&digest);
    let links = deployment.edges[0].until(|links| links.iter().all(has_heard)).await;
    let shown = deployment.status("/status").await.1;
    assert!(shown.contains(links[0].facts.policy.as_ref().unwrap()), "{shown}");
    get(&session, &origin.url("/")).await.unwrap_err();
    for text in ["still", "the same", "stream"] {
        say.send(Bytes::from(text)).await.unwrap();
        let frame = patiently(streaming.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    assert_eq!(deployment.edges[0].links().len(), 4);
    let (_, metrics) = deployment.status("/metrics").await;
    assert!(!metrics.contains("postern_connector_link_down_total{reason=\"silent\"}"), "{metrics}");
}

#[tokio::test]
async fn a_bad_text_leaves_the_last_good_one_in_force_and_is_said_everywhere() {
    let origin = hello().await;
    let policy = file("[[allow]]\nhosts = ['127.0.0.1']");
    let deployment = Deployment::with(options(policy.path(), Transport::Quic)).await;
    fs::write(policy.path(), "\n[[alow]]\nhosts = ['*']").unwrap();
    let (_, shown) = deployment.status_until("/status", |shown| shown.contains("alow")).await;
    assert!(
        shown.contains(r#"line 2: \"alow\" is not known here: did you mean allow?"#),
        "{shown}"
    );
    assert_eq!(get(&deployment.session(), &origin.url("/")).await, Ok(StatusCode::OK));
    let (_, metrics) = deployment.status("/metrics").await;
    let refused = r#"postern_connector_file_reads_total{file="policy",outcome="refused"}"#;
    assert!(metrics.contains(refused), "{metrics}");

    fs::write(policy.path(), "[[allow]]\nhosts = ['mended']").unwrap();
    deployment.status_until("/status", |shown| !shown.contains("alow")).await;
    get(&deployment.session(), &origin.url("/")).await.unwrap_err();
    fs::remove_file(policy.path()).unwrap();
    deployment.status_until("/status", |shown| shown.contains("cannot read")).await;
    get(&deployment.session(), &origin.url("/")).await.unwrap_err();
    fs::write(policy.path(), "").unwrap();
}

#[tokio::test]
async fn a_mount_whose_links_are_swapped_counts_as_changed() {
    let origin = hello().await;
    let mount = TempDir::new().unwrap();
    let at = |name: &str| mount.path().join(name);
    for (name, host) in [("..1", "127.0.0.1"), ("..2", "elsewhere")] {
        fs::create_dir(at(name)).unwrap();
        let text = format!("[[allow]]\nhosts = ['{host}']");
        fs::write(at(name).join("policy.toml"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/policy.toml", at("policy.toml")).unwrap();
    let deployment = Deployment::with(options(&at("policy.toml"), Transport::Quic)).await;
    let (_, before) = deployment.status("/status").await;
    assert_eq!(get(&deployment.session(), &origin.url("/")).await, Ok(StatusCode::OK));

    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    let digest = |status: &str| {
        let status: serde_json::Value = serde_json::from_str(status).unwrap();
        status["files"]["policy"]["digest"].clone()
    };
    let before = digest(&before);
    deployment.status_until("/status", |status| digest(status) != before).await;
    get(&deployment.session(), &origin.url("/")).await.unwrap_err();
}

#[tokio::test]
async fn a_bad_policy_at_the_start_is_a_setting_that_cannot_be_used() {
    let policy = file("[[allow]]\nhosts = ['a']\nprots = [1]");
    let edges = Edges::start(&["eu"], None).await;
    let secret = file(&edges.secret);
    let secret_file = Some(secret.path().to_str().unwrap().into());
    let options = Options { secret_file, ..options(policy.path(), Transport::Quic) };
    let running = ::connector::run(options, CancellationToken::new());
    let error = patiently(running).await.unwrap_err().to_string();
    let path = policy.path().display();
    let expected = format!(
        "TUNNEL_POLICY_FILE: {path}, line 3: \"prots\" is not known here: did you mean ports?"
    );
    assert_eq!(error, expected);
}

#[tokio::test]
async fn sighup_has_the_files_read_at_once() {
    let edges = Edges::start(&["eu"], None).await;
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../compose/policy.example.toml");
    let mut process = connector()
        .env("TUNNEL_SECRET", &edges.secret)
        .env("TUNNEL_METRICS_PORT", "0")
        .env("TUNNEL_POLICY_FILE", policy)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut read_until = async |wanted: &str| {
        let reading =
            async { while !lines.next_line().await.unwrap().unwrap().contains(wanted) {} };
        patiently(reading).await;
    };
    read_until("link is up").await;
    // Nothing has changed: only the signal can be the reason.
    let pid = process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    read_until("file was read again and is in force").await;
    assert!(!edges.edges[0].links().is_empty());
}
