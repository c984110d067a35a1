//! Self-contained envelopes: no key store, any of some KEKs opens them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{Kek, KekId, KekVersion, ScopeId, UnwrapRequest, WrapRequest, WrappedKey};
use bulla_core::{
    ChunkOpener, Codec, DataKey, Envelope, EnvelopeKey, Head, HeaderError, KeyOptions, Kind,
    OpenError, RecordContext, SingleUseKey, StreamOptions, UnwrappedKey, Wrap, Wraps,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::inner::in_time;
use crate::stream::{Lease, OpenStream, SealStream};
use crate::{Error, SystemClock};

/// The KEKs that self-contained envelopes are sealed for, and that open them: any one of
/// them is enough. For files, exports and messages that leave the reach of the key store;
/// records of an application are better off under a [`Scope`](crate::Scope), which costs
/// no KMS call per record.
///
/// Every envelope has a DEK of its own, made here and used once. Sealing costs two KMS
/// calls for each KEK (wrap, and unwrap to verify), opening one.
///
/// Whoever may use one of the KEKs can make such an envelope: that it opens does not prove
/// where it comes from. Removing a KEK takes back nothing that it has opened before.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use bulla_backend::ScopeId;
/// use bulla_core::RecordContext;
/// use bulla_manager::Recipients;
/// use bulla_testkit::TestKms;
///
/// let (ours, partner) = (Arc::new(TestKms::new("ours")), Arc::new(TestKms::new("partner")));
/// let scope = ScopeId::new("t-9f2c", "exports")?;
/// let file = RecordContext::new([("file", "2026-11.csv")])?;
///
/// let envelope = Recipients::new([ours.clone(), partner.clone()])
///     .seal(&scope, b"report", &file)
///     .await?;
/// let opened = Recipients::new([partner]).open(&scope, &envelope, &file).await?;
/// assert_eq!(opened, b"report");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recipients {
    keks: Vec<Arc<dyn Kek>>,
    options: KeyOptions,
    timeout: Duration,
}

impl Recipients {
    /// Envelopes for each of `keks`, which come from different keys: one to eight.
    pub fn new<K: Kek>(keks: impl IntoIterator<Item = Arc<K>>) -> Self {
        Self::of(keks.into_iter().map(|kek| kek as Arc<dyn Kek>))
    }

    /// [`new`](Self::new) for KEKs of several kinds.
    pub fn of(keks: impl IntoIterator<Item = Arc<dyn Kek>>) -> Self {
        let timeout = Duration::from_secs(10);
        Self { keks: keks.into_iter().collect(), options: KeyOptions::default(), timeout }
    }

    /// Suites and AEAD library other than the default ones.
    pub fn key_options(mut self, options: KeyOptions) -> Self {
        self.options = options;
        // What is sealed here can be opened and rewrapped here.
        self.options.accepted = options.opens();
        self
    }

    /// How long to wait for each KMS call; 10 seconds unless told otherwise.
    pub fn kms_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Seals `plaintext` (at most 2^30 bytes) into an envelope of its own.
    ///
    /// # Errors
    /// [`Error::Seal`]; [`Error::Kms`] if a KEK cannot wrap; [`Error::WrapNotVerified`];
    /// [`Error::Wraps`] for no KEK, more than eight or the same one twice.
    pub async fn seal(
        &self,
        scope: &ScopeId,
        plaintext: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, Error> {
        EnvelopeKey::sealed_len(plaintext.len())?;
        let (key, wraps) = self.new_key(scope).await?;
        Ok(key.seal(&wraps, Codec::RAW, plaintext, context)?)
    }

    /// Begins a stream in an envelope of its own: what is written to what this returns
    /// goes to `writer`, sealed. Call `shutdown` at the end.
    ///
    /// # Errors
    /// As [`seal`](Self::seal). Nothing has been written then.
    pub async fn seal_stream<W: AsyncWrite + Unpin>(
        &self,
        scope: &ScopeId,
        writer: W,
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<SealStream<W>, Error> {
        options.check()?;
        let (key, wraps) = self.new_key(scope).await?;
        let sealer = key.chunk_sealer(&wraps, context, options)?;
        Ok(SealStream::new(sealer, Lease::unlimited(), writer))
    }

    /// Opens a one-shot envelope of raw bytes.
    ///
    /// # Errors
    /// [`Error::Open`] for what is wrong with envelope or context;
    /// [`Error::NoUsableWrap`] if none of these KEKs has wrapped its key; [`Error::Kms`]
    /// if those that have cannot unwrap it, of kind `Tampered` if the scope is another.
    pub async fn open(
        &self,
        scope: &ScopeId,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, Error> {
        let envelope = Envelope::parse(envelope).map_err(OpenError::from)?;
        let kind = Kind::SelfContainedOneShot;
        let key = self.unwrap(scope, envelope.head(), kind, Codec::RAW).await?;
        Ok(key.open(envelope.payload(), context)?)
    }

    /// Begins to open the stream that is read from `reader`.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Io`] if the reader fails.
    pub async fn open_stream<R: AsyncRead + Unpin>(
        &self,
        scope: &ScopeId,
        mut reader: R,
        context: &RecordContext,
        codec: Codec,
    ) -> Result<OpenStream<R>, Error> {
        let head = read_head(&mut reader).await?;
        head.accept(Kind::SelfContainedChunked, codec, self.options.accepted)?;
        let commitment = read_up_to(&mut reader, ChunkOpener::COMMITMENT_LEN).await?;
        if commitment.len() < ChunkOpener::COMMITMENT_LEN {
            let (len, min) = (commitment.len(), ChunkOpener::COMMITMENT_LEN);
            return Err(OpenError::from(HeaderError::PayloadTooShort { len, min }).into());
        }
        let key = self.unwrap(scope, &head, Kind::SelfContainedChunked, codec).await?;
        let opener = key.chunk_opener(&commitment, context)?;
        Ok(OpenStream::new(opener, Lease::unlimited(), reader))
    }

    /// The bytes to put in place of `head`, after which exactly `recipients` can open the
    /// envelope. `head` is everything in front of the payload
    /// ([`Head::len_of`](bulla_core::Head::len_of) bytes; what follows is passed over);
    /// the payload stays as it is. For an envelope in memory:
    ///
    /// ```
    /// # use bulla_manager::{Error, Recipients};
    /// # async fn example(
    /// #     ours: Recipients, theirs: Recipients, scope: bulla_backend::ScopeId,
    /// #     mut envelope: Vec<u8>,
    /// # ) -> Result<(), Error> {
    /// let head = ours.rewrap(&scope, &envelope, &theirs).await?;
    /// let old_len = bulla_core::Head::len_of(&envelope).map_err(bulla_core::OpenError::from)?;
    /// envelope.splice(..old_len, head);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`open`](Self::open) for the present wraps, as [`seal`](Self::seal) for the new
    /// ones.
    pub async fn rewrap(
        &self,
        scope: &ScopeId,
        head: &[u8],
        recipients: &Self,
    ) -> Result<Vec<u8>, Error> {
        self.replace(scope, head, |_| false, recipients).await
    }

    /// [`rewrap`](Self::rewrap), but for those who can open the envelope now and
    /// `recipients` as well. Older wraps by one of `recipients` are replaced.
    ///
    /// # Errors
    /// As [`rewrap`](Self::rewrap).
    pub async fn add(
        &self,
        scope: &ScopeId,
        head: &[u8],
        recipients: &Self,
    ) -> Result<Vec<u8>, Error> {
        self.replace(scope, head, |wrap| recipients.kek_of(wrap).is_none(), recipients).await
    }

    /// [`rewrap`](Self::rewrap), but for those who can open the envelope now without
    /// `kek`. What `kek` has opened or kept before stays open to it.
    ///
    /// # Errors
    /// As [`rewrap`](Self::rewrap); [`Error::NotARecipient`] if `kek` has no wrap there;
    /// [`Error::Wraps`] if nobody would be left.
    pub async fn remove(
        &self,
        scope: &ScopeId,
        head: &[u8],
        kek: &KekId,
    ) -> Result<Vec<u8>, Error> {
        let present = Head::parse(head).map_err(OpenError::from)?;
        if !present.wraps().is_some_and(|w| w.entries().iter().any(|wrap| is_by(wrap, kek))) {
            return Err(Error::NotARecipient(kek.clone()));
        }
        let keep = |wrap: &Wrap| !is_by(wrap, kek);
        self.replace(scope, head, keep, &Self::of([])).await
    }

    /// New wraps: those of the present ones that `keep` wants, and one by each of `added`.
    async fn replace(
        &self,
        scope: &ScopeId,
        head: &[u8],
        keep: impl Fn(&Wrap) -> bool,
        added: &Self,
    ) -> Result<Vec<u8>, Error> {
        let head = Head::parse(head).map_err(OpenError::from)?;
        let header = head.header();
        let present = head.wraps().ok_or(OpenError::WrongKind(header.kind))?;
        let key = self.unwrap(scope, &head, header.kind, header.codec).await?;
        let mut entries: Vec<_> =
            present.entries().iter().filter(|wrap| keep(wrap)).cloned().collect();
        entries.extend(added.wrap(scope, key.data_key()).await?);
        Ok(key.rewrap(&present.replaced_by(entries)?)?)
    }

    async fn new_key(&self, scope: &ScopeId) -> Result<(SingleUseKey, Wraps), Error> {
        // What needs no KMS call to be refused is refused without one.
        Wraps::new(self.keks.iter().map(|kek| wrap_by(kek.kek(), b"", vec![0])))?;
        let key = SingleUseKey::generate(scope.context(), self.options)?;
        let wraps = Wraps::new(self.wrap(scope, key.data_key()).await?)?;
        Ok((key, wraps))
    }

    /// Wraps of `dek` by every KEK, each unwrapped again before it is relied on.
    async fn wrap(&self, scope: &ScopeId, dek: &DataKey) -> Result<Vec<Wrap>, Error> {
        let context = scope.context().single_use_kms_context();
        let mut wraps = Vec::with_capacity(self.keks.len());
        for kek in &self.keks {
            let request = WrapRequest::new(dek, &context);
            let wrapped = self.in_time(async { Ok(kek.wrap_key(request).await?) }).await?;
            let request = UnwrapRequest::new(&wrapped, &context);
            let unwrapped = self.in_time(async { Ok(kek.unwrap_key(request).await?) }).await?;
            if unwrapped.data_key != *dek || wrapped.kek != *kek.kek() {
                return Err(Error::WrapNotVerified(kek.kek().clone()));
            }
            let version = wrapped.kek_version.label().unwrap_or_default().as_bytes();
            wraps.push(wrap_by(&wrapped.kek, version, wrapped.blob));
        }
        Ok(wraps)
    }

    /// Unwraps the DEK by the first KEK of ours that has wrapped it and can; checks it and
    /// the wraps.
    async fn unwrap(
        &self,
        scope: &ScopeId,
        head: &Head,
        kind: Kind,
        codec: Codec,
    ) -> Result<UnwrappedKey, Error> {
        head.accept(kind, codec, self.options.accepted)?;
        let context = scope.context().single_use_kms_context();
        let mut failure = Error::NoUsableWrap;
        //= spec 6.4
        //# An opener MUST work from its own list of KEKs, each a backend and a KEK id, and MUST NOT
        //# address a key-management service, or a key in one, because an envelope names it
        // Only keys of ours are asked, whatever the envelope names.
        for wrap in head.wraps().map(Wraps::entries).unwrap_or_default() {
            let Some(kek) = self.kek_of(wrap) else { continue };
            //= spec 6.4
            //# The KEK version is not authenticated at that point either: it MUST NOT reach a
            //# service before it has been found to have the form of a version of that KEK.
            let version = KekVersion::Unknown;
            let wrapped = WrappedKey::new(kek.kek().clone(), version, wrap.blob.to_vec());
            let request = UnwrapRequest::new(&wrapped, &context);
            match self.in_time(async { Ok(kek.unwrap_key(request).await?) }).await {
                Ok(unwrapped) => {
                    let dek = unwrapped.data_key;
                    let (scope, options) = (scope.context(), self.options);
                    return Ok(UnwrappedKey::check(dek, head, codec, scope, options)?);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn kek_of(&self, wrap: &Wrap) -> Option<&Arc<dyn Kek>> {
        self.keks.iter().find(|kek| is_by(wrap, kek.kek()))
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        in_time(&SystemClock, self.timeout, call).await
    }
}

fn wrap_by(kek: &KekId, version: &[u8], blob: Vec<u8>) -> Wrap {
    Wrap::new(kek.backend_number(), kek.as_str().as_bytes(), version, blob)
}

fn is_by(wrap: &Wrap, kek: &KekId) -> bool {
    wrap.backend == kek.backend_number() && *wrap.kek_id == *kek.as_str().as_bytes()
}

/// Reads the header and the wraps in front of a payload.
async fn read_head(reader: &mut (impl AsyncRead + Unpin)) -> Result<Head, Error> {
    let mut head = read_up_to(reader, Head::LEN_MIN).await?;
    let len = Head::len_of(&head).map_err(OpenError::from)?;
    head.extend(read_up_to(reader, len.saturating_sub(head.len())).await?);
    Ok(Head::parse(&head).map_err(OpenError::from)?)
}

/// Reads `len` bytes, or as many as there are.
async fn read_up_to(reader: &mut (impl AsyncRead + Unpin), len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(len);
    reader.take(len as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keks.iter().map(|kek| kek.kek())).finish()
    }
}
