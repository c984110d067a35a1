//! Sealing over `AsyncWrite`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bulla_core::{ChunkOpener, ChunkSealer, SealError};
use bulla_sys::WipedVec;
use tokio::io::AsyncWrite;

use super::Lease;

/// Writes what is written to it, sealed, to another writer, in memory of two chunks;
/// see [`Scope::seal_stream`](crate::Scope::seal_stream).
///
/// A write that is cancelled has taken nothing. `flush` cannot write a chunk that is not
/// full; `shutdown` seals what is left as the last chunk, flushes and shuts the inner
/// writer down. After an error the stream has failed and every later call fails.
pub struct SealStream<W> {
    sealer: ChunkSealer,
    lease: Lease,
    inner: W,
    /// The plaintext of a chunk that is not full yet.
    plaintext: WipedVec,
    /// Sealed bytes on their way out, from `written` on.
    block: Vec<u8>,
    written: usize,
    failed: bool,
}

impl<W: AsyncWrite + Unpin> SealStream<W> {
    pub(crate) fn new(sealer: ChunkSealer, lease: Lease, inner: W) -> Self {
        let mut block = Vec::with_capacity(sealer.chunk_len() + ChunkOpener::TAG_LEN);
        block.extend_from_slice(sealer.head());
        Self {
            plaintext: WipedVec::from(Vec::with_capacity(sealer.chunk_len())),
            sealer,
            lease,
            inner,
            block,
            written: 0,
            failed: false,
        }
    }

    /// Plaintext taken so far, in bytes.
    pub fn plaintext_len(&self) -> u64 {
        self.sealer.plaintext_len() + self.plaintext.len() as u64
    }

    /// The inner writer; after `shutdown` it has the whole envelope.
    pub fn into_inner(self) -> W {
        self.inner
    }

    /// Writes out what was sealed.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.block.len() {
            let rest = &self.block[self.written..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.written += len,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Makes room for a sealed chunk of `len` bytes, once the last one is out and the next
    /// one is allowed: it has to be sealed then.
    fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<()>> {
        ready!(self.poll_block(cx))?;
        ready!(self.lease.poll_allows(cx, len))?;
        self.block.resize(len + ChunkOpener::TAG_LEN, 0);
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Seals the plaintext at hand as the next chunk.
    fn poll_seal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx, self.plaintext.len()))?;
        self.sealer.seal_next(&self.plaintext, &mut self.block)?;
        self.plaintext.clear();
        Poll::Ready(Ok(()))
    }

    /// Seals the plaintext at hand if it fills a chunk.
    fn poll_full(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.plaintext.len() == self.sealer.chunk_len() {
            true => self.poll_seal(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Takes bytes, sealing first if there is no room.
    fn poll_take(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_full(cx))?;
        let chunk_len = self.sealer.chunk_len();
        // A full chunk that the caller brings is sealed from where it is.
        if self.plaintext.is_empty()
            && let Some((chunk, _)) = buf.split_at_checked(chunk_len)
        {
            ready!(self.poll_room(cx, chunk_len))?;
            self.sealer.seal_next(chunk, &mut self.block)?;
            return Poll::Ready(Ok(chunk_len));
        }
        let (taken, _) = buf.split_at(buf.len().min(chunk_len - self.plaintext.len()));
        self.plaintext.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_full(cx))?;
        if !self.sealer.is_ended() {
            ready!(self.poll_seal(cx))?;
        }
        ready!(self.poll_block(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    /// A step that failed half-way cannot be repeated.
    fn unless_failed<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed {
            return Poll::Ready(Err(SealError::StreamEnded.into()));
        }
        // Also one that panics.
        self.failed = true;
        let result = step(self);
        self.failed = matches!(result, Poll::Ready(Err(_)));
        result
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for SealStream<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_failed(|this| match this.sealer.is_ended() {
            true => Poll::Ready(Err(SealError::StreamEnded.into())),
            false => this.poll_take(cx, buf),
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_failed(|this| {
            ready!(this.poll_full(cx))?;
            ready!(this.poll_block(cx))?;
            Pin::new(&mut this.inner).poll_flush(cx)
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_failed(|this| this.poll_end(cx))
    }
}

impl<W> fmt::Debug for SealStream<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealStream").field("sealer", &self.sealer).finish_non_exhaustive()
    }
}
