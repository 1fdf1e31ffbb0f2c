//! Requests that leave HTTP: CONNECT and upgrades.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use link::{Opened, Upgraded};
use protocol::{fields, head::Protocol, presence::Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    deployment::{Deployment, open_whole, patiently},
    origins::{Origin, head},
    over_both_carriers,
};

over_both_carriers!(
    connect_closes_each_direction_on_its_own,
    a_reset_passes_through_a_tunnel_in_both_directions,
    an_upgrade_turns_into_bytes,
    an_origin_may_decline_to_upgrade,
    connect_to_a_forbidden_address_is_refused,
);

async fn connect(deployment: &Deployment, target: String) -> Opened {
    let request = Request::connect(target).body(()).unwrap();
    patiently(open_whole(&deployment.session(), request)).await.unwrap()
}

async fn tunnel(deployment: &Deployment, origin: &Origin) -> Upgraded {
    match connect(deployment, origin.address.to_string()).await {
        Opened::Tunnel(response, upgraded) => {
            assert_eq!(response.status(), StatusCode::OK);
            upgraded
        }
        Opened::Response(response) => panic!("{}", response.status()),
    }
}

fn upgrade(origin: &Origin) -> Request<()> {
    let mut request = Request::get(origin.url("/chat")).body(()).unwrap();
    request.extensions_mut().insert(Protocol(HeaderValue::from_static("websocket")));
    request.headers_mut().insert("sec-websocket-key", HeaderValue::from_static("key"));
    request
}

async fn connect_closes_each_direction_on_its_own(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::raw(|mut stream| async move {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let mut tunnel = tunnel(&deployment, &origin).await;
    tunnel.write_all(b"to the end").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut answer = String::new();
    patiently(tunnel.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "dne eht ot");
}

async fn a_reset_passes_through_a_tunnel_in_both_directions(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let (seen, mut saw) = tokio::sync::mpsc::channel(1);
    let origin = Origin::raw(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            if byte == *b"r" {
                stream.set_zero_linger().unwrap();
                return;
            }
            stream.write_all(b"w").await.unwrap();
            seen.send(stream.read(&mut byte).await.map_err(|error| error.kind())).await.unwrap();
        }
    })
    .await;

    let mut reset_by_origin = tunnel(&deployment, &origin).await;
    reset_by_origin.write_all(b"r").await.unwrap();
    let mut rest = Vec::new();
    patiently(reset_by_origin.read_to_end(&mut rest)).await.unwrap_err();

    let mut reset_by_edge = tunnel(&deployment, &origin).await;
    reset_by_edge.write_all(b"x").await.unwrap();
    let mut byte = [0];
    patiently(reset_by_edge.read_exact(&mut byte)).await.unwrap();
    drop(reset_by_edge);
    assert_eq!(patiently(saw.recv()).await, Some(Err(std::io::ErrorKind::ConnectionReset)));
}

async fn an_upgrade_turns_into_bytes(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin = Origin::raw(|mut stream| async move {
        let head = head(&mut stream).await.to_lowercase();
        assert!(head.starts_with("get /chat http/1.1\r\n"), "{head}");
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: key"] {
            assert!(head.contains(line), "{head}");
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Accept: yes\r\n\r\nfirst";
        stream.write_all(answer).await.unwrap();
        let mut bytes = [0; 6];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let opened = patiently(open_whole(&deployment.session(), upgrade(&origin))).await.unwrap();
    let Opened::Tunnel(response, mut tunnel) = opened else { panic!("no tunnel") };
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "yes");
    tunnel.write_all(b"second").await.unwrap();
    let mut all = String::new();
    patiently(tunnel.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "firstsecond");
}

async fn an_origin_may_decline_to_upgrade(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let origin =
        Origin::says(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
    let opened = patiently(open_whole(&deployment.session(), upgrade(&origin))).await.unwrap();
    let Opened::Response(response) = opened else { panic!("a tunnel") };
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    let body = patiently(response.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body, Bytes::from("no"));
}

async fn connect_to_a_forbidden_address_is_refused(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    let Opened::Response(response) = connect(&deployment, "169.254.169.254:80".into()).await else {
        panic!("a tunnel to the metadata service")
    };
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()[fields::ERROR], "destination_refused");
}
