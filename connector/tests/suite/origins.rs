//! Private servers of every temper.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

pub type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A server that runs as long as this is held.
pub struct Origin {
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Origin {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Gives every connection to `serve`.
    pub async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Self { address, _task: AbortOnDropHandle::new(task) }
    }

    /// An HTTP/1.1 server that answers with `handler`.
    pub async fn http<F>(handler: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::raw(move |stream| {
            let handler = handler.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// A server that speaks TLS as `config` says, and HTTP/2 or HTTP/1.1 as is agreed.
    pub async fn https<F>(
        config: rustls::ServerConfig,
        handler: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::raw(move |stream| {
            let (acceptor, handler) = (acceptor.clone(), handler.clone());
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                either(TokioIo::new(stream), handler).await;
            }
        })
        .await
    }

    /// A server that speaks HTTP/2 and HTTP/1.1 without TLS.
    pub async fn either<F>(
        handler: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::raw(move |stream| either(TokioIo::new(stream), handler.clone())).await
    }

    /// Reads a request's head, then writes `answer` as it is and closes.
    pub async fn says(answer: &'static [u8]) -> Self {
        Self::raw(move |mut stream| async move {
            head(&mut stream).await;
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        })
        .await
    }
}

async fn either<F>(
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    handler: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // The client may go away at any time.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
}

/// Reads up to the empty line behind a head.
pub async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

pub fn body<B>(body: B) -> UnsyncBoxBody<Bytes, Infallible>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    body.boxed_unsync()
}
