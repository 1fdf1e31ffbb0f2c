//! What clients without a credential may take of the gateway.

use std::{io, net::SocketAddr};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::world::{World, patiently};

/// Heads that are longer than an ordinary one, of strangers, at one time.
const LONG_HEADS: usize = 256;

async fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 66, 0, from], 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

fn head(length: usize) -> String {
    format!("GET http://wiki.corp/ HTTP/1.1\r\nhost: wiki.corp\r\nx: {}", "x".repeat(length))
}

/// Reads until it ends.
async fn answer(mut stream: TcpStream) -> io::Result<String> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn long_heads_of_strangers_are_few_and_shared_by_source() {
    let world = World::with(|_| {}).await;
    let mut ends = FuturesUnordered::new();
    for _ in 0..LONG_HEADS + 50 {
        let mut stream = connect(1, world.gateway).await;
        // Some are refused before they have said all of it.
        let _ = stream.write_all(head(30_000).as_bytes()).await;
        ends.push(answer(stream));
    }
    for _ in 0..50 {
        let end = patiently(ends.next()).await.unwrap();
        assert!(end.is_err() || end.is_ok_and(|answer| answer.is_empty()), "no answer is due");
    }
    let mut other = connect(2, world.gateway).await;
    let whole = head(30_000) + "\r\nconnection: close\r\n\r\n";
    other.write_all(whole.as_bytes()).await.unwrap();
    let told = patiently(answer(other)).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 407"), "{told}");
}
