//! HTTP/2 connections: every figure that shapes a link over HTTP/2.
//!
//! Both ends of a link know each other, and its streams belong to many clients. So no number of requests
//! that clients give up may end it; h2's defaults are for a server and one unknown client, and some count over
//! a connection's whole life. A client that abuses the gateway is stopped there, on its own connection.

use std::{io, time::Duration};

use tokio::{io::BufReader, net::TcpStream};

use crate::{http2::Watched, session::STREAMS};

/// Path of the control stream, the first stream on every connection.
pub(crate) const CONTROL_PATH: &str = "/postern/control";

/// How much of one stream may wait for its reader, in bytes; as over QUIC.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The connection's window, once the other end is trusted, is left open: it may never be smaller than the streams' windows together,
/// or stalled readers would exhaust it.
pub(crate) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Longest header list, in bytes.
const HEADER_LIST: u32 = protocol::frame::MAX_HEAD as u32;
/// Largest frame, in bytes, and how much h2 makes room for at once: what is read ahead of TLS, twice.
const FRAME: u32 = 128 * 1024;
/// How much is read from the socket at once, in bytes. TLS alone would read a record at a time, and
/// each read has the system tell the sender that there is room.
const READ: usize = 64 * 1024;
/// How much may be encrypted ahead of one write to the socket, in bytes: a few whole reads from an origin.
pub(crate) const TLS_BUFFER: usize = 256 * 1024;
/// How much one stream may hold that waits to be sent, in bytes: as much as a frame may, or none would be as long.
const SEND_BUFFER: usize = FRAME as usize;

/// What TLS runs on.
pub(crate) type Stream = BufReader<Watched>;

pub(crate) fn buffered(stream: TcpStream) -> io::Result<Stream> {
    Ok(BufReader::with_capacity(READ, Watched::new(stream)?))
}

/// Streams that the edge opened and reset before the connector took them, at one time. The connector takes them
/// as fast as it reads, so this is what one long pause of its process can leave: some seconds of a few
/// thousand clients that come and go at once. 1 KiB each.
const PENDING_RESETS: usize = 16 * 1024;
/// How long a stream that this end has reset is remembered, and how many are. What the peer had sent before it
/// heard of the reset, over the slowest link that is still alive, belongs to a stream that is known, and is
/// dropped without a word. 0.5 KiB each.
const RESETS_KEPT_FOR: Duration = Duration::from_secs(10);
const RESETS_KEPT: usize = 16 * 1024;
/// Resets that h2 itself had to send in the link's life: for frames on streams that it remembers no more, and for
/// malformed messages. Honest peers cause next to none. Each costs memory until it has left, which a hostile
/// peer could put off; all of them together take some 30 MiB.
const VIOLATIONS: usize = 64 * 1024;

/// The edge's end. The connection's window stays at its first 64 KiB until the connector has proven
/// itself.
pub(crate) fn client_builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_max_send_streams(STREAMS as usize)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .reset_stream_duration(RESETS_KEPT_FOR)
        .max_local_error_reset_streams(Some(VIOLATIONS));
    builder
}

/// The connector's end.
pub(crate) fn server_builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .enable_connect_protocol()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_concurrent_reset_streams(RESETS_KEPT)
        .reset_stream_duration(RESETS_KEPT_FOR)
        .max_local_error_reset_streams(Some(VIOLATIONS));
    builder
}
