//! Opening over `std::io::Read`.

use std::fmt;
use std::io::{self, Read};

use bulla_sys::WipedVec;

use super::ChunkOpener;

/// Reads an envelope from another reader and gives its plaintext, in memory of two
/// chunks. Every byte that comes out is authenticated, and in its place.
///
/// Only when `read` has returned 0 is the plaintext complete: a stream that was cut off
/// ends in an error (an [`io::Error`] of kind `InvalidData` around an
/// [`OpenError`](crate::OpenError)), never in an ordinary end of data. After such an error
/// every later call fails. An error of the inner reader is passed on, and reading may go
/// on after it.
pub struct OpenReader<R> {
    opener: ChunkOpener,
    inner: R,
    /// The block that is being read, and how much of it is there.
    block: Vec<u8>,
    filled: usize,
    /// Plaintext that was opened and not given out yet, from `given` on.
    plaintext: WipedVec,
    given: usize,
}

impl<R: Read> OpenReader<R> {
    pub(crate) fn new(opener: ChunkOpener, inner: R) -> Self {
        Self {
            block: Vec::new(),
            filled: 0,
            plaintext: WipedVec::default(),
            given: 0,
            opener,
            inner,
        }
    }

    /// The inner reader.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads up to a whole block, or to the end.
    fn fill(&mut self) -> io::Result<()> {
        self.block.resize(self.opener.block_len(), 0);
        while self.filled < self.block.len() {
            match self.inner.read(&mut self.block[self.filled..]) {
                Ok(0) => break,
                Ok(len) => self.filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = &self.plaintext[self.given..];
            if !ready.is_empty() || buf.is_empty() {
                let len = ready.len().min(buf.len());
                buf[..len].copy_from_slice(&ready[..len]);
                self.given += len;
                return Ok(len);
            }
            if self.opener.is_ended() {
                self.plaintext.wipe();
                self.given = 0;
                return Ok(0);
            }
            self.opener.check_open()?;
            self.fill()?;
            let block = &self.block[..std::mem::take(&mut self.filled)];
            // A whole chunk is opened where the caller wants it.
            if buf.len() >= self.opener.chunk_len() {
                match self.opener.open_next(block, buf)? {
                    0 => continue,
                    len => return Ok(len),
                }
            }
            self.plaintext.resize(self.opener.chunk_len(), 0);
            let opened = self.opener.open_next(block, &mut self.plaintext);
            self.plaintext.truncate(opened.as_ref().copied().unwrap_or(0));
            self.given = 0;
            opened?;
        }
    }
}

impl<R> fmt::Debug for OpenReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenReader").field("opener", &self.opener).finish_non_exhaustive()
    }
}
