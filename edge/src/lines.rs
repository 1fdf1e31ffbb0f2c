//! Cuts a stream of bytes into lines, none longer than a bound.

use bytes::{Bytes, BytesMut};

/// Bytes that have arrived and are not yet a line.
#[derive(Debug)]
pub(crate) struct Lines {
    buffer: BytesMut,
    searched: usize,
    longest: usize,
}

/// A line has more bytes than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {0} bytes")]
pub(crate) struct TooLong(usize);

impl Lines {
    /// Lines of at most `longest` bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, longest }
    }

    /// Takes what has arrived.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), TooLong> {
        if self.buffer.len() + data.len() > self.longest.saturating_mul(2) {
            return Err(TooLong(self.longest));
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let length = found.map_or(self.buffer.len(), |at| self.searched + at);
        if length > self.longest {
            return Err(TooLong(self.longest));
        }
        if found.is_none() {
            self.searched = length;
            return Ok(None);
        }
        self.searched = 0;
        let mut line = self.buffer.split_to(length + 1);
        line.truncate(length);
        Ok(Some(line.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Bytes> {
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_arrive(text in "[a-c\n]{0,60}", cut in 0usize..60) {
            let (head, tail) = text.as_bytes().split_at(cut.min(text.len()));
            let mut lines = Lines::new(60);
            lines.push(head).unwrap();
            let mut found = all(&mut lines);
            lines.push(tail).unwrap();
            found.extend(all(&mut lines));
            let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
            let expected: Vec<&str> = whole.lines().collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let mut lines = Lines::new(4);
        lines.push(b"abcd").unwrap();
        assert_eq!(lines.next(), Ok(None));
        lines.push(b"e").unwrap();
        assert_eq!(lines.next(), Err(TooLong(4)));
        assert_eq!(Lines::new(4).push(b"abcdefghi"), Err(TooLong(4)));
    }
}
