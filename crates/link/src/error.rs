//! What can go wrong on a link, and what that means for whoever asked.

use std::io;

use protocol::{
    control::{ControlError, LinkRefusal},
    frame::FrameError,
    head::HeadError,
};

/// An error of whoever gave a body to be sent.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why one end closes a link on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// A goodbye was said and nothing is under way any more.
    Drained,
    /// The secret was revoked, or the tunnel deleted.
    Revoked,
    /// The same connector has registered the same slot again.
    Replaced,
    /// The other end does not answer.
    Unresponsive,
    /// This end is shutting down.
    Shutdown,
    /// The handshake did not lead to a link.
    Refused,
    /// An admin has cut the link.
    Cut,
}

impl CloseReason {
    /// As it stands in metrics, logs and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Revoked => "revoked",
            Self::Replaced => "replaced",
            Self::Unresponsive => "unresponsive",
            Self::Shutdown => "shutdown",
            Self::Refused => "refused",
            Self::Cut => "cut",
        }
    }
}

/// A link, or a stream on it, is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// One of the two ends closed the link on purpose.
    #[error("the link was closed: {}", .0.as_str())]
    Closed(CloseReason),
    /// The peer closed the link, for a reason that only it knows.
    #[error("the peer closed the link")]
    ClosedByPeer,
    /// The peer has not answered for too long.
    #[error("the peer does not answer")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
    /// The peer refused the stream before it began with it.
    #[error("the connector did not begin with the request")]
    NotDelivered,
    /// As many streams are under way as the peer takes.
    #[error("the link takes no more requests at once")]
    Full,
    /// The peer gave up on the stream.
    #[error("the peer cancelled the stream")]
    Cancelled,
    /// The peer's own source of the message broke, so its end is missing.
    #[error("the message broke off at its source")]
    Incomplete,
    /// The peer broke the frame rules.
    #[error("the peer broke the protocol")]
    Frame(#[from] FrameError),
    /// The peer sent a malformed head.
    #[error("the peer broke the protocol")]
    Head(#[from] HeadError),
    /// The peer sent a malformed control message.
    #[error("the peer broke the protocol")]
    Control(#[from] ControlError),
    /// The peer said something that has no place here.
    #[error("the peer broke the protocol: {0}")]
    Unexpected(&'static str),
    /// The body that was to be sent failed.
    #[error("the body to be sent failed")]
    Body(#[source] BoxError),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl From<LinkError> for io::Error {
    fn from(error: LinkError) -> Self {
        let kind = match &error {
            LinkError::Closed(_) | LinkError::ClosedByPeer | LinkError::Broken(_) => {
                io::ErrorKind::NotConnected
            }
            LinkError::TimedOut => io::ErrorKind::TimedOut,
            LinkError::NotDelivered
            | LinkError::Full
            | LinkError::Cancelled
            | LinkError::Incomplete => io::ErrorKind::ConnectionReset,
            LinkError::Frame(_)
            | LinkError::Head(_)
            | LinkError::Control(_)
            | LinkError::Unexpected(_) => io::ErrorKind::InvalidData,
            LinkError::Body(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A request could not be sent, or got no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SendError(#[from] LinkError);

impl SendError {
    /// True only if the connector provably did not begin with the request: the origin saw nothing,
    /// and the request may be sent again. Otherwise the outcome is not known.
    pub fn is_not_delivered(&self) -> bool {
        matches!(self.0, LinkError::NotDelivered | LinkError::Full)
    }

    /// True if the link is well, and has no room for one more request.
    pub fn is_full(&self) -> bool {
        matches!(self.0, LinkError::Full)
    }

    /// True if the link is well, and the answer broke off at its source, before its head had left.
    pub fn is_incomplete(&self) -> bool {
        matches!(self.0, LinkError::Incomplete)
    }

    /// True if the request's own body failed, which is nobody's fault but its sender's.
    pub fn is_request_body(&self) -> bool {
        matches!(self.0, LinkError::Body(_))
    }
}

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate, or no key, in the PEM text.
    #[error("the PEM text holds no {0}")]
    Missing(&'static str),
    /// Malformed PEM.
    #[error("malformed PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// Certificate and key do not fit, or are not supported.
    #[error("the certificate or key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// A dial did not lead to a link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers at the address, or the network forbids it.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// TLS failed: somebody else answers, or the edge's certificate is not what the secret pins.
    #[error("TLS failed")]
    Tls(#[source] BoxError),
    /// The edge answered, and said no.
    #[error("the edge refused: {0}")]
    Refused(LinkRefusal),
    /// The connection broke during the handshake.
    #[error("the handshake broke off")]
    Link(#[from] LinkError),
}

impl DialError {
    /// The edge's "no", if that is what it was.
    pub fn refusal(&self) -> Option<&LinkRefusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Connect(_) | Self::Tls(_) | Self::Link(_) => None,
        }
    }
}
