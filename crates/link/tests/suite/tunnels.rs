//! CONNECT and upgrades: streams that leave HTTP.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use link::{Opened, Upgraded};
use protocol::{head::Protocol, presence::Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    over_both_carriers,
    world::{World, full, open_whole, patiently},
};

over_both_carriers!(
    a_connect_carries_bytes_and_closes_each_way_on_its_own,
    a_refused_connect_is_an_ordinary_answer,
    an_upgrade_leaves_http,
    an_upgrade_by_any_method_has_its_body_and_hears_the_choice,
    an_upgrade_that_the_origin_ignores_is_an_ordinary_answer,
    a_megabyte_crosses_a_tunnel_unharmed,
    a_tunnel_that_is_dropped_does_not_end_cleanly,
);

fn connect() -> Request<()> {
    Request::connect("wiki.corp:22").body(()).unwrap()
}

fn upgrade() -> Request<()> {
    let mut request = Request::get("http://wiki.corp/ws").header("x-a", "1").body(()).unwrap();
    request.extensions_mut().insert(Protocol(HeaderValue::from_static("websocket")));
    request
}

async fn tunnelled(transport: Transport, request: Request<()>) -> (Response<()>, Upgraded, Held) {
    let status = match *request.method() {
        Method::CONNECT => StatusCode::OK,
        _ => StatusCode::SWITCHING_PROTOCOLS,
    };
    let (session, serving) = World::serving(transport, move |exchange| async move {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            assert_eq!(exchange.request.method(), Method::GET);
            assert_eq!(exchange.request.uri(), "http://wiki.corp/ws");
            assert_eq!(exchange.request.headers()["x-a"], "1");
            let Protocol(protocol) = exchange.request.extensions().get().unwrap();
            assert_eq!(protocol, "websocket");
        } else {
            assert_eq!(exchange.request.uri(), "wiki.corp:22");
        }
        let agreed = Response::builder().status(status).header("x-b", "2").body(()).unwrap();
        let mut tunnel = exchange.reply.tunnel(agreed).await.unwrap();
        // Echoes until the edge has said all, then says one thing more and ends.
        let mut heard = vec![0; 64 * 1024];
        loop {
            match tunnel.read(&mut heard).await {
                Ok(0) => break,
                Ok(n) => tunnel.write_all(&heard[..n]).await.unwrap(),
                Err(_) => return,
            }
        }
        tunnel.write_all(b"goodbye").await.unwrap();
        tunnel.shutdown().await.unwrap();
    })
    .await;
    let Opened::Tunnel(response, tunnel) = patiently(open_whole(&session, request)).await.unwrap()
    else {
        panic!("a tunnel");
    };
    assert_eq!(response.headers()["x-b"], "2");
    (response, tunnel, (session, serving))
}

type Held = (link::Session, crate::world::Serving);

async fn a_connect_carries_bytes_and_closes_each_way_on_its_own(transport: Transport) {
    let (response, mut tunnel, _held) = tunnelled(transport, connect()).await;
    assert!(response.status().is_success());
    say_and_hear(&mut tunnel).await;
}

async fn an_upgrade_leaves_http(transport: Transport) {
    let (response, mut tunnel, _held) = tunnelled(transport, upgrade()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    say_and_hear(&mut tunnel).await;
}

async fn an_upgrade_by_any_method_has_its_body_and_hears_the_choice(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let Protocol(offer) = exchange.request.extensions().get().cloned().unwrap();
        let method = exchange.request.method().clone();
        let body = exchange.request.into_body().collect().await.unwrap().to_bytes();
        let mut agreed = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        agreed = agreed.header("x-seen", format!("{method} {} {offer:?}", body.len()));
        if offer != "nothing" {
            agreed = agreed.extension(Protocol(HeaderValue::from_static("SPDY/3.1")));
        }
        let mut tunnel = exchange.reply.tunnel(agreed.body(()).unwrap()).await.unwrap();
        tunnel.write_all(&body).await.unwrap();
        tunnel.shutdown().await.unwrap();
    })
    .await;
    let longest = Bytes::from(vec![b'x'; link::MAX_UPGRADE_BODY]);
    let bodies = [Bytes::new(), Bytes::from_static(b"{}"), longest];
    for (method, offer) in [("GET", "a, SPDY/3.1"), ("POST", "SPDY/3.1"), ("PUT", "nothing")] {
        for body in &bodies {
            let mut request =
                Request::builder().method(method).uri("http://wiki.corp/exec").body(()).unwrap();
            request.extensions_mut().insert(Protocol(HeaderValue::from_static(offer)));
            let head = request.into_parts().0;
            let opened = patiently(session.open(&head, body.clone())).await.unwrap();
            let Opened::Tunnel(response, mut tunnel) = opened else { panic!("a tunnel") };
            assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
            let seen = format!("{method} {} {:?}", body.len(), HeaderValue::from_static(offer));
            assert_eq!(response.headers()["x-seen"], seen);
            let choice = response.extensions().get::<Protocol>();
            let choice = choice.map(|Protocol(choice)| choice.to_str().unwrap());
            assert_eq!(choice, (offer != "nothing").then_some("SPDY/3.1"));
            assert!(!response.headers().keys().any(|name| name.as_str().starts_with("postern")));
            let mut back = Vec::new();
            patiently(tunnel.read_to_end(&mut back)).await.unwrap();
            assert_eq!(back, *body);
        }
    }
}

async fn say_and_hear(tunnel: &mut Upgraded) {
    tunnel.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    patiently(tunnel.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    tunnel.shutdown().await.unwrap();
    let mut rest = Vec::new();
    patiently(tunnel.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"goodbye");
}

async fn a_megabyte_crosses_a_tunnel_unharmed(transport: Transport) {
    let (_, tunnel, _held) = tunnelled(transport, connect()).await;
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(tunnel);
    let mut heard = Vec::new();
    patiently(async {
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(write, reader.read_to_end(&mut heard));
        read.unwrap();
    })
    .await;
    assert!(heard.strip_suffix(b"goodbye") == Some(&sent));
}

async fn a_refused_connect_is_an_ordinary_answer(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        let no = Response::builder().status(502).body(full("no such host")).unwrap();
        exchange.reply.send(no).await.unwrap();
    })
    .await;
    let Opened::Response(response) = patiently(open_whole(&session, connect())).await.unwrap()
    else {
        panic!("no tunnel");
    };
    assert_eq!(response.status(), 502);
    assert_eq!(patiently(response.collect()).await.unwrap().to_bytes(), "no such host");
}

async fn an_upgrade_that_the_origin_ignores_is_an_ordinary_answer(transport: Transport) {
    let (session, _serving) = World::serving(transport, |exchange| async move {
        exchange.reply.send(Response::new(full("plain"))).await.unwrap();
    })
    .await;
    let Opened::Response(response) = patiently(open_whole(&session, upgrade())).await.unwrap()
    else {
        panic!("no tunnel");
    };
    assert_eq!(response.status(), 200);
    assert_eq!(patiently(response.collect()).await.unwrap().to_bytes(), "plain");
}

async fn a_tunnel_that_is_dropped_does_not_end_cleanly(transport: Transport) {
    let (ended, mut heard) = tokio::sync::mpsc::channel(1);
    let (session, _serving) = World::serving(transport, move |exchange| {
        let ended = ended.clone();
        async move {
            let mut tunnel = exchange.reply.tunnel(Response::new(())).await.unwrap();
            let outcome = tunnel.read_to_end(&mut Vec::new()).await;
            ended.send(outcome).await.unwrap();
        }
    })
    .await;
    let Opened::Tunnel(_, tunnel) = patiently(open_whole(&session, connect())).await.unwrap()
    else {
        panic!("a tunnel");
    };
    drop(tunnel);
    assert!(patiently(heard.recv()).await.unwrap().is_err(), "half a message is no message");
}
