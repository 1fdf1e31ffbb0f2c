//! Holds small writes back until the connection has nothing more to say, so that they leave in one TLS
//! record and one packet. An HTTP/2 connection flushes after every frame that carries data: with many
//! small answers, that would be a system call for each.
//!
//! A flush of held bytes only wakes the task. When it runs again, those that were ready before it have
//! had their turn, and maybe something to send as well; the first thing that an HTTP/2 connection does
//! then is to read, and with that all leaves. Large writes are not held, and take along what is.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that is held, in bytes: what one TLS record takes.
const HELD: usize = 16 * 1024;
/// Pieces of one write that are handed on together.
const PIECES: usize = 8;

pub(crate) struct Corked<S: AsyncWrite + Unpin> {
    inner: S,
    /// Not there while nothing is held: most links are idle.
    held: Vec<u8>,
    /// How much of it has left.
    left: usize,
    is_woken: bool,
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, held: Vec::new(), left: 0, is_woken: false }
    }

    /// Hands on what is held, and with it as much of `pieces` as is taken; tells how much that was.
    fn poll_release(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // TLS would encrypt ahead, and all of it would be ahead of what is said later.
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        loop {
            let held = &self.held[self.left..];
            if held.is_empty() && pieces.is_empty() {
                break;
            }
            let mut together = [IoSlice::new(&[]); PIECES];
            together[0] = IoSlice::new(held);
            let count = pieces.len().min(PIECES - 1);
            together[1..=count].copy_from_slice(&pieces[..count]);
            let inner = Pin::new(&mut self.inner);
            let written = ready!(inner.poll_write_vectored(cx, &together[..=count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let Some(of_pieces) = written.checked_sub(held.len()) else {
                self.left += written;
                continue;
            };
            self.held = Vec::new();
            self.left = 0;
            self.is_woken = false;
            if of_pieces > 0 {
                return Poll::Ready(Ok(of_pieces));
            }
        }
        Poll::Ready(Ok(0))
    }

    fn poll_uncork(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

/// What was flushed leaves even if the connection is dropped before it runs again.
impl<S: AsyncWrite + Unpin> Drop for Corked<S> {
    fn drop(&mut self) {
        if self.is_woken {
            // There is nobody left to wait for it.
            let _ = self.poll_uncork(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let uncorked = if self.is_woken { self.poll_uncork(cx) } else { Poll::Pending };
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        // What the peer said before it went away is heard first.
        match (&read, uncorked) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            _ => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.held.len() + length > HELD {
            let taken = ready!(self.poll_release(cx, pieces))?;
            return Poll::Ready(Ok(taken));
        }
        if self.held.capacity() == 0 {
            self.held.reserve_exact(HELD);
        }
        pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        if !self.is_woken {
            self.is_woken = true;
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_uncork(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        future::poll_fn,
        sync::{
            Arc, Mutex, MutexGuard,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Keeps what each write brought; takes as much at a time as it is told, 0 meaning not now.
    #[derive(Default)]
    struct Wire {
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
        room: VecDeque<usize>,
    }

    impl Wire {
        fn writes(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
            self.writes.lock().unwrap()
        }
    }

    impl AsyncRead for Wire {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let room = self.room.pop_front().unwrap_or(usize::MAX);
            if room == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = bytes.len().min(room);
            self.writes().push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let together: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            self.poll_write(cx, &together)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_writes_leave_together_once_the_connection_reads_again() {
        let mut corked = Corked::new(Wire::default());
        for piece in [b"ab", b"cd", b"ef"] {
            corked.write_all(piece).await.unwrap();
            corked.flush().await.unwrap();
        }
        assert!(corked.inner.writes().is_empty());
        assert_eq!(corked.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(*corked.inner.writes(), [b"abcdef"]);
        assert_eq!(corked.held.capacity(), 0, "nothing is kept for an idle link");
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_batch_wakes_the_task_once() {
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let cx = &mut Context::from_waker(&waker);
        let mut corked = Corked::new(Wire::default());
        for batch in 1..=3 {
            for _ in 0..4 {
                assert!(Pin::new(&mut corked).poll_write(cx, b"small").is_ready());
                assert!(Pin::new(&mut corked).poll_flush(cx).is_ready());
            }
            assert_eq!(woken.0.load(Ordering::Relaxed), batch);
            assert!(Pin::new(&mut corked).poll_read(cx, &mut ReadBuf::new(&mut [0])).is_ready());
            assert_eq!(corked.inner.writes().len(), batch);
        }
    }

    #[test]
    fn what_was_flushed_leaves_when_the_connection_is_dropped() {
        let writes = Arc::default();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut corked = Corked::new(Wire { writes: Arc::clone(&writes), ..Wire::default() });
        assert!(Pin::new(&mut corked).poll_write(cx, b"last words").is_ready());
        assert!(Pin::new(&mut corked).poll_flush(cx).is_ready());
        drop(corked);
        assert_eq!(*writes.lock().unwrap(), [b"last words"]);
    }

    #[tokio::test]
    async fn a_large_write_takes_along_what_is_held() {
        let mut corked = Corked::new(Wire::default());
        corked.write_all(b"head").await.unwrap();
        let body = vec![b'x'; HELD];
        let pieces = [IoSlice::new(&body[..10]), IoSlice::new(&body[10..])];
        let taken = poll_fn(|cx| Pin::new(&mut corked).poll_write_vectored(cx, &pieces)).await;
        assert_eq!(taken.unwrap(), HELD);
        assert_eq!(*corked.inner.writes(), [[b"head".as_slice(), &body].concat()]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(Vec<usize>),
        Flush,
        Read,
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![0usize..100, 0usize..2 * HELD];
        prop_oneof![
            3 => proptest::collection::vec(size, 1..12).prop_map(Step::Write),
            2 => Just(Step::Flush),
            1 => Just(Step::Read),
        ]
    }

    proptest! {
        #[test]
        fn every_byte_leaves_once_and_in_order(
            steps in proptest::collection::vec(step(), 0..20),
            room in proptest::collection::vec(0usize..20_000, 0..40),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut corked = Corked::new(Wire { room: room.into(), ..Wire::default() });
                let mut sent = Vec::new();
                for step in steps {
                    match step {
                        Step::Flush => corked.flush().await.unwrap(),
                        Step::Read => {
                            assert_eq!(corked.read(&mut [0]).await.unwrap(), 0);
                        }
                        Step::Write(sizes) => {
                            let pieces = sizes.iter().enumerate();
                            let pieces: Vec<_> =
                                pieces.map(|(n, size)| vec![(sent.len() + n) as u8; *size]).collect();
                            let slices: Vec<_> = pieces.iter().map(|p| IoSlice::new(p)).collect();
                            let taken =
                                poll_fn(|cx| Pin::new(&mut corked).poll_write_vectored(cx, &slices));
                            let taken = taken.await.unwrap();
                            sent.extend(pieces.concat().into_iter().take(taken));
                        }
                    }
                    prop_assert!(corked.held.len() <= HELD);
                }
                corked.shutdown().await.unwrap();
                prop_assert_eq!(corked.inner.writes().concat(), sent);
                Ok(())
            })?;
        }
    }
}
