//! Streams over tokio's `AsyncRead` and `AsyncWrite`, in constant memory.
//!
//! A stream can be open for hours, and a key can be taken away in the meantime: before
//! every chunk its lease is asked whether the key still serves.

mod lease;
mod opening;
mod range;
mod sealing;

pub(crate) use lease::Lease;
pub use opening::OpenStream;
pub use range::RangeStream;
pub use sealing::SealStream;

use std::future::Future;
use std::io;
use std::ops::Range;

use bulla_core::{
    ChunkOpener, Codec, EnvelopeKey, Header, OpenError, RecordContext, StreamLayout, StreamOptions,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::scope::Named;
use crate::{Error, Scope};

impl Scope {
    /// Begins a stream: what is written to the returned [`SealStream`] goes to `writer`,
    /// sealed. For what is too long for [`seal`](Self::seal), or should not be in memory
    /// as a whole.
    ///
    /// **Call `shutdown` at the end** (of tokio's `AsyncWriteExt`): without it the
    /// envelope is cut off, and opening it fails.
    ///
    /// The stream counts as one record, and its bytes count, towards the budget of the
    /// DEK that it was begun under. It goes on under that DEK when the scope is rotated,
    /// until the seal lease ends that the process has now (the policy's `seal_lease`) or the
    /// DEK is too old; it fails once the key is revoked.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let kek = Arc::new(bulla_testkit::TestKms::new("example"));
    /// # let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
    /// # let manager = Manager::builder(Profile::Development, kek, store).start().await?;
    /// use bulla_core::{Codec, RecordContext, StreamOptions};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// let backups = manager.scope("t-9f2c", "backups")?;
    /// let object = RecordContext::new([("object", "2026-11-22.tar")])?;
    ///
    /// let mut envelope = Vec::new();
    /// let mut stream = backups.seal_stream(&mut envelope, &object, StreamOptions::default()).await?;
    /// stream.write_all(b"as much as you like").await?;
    /// stream.shutdown().await?;
    ///
    /// let mut plaintext = Vec::new();
    /// let mut stream = backups.open_stream(&envelope[..], &object, Codec::RAW).await?;
    /// stream.read_to_end(&mut plaintext).await?;
    /// assert_eq!(plaintext, b"as much as you like");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`seal`](Self::seal). Nothing has been written then.
    pub async fn seal_stream<W: AsyncWrite + Unpin>(
        &self,
        writer: W,
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<SealStream<W>, Error> {
        let sealer = self.seal_by(0, |keys| keys.chunk_sealer(context, options)).await?;
        let header = Header::parse(sealer.head()).map_err(OpenError::from)?;
        Ok(SealStream::new(sealer, Lease::to_seal(self, header.key_id), writer))
    }

    /// Begins to open the stream that is read from `reader`: the returned [`OpenStream`]
    /// gives its plaintext. The plaintext is complete when a read has returned nothing; a
    /// stream that was cut off ends in an error.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Io`] if the reader fails.
    pub async fn open_stream<R: AsyncRead + Unpin>(
        &self,
        mut reader: R,
        context: &RecordContext,
        codec: Codec,
    ) -> Result<OpenStream<R>, Error> {
        let mut head = Vec::with_capacity(EnvelopeKey::STREAM_HEAD_LEN);
        let len = EnvelopeKey::STREAM_HEAD_LEN as u64;
        (&mut reader).take(len).read_to_end(&mut head).await?;
        let (opener, named) = self.chunk_opener(&head, context, codec).await?;
        Ok(OpenStream::new(opener, Lease::to_open(self, named.key_id), reader))
    }

    /// Opens ranges of a stream whose envelope has `total_len` bytes and is fetched by
    /// `fetch`, for example by ranged GETs: exactly the bytes that it is asked for, counted
    /// from the start of the envelope.
    ///
    /// A range can be read from a stream whose tail is missing. Ask
    /// [`RangeStream::len`] if the stream has to be complete.
    ///
    /// ```no_run
    /// # async fn example(backups: bulla_manager::Scope) -> Result<(), bulla_manager::Error> {
    /// use std::{fs::File, os::unix::fs::FileExt, sync::Arc};
    /// use bulla_core::{Codec, RecordContext};
    ///
    /// let object = RecordContext::new([("object", "2026-11-22.tar")])?;
    /// let file = Arc::new(File::open("2026-11-22.tar.bulla")?);
    /// let total_len = file.metadata()?.len();
    /// let fetch = |range: std::ops::Range<u64>| {
    ///     let file = Arc::clone(&file);
    ///     async move {
    ///         let mut bytes = vec![0; (range.end - range.start) as usize];
    ///         file.read_exact_at(&mut bytes, range.start)?;    // a chunk: 64 KiB by default
    ///         Ok(bytes)
    ///     }
    /// };
    /// let mut ranges = backups.open_range(fetch, total_len, &object, Codec::RAW).await?;
    /// let part = ranges.read_range(1_000_000..1_004_096).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Io`] if `fetch` fails.
    pub async fn open_range<F, Fetched>(
        &self,
        mut fetch: F,
        total_len: u64,
        context: &RecordContext,
        codec: Codec,
    ) -> Result<RangeStream<F>, Error>
    where
        F: FnMut(Range<u64>) -> Fetched,
        Fetched: Future<Output = io::Result<Vec<u8>>>,
    {
        let head_len = total_len.min(EnvelopeKey::STREAM_HEAD_LEN as u64);
        let head = range::fetched(&mut fetch, 0..head_len).await?;
        let header = Header::parse(&head).map_err(OpenError::from)?;
        let layout = header.chunk_log2.map(|log2| {
            StreamLayout::new(Header::LEN as u64, log2, total_len).map_err(OpenError::from)
        });
        let layout = layout.transpose()?;
        let (opener, named) = self.chunk_opener(&head, context, codec).await?;
        // A header without chunk size is of a kind that `chunk_opener` has refused.
        let layout = layout.ok_or(OpenError::WrongKind(header.kind))?;
        Ok(RangeStream::new(opener, layout, Lease::to_open(self, named.key_id), fetch))
    }

    async fn chunk_opener(
        &self,
        head: &[u8],
        context: &RecordContext,
        codec: Codec,
    ) -> Result<(ChunkOpener, Named), Error> {
        let accepted = self.inner().key_options.accepted;
        let header = EnvelopeKey::stream_header_of(head, codec, accepted)?;
        let named = Named { key_id: header.key_id, suite: header.suite };
        let (opener, _) =
            self.open_by(named, |keys| keys.chunk_opener(head, context, codec)).await?;
        Ok((opener, named))
    }
}
