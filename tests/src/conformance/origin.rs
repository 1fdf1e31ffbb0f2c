//! The origin of one case: answers by a script and notes all requests that it understands, by the letter.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use super::{
    message::{Fault, Message, Wire},
    script::Step,
};

/// What an origin has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests in the order of their ends.
    pub requests: Vec<Message>,
    /// What it could not take for a request.
    pub faults: Vec<String>,
}

/// A listening origin. It ends when dropped, and so do its connections.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Seen>,
    /// The answers, and how many were taken.
    answers: Mutex<(Vec<Vec<Step>>, usize)>,
}

impl Origin {
    /// Starts one on a free port of `host`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(host: IpAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, state.clone()));
        Ok(Self { address, state, _serving: serving })
    }

    /// Forgets what was seen, and answers by this script from now on.
    pub fn prepare(&self, script: &[Step]) {
        let answers = script.split(|step| *step == Step::Next).map(<[Step]>::to_vec).collect();
        *self.state.answers.lock().unwrap_or_else(PoisonError::into_inner) = (answers, 0);
        *self.state.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    /// What it has seen since.
    pub fn seen(&self) -> Seen {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    /// The next answer; the last one is for all that follow.
    fn answer(&self) -> Vec<Step> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, taken) = &mut *answers;
        let answer = all.get(*taken).or(all.last()).cloned().unwrap_or_default();
        *taken += 1;
        answer
    }

    /// Is this origin no HTTP server, but one that sends back what comes?
    fn is_echo(&self) -> bool {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.0.first().and_then(|answer| answer.first()) == Some(&Step::Echo)
    }

    /// Notes a request whose body is still to come; tells where.
    fn note(&self, message: Message) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.requests.push(Message { broken: Some(Fault::Closed), ..message });
        seen.requests.len() - 1
    }

    fn note_whole(&self, message: Message, noted: Option<usize>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match noted.and_then(|at| seen.requests.get_mut(at)) {
            Some(noted) => *noted = message,
            None => seen.requests.push(message),
        }
    }

    fn blame(&self, fault: String) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).faults.push(fault);
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(serve_connection(stream, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, state: Arc<State>) {
    let (from, mut to) = stream.into_split();
    let mut wire = Wire::new(from);
    if state.is_echo() {
        echo(&mut wire, &mut to).await;
        return;
    }
    while let Some(message) = wire.request().await.transpose() {
        let read = match message {
            Ok(message) => message.request_body().map(|body| (message, body)),
            Err(fault) => Err(fault),
        };
        let (mut message, body) = match read {
            Ok(read) => read,
            Err(fault) => {
                state.blame(match fault {
                    Fault::Closed | Fault::Reset => "a part of a head".to_owned(),
                    Fault::Garbage(_) => fault.to_string(),
                });
                let _ =
                    to.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
                return;
            }
        };
        let answer = state.answer();
        let (early, late) = match answer.split_first() {
            Some((Step::Early, rest)) => {
                let body = rest.iter().position(|step| *step == Step::Body);
                rest.split_at(body.unwrap_or(rest.len()))
            }
            _ => (&[][..], answer.as_slice()),
        };
        // Noted before the answer: who has got it may look.
        let noted = (!early.is_empty()).then(|| state.note(message.clone()));
        if !perform(early, &mut wire, &mut to).await {
            return;
        }
        wire.body(&mut message, body).await;
        let is_broken = message.broken.is_some();
        state.note_whole(message, noted);
        if is_broken || !perform(late, &mut wire, &mut to).await {
            return;
        }
    }
}

/// Answers; tells whether another request may follow.
async fn perform(steps: &[Step], wire: &mut Wire<OwnedReadHalf>, to: &mut OwnedWriteHalf) -> bool {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if to.write_all(bytes).await.is_err() {
                    return false;
                }
            }
            Step::Fin => return false,
            Step::Reset => {
                let _ = SockRef::from(to.as_ref()).set_linger(Some(std::time::Duration::ZERO));
                return false;
            }
            Step::Echo => {
                echo(wire, to).await;
                return false;
            }
            Step::Early
            | Step::Body
            | Step::Next
            | Step::Head
            | Step::Continue
            | Step::Answer
            | Step::Soon => {}
        }
    }
    true
}

async fn echo(wire: &mut Wire<OwnedReadHalf>, to: &mut OwnedWriteHalf) {
    loop {
        let bytes = std::mem::take(&mut wire.ahead);
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        match wire.more().await {
            Ok(()) => {}
            Err(_) => {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}
