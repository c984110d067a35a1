//! Sealing over `std::io::Write`.

use std::fmt;
use std::io::{self, Write};

use bulla_sys::WipedVec;

use super::ChunkSealer;
use crate::aead::TAG_LEN;

/// Writes what is written to it, sealed, to another writer: the plaintext of a stream
/// goes in, its envelope comes out, in memory of two chunks.
///
/// **Call [`finish`](Self::finish)**: without it the envelope is cut off, and opening it
/// fails. `flush` cannot write a chunk that is not full; it flushes what was written.
/// After an error the stream has failed and every later call fails.
///
/// ```
/// use std::io::{Read, Write};
/// use bulla_core::{
///     Codec, DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext,
///     StreamOptions,
/// };
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "backups")])?;
/// let dek = DataKey::generate()?;
/// let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default())?;
/// let context = RecordContext::new([("object", "2026-11-22.tar")])?;
///
/// let mut writer = key.seal_writer(Vec::new(), &context, StreamOptions::default())?;
/// writer.write_all(b"as much as you like")?;
/// let envelope = writer.finish()?;
///
/// let mut plaintext = Vec::new();
/// key.open_reader(&envelope[..], &context, Codec::RAW)?.read_to_end(&mut plaintext)?;
/// assert_eq!(plaintext, b"as much as you like");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SealWriter<W> {
    sealer: ChunkSealer,
    inner: W,
    /// The plaintext of a chunk that is not full yet.
    plaintext: WipedVec,
    /// Room for a sealed chunk.
    block: Vec<u8>,
    head_written: bool,
    failed: bool,
}

impl<W: Write> SealWriter<W> {
    pub(crate) fn new(sealer: ChunkSealer, inner: W) -> Self {
        let chunk_len = sealer.chunk_len();
        Self {
            sealer,
            inner,
            plaintext: WipedVec::from(Vec::with_capacity(chunk_len)),
            block: vec![0; chunk_len + TAG_LEN],
            head_written: false,
            failed: false,
        }
    }

    /// Seals what is left as the last chunk, flushes, and returns the inner writer.
    ///
    /// # Errors
    /// What the inner writer failed with, or a [`SealError`](crate::SealError) inside an
    /// [`io::Error`]. The envelope is then cut off.
    pub fn finish(mut self) -> io::Result<W> {
        self.unless_failed(|this| {
            this.write_head()?;
            let len = this.sealer.seal_next(&this.plaintext, &mut this.block)?;
            this.inner.write_all(&this.block[..len])?;
            this.inner.flush()
        })?;
        Ok(self.inner)
    }

    /// Plaintext taken so far, in bytes.
    pub fn plaintext_len(&self) -> u64 {
        self.sealer.plaintext_len() + self.plaintext.len() as u64
    }

    fn write_head(&mut self) -> io::Result<()> {
        if !self.head_written {
            self.inner.write_all(self.sealer.head())?;
            self.head_written = true;
        }
        Ok(())
    }

    /// A step that failed half-way cannot be repeated.
    fn unless_failed<T>(&mut self, step: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        if self.failed {
            return Err(crate::SealError::StreamEnded.into());
        }
        // Also one that panics.
        self.failed = true;
        let result = step(self);
        self.failed = result.is_err();
        result
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.unless_failed(|this| {
            this.write_head()?;
            let chunk_len = this.sealer.chunk_len();
            // A full chunk that the caller brings is sealed from where it is.
            if this.plaintext.is_empty()
                && let Some((chunk, _)) = buf.split_at_checked(chunk_len)
            {
                let len = this.sealer.seal_next(chunk, &mut this.block)?;
                this.inner.write_all(&this.block[..len])?;
                return Ok(chunk_len);
            }
            let (taken, _) = buf.split_at(buf.len().min(chunk_len - this.plaintext.len()));
            this.plaintext.extend_from_slice(taken);
            if this.plaintext.len() == chunk_len {
                let len = this.sealer.seal_next(&this.plaintext, &mut this.block)?;
                this.plaintext.clear();
                this.inner.write_all(&this.block[..len])?;
            }
            Ok(taken.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_failed(|this| this.inner.flush())
    }
}

impl<W> fmt::Debug for SealWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealWriter").field("sealer", &self.sealer).finish_non_exhaustive()
    }
}
