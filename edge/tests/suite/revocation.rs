//! What happens to what is alive when the right to it is taken away.

use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use protocol::feed::{Item, ItemKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{Whole, connect, empty, fetch, get, get_as_runner, send, send_h2},
    connector::{CARRIERS, Connector, carriers_and_workers},
    world::{
        NAME, TOKEN, TUNNEL, World, closed_tunnel, patiently, proxy_token, revoked_tunnel, tunnel,
    },
};

#[tokio::test]
async fn removed_access_cuts_live_streams_and_refuses_new_ones() {
    for (carrier, workers) in carriers_and_workers() {
        let world = World::with_workers(workers).await;
        let connector = Connector::new(&world, 1);
        let held = connector.hold(&world, carrier, 0).await;
        let mut bodies = Vec::new();
        let request = || get("http://wiki.corp/stream").body(empty()).unwrap();
        for response in [send(&world, request()).await, send_h2(&world, request()).await] {
            held.begun().await;
            let mut body = response.into_body();
            assert!(patiently(body.frame()).await.unwrap().is_ok());
            bodies.push(body);
        }
        world.control_plane.put(Item::Tunnel(closed_tunnel())).await;
        for body in bodies {
            held.cancelled().await;
            assert!(patiently(body.collect()).await.is_err(), "never a clean end");
        }
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "access_denied");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_cut_all_the_same() {
    for (carrier, workers) in carriers_and_workers() {
        let world = World::with_workers(workers).await;
        let connector = Connector::new(&world, 1);
        let held = connector.hold(&world, carrier, 0).await;
        let mut stream = connect(world.gateway).await;
        let credentials = crate::client::basic(NAME, &proxy_token());
        let request = format!(
            "GET http://wiki.corp/endless HTTP/1.1\r\nhost: wiki.corp\r\n\
             proxy-authorization: {credentials}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        held.begun().await;
        world.control_plane.put(Item::Tunnel(closed_tunnel())).await;
        held.cancelled().await;
    }
}

#[tokio::test]
async fn a_request_that_waits_hears_that_access_was_taken_away() {
    for (carrier, workers) in carriers_and_workers() {
        let world = World::with_workers(workers).await;
        let connector = Connector::new(&world, 1);
        let held = connector.hold(&world, carrier, 0).await;
        let (response, ()) = tokio::join!(
            send(&world, get_as_runner("http://wiki.corp/wait").body(empty()).unwrap()),
            async {
                held.begun().await;
                world.control_plane.put(Item::Tunnel(closed_tunnel())).await;
                held.cancelled().await;
            }
        );
        let answer = Whole::of(response).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "access_revoked"));
    }
}

#[tokio::test]
async fn a_revoked_token_cuts_its_own_tunnels_and_no_others() {
    let world = World::new().await;
    let connector = Connector::new(&world, 1);
    let held = connector.hold(&world, CARRIERS[0], 0).await;
    let request = get("wiki.corp:443").method("CONNECT").body(empty()).unwrap();
    let mut response = send(&world, request).await;
    let mut revoked = TokioIo::new(patiently(hyper::upgrade::on(&mut response)).await.unwrap());
    let request = get_as_runner("wiki.corp:443").method("CONNECT").body(empty()).unwrap();
    let mut response = send(&world, request).await;
    let mut stays = TokioIo::new(patiently(hyper::upgrade::on(&mut response)).await.unwrap());

    world.control_plane.remove(ItemKey::ProxyToken(TOKEN)).await;
    let ended = patiently(revoked.read(&mut [0; 1])).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    held.cancelled().await;
    assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "bad_credentials");

    stays.write_all(b"ping").await.unwrap();
    patiently(stays.read_exact(&mut [0; 4])).await.unwrap();
}

#[tokio::test]
async fn a_revoked_secret_loses_its_links_and_cannot_return() {
    for (carrier, workers) in carriers_and_workers() {
        let world = World::with_workers(workers).await;
        let connector = Connector::new(&world, 1);
        let mut held = connector.hold(&world, carrier, 0).await;
        world.control_plane.put(Item::Tunnel(revoked_tunnel())).await;
        held.gone().await;
        world.control_plane.until(|heard| heard.links.is_empty()).await;
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "no_link");
        let refused = connector.dial(carrier, 0).await.err().unwrap();
        assert_eq!(refused.refusal().unwrap().code.as_str(), "revoked_secret");
    }
}

#[tokio::test]
async fn a_deleted_tunnel_loses_its_links_and_its_streams() {
    let world = World::new().await;
    for carrier in CARRIERS {
        world.control_plane.put(Item::Tunnel(tunnel())).await;
        let connector = Connector::new(&world, 1);
        let mut held = connector.hold(&world, carrier, 0).await;
        let response = send(&world, get("http://wiki.corp/stream").body(empty()).unwrap()).await;
        world.control_plane.remove(ItemKey::Tunnel(TUNNEL)).await;
        held.gone().await;
        assert!(patiently(response.into_body().collect()).await.is_err());
        assert_eq!(fetch(&world, get("http://wiki.corp/")).await.code(), "unknown_tunnel");
        let refused = connector.dial(carrier, 0).await.err().unwrap();
        assert_eq!(refused.refusal().unwrap().code.as_str(), "unknown_tunnel");
    }
}
