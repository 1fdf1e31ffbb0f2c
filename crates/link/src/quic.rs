//! The QUIC carrier: one bidirectional stream a request, opened by the edge.

mod endpoint;
mod receiving;
mod sending;
mod shard;
mod socket;
mod succession;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{Method, Response, StatusCode, request::Parts};
use http_body::Body as HttpBody;
use protocol::{
    frame::Role,
    head::{self, Follows, Protocol},
};
use quinn::VarInt;

pub(crate) use self::{
    endpoint::{
        Served, accept, client_config, client_config_for, client_endpoint, server_endpoint,
    },
    receiving::{Message, Receiving},
    sending::{Sending, buffer},
};
pub use self::{
    shard::Shard,
    succession::{Generation, pipe},
};
use crate::{
    body::Body,
    error::{BoxError, CloseReason, LinkError},
    sender::Sender,
    session::Opened,
    upgrade,
    upgraded::Upgraded,
};

/// How long a request may wait for a free stream. The edge counts, and begins no more than a link takes; but
/// streams that have just ended may not be free yet, and an older connector allows fewer. Short, since another
/// link may be tried then, and all together within a second.
const OPEN_WITHIN: Duration = Duration::from_millis(200);

/// Stream error codes of this protocol (`docs/protocol.md`).
pub(crate) mod code {
    use quinn::VarInt;

    /// The request was not begun: the origin saw nothing.
    pub(crate) const NOT_DELIVERED: VarInt = VarInt::from_u32(1);
    /// Nobody wants the rest.
    pub(crate) const CANCELLED: VarInt = VarInt::from_u32(2);
    /// The message broke off at its source.
    pub(crate) const INCOMPLETE: VarInt = VarInt::from_u32(3);
}

/// Connection error codes of this protocol.
fn close_code(reason: CloseReason) -> VarInt {
    VarInt::from_u32(match reason {
        CloseReason::Drained => 0x10,
        CloseReason::Revoked => 0x11,
        CloseReason::Replaced => 0x12,
        CloseReason::Unresponsive => 0x13,
        CloseReason::Shutdown => 0x14,
        CloseReason::Refused => 0x15,
        CloseReason::Cut => 0x16,
    })
}

fn close_reason(code: VarInt) -> Option<CloseReason> {
    use CloseReason::{Cut, Drained, Refused, Replaced, Revoked, Shutdown, Unresponsive};
    [Drained, Revoked, Replaced, Unresponsive, Shutdown, Refused, Cut]
        .into_iter()
        .find(|reason| close_code(*reason) == code)
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => {
                close_reason(close.error_code).map_or(Self::ClosedByPeer, Self::Closed)
            }
            quinn::ConnectionError::LocallyClosed => Self::Closed(CloseReason::Shutdown),
            quinn::ConnectionError::TimedOut => Self::TimedOut,
            quinn::ConnectionError::ConnectionClosed(_) | quinn::ConnectionError::Reset => {
                Self::ClosedByPeer
            }
            error => Self::Broken(error.into()),
        }
    }
}

fn stream_error(code: VarInt) -> LinkError {
    match code {
        code::NOT_DELIVERED => LinkError::NotDelivered,
        code::INCOMPLETE => LinkError::Incomplete,
        _ => LinkError::Cancelled,
    }
}

pub(crate) fn close(connection: &quinn::Connection, reason: CloseReason) {
    connection.close(close_code(reason), reason.as_str().as_bytes());
}

/// Edge: sends a request, streams its body, returns the answer's head with its body behind it.
pub(crate) async fn send<B>(
    connection: &quinn::Connection,
    request: &Parts,
    body: B,
    mut informational: impl FnMut(Response<()>),
) -> Result<Response<Body>, LinkError>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (sending, receiving) = open_stream(connection).await?;
    let mut receiving = Box::new(Receiving::new(receiving, Role::Response));
    let mut sending = Sending::new(sending);
    let mut head = buffer(&body);
    let mut sender = if body.is_end_stream() {
        head::encode_request(request, Follows::Nothing, &mut head);
        sending.write(head.freeze()).await?;
        sending.finish();
        None
    } else {
        head::encode_request(request, Follows::More, &mut head);
        Some(Sender::spawn(async move { sending.message(Role::Request, head, body).await }))
    };
    let answer = async {
        loop {
            match receiving.message().await? {
                Message::Informational(response) => informational(response),
                Message::Response(response, follows) => return Ok((response, follows)),
                Message::Request(..) => return Err(LinkError::Unexpected("a request")),
            }
        }
    };
    let (response, follows) = match &mut sender {
        None => answer.await?,
        Some(sender) => tokio::select! {
            biased;
            failed = sender.body_failure() => return Err(failed),
            answer = answer => answer?,
        },
    };
    let body = receiving.into_body(follows).with_sender(sender);
    Ok(response.map(|()| body))
}

/// Edge: sends a CONNECT or an upgrade, which leaves HTTP if the answer agrees.
pub(crate) async fn open(
    connection: &quinn::Connection,
    request: &Parts,
    body: Bytes,
) -> Result<Opened, LinkError> {
    let (sending, receiving) = open_stream(connection).await?;
    let mut receiving = Box::new(Receiving::new(receiving, Role::Response));
    let mut sending = Sending::new(sending);
    let mut head = BytesMut::with_capacity(512);
    if body.is_empty() {
        head::encode_request(request, Follows::More, &mut head);
    } else {
        let mut request = request.clone();
        upgrade::put_body(&body, &mut request.headers);
        head::encode_request(&request, Follows::More, &mut head);
        head.extend_from_slice(&body);
    }
    sending.write(head.freeze()).await?;
    loop {
        match receiving.message().await? {
            Message::Informational(_) => {}
            Message::Response(mut response, follows) if leaves_http(request, response.status()) => {
                if follows == Follows::Nothing {
                    return Err(LinkError::Unexpected("a tunnel that has ended already"));
                }
                upgrade::take_choice(&mut response);
                return Ok(Opened::Tunnel(response, Upgraded::quic(sending, receiving)));
            }
            Message::Response(response, follows) => {
                sending.finish();
                let body = receiving.into_body(follows);
                return Ok(Opened::Response(response.map(|()| body)));
            }
            Message::Request(..) => return Err(LinkError::Unexpected("a request")),
        }
    }
}

fn leaves_http(request: &Parts, status: StatusCode) -> bool {
    if request.method == Method::CONNECT {
        return status.is_success();
    }
    request.extensions.get::<Protocol>().is_some() && status == StatusCode::SWITCHING_PROTOCOLS
}

async fn open_stream(
    connection: &quinn::Connection,
) -> Result<(quinn::SendStream, quinn::RecvStream), LinkError> {
    let opened = match connection.open_bi().now_or_never() {
        Some(opened) => opened,
        None => tokio::time::timeout(OPEN_WITHIN, connection.open_bi())
            .await
            .map_err(|_| LinkError::Full)?,
    };
    // Nothing has left for the connector yet, whatever the reason.
    opened.map_err(|_| LinkError::NotDelivered)
}
