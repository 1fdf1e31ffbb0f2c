//! An HTTP/2 suite of our own, spoken in raw frames: what a server must do by RFC 9113, asked of the
//! gateway, and of HAProxy beside it. (The suite that is known for this, h2spec, is a Go program that no
//! registry which this repository builds from carries; and it can give no credentials, so that it would
//! see refusals alone.)

mod cases;
mod frames;

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

use self::{
    cases::{Case, Expect, Move, Request, SERVED},
    frames::{Conn, Event, PREFACE, settings},
};
use super::{
    corpus::Known,
    origin::Origin,
    run::Verdict,
    script::{self, Names},
    way::Way,
};

/// How long a server may take to do what it must. What it does at all comes within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server must keep still where it may not send.
const STILL: Duration = Duration::from_millis(200);
/// Connections at once.
const AT_ONCE: usize = 16;

/// A case and where the standard has it.
#[derive(Debug, Clone)]
pub struct Named {
    /// `RFC 9113 §6.9`.
    pub section: String,
    /// What it is about.
    pub name: &'static str,
    /// Differences that are known.
    pub known: Vec<Known>,
}

/// Origins for every kind of case.
///
/// # Errors
/// If one cannot listen.
pub async fn origins(host: std::net::IpAddr) -> anyhow::Result<Vec<Origin>> {
    let mut origins = Vec::new();
    for served in SERVED {
        let origin = Origin::start(host).await?;
        let names = Names { origin: "", credentials: None, id: "" };
        origin.prepare(&script::read(served.script(), &names)?);
        origins.push(origin);
    }
    Ok(origins)
}

/// The cases in their order.
pub fn named() -> Vec<Named> {
    let request = Request { authority: "", credentials: None, path: "/" };
    let name = |case: Case| {
        let section = match case.section.split_once(' ') {
            Some((rfc, section)) => format!("RFC {rfc} §{section}"),
            None => format!("RFC 9113 §{}", case.section),
        };
        Named { section, name: case.name, known: case.known }
    };
    cases::all(&request).into_iter().map(name).collect()
}

/// Runs all of them over a way to these [`origins`], which begin at its `from`th door.
///
/// # Errors
/// If nobody listens.
pub async fn run(origins: &[Origin], way: &Way, from: usize) -> anyhow::Result<Vec<Verdict>> {
    let asked = (0..named().len()).map(|n| one(n, origins, way, from));
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

async fn one(n: usize, origins: &[Origin], way: &Way, from: usize) -> anyhow::Result<Verdict> {
    let path = format!("/case-{n}-over-{}", way.kind.key());
    let find = |authority: &str| -> Option<Case> {
        let request = Request { authority, credentials: way.credentials.as_deref(), path: &path };
        cases::all(&request).into_iter().nth(n)
    };
    let served = find("").context("no such case")?.origin;
    let at = SERVED.iter().position(|other| *other == served).context("it serves nothing")?;
    let authority = origins[at].address.to_string();
    let case = find(&authority).context("no such case")?;
    let is_malformed = case.moves.iter().any(|m| matches!(m, Move::Await(Expect::Malformed(1))));
    let mut difference = play(way.door(from + at), case).await?;
    if is_malformed && difference.is_none() {
        let seen = origins[at].seen();
        let whole = seen.requests.iter().find(|m| m.first.contains(&path) && m.broken.is_none());
        difference = whole.map(|message| format!("origin: {}", message.first));
    }
    Ok(difference.map_or(Verdict::Same, Verdict::Differs))
}

/// Plays a case; says what the server did instead, if it did anything else.
async fn play(address: SocketAddr, case: Case) -> anyhow::Result<Option<String>> {
    let mut conn = Conn::open(address).await?;
    if case.is_greeted {
        // Without a table, a status is its own entry or is written out.
        conn.send(&[PREFACE.to_vec(), settings(&[(1, 0)])].concat()).await;
        let greeted = [Expect::Settings(None), Expect::SettingsAck];
        for expect in greeted {
            if let Some(instead) = wait(&mut conn, &expect, &mut Vec::new(), &mut Vec::new()).await
            {
                return Ok(Some(format!("no greeting: {instead}")));
            }
        }
    }
    let (mut before, mut heard) = (Vec::new(), Vec::new());
    for step in case.moves {
        match step {
            Move::Send(bytes) => conn.send(&bytes).await,
            Move::Await(expect) => {
                if let Some(instead) = wait(&mut conn, &expect, &mut before, &mut heard).await {
                    let fulfilled = told(&heard);
                    return Ok(Some(match fulfilled.as_str() {
                        "nothing" => instead,
                        _ => format!("{fulfilled}, then {instead}"),
                    }));
                }
            }
        }
    }
    Ok(None)
}

/// Waits for what is expected. `before` holds what has come and was not waited for; what was, joins `heard`.
async fn wait(
    conn: &mut Conn,
    expect: &Expect,
    before: &mut Vec<Event>,
    heard: &mut Vec<Event>,
) -> Option<String> {
    if let Expect::Data(stream, length) = *expect {
        return body(conn, stream, length, before).await;
    }
    let waiting = async {
        let mut at = 0;
        loop {
            if at == before.len() {
                let event = conn.next().await;
                before.push(event);
            }
            if fits(expect, &before[..=at]) {
                heard.extend(before.drain(..=at));
                return None;
            }
            if before[at] == Event::Closed {
                return Some(told(before));
            }
            at += 1;
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| Some(told(before)))
}

/// So many bytes of an answer, and no more.
async fn body(conn: &mut Conn, of: u32, length: usize, before: &mut Vec<Event>) -> Option<String> {
    let mut seen = 0;
    let mut take = |event: &Event| match event {
        Event::Data(stream, bytes, _) if *stream == of => seen += bytes.len(),
        _ => {}
    };
    before.iter().for_each(&mut take);
    before.clear();
    let until = tokio::time::Instant::now() + PATIENCE;
    while seen < length {
        match tokio::time::timeout_at(until, conn.next()).await {
            Ok(Event::Closed) | Err(_) => return Some(format!("{seen} bytes instead of {length}")),
            Ok(Event::Data(stream, bytes, _)) if stream == of => seen += bytes.len(),
            Ok(_) => {}
        }
    }
    let still = async {
        loop {
            match conn.next().await {
                Event::Data(stream, bytes, _) if stream == of => seen += bytes.len(),
                Event::Closed => std::future::pending().await,
                _ => {}
            }
        }
    };
    let _: Result<(), _> = timeout(STILL, still).await;
    (seen != length).then(|| format!("{seen} bytes instead of {length}"))
}

/// Is what was expected the last of these events?
fn fits(expect: &Expect, events: &[Event]) -> bool {
    let Some(last) = events.last() else { return false };
    let refused = |codes: &[u32], of: Option<u32>| match last {
        Event::GoAway(code) => codes.contains(code),
        Event::Reset(stream, code) => Some(*stream) == of && codes.contains(code),
        Event::Closed => !events.iter().any(|event| matches!(event, Event::GoAway(_))),
        _ => false,
    };
    match expect {
        Expect::Settings(None) => matches!(last, Event::Settings(_)),
        Expect::Settings(Some(setting)) => {
            matches!(last, Event::Settings(settings) if settings.contains(setting))
        }
        Expect::SettingsAck => *last == Event::SettingsAck,
        Expect::Pong(bytes) => *last == Event::PingAck(bytes.to_vec()),
        Expect::Status(of, statuses) => {
            matches!(last, Event::Status(stream, status, _) if stream == of && statuses.contains(status))
        }
        Expect::Data(..) => false,
        Expect::Echo(of, bytes) => {
            let mut echoed = Vec::new();
            for event in events {
                match event {
                    Event::Data(stream, bytes, _) if stream == of => {
                        echoed.extend_from_slice(bytes);
                    }
                    _ => {}
                }
            }
            echoed == *bytes
        }
        Expect::End(of) => match last {
            Event::Data(stream, _, true) | Event::Status(stream, _, true) => stream == of,
            Event::Trailers(stream) => stream == of,
            _ => false,
        },
        Expect::Connection(codes) => refused(codes, None),
        Expect::Stream(of, codes) => refused(codes, Some(*of)),
        Expect::Malformed(of) => match last {
            // RFC 9113 §8.1.1 lets a server answer 400 instead.
            Event::Status(stream, status, _) => stream == of && *status == 400,
            Event::GoAway(code) => *code != 0,
            Event::Reset(stream, code) => stream == of && *code != 0,
            _ => refused(&[], None),
        },
        Expect::Either(expected) => expected.iter().any(|expect| fits(expect, events)),
    }
}

/// What came, in short.
fn told(events: &[Event]) -> String {
    let mut told = String::new();
    for event in events {
        let _ = match event {
            Event::Settings(_) | Event::SettingsAck | Event::Other(_) => Ok(()),
            Event::PingAck(_) => write!(told, "PING; "),
            Event::Status(_, status, _) => write!(told, "{status}; "),
            Event::Trailers(_) => write!(told, "trailers; "),
            Event::Data(_, bytes, _) => write!(told, "{} bytes; ", bytes.len()),
            Event::Reset(_, code) => write!(told, "RST_STREAM {code}; "),
            Event::GoAway(code) => write!(told, "GOAWAY {code}; "),
            Event::Closed => write!(told, "closed; "),
        };
    }
    match told.strip_suffix("; ") {
        Some(told) => told.chars().take(120).collect(),
        None => "nothing".to_owned(),
    }
}
