//! Origins that are spoken to over HTTP/2, and what they may do to a connection that requests share.

use std::{
    convert::Infallible,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use h2::Reason;
use http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use link::Session;
use protocol::{fields, presence::Transport, refusal::Code};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    process::Child,
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    binary::connector,
    deployment::{Authority, Deployment, Edges, file, free_port, patiently, send_whole, status},
    origin_settings::{describe, grpc, server, text},
    origins::Origin,
    over_both_carriers,
};

over_both_carriers!(
    an_answer_that_is_reset_before_its_end_is_no_whole_one,
    an_answer_that_is_reset_after_its_end_is_whole,
);

async fn ask(session: &Session, url: &str) -> Response<link::Body> {
    let request = grpc(url, Empty::<Bytes>::new());
    patiently(send_whole(session, request, |_| {})).await.unwrap()
}

#[tokio::test]
async fn an_origin_that_lets_its_connection_go_is_dialled_anew() {
    let origin = Origin::raw(|stream| async move {
        let asked = Arc::new(tokio::sync::Notify::new());
        let tell = asked.clone();
        let service = hyper::service::service_fn(move |request| {
            tell.notify_one();
            async move { Ok::<_, Infallible>(describe(request).await) }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let serving = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        tokio::select! {
            _ = &mut serving => return,
            () = asked.notified() => serving.as_mut().graceful_shutdown(),
        }
        let _ = serving.await;
    })
    .await;
    let deployment = Deployment::over(Transport::Quic).await;
    for _ in 0..20 {
        let request = grpc(&origin.url("/"), Empty::<Bytes>::new());
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        let said = text(response).await;
        assert!(said.starts_with("HTTP/2.0"), "{said}");
    }
}

type Respond = h2::server::SendResponse<Bytes>;

/// An origin that gives its requests to `serve`, each with its number; all of them come over the first
/// connection unless that is lost. Counts its connections, too.
async fn origin<F>(
    serve: impl Fn(usize, Request<h2::RecvStream>, Respond) -> F + Clone + Send + 'static,
) -> (Origin, Counts)
where
    F: Future<Output = ()> + Send + 'static,
{
    let counts = Counts::default();
    let counting = counts.clone();
    let origin = Origin::raw(move |stream| {
        let (serve, counts) = (serve.clone(), counting.clone());
        async move {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            speak(stream, &counts.requests, serve).await;
        }
    })
    .await;
    (origin, counts)
}

#[derive(Clone, Default)]
struct Counts {
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

async fn speak<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: &AtomicUsize,
    serve: impl Fn(usize, Request<h2::RecvStream>, Respond) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut answers = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        answers.spawn(serve(requests.fetch_add(1, Ordering::SeqCst), request, respond));
    }
}

/// Answers with what came.
async fn echo(request: Request<h2::RecvStream>, mut respond: Respond) {
    let mut body = request.into_body();
    let mut answer = respond.send_response(Response::new(()), false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        answer.send_data(data, false).unwrap();
    }
    answer.send_data(Bytes::new(), true).unwrap();
}

#[tokio::test]
async fn a_request_that_an_origin_has_not_begun_with_is_sent_once_more() {
    let deployment = Deployment::over(Transport::Quic).await;
    for (reasons, length, answered, times) in [
        (&[Reason::REFUSED_STREAM][..], 0, true, 2),
        (&[Reason::REFUSED_STREAM], 10_000, true, 2),
        (&[Reason::REFUSED_STREAM, Reason::REFUSED_STREAM], 10, false, 2),
        (&[Reason::INTERNAL_ERROR], 10, false, 1),
    ] {
        let (origin, counts) = origin(move |n, request, mut respond| async move {
            match reasons.get(n) {
                Some(reason) => respond.send_reset(*reason),
                None => echo(request, respond).await,
            }
        })
        .await;
        let body = "x".repeat(length);
        let request = grpc(&origin.url("/"), Full::new(Bytes::from(body.clone())));
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, answered, "{reasons:?}");
        if answered {
            assert!(text(response).await == body, "{length} bytes come whole");
        }
        assert_eq!(counts.requests.load(Ordering::SeqCst), times, "{reasons:?}");
    }
}

/// What a server says first: its settings, none.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const HEADERS: u8 = 1;

/// Reads up to a request's head, and goes away; `last` is the last stream that it has begun with.
async fn go_away(mut stream: TcpStream, last: u32) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    let no_error = [0; 4];
    let go_away = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &last.to_be_bytes(), &no_error].concat();
    stream.write_all(&go_away).await.unwrap();
    stream.shutdown().await.unwrap();
    // A reset could overtake what was said.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_request_that_an_origin_goes_away_from_is_sent_once_more_if_it_was_not_begun_with() {
    let deployment = Deployment::over(Transport::Quic).await;
    for (lasts, length, answered, times) in [
        (&[0][..], 0, true, 2),
        (&[0], 10_000, true, 2),
        (&[0, 0], 10, false, 2),
        (&[1], 10, false, 1),
    ] {
        let connections = Arc::new(AtomicUsize::new(0));
        let counting = connections.clone();
        let origin = Origin::raw(move |stream| {
            let last = lasts.get(counting.fetch_add(1, Ordering::SeqCst));
            async move {
                match last {
                    Some(last) => go_away(stream, *last).await,
                    None => speak(stream, &AtomicUsize::new(0), |_, r, to| echo(r, to)).await,
                }
            }
        })
        .await;
        let body = "x".repeat(length);
        let request = grpc(&origin.url("/"), Full::new(Bytes::from(body.clone())));
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, answered, "{lasts:?}");
        if answered {
            assert!(text(response).await == body, "{length} bytes come whole");
        }
        assert_eq!(connections.load(Ordering::SeqCst), times, "{lasts:?}");
    }
}

async fn an_answer_that_is_reset_before_its_end_is_no_whole_one(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    for length in [None, Some("100")] {
        let (reset, told) = watch::channel(false);
        let (origin, _) = origin(move |_, _, mut respond| {
            let mut told = told.clone();
            async move {
                let mut head = Response::new(());
                head.headers_mut().extend(length.map(|l| (CONTENT_LENGTH, l.parse().unwrap())));
                let mut answer = respond.send_response(head, false).unwrap();
                answer.send_data(Bytes::from("only this"), false).unwrap();
                told.wait_for(|told| *told).await.unwrap();
                answer.send_reset(Reason::NO_ERROR);
            }
        })
        .await;
        let request = grpc(&origin.url("/"), Empty::<Bytes>::new());
        let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
        let mut body = response.into_body();
        let first = patiently(body.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "only this");
        reset.send(true).unwrap();
        patiently(body.frame()).await.expect("it does not look whole").unwrap_err();
    }
}

async fn an_answer_that_is_reset_after_its_end_is_whole(transport: Transport) {
    let deployment = Deployment::over(transport).await;
    // Answers, and wants no more of the request.
    let (origin, _) = origin(|_, _, mut respond| async move {
        let mut answer = respond.send_response(Response::new(()), false).unwrap();
        answer.send_data(Bytes::from("enough"), true).unwrap();
    })
    .await;
    let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = grpc(&origin.url("/"), endless);
    let response = patiently(send_whole(&deployment.session(), request, |_| {})).await.unwrap();
    assert_eq!(text(response).await, "enough");
}

#[tokio::test]
async fn a_connection_that_fails_late_leaves_its_successor_alone() {
    let deployment = Deployment::over(Transport::Quic).await;
    // Refuses the first two requests when told to.
    let (asked, mut told) = mpsc::channel(2);
    let (origin, counts) = origin(move |n, request, mut respond| {
        let asked = asked.clone();
        async move {
            if n < 2 {
                let (refuse, wait) = oneshot::channel::<()>();
                asked.send(refuse).await.unwrap();
                wait.await.unwrap();
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                echo(request, respond).await;
            }
        }
    })
    .await;
    let mut asking = Vec::new();
    for _ in 0..2 {
        let (session, url) = (deployment.session(), origin.url("/"));
        let answer = tokio::spawn(async move { ask(&session, &url).await });
        asking.push((answer, patiently(told.recv()).await.unwrap()));
    }
    for (answer, refuse) in asking {
        refuse.send(()).unwrap();
        assert_eq!(patiently(answer).await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(counts.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn first_calls_at_once_share_a_connection() {
    let deployment = Deployment::over(Transport::Quic).await;
    let (origin, counts) = origin(|_, request, respond| echo(request, respond)).await;
    let (session, url) = (deployment.session(), origin.url("/"));
    let answers = (0..20).map(|_| ask(&session, &url));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert_eq!(counts.connections.load(Ordering::SeqCst), 1);
}

/// A connector in a process of its own, whose requests nobody else's are counted with.
struct Process {
    session: Session,
    port: u16,
    _edges: Edges,
    _child: Child,
}

impl Process {
    async fn that_trusts(authority: &Authority) -> Self {
        let (edges, port) = (Edges::start(&["eu"], None).await, free_port());
        let ca = file(&authority.pem());
        let mut command = connector();
        command
            .env("TUNNEL_SECRET", &edges.secret)
            .env("TUNNEL_METRICS_PORT", port.to_string())
            .env("TUNNEL_ORIGIN_CA_FILE", ca.path())
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let links = edges.edges[0].until(|links| links.len() == 4).await;
        Self { session: links[0].session.clone(), port, _edges: edges, _child: child }
    }

    /// Waits until so many requests are under way.
    async fn until_under_way(&self, count: usize) {
        let line = format!("postern_connector_requests_in_flight {count}\n");
        let reached = async {
            while !status(self.port, "/metrics").await.unwrap().1.contains(&line) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently(reached).await;
    }
}

/// An origin that is silent on its first connection, and closes it when told to. Counts its connections.
async fn silent_at_first(authority: &Authority) -> (Origin, watch::Sender<usize>, Arc<Notify>) {
    let tls = TlsAcceptor::from(Arc::new(server(authority, None)));
    let (connections, close) = (watch::Sender::new(0), Arc::new(Notify::new()));
    let (counting, closing) = (connections.clone(), close.clone());
    let origin = Origin::raw(move |stream| {
        counting.send_modify(|count| *count += 1);
        let is_first = *counting.borrow() == 1;
        let (tls, close) = (tls.clone(), closing.clone());
        async move {
            if is_first {
                close.notified().await;
                return;
            }
            let stream = tls.accept(stream).await.unwrap();
            speak(stream, &AtomicUsize::new(0), |_, r, to| echo(r, to)).await;
        }
    })
    .await;
    (origin, connections, close)
}

#[tokio::test]
async fn when_the_request_that_dials_is_given_up_the_next_one_dials() {
    let authority = Authority::new();
    let process = Process::that_trusts(&authority).await;
    let (origin, connections, _close) = silent_at_first(&authority).await;
    let url = origin.url("/").replace("http:", "https:");
    let asking = || {
        let (session, url) = (process.session.clone(), url.clone());
        tokio::spawn(async move { ask(&session, &url).await })
    };
    let first = asking();
    patiently(connections.subscribe().wait_for(|count| *count == 1)).await.unwrap();
    let others: Vec<_> = (0..5).map(|_| asking()).collect();
    process.until_under_way(6).await;
    assert_eq!(*connections.borrow(), 1, "the others wait");
    first.abort();
    for answer in others {
        assert_eq!(patiently(answer).await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(*connections.borrow(), 2);
}

#[tokio::test]
async fn a_dial_that_fails_fails_for_all_who_wait_for_it() {
    let authority = Authority::new();
    let process = Process::that_trusts(&authority).await;
    let (origin, connections, close) = silent_at_first(&authority).await;
    let url = origin.url("/").replace("http:", "https:");
    let answers = (0..20).map(|_| ask(&process.session, &url));
    let fail = async {
        process.until_under_way(20).await;
        close.notify_one();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(answers), fail);
    for answer in answers {
        assert_eq!(answer.headers()[fields::ERROR], Code::OriginTls.as_str());
    }
    assert_eq!(*connections.borrow(), 1);
    assert_eq!(
        ask(&process.session, &url).await.status(),
        StatusCode::OK,
        "the next one dials anew"
    );
}
