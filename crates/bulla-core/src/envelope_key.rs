//! Seal and open under a DEK of a lineage: everything that is derived from one DEK of
//! one scope. Batches are in `envelope_key/batch.rs`, streams in `envelope_key/streams.rs`.

mod batch;
mod streams;

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::aead::{Library, NONCE_LEN, TAG_LEN};
use crate::context::{RecordContext, ScopeContext};
use crate::envelope::referenced_one_shot;
use crate::error::{HeaderError, KeyError, OpenError, SealError};
use crate::nonce::{DerivedKey, DerivedKeys, NonceMode};
use crate::one_shot::{self, CODEC_AT, Prefix};
use crate::stream::StreamKeys;
use crate::xaes::{PREFIX_LEN, XaesKey};
use crate::{Codec, DataKey, DekVersion, Header, KeyId, Kind, Suite, Suites, kdf};

/// How keys work: which suite they seal in, which they open, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyOptions {
    /// The library that runs the AEAD.
    pub library: Library,
    /// Where nonces come from.
    pub nonces: NonceMode,
    /// The suite to seal in.
    pub suite: Suite,
    //= spec 2.3
    //# An opener MUST hold an explicit list of the suites that it accepts.
    /// The suites to open, the one that seals among them.
    pub accepted: Suites,
}

impl KeyOptions {
    /// The same options with another library.
    pub const fn with_library(mut self, library: Library) -> Self {
        self.library = library;
        self
    }

    /// The same options with another source of nonces.
    pub const fn with_nonces(mut self, nonces: NonceMode) -> Self {
        self.nonces = nonces;
        self
    }

    /// Seals in `suite` and opens that suite only; add others with
    /// [`accepting`](Self::accepting).
    ///
    /// A fleet changes its suite in two steps: first every process *accepts* the new one,
    /// then they seal in it, and accept the old one for as long as there are such records:
    ///
    /// ```
    /// use bulla_core::{KeyOptions, Suite};
    ///
    /// let first = KeyOptions::default().accepting(Suite::Xaes256GcmSiv);
    /// let then = KeyOptions::default()
    ///     .with_suite(Suite::Xaes256GcmSiv)
    ///     .accepting(Suite::Xaes256Gcm);
    /// # let _ = (first, then);
    /// ```
    pub const fn with_suite(mut self, suite: Suite) -> Self {
        self.suite = suite;
        self.accepted = Suites::only(suite);
        self
    }

    /// Opens `suite` as well: for records sealed before the suite was changed.
    pub const fn accepting(mut self, suite: Suite) -> Self {
        self.accepted = self.accepted.and(suite);
        self
    }

    /// The suites that are opened: those accepted, and the one that seals.
    pub const fn opens(&self) -> Suites {
        self.accepted.and(self.suite)
    }
}

/// Suite 1 alone, with the default library and nonces.
impl Default for KeyOptions {
    fn default() -> Self {
        Self {
            library: Library::default(),
            nonces: NonceMode::default(),
            suite: Suite::Xaes256Gcm,
            accepted: Suites::default(),
        }
    }
}

/// The keys derived from one DEK as one version of one scope's lineage: seals and
/// opens referenced envelopes, one-shot and streams.
///
/// Make it once per DEK and share it between threads; making it costs a few
/// microseconds, sealing a small record a fraction of one. The DEK itself is not
/// kept. Everything kept is wiped on drop.
///
/// ```
/// use bulla_core::{DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext};
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "people")])?;
/// let dek = DataKey::generate()?;
/// let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default())?;
///
/// let record = RecordContext::new([("column", "email"), ("row", "42")])?;
/// let envelope = key.seal(b"ada@example.org", &record)?;
/// assert_eq!(envelope.len(), 15 + EnvelopeKey::OVERHEAD);
/// assert_eq!(key.open(&envelope, &record)?, b"ada@example.org");
///
/// let other_row = RecordContext::new([("column", "email"), ("row", "43")])?;
/// assert!(key.open(&envelope, &other_row).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EnvelopeKey {
    key_id: KeyId,
    version: DekVersion,
    library: Library,
    accepted: Suites,
    /// The suite that seals.
    sealing: SuiteKeys,
    /// The other suites that are opened.
    opening: Vec<SuiteKeys>,
}

/// What one suite of one DEK needs.
struct SuiteKeys {
    suite: Suite,
    /// Header bytes 0..44 of the one-shot envelopes of codec 0.
    prefix: Prefix,
    one_shot: DerivedKeys,
    stream_key: Box<Zeroizing<[u8; 32]>>,
}

impl EnvelopeKey {
    /// What a one-shot envelope adds to its plaintext, in bytes: header 68, tag 16.
    pub const OVERHEAD: usize = Header::LEN + TAG_LEN;

    /// Derives the keys of `dek` as `version` of `scope`'s lineage.
    ///
    /// # Errors
    /// [`KeyError::Library`] when a library refuses a key.
    pub fn derive(
        dek: &DataKey,
        version: DekVersion,
        scope: &ScopeContext,
        options: KeyOptions,
    ) -> Result<Self, KeyError> {
        let key_id = dek.id(version, scope)?;
        let keys = |suite| SuiteKeys::derive(dek, version, key_id, suite, &options);
        let others = Suite::ALL
            .iter()
            .filter(|suite| **suite != options.suite && options.accepted.contains(**suite));
        Ok(Self {
            key_id,
            version,
            library: options.library,
            accepted: options.opens(),
            sealing: keys(options.suite)?,
            opening: others.map(|suite| keys(*suite)).collect::<Result<_, _>>()?,
        })
    }

    /// Name of the DEK.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Version of the DEK in its scope's lineage.
    pub fn version(&self) -> DekVersion {
        self.version
    }

    /// The suite that this key seals in.
    pub fn suite(&self) -> Suite {
        self.sealing.suite
    }

    /// Length of the one-shot envelope of a plaintext of `plaintext_len` bytes, in bytes.
    ///
    /// # Errors
    /// [`SealError::PlaintextTooLong`] above 2^30 bytes.
    pub fn sealed_len(plaintext_len: usize) -> Result<usize, SealError> {
        one_shot::check_plaintext_len(plaintext_len)?;
        Ok(plaintext_len + Self::OVERHEAD)
    }

    /// Length of the plaintext in a one-shot `envelope`, in bytes; what it says is a
    /// claim until the envelope is opened.
    ///
    /// # Errors
    /// [`HeaderError`] when there is no room for header and tag, or above 2^30 bytes of
    /// plaintext.
    pub fn opened_len(envelope: &[u8]) -> Result<usize, OpenError> {
        let len = envelope.len();
        let payload = len.checked_sub(Header::LEN).ok_or(HeaderError::TooShort { len })?;
        one_shot::check_payload_len(payload)?;
        Ok(payload - TAG_LEN)
    }

    /// The header of a one-shot `envelope`, if everything that can be said without a key
    /// speaks for opening it as `codec`: ask this before you fetch the key that it names.
    ///
    /// # Errors
    /// [`OpenError`] for a malformed or unknown header, and for a kind, suite or codec
    /// that was not asked for.
    pub fn header_of(envelope: &[u8], codec: Codec, accepted: Suites) -> Result<Header, OpenError> {
        referenced_one_shot(envelope, codec, accepted)
    }

    /// Seals `plaintext` into a new `Vec`, of 84 bytes more.
    ///
    /// # Errors
    /// [`SealError`]; nothing is released then.
    #[inline]
    pub fn seal(&self, plaintext: &[u8], context: &RecordContext) -> Result<Vec<u8>, SealError> {
        self.seal_as(Codec::RAW, plaintext, context)
    }

    /// [`seal`](Self::seal) for the serialised form of a value: whoever opens it has to
    /// name the same codec. [`seal_value`](Self::seal_value) serialises, too.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    #[inline]
    pub fn seal_as(
        &self,
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, SealError> {
        bulla_sys::filled_vec(Self::sealed_len(plaintext.len())?, |out| {
            self.seal_whole(codec, plaintext, context, out)
        })
    }

    /// Seals `plaintext` into the start of `out` and returns the length of the
    /// envelope, 84 bytes more than the plaintext's.
    ///
    /// Allocates nothing, but for the key object that starts an epoch, once in 2^16 records
    /// or 2^30 blocks of 16 bytes, and one for each record while more than eight threads seal
    /// at once.
    ///
    /// # Errors
    /// [`SealError`]; `out` then holds nothing of the plaintext.
    #[inline]
    pub fn seal_into(
        &self,
        plaintext: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        self.seal_as_into(Codec::RAW, plaintext, context, out)
    }

    /// [`seal_into`](Self::seal_into) for the serialised form of a value.
    ///
    /// # Errors
    /// As [`seal_into`](Self::seal_into).
    pub fn seal_as_into(
        &self,
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let needed = Self::sealed_len(plaintext.len())?;
        let len = out.len();
        let out = out.get_mut(..needed).ok_or(SealError::BufferTooSmall { len, needed })?;
        self.seal_whole(codec, plaintext, context, out)?;
        Ok(needed)
    }

    /// Seals over the whole of `out`, which is as long as the envelope.
    #[inline]
    fn seal_whole(
        &self,
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<(), SealError> {
        self.sealing.with_prefix(codec, context, |prefix, aad| {
            let blocks = one_shot::blocks(plaintext, aad);
            self.sealing.one_shot.with_sealer(blocks, |derived, tail| {
                encrypt(derived, tail, prefix, aad, plaintext, out)
            })
        })
    }

    /// Opens `envelope` into a new `Vec`.
    ///
    /// # Errors
    /// [`OpenError`]; no plaintext is released then.
    #[inline]
    pub fn open(&self, envelope: &[u8], context: &RecordContext) -> Result<Vec<u8>, OpenError> {
        self.open_as(Codec::RAW, envelope, context)
    }

    /// [`open`](Self::open) for the serialised form of a value.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`OpenError::WrongCodec`] if it was sealed as another.
    #[inline]
    pub fn open_as(
        &self,
        codec: Codec,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, OpenError> {
        let sealed = self.check(codec, envelope)?;
        bulla_sys::filled_vec(sealed.ciphertext.len(), |out| sealed.decrypt(context, out))
    }

    /// Opens `envelope` into the start of `out` and returns the length of the
    /// plaintext, 84 bytes less than the envelope's.
    ///
    /// Allocates nothing when the envelope's nonce prefix is among the last few
    /// seen; a new prefix makes one key object.
    ///
    /// # Errors
    /// [`OpenError`]; `out` then holds nothing of the plaintext.
    pub fn open_into(
        &self,
        envelope: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<usize, OpenError> {
        let sealed = self.check(Codec::RAW, envelope)?;
        let (len, needed) = (out.len(), sealed.ciphertext.len());
        let out = out.get_mut(..needed).ok_or(OpenError::BufferTooSmall { len, needed })?;
        sealed.decrypt(context, out)?;
        Ok(needed)
    }

    /// A one-shot envelope with a nonce of the caller's, in `suite`.
    #[cfg(any(test, feature = "hazmat"))]
    pub(crate) fn seal_with_nonce(
        &self,
        nonce: [u8; Header::NONCE_LEN],
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, SealError> {
        let mut envelope = vec![0; Self::sealed_len(plaintext.len())?];
        let keys = &self.sealing;
        let (prefix, tail) = one_shot::split_nonce(&nonce);
        let derived = keys.one_shot.derive(prefix)?;
        keys.with_prefix(codec, context, |prefix, aad| {
            encrypt(&derived, &tail, prefix, aad, plaintext, &mut envelope)
        })?;
        Ok(envelope)
    }

    fn keys(&self, suite: Suite) -> Option<&SuiteKeys> {
        [&self.sealing].into_iter().chain(&self.opening).find(|keys| keys.suite == suite)
    }

    /// Takes apart an envelope that is one of this key's by its header and length.
    #[inline]
    fn check<'a>(&'a self, codec: Codec, envelope: &'a [u8]) -> Result<Sealed<'a>, OpenError> {
        match Sealed::of(&self.sealing, codec, envelope) {
            Some(sealed) => Ok(sealed),
            None => self.check_others(codec, envelope),
        }
    }

    /// An envelope of another suite; or what is wrong with one that is not this key's.
    #[cold]
    fn check_others<'a>(
        &'a self,
        codec: Codec,
        envelope: &'a [u8],
    ) -> Result<Sealed<'a>, OpenError> {
        match self.opening.iter().find_map(|keys| Sealed::of(keys, codec, envelope)) {
            Some(sealed) => Ok(sealed),
            //= spec 8.1
            //# An opener MUST NOT try a second DEK, suite, codec or context after a failure.
            None => Err(match Self::header_of(envelope, codec, self.accepted) {
                Ok(header) => OpenError::WrongKey(header.key_id),
                Err(error) => error,
            }),
        }
    }
}

impl SuiteKeys {
    fn derive(
        dek: &DataKey,
        version: DekVersion,
        key_id: KeyId,
        suite: Suite,
        options: &KeyOptions,
    ) -> Result<Self, KeyError> {
        let prefix = one_shot::prefix(Kind::ReferencedOneShot, suite, Some(version), key_id);
        let xaes = XaesKey::new(&*kdf::suite_key(dek, "seal", suite, &key_id)?);
        let one_shot = DerivedKeys::new(xaes, options.library, suite, options.nonces);
        let stream_key = kdf::suite_key(dek, "stream", suite, &key_id)?;
        Ok(Self { suite, prefix, one_shot, stream_key })
    }

    fn stream(
        &self,
        library: Library,
        header: &[u8; Header::LEN],
        context: &RecordContext,
    ) -> Result<StreamKeys, KeyError> {
        StreamKeys::derive(&self.stream_key, library, self.suite, header, context)
    }

    /// Calls `f` with the header of an envelope of `codec` in front of the nonce, and the
    /// associated data.
    #[inline]
    fn with_prefix<T>(
        &self,
        codec: Codec,
        context: &RecordContext,
        f: impl FnOnce(&Prefix, &[u8]) -> T,
    ) -> T {
        let with_codec;
        let prefix = match codec {
            Codec::RAW => &self.prefix,
            _ => {
                with_codec = one_shot::with_codec(self.prefix, codec);
                &with_codec
            }
        };
        one_shot::with_aad(prefix, context, |aad| f(prefix, aad))
    }
}

/// Writes the whole envelope over `out`, which is as long.
#[inline]
fn encrypt(
    derived: &DerivedKey,
    tail: &[u8; NONCE_LEN],
    prefix: &Prefix,
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<(), SealError> {
    let payload = write_header(prefix, derived, tail, out);
    one_shot::encrypt(&derived.aead, tail, aad, plaintext, payload)
}

/// Writes the header to the start of `out` and returns what is behind it.
#[inline]
fn write_header<'a>(
    prefix: &Prefix,
    derived: &DerivedKey,
    tail: &[u8; NONCE_LEN],
    out: &'a mut [u8],
) -> &'a mut [u8] {
    let (header, payload) = out.split_at_mut(Header::LEN);
    let (head, nonce) = header.split_at_mut(Header::PREFIX_LEN);
    head.copy_from_slice(prefix);
    nonce[..PREFIX_LEN].copy_from_slice(&derived.prefix);
    nonce[PREFIX_LEN..].copy_from_slice(tail);
    payload
}

/// An envelope whose header and length are in order.
struct Sealed<'a> {
    keys: &'a SuiteKeys,
    header: &'a Prefix,
    /// The half of the nonce that chooses the derived key.
    prefix: &'a [u8; PREFIX_LEN],
    /// The half that is the nonce under it.
    tail: &'a [u8; NONCE_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Sealed<'a> {
    /// `None` unless the header says what those of `keys` say, and `codec`.
    #[inline]
    fn of(keys: &'a SuiteKeys, codec: Codec, envelope: &'a [u8]) -> Option<Self> {
        let (header, rest) = envelope.split_first_chunk::<{ Header::PREFIX_LEN }>()?;
        let (prefix, rest) = rest.split_first_chunk()?;
        let (tail, payload) = rest.split_first_chunk()?;
        let (ciphertext, tag) = payload.split_last_chunk()?;
        //= spec 4.3
        //# An opener MUST compute the key id from the DEK it holds, the version in the header and
        //# its *caller's* scope context, and compare it with the header before it uses any other
        //# derived key.
        // All that a header may say but codec and nonce is in the prefix.
        let ours = header[..CODEC_AT] == keys.prefix[..CODEC_AT]
            && header[CODEC_AT] == codec.as_byte()
            && header[CODEC_AT + 1..] == keys.prefix[CODEC_AT + 1..]
            && one_shot::check_payload_len(payload.len()).is_ok();
        ours.then_some(Self { keys, header, prefix, tail, ciphertext, tag })
    }

    /// Writes the plaintext over `out`, which is as long, or zeros.
    #[inline]
    fn decrypt(&self, context: &RecordContext, out: &mut [u8]) -> Result<(), OpenError> {
        let Self { keys, header, prefix, tail, ciphertext, tag } = self;
        let opened = one_shot::with_aad(header, context, |aad| {
            keys.one_shot.with_opener(prefix, |aead| {
                one_shot::decrypt(aead, tail, aad, (ciphertext, tag), out)
            })
        });
        //= spec 5.3
        //# An opener MUST NOT release any plaintext before the tag has been verified, and MUST
        //# leave none in the caller's buffer when it fails.
        if opened.is_err() {
            out.zeroize();
        }
        opened
    }
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeKey")
            .field("version", &self.version)
            .field("key_id", &self.key_id)
            .field("suite", &self.sealing.suite)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod spec_example;
#[cfg(test)]
mod tests;
