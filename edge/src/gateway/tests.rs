use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioExecutor;

use super::*;

/// Bounds every wait; no test relies on its length.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_idle_client_is_let_go_in_either_version() {
    let tasks = Tasks::default();
    let _stop = tasks.stop_on_drop();
    let terms = Terms {
        max_clients: 10,
        max_request_body: u64::MAX,
        tunnel_idle: Duration::from_secs(3600),
        tunnel_unread_end: Duration::from_secs(30),
        may_half_close: false,
    };
    let mut gateway = Gateway::new(Core::empty(), tasks.clone(), terms, None);
    Arc::get_mut(&mut gateway).unwrap().idle = Duration::from_millis(100);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(gateway.serve(listener, WorkerId::FIRST));
    let request = || Request::get("http://wiki.corp/").body(Empty::<Bytes>::new()).unwrap();

    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    drop(sender.send_request(request()).await.unwrap());
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("the edge closes it");
    ended.unwrap().unwrap();
    assert!(sender.is_closed());

    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    drop(sender.send_request(request()).await.unwrap());
    let ended = tokio::time::timeout(PATIENCE, connection).await.expect("the edge closes it");
    ended.unwrap().unwrap();
}
