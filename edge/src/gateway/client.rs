//! A client's connection: what is under way on it, whether the client is still there, and whether the
//! connection must end in a way that nobody takes for a clean end.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Version;
use link::{relay, workers::WorkerId};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};

use crate::gateway::{caller::LastCaller, plain::Turns};

pub(crate) use self::{
    flushes::{Flushed, Flushes},
    standing::Standing,
    stream::ClientStream,
};

mod flushes;
mod standing;
mod stream;

/// How long an upload may stand still once its client has closed its end. If the rest of the body is there, it
/// moves on as soon as the link takes it, and hyper finds the end itself.
const STANDS_STILL: Duration = Duration::from_millis(500);

/// The requests that are under way on one client's connection.
#[derive(Debug)]
pub(crate) struct UnderWay(Mutex<Activity>);

#[derive(Debug)]
struct Activity {
    count: usize,
    /// When there was something under way last.
    last: Instant,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self(Mutex::new(Activity { count: 0, last: Instant::now() }))
    }
}

impl UnderWay {
    /// Resolves when there has been none for `time`.
    pub(crate) async fn idle(&self, time: Duration) {
        loop {
            // A look once in a while costs a request nothing.
            let (is_idle, last) = {
                let activity = self.activity();
                (activity.count == 0, activity.last)
            };
            let until = if is_idle { last + time } else { Instant::now() + time };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn begin(&self) {
        self.activity().count += 1;
    }

    fn end(&self) {
        let mut activity = self.activity();
        activity.count -= 1;
        activity.last = Instant::now();
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of the request that is under way on an HTTP/1.1 connection, if it has one.
#[derive(Debug, Default)]
pub(crate) struct UploadState {
    is_open: AtomicBool,
    /// How often a piece of it was taken.
    pieces: AtomicU64,
    /// The last one was given up before its end.
    was_left: AtomicBool,
}

impl UploadState {
    pub(crate) fn begin(&self) {
        self.was_left.store(false, Ordering::Relaxed);
        self.is_open.store(true, Ordering::Relaxed);
    }

    pub(crate) fn moves(&self) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, is_whole: bool) {
        self.is_open.store(false, Ordering::Relaxed);
        self.was_left.store(!is_whole, Ordering::Relaxed);
    }

    /// True if the client may still be sending a body that nobody reads any more.
    pub(crate) fn was_left(&self) -> bool {
        self.was_left.load(Ordering::Relaxed)
    }

    /// Resolves when an upload has stood still for a while.
    async fn stands_still(&self) {
        loop {
            let before = self.pieces.load(Ordering::Relaxed);
            sleep(STANDS_STILL).await;
            if self.is_open.load(Ordering::Relaxed) && self.pieces.load(Ordering::Relaxed) == before
            {
                return;
            }
        }
    }
}

/// What the requests of one client's connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    worker: WorkerId,
    socket: Weak<TcpStream>,
    is_http2: AtomicBool,
    broken: AtomicBool,
    pub(crate) standing: Standing,
    pub(crate) upload: UploadState,
    pub(crate) flushes: Flushes,
    pub(crate) under_way: UnderWay,
    pub(crate) turns: Turns,
    pub(crate) last_caller: LastCaller,
}

impl Connection {
    pub(crate) fn new(worker: WorkerId, socket: &Arc<TcpStream>, standing: Standing) -> Self {
        Self {
            worker,
            standing,
            socket: Arc::downgrade(socket),
            is_http2: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            upload: UploadState::default(),
            flushes: Flushes::default(),
            under_way: UnderWay::default(),
            turns: Turns::default(),
            last_caller: LastCaller::default(),
        }
    }

    /// True once a request has come over HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// True once an answer on it has broken off: it must end with a reset.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// True if the client has broken its connection off, as far as is known.
    pub(crate) fn is_gone(&self) -> bool {
        self.socket.upgrade().is_none_or(|socket| relay::is_broken(&socket))
    }

    /// True if the client has closed its end, perhaps behind bytes that nobody has read yet.
    pub(crate) fn has_ended(&self) -> bool {
        self.socket.upgrade().is_some_and(|socket| relay::has_ended(&socket))
    }

    /// Resolves when the client has gone while hyper does not read its connection, as it does not while an
    /// upload waits for its link. A client that has only closed its end is gone, too, as it is to hyper,
    /// unless `may_half_close`.
    pub(crate) async fn gone(&self, socket: &TcpStream, may_half_close: bool) {
        let leaves = async {
            if may_half_close {
                return std::future::pending().await;
            }
            end_seen(socket).await;
            self.upload.stands_still().await;
        };
        tokio::select! {
            () = relay::broken(socket) => {}
            () = leaves => {}
        }
    }
}

/// Resolves when the client has closed its end, perhaps behind bytes that nobody has read yet. The interest in
/// urgent data includes that event, and nothing else that happens.
#[cfg(any(target_os = "linux", target_os = "android"))]
async fn end_seen(socket: &TcpStream) {
    loop {
        match socket.ready(Interest::PRIORITY).await {
            // Urgent data: it is forgotten, or it would be seen again at once.
            Ok(ready) if !ready.is_read_closed() => {
                let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = socket.try_io(Interest::PRIORITY, forget);
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Elsewhere an upload's client that closes its end is noticed when the upload moves on.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
async fn end_seen(_socket: &TcpStream) {
    std::future::pending().await
}

/// The client behind one request, which is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Arc<Connection>,
    version: Version,
}

impl Drop for Client {
    fn drop(&mut self) {
        let under_way = &self.connection.under_way;
        under_way.end();
        self.connection.turns.end();
    }
}

impl Client {
    pub(crate) fn new(connection: Arc<Connection>, version: Version, has_body: bool) -> Self {
        connection.under_way.begin();
        if version == Version::HTTP_2 {
            connection.is_http2.store(true, Ordering::Relaxed);
        }
        connection.turns.begin(has_body);
        Self { connection, version }
    }

    /// Where the client is served.
    pub(crate) fn worker(&self) -> WorkerId {
        self.connection.worker
    }

    pub(crate) fn last_caller(&self) -> &LastCaller {
        &self.connection.last_caller
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Was the target a URL without a path? To be asked once.
    pub(crate) fn take_pathless(&self) -> bool {
        self.connection.turns.take_pathless()
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// The answer broke off. Over HTTP/2 a reset of the stream says so; over HTTP/1 only the
    /// connection can.
    pub(crate) fn break_off(&self) {
        if !self.is_http2() {
            self.connection.broken.store(true, Ordering::Relaxed);
        }
    }
}
