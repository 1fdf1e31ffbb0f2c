//! The client of one case: sends by a script, and reads answers by the letter.

use std::{net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};

use super::{
    message::{Body, Fault, Message, Wire},
    script::Step,
};

/// How long a case may take. What answers at all does so in milliseconds; what does not is a finding, and
/// must not hold the others up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a connection may stay open behind the last answer, once the client has closed its half.
const AFTERMATH: Duration = Duration::from_secs(2);

/// How long a client waits for an answer that it may never get, before it closes its half.
const SOON: Duration = Duration::from_secs(2);

/// What a client has got.
#[derive(Debug, Clone, Default)]
pub struct Got {
    /// Final answers, each with the informational ones before it.
    pub answers: Vec<Message>,
    /// What came instead of a further answer.
    pub fault: Option<String>,
}

/// How far the answers have come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    continues: usize,
    heads: usize,
    answers: usize,
    is_over: bool,
}

/// Sends `steps` to `address`; the methods tell how many answers are expected, and to what.
pub async fn run(address: SocketAddr, steps: &[Step], methods: &[String]) -> Got {
    let mut got = Got::default();
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => {
            got.fault = Some(format!("cannot connect: {error}"));
            return got;
        }
    };
    let _ = stream.set_nodelay(true);
    let (from, to) = stream.into_split();
    let (progress, seen) = watch::channel(Progress::default());
    let has_ended = steps.contains(&Step::Fin);
    let reading = async {
        let fault = read(from, methods, has_ended, &mut got.answers, &progress).await;
        got.fault = fault;
        progress.send_modify(|progress| progress.is_over = true);
    };
    // Kept until all is read: dropped, it would close a half that the script leaves open.
    let both = async { tokio::join!(send(to, steps, seen), reading) };
    if timeout(PATIENCE, both).await.is_err() {
        got.fault = Some("nothing more comes".into());
    }
    got
}

async fn send(
    mut to: OwnedWriteHalf,
    steps: &[Step],
    mut seen: watch::Receiver<Progress>,
) -> OwnedWriteHalf {
    let (mut continues, mut heads, mut answers) = (0, 0, 0);
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if to.write_all(bytes).await.is_err() {
                    break;
                }
            }
            Step::Fin => {
                let _ = to.shutdown().await;
            }
            Step::Reset => {
                let _ = SockRef::from(to.as_ref()).set_linger(Some(Duration::ZERO));
                break;
            }
            Step::Head => {
                heads += 1;
                let _ = seen.wait_for(|seen| seen.heads >= heads || seen.is_over).await;
            }
            Step::Continue => {
                continues += 1;
                let _ = seen.wait_for(|seen| seen.continues >= continues || seen.is_over).await;
            }
            Step::Answer => {
                answers += 1;
                let _ = seen.wait_for(|seen| seen.answers >= answers || seen.is_over).await;
            }
            Step::Soon => {
                answers += 1;
                let came = seen.wait_for(|seen| seen.answers >= answers || seen.is_over);
                let _ = timeout(SOON, came).await;
            }
            Step::Early | Step::Body | Step::Next | Step::Echo => {}
        }
    }
    let _ = seen.wait_for(|seen| seen.is_over).await;
    to
}

async fn read(
    from: OwnedReadHalf,
    methods: &[String],
    has_ended: bool,
    answers: &mut Vec<Message>,
    progress: &watch::Sender<Progress>,
) -> Option<String> {
    let mut wire = Wire::new(from);
    for method in methods {
        let mut interim = Vec::new();
        let mut answer = loop {
            match wire.response().await {
                Ok(head) if (100..200).contains(&head.status()) && head.status() != 101 => {
                    let is_continue = head.status() == 100;
                    interim.push(head);
                    progress.send_modify(|progress| progress.continues += usize::from(is_continue));
                }
                Ok(head) => break head,
                Err(fault) => return Some(without(&fault)),
            }
        };
        answer.interim = interim;
        progress.send_modify(|progress| progress.heads += 1);
        let body = match answer.response_body(method) {
            Ok(body) => body,
            Err(fault) => return Some(fault.to_string()),
        };
        // In place while it is read: what never ends is seen as far as it came.
        answers.push(Message { broken: Some(Fault::Closed), ..answer.clone() });
        wire.body(&mut answer, body).await;
        let is_over = answer.broken.is_some() || answer.says_close() || body == Body::UntilClosed;
        *answers.last_mut().expect("it was pushed") = answer;
        progress.send_modify(|progress| progress.answers += 1);
        if is_over {
            return None;
        }
    }
    if has_ended { unasked(&mut wire).await } else { None }
}

/// Behind a client's last byte, what it did not ask for may be refused, but not served.
async fn unasked(wire: &mut Wire<OwnedReadHalf>) -> Option<String> {
    let served = async {
        while let Ok(mut answer) = wire.response().await {
            if answer.status() < 400 {
                return Some(format!("unasked: {}", answer.first));
            }
            let body = answer.response_body("GET").ok()?;
            wire.body(&mut answer, body).await;
        }
        None
    };
    timeout(AFTERMATH, served).await.unwrap_or_default()
}

fn without(fault: &Fault) -> String {
    match fault {
        Fault::Closed | Fault::Reset => format!("{fault} without an answer"),
        Fault::Garbage(_) => fault.to_string(),
    }
}
