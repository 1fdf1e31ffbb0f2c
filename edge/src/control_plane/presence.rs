//! Reports which links the edge holds: all of them when a connection comes up, then what has changed,
//! and a renewal of the lease when nothing has.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use hyper::client::conn::http2::SendRequest;
use protocol::{
    address::HostPort,
    presence::{LinkDown, LinkPresence, PRESENCE_PATH, REPORT_EVERY_MS, Report},
};
use tokio::sync::{Notify, mpsc};

use crate::{control_plane::url, core::Core, registry::LinkKey};

/// What happens within this time goes into one report.
const BATCH: Duration = Duration::from_millis(50);
const RENEW_EVERY: Duration = Duration::from_millis(REPORT_EVERY_MS);
/// How long a restarted edge leaves it at what it reported before: until its links are back, tunnels would
/// seem to be down. The lease of its last report is 10 s.
const FIRST_REPORT_WITHIN: Duration = Duration::from_secs(4);

/// What the control plane has not heard yet: at most one word on each link.
#[derive(Debug, Default)]
pub(crate) struct Unreported {
    links: Mutex<HashMap<LinkKey, Word>>,
    applied: AtomicU64,
    news: Notify,
}

#[derive(Debug)]
enum Word {
    Up(Box<LinkPresence>),
    Down { goodbye: bool },
}

impl Unreported {
    /// A link is up, or has new figures that can wait for the next renewal.
    pub(crate) fn up(&self, link: LinkPresence, can_wait: bool) {
        self.put((&link).into(), Word::Up(Box::new(link)));
        if !can_wait {
            self.news.notify_one();
        }
    }

    /// A link is gone.
    pub(crate) fn down(&self, link: LinkKey, goodbye: bool) {
        self.put(link, Word::Down { goodbye });
        self.news.notify_one();
    }

    /// The edge obeys this generation from now on.
    pub(crate) fn applied(&self, generation: u64) {
        self.applied.store(generation, Ordering::Release);
        self.news.notify_one();
    }

    fn put(&self, link: LinkKey, word: Word) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(link, word);
    }

    /// Everything that was not said yet; from then on it counts as said.
    pub(crate) fn take(&self) -> Report {
        let words = std::mem::take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner));
        let applied_generation = self.applied.load(Ordering::Acquire);
        let mut report = Report { applied_generation, ..Report::default() };
        for (link, word) in words {
            match word {
                Word::Up(presence) => report.up.push(*presence),
                Word::Down { goodbye } => {
                    let LinkKey { tunnel, connector, slot } = link;
                    report.down.push(LinkDown { tunnel, connector, slot, goodbye });
                }
            }
        }
        report
    }
}

/// Why reporting ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PresenceError {
    #[error("presence broke off")]
    Broken(#[from] hyper::Error),
    #[error("the control plane answered {0} to the edge's reports")]
    Answered(StatusCode),
    #[error("the control plane reads no reports")]
    Closed,
    #[error("another process reports for this edge now")]
    Superseded,
    #[error("a report cannot be written")]
    Malformed(#[from] serde_json::Error),
}

/// Reports for as long as the connection lasts.
pub(crate) async fn report(
    core: &Core,
    mut sender: SendRequest<ReportBody>,
    control_plane: &HostPort,
) -> PresenceError {
    if core.superseded.is_cancelled() {
        return std::future::pending().await;
    }
    // Two: a report that waits for the window, and the next one. More would be old news.
    let (lines, body) = mpsc::channel(2);
    let request = Request::post(url(control_plane, PRESENCE_PATH))
        .body(ReportBody(Some(body)))
        .expect("the URL is valid");
    let answer = async {
        match sender.send_request(request).await {
            Ok(response) => PresenceError::Answered(response.status()),
            Err(error) => error.into(),
        }
    };
    tokio::select! {
        error = answer => error,
        error = write(core, lines) => error,
        () = core.superseded.cancelled() => PresenceError::Superseded,
    }
}

async fn write(core: &Core, lines: mpsc::Sender<Bytes>) -> PresenceError {
    // What an edge reported before a restart holds until its first report.
    let _ = tokio::time::timeout(FIRST_REPORT_WITHIN, core.settled()).await;
    let unreported = &core.unreported;
    let mut report = {
        // Whatever changes from here on is said again: the links are looked at afterwards.
        let words = unreported.take();
        Report { reset: true, up: core.registry.presence(), down: vec![], ..words }
    };
    loop {
        report.gateway_tls = core.gateway_tls;
        let mut line = match serde_json::to_vec(&report) {
            Ok(line) => line,
            Err(error) => return error.into(),
        };
        line.push(b'\n');
        if lines.send(line.into()).await.is_err() {
            return PresenceError::Closed;
        }
        if tokio::time::timeout(RENEW_EVERY, unreported.news.notified()).await.is_ok() {
            tokio::time::sleep(BATCH).await;
        }
        report = unreported.take();
    }
}

/// The body of a request to the control plane: reports as they come, or nothing.
#[derive(Debug)]
pub(crate) struct ReportBody(Option<mpsc::Receiver<Bytes>>);

impl ReportBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self(None)
    }
}

impl http_body::Body for ReportBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(lines) => lines.poll_recv(cx).map(|line| Some(Ok(Frame::data(line?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
