//! WebSocket: raw frames to an echo server of a known library, behind each way. What Postern must do here
//! is nothing: to carry every byte, and every end. Autobahn's cases ask for more of the same
//! ([`super::autobahn`]); these run anywhere.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, tcp::OwnedReadHalf},
    process::Command,
    time::timeout,
};

use super::{
    message::Wire,
    run::Verdict,
    script::{self, Names},
    way::Way,
};
use crate::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);
const AT_ONCE: usize = 8;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// The echo server.
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

impl Echo {
    /// Starts one on a free port of `host`.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(host: IpAddr) -> anyhow::Result<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(tests.join("tools/python"));
        command.arg(tests.join("corpus/servers/websocket_echo.py")).arg(host.to_string());
        let process = Process::start("echo", command)?;
        let port = process.find(|line| line.strip_prefix("PORT ")?.parse().ok()).await?;
        Ok(Self { address: SocketAddr::new(host, port), _process: process })
    }
}

/// A case: what the client sends, in so large pieces, and what comes back, up to a close frame.
struct Case {
    name: &'static str,
    sends: Vec<u8>,
    /// What it sends when all but the close frame is back: a server that is told goodbye owes no more.
    last: Vec<u8>,
    piece: usize,
    gets: Vec<(u8, Vec<u8>)>,
}

/// A frame of a client, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn close(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, &code.to_be_bytes())
}

fn cases() -> Vec<Case> {
    let closed = |code: u16| (CLOSE, code.to_be_bytes().to_vec());
    let mut cases = Vec::new();
    let mut add = |name, frames: &[Vec<u8>], gets: Vec<(u8, Vec<u8>)>| {
        let (last, frames) = frames.split_last().expect("a client sends something");
        let (sends, last) = (frames.concat(), last.clone());
        cases.push(Case { name, sends, last, piece: usize::MAX, gets });
    };
    // Messages that come back, and then a goodbye.
    let mut echoes = |name, opcode: u8, payload: Vec<u8>| {
        let frames = [frame(FIN | opcode, &payload), close(1000)];
        add(name, &frames, vec![(opcode, payload), closed(1000)]);
    };
    echoes("a text without content", TEXT, Vec::new());
    echoes("a text of 125 bytes", TEXT, vec![b'x'; 125]);
    echoes("a text of 126 bytes", TEXT, vec![b'x'; 126]);
    echoes("a text of 65,535 bytes", TEXT, vec![b'x'; 65_535]);
    echoes("a text of 65,536 bytes", TEXT, vec![b'x'; 65_536]);
    echoes("a message of 4 MB", BINARY, (0..4_000_000).map(|n| (n % 251) as u8).collect());
    echoes("every byte there is", BINARY, (0..=255).collect());
    echoes("UTF-8 of two, three and four bytes", TEXT, "é€𝄞".into());
    let halves =
        [frame(TEXT, "κόσ".as_bytes()), frame(FIN | CONTINUATION, "με".as_bytes()), close(1000)];
    add("a text in two frames", &halves, vec![(TEXT, "κόσμε".into()), closed(1000)]);
    let cut = "κόσμε".as_bytes();
    let cut = [frame(TEXT, &cut[..3]), frame(FIN | CONTINUATION, &cut[3..]), close(1000)];
    add("a frame that ends inside a character", &cut, vec![(TEXT, "κόσμε".into()), closed(1000)]);
    let mut many = vec![frame(TEXT, b"")];
    many.extend(std::iter::repeat_n(frame(CONTINUATION, b"ab"), 500));
    many.extend([frame(FIN | CONTINUATION, b""), close(1000)]);
    add("a text in 502 frames", &many, vec![(TEXT, b"ab".repeat(500)), closed(1000)]);
    let pinged = [
        frame(TEXT, b"one"),
        frame(FIN | PING, b"now"),
        frame(FIN | CONTINUATION, b"two"),
        close(1000),
    ];
    let gets = vec![(PONG, b"now".to_vec()), (TEXT, b"onetwo".to_vec()), closed(1000)];
    add("a ping inside a message", &pinged, gets);
    let ping = [frame(FIN | PING, b"hello"), close(1000)];
    add("a ping", &ping, vec![(PONG, b"hello".to_vec()), closed(1000)]);
    let ping = [frame(FIN | PING, &[0xfe; 125]), close(1000)];
    add("a ping of 125 bytes", &ping, vec![(PONG, vec![0xfe; 125]), closed(1000)]);
    let pong = [frame(FIN | PONG, b"unasked"), close(1000)];
    add("a pong that nobody asked for", &pong, vec![closed(1000)]);
    for (name, code) in [
        ("a close with 1001", 1001),
        ("a close with 1011", 1011),
        ("a close with 3000", 3000),
        ("a close with 4999", 4999),
    ] {
        add(name, &[close(code)], vec![closed(code)]);
    }
    let reason = [&1000_u16.to_be_bytes()[..], "Ende ü".as_bytes()].concat();
    add("a close with a reason", &[frame(FIN | CLOSE, &reason)], vec![(CLOSE, reason.clone())]);
    add("a close without a code", &[frame(FIN | CLOSE, b"")], vec![(CLOSE, Vec::new())]);
    // What ends in an error: the server's code must arrive.
    let mut fails = |name, frames: &[Vec<u8>], code: u16| add(name, frames, vec![closed(code)]);
    fails("a ping that is too long", &[frame(FIN | PING, &[0; 126])], 1002);
    fails("a ping in two frames", &[frame(PING, b"x"), frame(FIN | CONTINUATION, b"")], 1002);
    fails("a reserved bit", &[frame(FIN | 0x40 | TEXT, b"x")], 1002);
    fails("a reserved data frame", &[frame(FIN | 3, b"x")], 1002);
    fails("a reserved control frame", &[frame(FIN | 11, b"x")], 1002);
    fails("a continuation of nothing", &[frame(FIN | CONTINUATION, b"x")], 1002);
    fails("a text inside a text", &[frame(TEXT, b"x"), frame(FIN | TEXT, b"y")], 1002);
    fails("a close with a code of one byte", &[frame(FIN | CLOSE, b"x")], 1002);
    fails("a close with 1005", &[close(1005)], 1002);
    fails("a close with 999", &[close(999)], 1002);
    fails("a frame without a mask", &[vec![FIN | TEXT, 1, b'x']], 1002);
    fails("a text that is no UTF-8", &[frame(FIN | TEXT, b"\xff")], 1007);
    fails("a text with half a character", &[frame(FIN | TEXT, b"\xe2\x82")], 1007);
    fails("a text with a surrogate", &[frame(FIN | TEXT, b"\xed\xa0\x80")], 1007);
    // The same in pieces: a frame's edges are nobody's business on the way.
    let text = |n: usize| frame(FIN | TEXT, format!("message {n}").as_bytes());
    let sends = (0..20).flat_map(text).collect();
    let gets = (0..20).map(|n| (TEXT, format!("message {n}").into_bytes()));
    let gets = gets.chain([closed(1000)]).collect();
    let last = close(1000);
    cases.push(Case { name: "twenty texts, byte by byte", sends, last, piece: 1, gets });
    let (sends, last) = (frame(FIN | BINARY, &[7; 100_000]), close(1000));
    let gets = vec![(BINARY, vec![7; 100_000]), closed(1000)];
    cases.push(Case { name: "a message in odd pieces", sends, last, piece: 997, gets });
    cases
}

/// The names of the cases in their order.
pub fn names() -> Vec<&'static str> {
    cases().into_iter().map(|case| case.name).collect()
}

/// Runs them to `echo`, the way's `door`th origin.
///
/// # Errors
/// If nobody listens.
pub async fn run(echo: &Echo, way: &Way, door: usize) -> anyhow::Result<Vec<Verdict>> {
    let address = echo.address.to_string();
    let credentials = way.credentials.as_deref();
    let names = Names { origin: &address, credentials, id: "" };
    let upgrade = script::bytes(
        "GET ~/ HTTP/1.1¶Host: @¶Connection: Upgrade¶Upgrade: websocket¶\
         Sec-WebSocket-Version: 13¶Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==¶¶",
        &names,
    )?;
    let door = way.door(door);
    let asked = cases().into_iter().map(|case| {
        let upgrade = upgrade.clone();
        async move {
            let played = timeout(PATIENCE, play(door, &upgrade, &case)).await;
            let difference = played.unwrap_or_else(|_| Ok(Some("it does not end".to_owned())))?;
            anyhow::Ok(difference.map_or(Verdict::Same, Verdict::Differs))
        }
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

async fn play(door: SocketAddr, upgrade: &[u8], case: &Case) -> anyhow::Result<Option<String>> {
    let mut stream = TcpStream::connect(door).await?;
    stream.set_nodelay(true)?;
    stream.write_all(upgrade).await?;
    let (from, mut to) = stream.into_split();
    let mut wire = Wire::new(from);
    match wire.response().await {
        Ok(head) if head.status() == 101 => {}
        Ok(head) => return Ok(Some(head.first)),
        Err(fault) => return Ok(Some(fault.to_string())),
    }
    let mut got = Vec::new();
    let sending = async {
        for piece in case.sends.chunks(case.piece.min(case.sends.len()).max(1)) {
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    };
    let (_, ()) = tokio::join!(read(&mut wire, &mut got, case.gets.len() - 1), sending);
    // One who has closed already may not take it.
    let _ = to.write_all(&case.last).await;
    read(&mut wire, &mut got, usize::MAX).await;
    Ok(differs(&got, &case.gets))
}

/// The server's frames: so many, or up to the connection's end.
async fn read(wire: &mut Wire<OwnedReadHalf>, frames: &mut Vec<(u8, Vec<u8>)>, count: usize) {
    loop {
        while let Some((frame, length)) = parse(&wire.ahead) {
            wire.ahead.drain(..length);
            frames.push(frame);
        }
        if frames.len() >= count || wire.more().await.is_err() {
            return;
        }
    }
}

fn parse(bytes: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (head, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?)),
        length => (2, u64::from(length)),
    };
    let end = head + length as usize;
    Some(((first & 0x0f, bytes.get(head..end)?.to_vec()), end))
}

/// A close frame's reason is the server's own where it closes for an error.
fn differs(got: &[(u8, Vec<u8>)], gets: &[(u8, Vec<u8>)]) -> Option<String> {
    let is_same = got.len() == gets.len()
        && got.iter().zip(gets).all(|((opcode, payload), (expected, wanted))| match *opcode {
            CLOSE if wanted.len() == 2 => *expected == CLOSE && payload.starts_with(wanted),
            opcode => opcode == *expected && payload == wanted,
        });
    let told = || {
        let told = got.iter().map(|(opcode, payload)| match (*opcode, payload.first_chunk()) {
            (CLOSE, Some(code)) => format!("close {}", u16::from_be_bytes(*code)),
            (opcode, _) => format!("frame {opcode} of {} bytes", payload.len()),
        });
        told.take(4).collect::<Vec<_>>().join(", ")
    };
    (!is_same).then(|| if got.is_empty() { "nothing".to_owned() } else { told() })
}
