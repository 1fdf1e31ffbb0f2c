//! The control stream's two halves, over either carrier.

use std::{
    marker::PhantomData,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use protocol::{
    control,
    frame::{Decoder, Frame, Role},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::LinkError, http2, quic};

/// Says messages of type `M`.
#[derive(Debug)]
pub struct ControlSender<M> {
    carrier: SendCarrier,
    message: PhantomData<fn(M)>,
}

#[derive(Debug)]
pub(crate) enum SendCarrier {
    Quic(quic::Sending),
    Http2(http2::Sending),
}

impl<M: Serialize> ControlSender<M> {
    pub(crate) fn new(carrier: SendCarrier) -> Self {
        Self { carrier, message: PhantomData }
    }

    /// Says one message; returns once it is handed to the transport.
    ///
    /// # Errors
    /// When the link is gone.
    pub async fn send(&mut self, message: &M) -> Result<(), LinkError> {
        let mut bytes = BytesMut::new();
        control::encode(message, &mut bytes);
        match &mut self.carrier {
            SendCarrier::Quic(sending) => sending.write(bytes.freeze()).await,
            SendCarrier::Http2(sending) => sending.write(bytes.freeze()).await,
        }
    }
}

/// Hears messages of type `M`.
#[derive(Debug)]
pub struct ControlReceiver<M> {
    carrier: ReceiveCarrier,
    decoder: Decoder,
    message: PhantomData<fn() -> M>,
}

#[derive(Debug)]
pub(crate) enum ReceiveCarrier {
    Quic(quic::Receiving),
    Http2(http2::Receiving),
}

impl<M: DeserializeOwned> ControlReceiver<M> {
    pub(crate) fn new(carrier: ReceiveCarrier) -> Self {
        Self { carrier, decoder: Decoder::new(Role::Control), message: PhantomData }
    }

    /// Accepts no message longer than this, in bytes.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.decoder.set_limit(limit);
    }

    /// The next message, or `None` when the peer has closed the stream. Cancel-safe: a message is
    /// either returned or still there.
    ///
    /// # Errors
    /// When the link is gone, or the peer breaks the protocol.
    pub async fn receive(&mut self) -> Result<Option<M>, LinkError> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<M>, LinkError>> {
        loop {
            match self.decoder.next_frame()? {
                Some(Frame::Control(payload)) => {
                    return Poll::Ready(Ok(Some(control::decode(&payload)?)));
                }
                Some(_) => return Poll::Ready(Err(LinkError::Unexpected("no control message"))),
                None => {}
            }
            match std::task::ready!(self.carrier.poll_bytes(cx))? {
                Some(bytes) => self.decoder.push(bytes),
                None => {
                    self.decoder.finish()?;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}

impl ReceiveCarrier {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, LinkError>> {
        match self {
            Self::Quic(receiving) => receiving.poll_bytes(cx),
            Self::Http2(receiving) => receiving.poll_bytes(cx),
        }
    }
}
