//! One link: a live, authenticated connection from a connector to an edge, over QUIC or HTTP/2.
//!
//! The connector dials ([`dial`]), and the edge accepts ([`listen`]). Then requests flow the other way,
//! from edge to connector. The edge holds a [`Session`], which sends requests, and the connector holds
//! an [`Inbound`], which receives them. Both carriers behave the same; the suite in `tests/` runs over
//! both.
//!
//! ```text
//!  edge                                         connector
//!  QuicListener, Http2Listener ◄──── dials ──── Dialer
//!    Pending ─ TLS, Welcome, Hello ─► Candidate
//!    Candidate::register ─ Registered ────────► Dialled
//!  Session::send ──────── a request ──────────► Inbound::accept → Exchange
//!  Response<Body> ◄────── its answer ────────── Reply::send
//! ```
//!
//! Both ends spread their links over [`workers`]. They use [`boxed`] to create futures in their final
//! place.
//!
//! Whether a failed request may be sent again depends on [`SendError::is_not_delivered`], which is true
//! only if the connector did not begin with the request.

mod body;
mod boxed;
pub mod control;
pub mod dial;
mod error;
mod http2;
mod inbound;
pub mod listen;
mod quic;
pub mod relay;
mod sender;
mod session;
pub mod tls;
mod upgrade;
mod upgraded;
mod vitals;
pub mod workers;

pub use body::Body;
pub use boxed::boxed;
pub use error::{BoxError, CloseReason, DialError, LinkError, SendError, TlsError};
pub use inbound::{Arrival, Exchange, Inbound, Reply};
pub use session::{Opened, Session};
pub use upgrade::MAX_UPGRADE_BODY;
pub use upgraded::Upgraded;
pub use vitals::{Look, Vitals};
