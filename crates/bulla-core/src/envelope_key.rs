//! Seal and open: everything that is derived from one DEK of one scope.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::aead::{AeadKey, Library, NONCE_LEN, TAG_LEN};
use crate::context::{RecordContext, ScopeContext};
use crate::error::{HeaderError, KeyError, OpenError, SealError};
use crate::limits::{ONE_SHOT_PLAINTEXT_BYTES_MAX, RECORD_CONTEXT_BYTES_MAX};
use crate::nonce::{DerivedKeys, NonceMode};
use crate::xaes::{PREFIX_LEN, XaesKey};
use crate::{Codec, DataKey, DekVersion, Header, KeyId, Kind, Suite, kdf};

/// How an [`EnvelopeKey`] works; nothing here changes what it can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct KeyOptions {
    /// The library that runs the AEAD.
    pub library: Library,
    /// Where nonces come from.
    pub nonces: NonceMode,
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
}

/// The keys derived from one DEK as one version of one scope's lineage: seals and
/// opens referenced one-shot envelopes of suite 1.
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
    /// Header bytes 0..44, the same in every envelope that this key seals.
    prefix: [u8; Header::PREFIX_LEN],
    derived: DerivedKeys,
}

impl EnvelopeKey {
    /// What an envelope adds to its plaintext, in bytes: header 68, tag 16.
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
        let suite = Suite::Xaes256Gcm;
        let key_id = dek.id(version, scope)?;
        let mut seal_key = Zeroizing::new([0; 32]);
        let parameters: [&[u8]; 2] = [&[suite as u8], key_id.as_bytes()];
        kdf::expand(dek.expose_secret(), "seal", &parameters, &mut *seal_key)?;
        let header = Header {
            kind: Kind::ReferencedOneShot,
            suite,
            codec: Codec::RAW,
            chunk_log2: None,
            dek_version: Some(version),
            key_id,
            nonce: [0; Header::NONCE_LEN],
        };
        let mut prefix = [0; Header::PREFIX_LEN];
        prefix.copy_from_slice(&header.to_bytes()[..Header::PREFIX_LEN]);
        let derived = DerivedKeys::new(XaesKey::new(&seal_key), options.library, options.nonces);
        Ok(Self { key_id, version, prefix, derived })
    }

    /// Name of the DEK.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Version of the DEK in its scope's lineage.
    pub fn version(&self) -> DekVersion {
        self.version
    }

    /// Length of the envelope of a plaintext of `plaintext_len` bytes, in bytes.
    ///
    /// # Errors
    /// [`SealError::PlaintextTooLong`] above 2^30 bytes.
    pub fn sealed_len(plaintext_len: usize) -> Result<usize, SealError> {
        if plaintext_len > ONE_SHOT_PLAINTEXT_BYTES_MAX {
            return Err(SealError::PlaintextTooLong {
                len: plaintext_len,
                max: ONE_SHOT_PLAINTEXT_BYTES_MAX,
            });
        }
        Ok(plaintext_len + Self::OVERHEAD)
    }

    /// Length of the plaintext in `envelope`, in bytes; what it says is a claim
    /// until the envelope is opened.
    ///
    /// # Errors
    /// [`HeaderError::TooShort`] and [`OpenError::Truncated`] when there is no room for
    /// header and tag, [`OpenError::TooLong`] above 2^30 bytes of plaintext.
    pub fn opened_len(envelope: &[u8]) -> Result<usize, OpenError> {
        match envelope.len() {
            len if len < Header::LEN => Err(HeaderError::TooShort { len }.into()),
            len if len < Self::OVERHEAD => Err(OpenError::Truncated),
            len if len > Self::OVERHEAD + ONE_SHOT_PLAINTEXT_BYTES_MAX => Err(OpenError::TooLong),
            len => Ok(len - Self::OVERHEAD),
        }
    }

    /// The key that `envelope` names, if everything else that can be said without a
    /// key speaks for opening it: ask this before you fetch the key.
    ///
    /// # Errors
    /// [`OpenError`] for a malformed or unknown header, and for a kind, suite, codec or
    /// length that this type does not open.
    pub fn key_id_of(envelope: &[u8]) -> Result<KeyId, OpenError> {
        let header = Header::parse(envelope)?;
        if header.kind != Kind::ReferencedOneShot {
            return Err(OpenError::WrongKind);
        }
        if header.suite != Suite::Xaes256Gcm {
            return Err(OpenError::SuiteNotAllowed(header.suite));
        }
        if header.codec != Codec::RAW {
            return Err(OpenError::WrongCodec {
                found: header.codec.as_byte(),
                expected: Codec::RAW.as_byte(),
            });
        }
        Self::opened_len(envelope)?;
        Ok(header.key_id)
    }

    /// Seals `plaintext` into a new `Vec`, of 84 bytes more.
    ///
    /// # Errors
    /// [`SealError`]; nothing is released then.
    pub fn seal(&self, plaintext: &[u8], context: &RecordContext) -> Result<Vec<u8>, SealError> {
        let mut envelope = vec![0; Self::sealed_len(plaintext.len())?];
        self.seal_into(plaintext, context, &mut envelope)?;
        Ok(envelope)
    }

    /// Seals `plaintext` into the start of `out` and returns the length of the
    /// envelope, 84 bytes more than the plaintext's.
    ///
    /// Allocates nothing, but for the key object that starts an epoch, once in
    /// 2^16 records.
    ///
    /// # Errors
    /// [`SealError`]; `out` then holds nothing of the plaintext.
    pub fn seal_into(
        &self,
        plaintext: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let needed = Self::sealed_len(plaintext.len())?;
        let len = out.len();
        let out = out.get_mut(..needed).ok_or(SealError::BufferTooSmall { len, needed })?;
        self.derived.with_sealer(blocks(plaintext, context), |aead, nonce| {
            self.encrypt(aead, &nonce, plaintext, context, out)
        })?;
        Ok(needed)
    }

    /// Opens `envelope` into a new `Vec`.
    ///
    /// # Errors
    /// [`OpenError`]; no plaintext is released then.
    pub fn open(&self, envelope: &[u8], context: &RecordContext) -> Result<Vec<u8>, OpenError> {
        let sealed = self.check(envelope)?;
        let mut plaintext = vec![0; sealed.ciphertext.len()];
        self.decrypt(&sealed, context, &mut plaintext)?;
        Ok(plaintext)
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
        let sealed = self.check(envelope)?;
        let (len, needed) = (out.len(), sealed.ciphertext.len());
        let out = out.get_mut(..needed).ok_or(OpenError::BufferTooSmall { len, needed })?;
        self.decrypt(&sealed, context, out)?;
        Ok(needed)
    }

    /// Takes apart an envelope that is one of this key's by its header and length.
    #[inline]
    fn check<'a>(&self, envelope: &'a [u8]) -> Result<Sealed<'a>, OpenError> {
        let parts = envelope.split_first_chunk::<{ Header::LEN }>();
        match parts.and_then(|(header, rest)| Some((header, rest.split_last_chunk()?))) {
            // All that a header may say but the nonce is in the prefix.
            Some((header, (ciphertext, tag)))
                if header[..Header::PREFIX_LEN] == self.prefix
                    && ciphertext.len() <= ONE_SHOT_PLAINTEXT_BYTES_MAX =>
            {
                let (prefix, tail) = split_nonce(&header[Header::PREFIX_LEN..]);
                Ok(Sealed { prefix, tail, ciphertext, tag })
            }
            _ => Err(self.refusal(envelope)),
        }
    }

    /// What is wrong with an envelope whose header is not one of this key's.
    #[cold]
    fn refusal(&self, envelope: &[u8]) -> OpenError {
        match Self::key_id_of(envelope) {
            Ok(key_id) => OpenError::WrongKey(key_id),
            Err(error) => error,
        }
    }

    /// Writes the whole envelope over `out`, which is as long.
    fn encrypt(
        &self,
        aead: &AeadKey,
        nonce: &[u8; Header::NONCE_LEN],
        plaintext: &[u8],
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<(), SealError> {
        let (header, rest) = out.split_at_mut(Header::LEN);
        let (ciphertext, tag) = rest.split_at_mut(plaintext.len());
        header[..Header::PREFIX_LEN].copy_from_slice(&self.prefix);
        header[Header::PREFIX_LEN..].copy_from_slice(nonce);
        let (_, tail) = split_nonce(nonce);
        let sealed =
            with_aad(&self.prefix, context, |aad| aead.seal(&tail, aad, plaintext, ciphertext));
        match sealed {
            Ok(sealed) => {
                tag.copy_from_slice(&sealed);
                Ok(())
            }
            Err(_) => {
                ciphertext.zeroize();
                Err(KeyError::Library.into())
            }
        }
    }

    /// Writes the plaintext over `out`, which is as long, or zeros.
    fn decrypt(
        &self,
        sealed: &Sealed<'_>,
        context: &RecordContext,
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        let Sealed { prefix, tail, ciphertext, tag } = sealed;
        let opened = self.derived.with_opener(prefix, |aead| {
            with_aad(&self.prefix, context, |aad| aead.open(tail, aad, ciphertext, tag, out))
                .map_err(|_| OpenError::Authentication)
        });
        if opened.is_err() {
            out.zeroize();
        }
        opened
    }
}

/// An envelope whose header and length are in order.
struct Sealed<'a> {
    /// The half of the nonce that chooses the derived key.
    prefix: [u8; PREFIX_LEN],
    /// The half that is the nonce under it.
    tail: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl fmt::Debug for EnvelopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvelopeKey")
            .field("version", &self.version)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// AES blocks of one record: plaintext and associated data, each padded, and two
/// for lengths and tag. More than GCM's bound counts, never less.
fn blocks(plaintext: &[u8], context: &RecordContext) -> u64 {
    let aad = Header::PREFIX_LEN + context.as_bytes().len();
    (plaintext.len().div_ceil(16) + aad.div_ceil(16) + 2) as u64
}

/// The half that chooses the derived key, and the half that is its nonce.
#[inline]
fn split_nonce(nonce: &[u8]) -> ([u8; PREFIX_LEN], [u8; NONCE_LEN]) {
    let (mut prefix, mut tail) = ([0; PREFIX_LEN], [0; NONCE_LEN]);
    prefix.copy_from_slice(&nonce[..PREFIX_LEN]);
    tail.copy_from_slice(&nonce[PREFIX_LEN..]);
    (prefix, tail)
}

/// Contexts up to this length are put behind the header prefix in a small stack
/// buffer; longer ones in one for the longest.
const SHORT_CONTEXT: usize = 256 - Header::PREFIX_LEN;

/// Calls `f` with header bytes 0..44 followed by the encoded context: the
/// associated data of the AEAD, which takes it in one piece.
#[inline]
fn with_aad<T>(
    prefix: &[u8; Header::PREFIX_LEN],
    context: &RecordContext,
    f: impl FnOnce(&[u8]) -> T,
) -> T {
    #[inline]
    fn concat<'a>(buffer: &'a mut [u8], prefix: &[u8], context: &[u8]) -> &'a [u8] {
        let len = prefix.len() + context.len();
        buffer[..prefix.len()].copy_from_slice(prefix);
        buffer[prefix.len()..len].copy_from_slice(context);
        &buffer[..len]
    }
    #[inline(never)]
    fn with_long<T>(prefix: &[u8], context: &[u8], f: impl FnOnce(&[u8]) -> T) -> T {
        f(concat(&mut [0; Header::PREFIX_LEN + RECORD_CONTEXT_BYTES_MAX], prefix, context))
    }
    let context = context.as_bytes();
    if context.len() <= SHORT_CONTEXT {
        f(concat(&mut [0; Header::PREFIX_LEN + SHORT_CONTEXT], prefix, context))
    } else {
        with_long(prefix, context, f)
    }
}

#[cfg(test)]
mod spec_example;
#[cfg(test)]
mod tests;
