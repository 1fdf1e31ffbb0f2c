//! A gateway that speaks TLS, with the edge's own certificate.

use std::{fs, io::ErrorKind, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::{basic, connect},
    connector::{CARRIERS, Connector},
    world::{NAME, World, patiently, proxy_token},
};

async fn world() -> World {
    World::with(|options| (options.gateway_tls, options.replace) = (true, true)).await
}

/// A client that trusts the deployment's authority.
async fn secure(world: &World) -> TlsStream<TcpStream> {
    let identity = fs::read(world.options.data_dir.join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
    let authority = identity["ca_certificate"].as_str().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = connect(world.gateway).await;
    let name = ServerName::from(world.gateway.ip());
    patiently(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

/// Asks for a path of a private server.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str, version: &str) {
    let credentials = basic(NAME, &proxy_token());
    let request = format!(
        "GET http://wiki.corp{path} HTTP/{version}\r\nhost: wiki.corp\r\nconnection: close\r\n\
         proxy-authorization: {credentials}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads until the answer has these bytes.
async fn until(stream: &mut TlsStream<TcpStream>, wanted: &[u8]) {
    let mut answer = Vec::new();
    while !answer.ends_with(wanted) {
        answer.push(patiently(stream.read_u8()).await.unwrap());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_as_tls_says_goodbye() {
    let world = world().await;
    let connector = Connector::new(&world, 1);
    for carrier in CARRIERS {
        for version in ["1.0", "1.1"] {
            let held = connector.hold(&world, carrier, 0).await;
            let mut stream = secure(&world).await;
            ask(&mut stream, "/broken", version).await;
            until(&mut stream, b"first").await;
            held.go_on();
            let mut rest = Vec::new();
            let ended = patiently(stream.read_to_end(&mut rest)).await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{carrier:?} {version}");
            if version == "1.0" {
                let kind = ended.unwrap_err().kind();
                assert_eq!(kind, ErrorKind::ConnectionReset, "{carrier:?}");
            }
        }
    }
}

#[tokio::test]
async fn another_edge_takes_over_while_a_download_goes_on() {
    for carrier in CARRIERS {
        let mut world = world().await;
        let held = Connector::new(&world, 1).hold(&world, carrier, 0).await;
        let mut download = secure(&world).await;
        ask(&mut download, "/stream", "1.1").await;
        held.begun().await;
        let older = world.start_beside().await;
        let _newer = Connector::new(&world, 2).dial(carrier, 0).await.unwrap();
        let mut stream = secure(&world).await;
        ask(&mut stream, "/", "1.1").await;
        until(&mut stream, b"HTTP/1.1 200").await;
        held.go_on();
        let mut whole = Vec::new();
        patiently(download.read_to_end(&mut whole)).await.unwrap();
        let whole = String::from_utf8_lossy(&whole);
        assert!(whole.contains("first") && whole.contains("second"), "{carrier:?} {whole}");
        drop(held);
        patiently(older).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_says_nothing_or_no_tls_is_let_go() {
    let world = world().await;
    let mut silent = connect(world.gateway).await;
    // It has shaken hands, and stays silent then.
    let mut secure = secure(&world).await;
    let mut plain = connect(world.gateway).await;
    plain.write_all(b"GET http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\n\r\n").await.unwrap();
    plain.shutdown().await.unwrap();
    let mut told = String::new();
    patiently(plain.read_to_string(&mut told)).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("https://"), "{told}");
    assert_eq!(patiently(silent.read(&mut [0; 1])).await.unwrap_or(0), 0);
    assert_eq!(patiently(secure.read(&mut [0; 1])).await.unwrap_or(0), 0);
}
