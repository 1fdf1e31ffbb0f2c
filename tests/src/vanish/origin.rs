//! An origin that does what the request's path says: `/SHAPE/LENGTH/MS/WAY`. It speaks as much HTTP as
//! it must, on bare sockets, so that it can vanish as it likes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{Plan, Shape, Way};
use crate::network::{Inside, Task};

/// What is sent again and again.
const PIECE: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// Events of a stream.
const EVENTS: usize = 10;
/// Between two of them.
const PACE: Duration = Duration::from_millis(10);

/// The origin; gone when dropped.
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    busy: Arc<AtomicUsize>,
    hang_up: watch::Sender<u64>,
    _serving: Task,
}

/// Counts an exchange while it lasts.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Origin {
    /// Starts one on a loopback address inside.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(inside: &Inside) -> anyhow::Result<Self> {
        let listener = inside.spawn(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).await??;
        let address = listener.local_addr()?;
        let (busy, hang_up) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let serving = inside.keep(serve(listener, busy.clone(), hang_up.subscribe()));
        Ok(Self { address, busy, hang_up, _serving: serving })
    }

    /// Exchanges that are under way, as far as the origin looks.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    /// Closes all connections that wait for a request, and those that it looks away from.
    pub fn hang_up(&self) {
        self.hang_up.send_modify(|times| *times += 1);
    }
}

async fn serve(listener: TcpListener, busy: Arc<AtomicUsize>, hang_up: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (busy, mut hang_up) = (busy.clone(), hang_up.clone());
        hang_up.mark_unchanged();
        connections.spawn(async move {
            // Whatever ends it, ends this connection alone.
            let _ = converse(stream, &busy, &mut hang_up).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(
    stream: TcpStream,
    busy: &Arc<AtomicUsize>,
    hang_up: &mut watch::Receiver<u64>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let head = tokio::select! {
            head = head(&mut stream) => head?,
            _ = hang_up.changed() => return Ok(()),
        };
        busy.fetch_add(1, Ordering::SeqCst);
        let busy_here = Busy(busy.clone());
        let (shape, length, end) = asked(&head).with_context(|| head.clone())?;
        let answering = answer(&mut stream, shape, length, &head);
        let Some((after, way)) = end else {
            answering.await?;
            continue;
        };
        if let Ok(answered) = timeout(after, answering).await {
            answered?;
            continue;
        }
        match way {
            Way::Close => {}
            Way::Reset => stream.get_ref().set_zero_linger()?,
            Way::Stall => {
                // It notices nothing, not even that the other end has left; so it is not counted.
                drop(busy_here);
                let _ = hang_up.changed().await;
            }
        }
        return Ok(());
    }
}

async fn head(stream: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            bail!("the connection ended");
        }
    }
    Ok(head)
}

/// The path of a plan.
pub(super) fn path(plan: &Plan) -> String {
    let shape = match plan.shape {
        Shape::Get => "get",
        Shape::Post => "post",
        Shape::Upload => "upload",
        Shape::Download => "download",
        Shape::Connect | Shape::Upgrade => "echo",
        Shape::Events => "events",
    };
    let (ms, way) = match plan.origin {
        None => (0, "stays"),
        Some((after, Way::Close)) => (after.as_millis(), "close"),
        Some((after, Way::Reset)) => (after.as_millis(), "reset"),
        Some((after, Way::Stall)) => (after.as_millis(), "stall"),
    };
    format!("/{shape}/{}/{ms}/{way}", plan.length)
}

fn asked(head: &str) -> anyhow::Result<(&str, u64, Option<super::End>)> {
    let path = head.split(' ').nth(1).context("no path")?;
    let parts: Vec<&str> = path.split('/').collect();
    let [_, shape, length, ms, way] = parts[..] else { bail!("another path") };
    let after = Duration::from_millis(ms.parse()?);
    let end = match way {
        "close" => Some((after, Way::Close)),
        "reset" => Some((after, Way::Reset)),
        "stall" => Some((after, Way::Stall)),
        _ => None,
    };
    Ok((shape, length.parse()?, end))
}

async fn answer(
    stream: &mut BufReader<TcpStream>,
    shape: &str,
    length: u64,
    head: &str,
) -> anyhow::Result<()> {
    match shape {
        "get" => whole(stream, b"hello\n").await,
        "post" | "upload" => {
            let lower = head.to_ascii_lowercase();
            let field = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
            let mut left: u64 = field.context("no length")?.trim().parse()?;
            let mut piece = PIECE;
            while left > 0 {
                let most = left.min(piece.len() as u64) as usize;
                let read = stream.read(&mut piece[..most]).await?;
                if read == 0 {
                    bail!("the body broke off");
                }
                left -= read as u64;
            }
            whole(stream, b"thanks\n").await
        }
        "download" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut left = length;
            while left > 0 {
                let piece = left.min(PIECE.len() as u64) as usize;
                stream.write_all(&PIECE[..piece]).await?;
                left -= piece as u64;
            }
            Ok(())
        }
        "events" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..EVENTS {
                stream.write_all(b"9\r\ndata: x\n\n\r\n").await?;
                tokio::time::sleep(PACE).await;
            }
            Ok(stream.write_all(b"0\r\n\r\n").await?)
        }
        "echo" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                        Upgrade: echo\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            let mut piece = PIECE;
            loop {
                let read = stream.read(&mut piece).await?;
                if read == 0 {
                    stream.shutdown().await?;
                    bail!("the client has said everything");
                }
                stream.write_all(&piece[..read]).await?;
            }
        }
        _ => bail!("no such shape"),
    }
}

async fn whole(stream: &mut BufReader<TcpStream>, body: &[u8]) -> anyhow::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    Ok(())
}
