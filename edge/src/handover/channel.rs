//! The conversation of two edges of one machine: JSON lines over a Unix socket, and files beside them.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::geteuid,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::{Listeners, Listening};
use crate::lines::Lines;

/// Most files that go with one message: Linux takes 253.
const FILES: usize = 128;
/// Longest message, in bytes.
const LONGEST: usize = 4 * 1024;

#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    lines: Lines,
    files: VecDeque<OwnedFd>,
}

impl Channel {
    /// To whoever listens there.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(UnixStream::connect(path).await?)
    }

    /// # Errors
    /// When the other end is not this user's. The directory keeps others out already.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        if stream.peer_cred()?.uid() != geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Self { stream, lines: Lines::new(LONGEST), files: VecDeque::new() })
    }

    pub(super) async fn send(
        &self,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.send_sockets(files).await?;
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.send_bytes(&line, &[]).await
    }

    /// Sends files alone, with an empty line.
    pub(super) async fn send_sockets(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        for files in files.chunks(FILES) {
            self.send_bytes(b"\n", files).await?;
        }
        Ok(())
    }

    async fn send_bytes(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            let files = if sent == 0 { files } else { &[] };
            let send = || {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
                let mut beside = SendAncillaryBuffer::new(&mut space);
                if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                let bytes = [IoSlice::new(&bytes[sent..])];
                let flags = SendFlags::NOSIGNAL;
                Ok(sendmsg(self.stream.as_fd(), &bytes, &mut beside, flags)?)
            };
            sent += self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// The next message.
    pub(super) async fn receive<M: DeserializeOwned>(&mut self) -> io::Result<M> {
        loop {
            while let Some(line) = self.lines.next().map_err(io::Error::other)? {
                if !line.is_empty() {
                    return Ok(serde_json::from_slice(&line)?);
                }
            }
            self.read().await?;
        }
    }

    /// The next sockets, if any are announced.
    pub(super) async fn sockets(
        &mut self,
        announced: Option<Listening>,
    ) -> io::Result<Option<Listeners>> {
        let Some(Listening { address, sockets }) = announced else { return Ok(None) };
        Ok(Some(Listeners { address, sockets: self.sockets_of(sockets).await? }))
    }

    /// The next so many files.
    pub(super) async fn sockets_of(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        while self.files.len() < count {
            self.read().await?;
        }
        Ok(self.files.drain(..count).collect())
    }

    /// Resolves when the other end is gone.
    pub(super) async fn ended(&mut self) {
        while self.read().await.is_ok() {
            while let Ok(Some(_)) = self.lines.next() {}
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let (stream, found) = (&self.stream, &mut self.files);
        let mut bytes = [0; LONGEST];
        let read = || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let mut room = [IoSliceMut::new(&mut bytes)];
            let read = recvmsg(stream.as_fd(), &mut room, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(files) = message {
                    found.extend(files);
                }
            }
            Ok(read.bytes)
        };
        match stream.async_io(Interest::READABLE, read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => self.lines.push(&bytes[..length]).map_err(io::Error::other),
        }
    }
}
