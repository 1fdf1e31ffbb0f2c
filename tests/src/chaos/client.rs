//! A careful client of two gateways. It sends nothing twice: it goes to the other gateway only if this one
//! refuses the connection, or answers that it is about to leave. So what it counts as lost, is lost.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle};

/// Connections to a gateway that wait for their next request; more are closed.
const RESTING: usize = 64;
/// How long they wait. A gateway closes them after longer, perhaps just when they are used again.
const REST: Duration = Duration::from_secs(5);
/// The header that names a refusal.
const ERROR: &str = "postern-error";

/// Why there was no whole and right answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Postern refused it with this code.
    Refused(String),
    /// No gateway took a connection.
    NoGateway,
    /// The connection broke before the answer's head was here.
    Reset,
    /// The answer broke off.
    BrokenOff,
    /// Nothing came within the client's patience.
    Timeout,
    /// Another answer than the origin gave.
    Wrong(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(code) => f.write_str(code),
            Self::NoGateway => f.write_str("no gateway"),
            Self::Reset => f.write_str("reset"),
            Self::BrokenOff => f.write_str("broken off"),
            Self::Timeout => f.write_str("timeout"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

/// The client.
pub struct Client {
    gateways: Vec<Gateway>,
    credentials: HeaderValue,
}

struct Gateway {
    address: SocketAddr,
    resting: Mutex<Vec<(Instant, Connection)>>,
}

/// A connection to a gateway; closed when dropped.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer whose body is still to come.
pub struct Answer {
    response: Response<Incoming>,
    connection: Connection,
    /// The gateway that gave it.
    pub gateway: usize,
}

impl Deref for Answer {
    type Target = Response<Incoming>;

    fn deref(&self) -> &Self::Target {
        &self.response
    }
}

impl Client {
    /// With the address of each gateway, and the value of Proxy-Authorization.
    pub fn new(gateways: &[SocketAddr], credentials: HeaderValue) -> Self {
        let gateway =
            |address: &SocketAddr| Gateway { address: *address, resting: Mutex::default() };
        Self { gateways: gateways.iter().map(gateway).collect(), credentials }
    }

    /// Another client, with connections of its own, that knows one of the gateways alone.
    pub fn of_gateway(&self, gateway: usize) -> Self {
        Self::new(&[self.gateways[gateway].address], self.credentials.clone())
    }

    /// Sends a request, at first to this gateway. The answer is one of the origin's; on failure the gateway
    /// that failed is told.
    ///
    /// # Errors
    /// Whatever else comes.
    pub async fn send(
        &self,
        request: &Request<Bytes>,
        first: usize,
    ) -> Result<Answer, (usize, Failure)> {
        let other = (first + 1) % self.gateways.len();
        match self.send_to(request, first).await {
            Err(Failure::NoGateway) => self.send_to(request, other).await,
            Err(Failure::Refused(code)) if code == "edge_unavailable" => {
                // What it has told of itself counts for all of its connections.
                self.gateways[first].lock().clear();
                self.send_to(request, other).await
            }
            sent => return sent.map_err(|failure| (first, failure)),
        }
        .map_err(|failure| (other, failure))
    }

    async fn send_to(&self, request: &Request<Bytes>, gateway: usize) -> Result<Answer, Failure> {
        let mut connection = self.gateways[gateway].connection().await?;
        let mut sent = request.clone().map(Full::new);
        sent.headers_mut().insert(header::PROXY_AUTHORIZATION, self.credentials.clone());
        let Ok(response) = connection.sender.send_request(sent).await else {
            return Err(Failure::Reset);
        };
        if let Some(code) = response.headers().get(ERROR) {
            return Err(Failure::Refused(String::from_utf8_lossy(code.as_bytes()).into_owned()));
        }
        Ok(Answer { response, connection, gateway })
    }

    /// Reads the whole body of an answer that must have this status.
    ///
    /// # Errors
    /// If the answer is another one, or breaks off.
    pub async fn whole(&self, answer: Answer, status: StatusCode) -> Result<Bytes, Failure> {
        let Answer { response, mut connection, gateway } = answer;
        if response.status() != status {
            return Err(Failure::Wrong(response.status().to_string()));
        }
        let stays = response.headers().get(header::CONNECTION).is_none_or(|value| value != "close");
        let body = response.into_body().collect().await.map_err(|_| Failure::BrokenOff)?.to_bytes();
        if stays && connection.sender.ready().await.is_ok() {
            let mut resting = self.gateways[gateway].lock();
            if resting.len() < RESTING {
                resting.push((Instant::now(), connection));
            }
        }
        Ok(body)
    }
}

impl Answer {
    /// Has the connection become a tunnel.
    ///
    /// # Errors
    /// If the answer is not 101.
    pub async fn switch(self) -> Result<(TokioIo<hyper::upgrade::Upgraded>, Connection), Failure> {
        let Self { response, connection, .. } = self;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Wrong(response.status().to_string()));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|_| Failure::Reset)?;
        Ok((TokioIo::new(upgraded), connection))
    }
}

impl Gateway {
    async fn connection(&self) -> Result<Connection, Failure> {
        loop {
            let resting = self.lock().pop();
            let Some((since, connection)) = resting else { break };
            // One that the gateway has closed is known by now.
            if since.elapsed() < REST && connection.sender.is_ready() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.address).await.map_err(|_| Failure::NoGateway)?;
        // Failing to set this only makes it slower.
        let _ = stream.set_nodelay(true);
        let Ok((sender, driver)) = handshake(TokioIo::new(stream)).await else {
            return Err(Failure::Reset);
        };
        let driver = tokio::spawn(async move {
            // How it ends is what its requests tell.
            let _ = driver.with_upgrades().await;
        });
        Ok(Connection { sender, driver: driver.abort_handle() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Connection)>> {
        self.resting.lock().expect("nobody panics while holding this lock")
    }
}

/// Gives up after so long.
///
/// # Errors
/// As the future does, or [`Failure::Timeout`].
pub async fn within<T>(
    patience: Duration,
    future: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let until = Instant::now() + patience;
    tokio::time::timeout_at(until.into(), future).await.unwrap_or(Err(Failure::Timeout))
}
