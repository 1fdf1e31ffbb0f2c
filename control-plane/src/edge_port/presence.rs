//! Presence: an edge's reports, line by line, for as long as the request lasts. Of two presence
//! connections of one edge the newer counts.

use bytes::{Buf as _, BytesMut};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use protocol::{
    id::EdgeId,
    presence::{MAX_LINE, Report},
};
use tokio_util::sync::CancellationToken;

use super::{Body, empty};
use crate::{api::problem::Problem, app::App};

pub(super) async fn handle(
    app: &App,
    edge: EdgeId,
    mut body: Incoming,
    stop: CancellationToken,
) -> Result<Response<Body>, Problem> {
    let session = app.presence.state().begin(edge);
    let mut lines = Lines::default();
    loop {
        let Some(frame) = stop.run_until_cancelled(body.frame()).await else { break };
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else { break };
        let Ok(data) = frame.into_data() else { continue };
        lines.push(&data)?;
        while let Some(mut report) = lines.next()? {
            app.traffic.take(std::mem::take(&mut report.traffic), app.clock.now_ms());
            let taken = app.presence.report(edge, session, report, app.clock.now_ms());
            taken.map_err(|refused| {
                Problem::conflict(refused.to_string(), "Begin anew, and report every link.")
            })?;
        }
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Lines of a body that comes in pieces.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// So much of the buffer holds no end of a line.
    searched: usize,
}

impl Lines {
    fn push(&mut self, data: &[u8]) -> Result<(), Problem> {
        if self.buffer.len() + data.len() > MAX_LINE {
            return Err(Problem::too_large("a report is too long"));
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Report>, Problem> {
        let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') else {
            self.searched = self.buffer.len();
            return Ok(None);
        };
        let line = self.buffer.split_to(self.searched + end);
        self.buffer.advance(1);
        self.searched = 0;
        serde_json::from_slice(&line).map(Some).map_err(|error| Problem::invalid(error.to_string()))
    }
}
