//! Sends a request without a tunnel, past the destination guard.

use std::{net::SocketAddr, time::Instant};

use protocol::{
    phases::Phase,
    refusal::{Code, Refusal},
};
use tokio::net::TcpStream;

use super::{
    exchange::{self, Broken, Connection, Exchanged},
    http_action::{Failure, Prepared, Trace, microseconds},
};
use crate::guard;

pub(super) async fn send(
    request: &Prepared,
    allow_private: bool,
    trace: &mut Trace,
) -> Result<Exchanged, Failure> {
    let addresses = resolve(request, trace).await?;
    let allowed: Vec<_> = addresses
        .into_iter()
        .filter(|address| allow_private || guard::is_public(address.ip()))
        .collect();
    if allowed.is_empty() {
        return Err(Failure::PrivateDestination(request.host.clone()));
    }
    let stream = dial(&allowed, request, trace).await?;
    // Without Nagle a small request leaves at once; a socket that cannot be told so still works.
    let _ = stream.set_nodelay(true);
    if request.is_https() {
        let stream = exchange::tls(stream, request, trace).await?;
        speak(Connection::new(stream).await, request, trace).await
    } else {
        speak(Connection::new(stream).await, request, trace).await
    }
}

async fn resolve(request: &Prepared, trace: &mut Trace) -> Result<Vec<SocketAddr>, Refusal> {
    let started = Instant::now();
    let host = request.host.as_str();
    let addresses = tokio::net::lookup_host((host, request.port)).await.map_err(|_| {
        Refusal::new(
            Code::OriginDns,
            format!("{host} does not resolve where the control plane runs"),
        )
    })?;
    trace.phases.set(Phase::Dns, microseconds(started));
    Ok(addresses.collect())
}

async fn dial(
    addresses: &[SocketAddr],
    request: &Prepared,
    trace: &mut Trace,
) -> Result<TcpStream, Refusal> {
    let started = Instant::now();
    let mut code = Code::OriginUnreachable;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                trace.phases.set(Phase::Tcp, microseconds(started));
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                code = Code::OriginRefused;
            }
            Err(_) => {}
        }
    }
    Err(Refusal::new(code, format!("{}:{}", request.host, request.port)))
}

async fn speak(
    connection: Result<Connection, Broken>,
    request: &Prepared,
    trace: &mut Trace,
) -> Result<Exchanged, Failure> {
    let started = Instant::now();
    let lost = |broken: Broken| {
        let code = if broken.is_garbage { Code::OriginGarbage } else { Code::OriginReset };
        Refusal::new(code, format!("{}:{} gave no answer", request.host, request.port))
    };
    let mut connection = connection.map_err(lost)?;
    let response = connection.send(request.request(false)).await.map_err(lost)?;
    trace.phases.set(Phase::FirstByte, microseconds(started));
    Ok(exchange::finish(response, request.response_limit, Code::OriginReset, trace).await)
}
