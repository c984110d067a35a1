//! Self-contained envelopes: the DEK, used once, travels in the envelope, wrapped by one
//! to eight KEKs (spec, section 6).
//!
//! This module does not know any KMS. Who does wraps [`SingleUseKey::data_key`] and
//! unwraps what [`Head::wraps`] holds; `bulla-manager` has both ends joined.

use std::fmt;

use hmac::Mac;
use zeroize::Zeroize;

use crate::aead::{AeadKey, TAG_LEN};
use crate::envelope::Head;
use crate::error::{HeaderError, KeyError, OpenError, SealError};
use crate::stream::{ChunkOpener, ChunkSealer, StreamKeys, StreamOptions, check_chunk_log2};
use crate::wraps::{self, MAC_LEN, Wraps};
use crate::xaes::XaesKey;
use crate::{
    Codec, DataKey, Header, KeyId, KeyOptions, Kind, RecordContext, ScopeContext, kdf, nonce,
    one_shot,
};

/// A DEK that seals exactly one self-contained envelope: generate it, have its
/// [`data_key`](Self::data_key) wrapped, seal.
///
/// Whoever opens the envelope has the DEK from then on; were it shared with a second
/// payload, the right to open one would be the right to open both. So it is consumed by
/// sealing, and there is no way to bring a DEK of one's own.
///
/// ```
/// use bulla_core::{
///     Codec, Envelope, KeyOptions, Kind, RecordContext, ScopeContext, SingleUseKey,
///     UnwrappedKey, Wrap, Wraps,
/// };
///
/// let scope = ScopeContext::new([("purpose", "exports")])?;
/// let context = RecordContext::new([("file", "2026-11.csv")])?;
/// let key = SingleUseKey::generate(&scope, KeyOptions::default())?;
/// // A KMS would wrap it; `scope.single_use_kms_context()` goes with it.
/// let blob = key.data_key().expose_secret().to_vec();
/// let wraps = Wraps::new([Wrap::new(200, *b"my-kek", *b"", blob.clone())])?;
/// let sealed = key.seal(&wraps, Codec::RAW, b"report", &context)?;
///
/// let envelope = Envelope::parse(&sealed)?;
/// envelope.head().accept(Kind::SelfContainedOneShot, Codec::RAW, Default::default())?;
/// // The KMS would unwrap it.
/// let dek = bulla_core::DataKey::init_with(|bytes| bytes.copy_from_slice(&blob));
/// let key = UnwrappedKey::check(dek, envelope.head(), Codec::RAW, &scope, KeyOptions::default())?;
/// assert_eq!(key.open(envelope.payload(), &context)?, b"report");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SingleUseKey {
    dek: DataKey,
    key_id: KeyId,
    options: KeyOptions,
    /// Number of the process that made it.
    generation: u64,
}

impl SingleUseKey {
    //= spec 6.5
    //# The DEK of a self-contained envelope MUST be generated for that envelope, MUST seal exactly
    //# one payload and MUST NOT belong to a lineage.
    /// A fresh key from the operating system, for one envelope of `scope`.
    ///
    /// # Errors
    /// [`KeyError`] when the system or a library fails.
    pub fn generate(scope: &ScopeContext, options: KeyOptions) -> Result<Self, KeyError> {
        Self::of(bulla_sys::generation(), DataKey::generate()?, scope, options)
    }

    /// `generation` is read before the DEK is made.
    pub(crate) fn of(
        generation: u64,
        dek: DataKey,
        scope: &ScopeContext,
        options: KeyOptions,
    ) -> Result<Self, KeyError> {
        let key_id = dek.single_use_id(scope)?;
        Ok(Self { dek, key_id, options, generation })
    }

    /// The DEK, to be wrapped by each KEK that is to open the envelope, under
    /// [`ScopeContext::single_use_kms_context`].
    pub fn data_key(&self) -> &DataKey {
        &self.dek
    }

    /// Name of the DEK, as it will be in the header.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Seals the one payload, one-shot, at most 2^30 bytes.
    ///
    /// # Errors
    /// [`SealError`]; nothing is released then.
    pub fn seal(
        self,
        wraps: &Wraps,
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, SealError> {
        //= spec 9.1
        //# A self-contained envelope and a stream MUST do so.
        self.seal_with(nonce::random()?, wraps, codec, plaintext, context)
    }

    /// Seals the one payload as a stream, chunk by chunk. Put the sealer behind
    /// `std::io::Write` with [`ChunkSealer::into_writer`].
    ///
    /// # Errors
    /// [`SealError`].
    pub fn chunk_sealer(
        self,
        wraps: &Wraps,
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<ChunkSealer, SealError> {
        self.chunk_sealer_with(nonce::random()?, wraps, context, options)
    }

    pub(crate) fn seal_with(
        self,
        nonce: [u8; Header::NONCE_LEN],
        wraps: &Wraps,
        codec: Codec,
        plaintext: &[u8],
        context: &RecordContext,
    ) -> Result<Vec<u8>, SealError> {
        one_shot::check_plaintext_len(plaintext.len())?;
        let header = self.header(Kind::SelfContainedOneShot, codec, None, nonce);
        let mut envelope = self.head(&header, wraps)?;
        let payload = envelope.len();
        envelope.resize(payload + plaintext.len() + TAG_LEN, 0);
        let (prefix, out) = (prefix_of(&header.to_bytes()), &mut envelope[payload..]);
        let aead = message_key(&self.dek, &header, &self.options)?;
        let (_, tail) = one_shot::split_nonce(&nonce);
        one_shot::with_aad(&prefix, context, |aad| {
            one_shot::encrypt(&aead, &tail, aad, plaintext, out)
        })?;
        Ok(envelope)
    }

    pub(crate) fn chunk_sealer_with(
        self,
        salt: [u8; Header::NONCE_LEN],
        wraps: &Wraps,
        context: &RecordContext,
        options: StreamOptions,
    ) -> Result<ChunkSealer, SealError> {
        check_chunk_log2(options.chunk_log2)?;
        let chunk_log2 = Some(options.chunk_log2);
        let header = self.header(Kind::SelfContainedChunked, options.codec, chunk_log2, salt);
        let head = self.head(&header, wraps)?;
        let keys = stream_keys(&self.dek, &header, &self.options, context)?;
        Ok(ChunkSealer::new(head, options.chunk_log2, keys, self.generation))
    }

    fn header(
        &self,
        kind: Kind,
        codec: Codec,
        chunk_log2: Option<u8>,
        nonce: [u8; Header::NONCE_LEN],
    ) -> Header {
        let (suite, key_id) = (self.options.suite, self.key_id);
        Header { kind, suite, codec, chunk_log2, dek_version: None, key_id, nonce }
    }

    /// Header and wraps section, unless another process may have sealed with this key.
    fn head(&self, header: &Header, wraps: &Wraps) -> Result<Vec<u8>, SealError> {
        if bulla_sys::generation() != self.generation {
            return Err(SealError::ProcessCopied);
        }
        Ok(head_bytes(&self.dek, &header.to_bytes(), wraps)?)
    }
}

/// The unwrapped DEK of one self-contained envelope, found to be the one that its header
/// names, with wraps that have not been changed: opens its payload and replaces its
/// wraps.
pub struct UnwrappedKey {
    dek: DataKey,
    head: Head,
    options: KeyOptions,
}

impl UnwrappedKey {
    /// Checks `dek` against the envelope that starts with `head`, whose plaintext is in
    /// `codec`: the key id that `dek` has in `scope`, then the MAC over header and wraps.
    /// Who replaces wraps and does not open passes the codec of the header.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`] for another DEK or scope; [`OpenError::Authentication`]
    /// if header or wraps were changed; [`OpenError::WrongKind`] if the envelope is
    /// referenced; [`OpenError::SuiteNotAllowed`]; [`OpenError::WrongCodec`].
    pub fn check(
        dek: DataKey,
        head: &Head,
        codec: Codec,
        scope: &ScopeContext,
        options: KeyOptions,
    ) -> Result<Self, OpenError> {
        let header = head.header();
        let (section, mac) = head.section().ok_or(OpenError::WrongKind(header.kind))?;
        head.accept(header.kind, codec, options.opens())?;
        if dek.single_use_id(scope)? != header.key_id {
            return Err(OpenError::WrongKey(header.key_id));
        }
        bulla_sys::apart(|| {
            let key = kdf::wraps_key(&dek, &header.key_id)?;
            //= spec 6.3
            //# An opener MUST verify it, in constant time, after the key id and before the
            //# payload.
            wraps::mac_of(&key, head.header_bytes(), section)?
                .verify_slice(mac)
                .map_err(|_| OpenError::Authentication)
        })?;
        Ok(Self { dek, head: head.clone(), options })
    }

    /// Header and wraps, now authenticated.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Opens a one-shot `payload`, as [`Envelope::payload`](crate::Envelope::payload)
    /// returns it.
    ///
    /// # Errors
    /// [`OpenError`]; no plaintext is released then.
    pub fn open(&self, payload: &[u8], context: &RecordContext) -> Result<Vec<u8>, OpenError> {
        let header = self.head.header();
        if header.kind != Kind::SelfContainedOneShot {
            return Err(OpenError::WrongKind(header.kind));
        }
        one_shot::check_payload_len(payload.len())?;
        let (ciphertext, tag) = payload.split_last_chunk().ok_or(OpenError::Authentication)?;
        let prefix = prefix_of(self.head.header_bytes());
        let (_, tail) = one_shot::split_nonce(&header.nonce);
        let aead = message_key(&self.dek, header, &self.options)?;
        bulla_sys::filled_vec(ciphertext.len(), |out| {
            let opened = one_shot::with_aad(&prefix, context, |aad| {
                one_shot::decrypt(&aead, &tail, aad, (ciphertext, tag), out)
            });
            if opened.is_err() {
                out.zeroize();
            }
            opened
        })
    }

    /// Begins to open a chunked payload, of which `commitment` is the first
    /// [`ChunkOpener::COMMITMENT_LEN`] bytes. Put the opener behind `std::io::Read` with
    /// [`ChunkOpener::into_reader`], or behind ranges with [`ChunkOpener::into_range`].
    ///
    /// # Errors
    /// [`OpenError::Authentication`] if the record context is another;
    /// [`OpenError::WrongKind`]; [`OpenError::Header`] if there are not enough bytes.
    pub fn chunk_opener(
        &self,
        commitment: &[u8],
        context: &RecordContext,
    ) -> Result<ChunkOpener, OpenError> {
        let header = self.head.header();
        let Some(chunk_log2) = header.chunk_log2 else {
            return Err(OpenError::WrongKind(header.kind));
        };
        let commitment = commitment.first_chunk().ok_or(HeaderError::PayloadTooShort {
            len: commitment.len(),
            min: ChunkOpener::COMMITMENT_LEN,
        })?;
        let keys = stream_keys(&self.dek, header, &self.options, context)?;
        ChunkOpener::new(keys, chunk_log2, commitment)
    }

    /// The DEK, to be wrapped by other KEKs under
    /// [`ScopeContext::single_use_kms_context`]. Unwrap each new wrap and compare it
    /// before you rely on it.
    pub fn data_key(&self) -> &DataKey {
        &self.dek
    }

    /// The new bytes in front of the payload, after `wraps` has replaced the present
    /// ones: put them where the first [`Head::payload_offset`] bytes were, and leave the
    /// payload as it is. Make `wraps` with [`Wraps::replaced_by`].
    ///
    /// A KEK that is left out opens this envelope no more. It revokes nothing that it has
    /// opened or kept before.
    ///
    /// # Errors
    /// [`SealError::Wraps`] if `wraps` is not of the generation after the present one.
    pub fn rewrap(&self, wraps: &Wraps) -> Result<Vec<u8>, SealError> {
        let next = self.head.wraps().and_then(|wraps| wraps.generation().checked_add(1));
        if next != Some(wraps.generation()) {
            return Err(crate::WrapsError::Generation(wraps.generation()).into());
        }
        Ok(head_bytes(&self.dek, self.head.header_bytes(), wraps)?)
    }
}

/// Header, wraps section and its MAC.
fn head_bytes(
    dek: &DataKey,
    header: &[u8; Header::LEN],
    wraps: &Wraps,
) -> Result<Vec<u8>, KeyError> {
    let header_key_id = Header::key_id_at(header);
    let section = wraps.to_bytes();
    let mac = bulla_sys::apart(|| {
        let key = kdf::wraps_key(dek, &header_key_id)?;
        Ok(wraps::mac_of(&key, header, &section)?.finalize().into_bytes())
    })?;
    let mut head = Vec::with_capacity(Header::LEN + section.len() + MAC_LEN);
    head.extend_from_slice(header);
    head.extend_from_slice(&section);
    head.extend_from_slice(&mac);
    Ok(head)
}

fn prefix_of(header: &[u8; Header::LEN]) -> one_shot::Prefix {
    let mut prefix = [0; Header::PREFIX_LEN];
    prefix.copy_from_slice(&header[..Header::PREFIX_LEN]);
    prefix
}

/// The AEAD key of the one message: an XAES derivation that is not kept.
fn message_key(dek: &DataKey, header: &Header, options: &KeyOptions) -> Result<AeadKey, KeyError> {
    let seal_key = kdf::suite_key(dek, "seal", header.suite, &header.key_id)?;
    let prefix = one_shot::split_nonce(&header.nonce).0;
    let new = |key: &_| AeadKey::new(options.library, header.suite, key);
    XaesKey::new(&seal_key).derive(&prefix, new)
}

fn stream_keys(
    dek: &DataKey,
    header: &Header,
    options: &KeyOptions,
    context: &RecordContext,
) -> Result<StreamKeys, KeyError> {
    let key = kdf::suite_key(dek, "stream", header.suite, &header.key_id)?;
    StreamKeys::derive(&key, options.library, header.suite, &header.to_bytes(), context)
}

impl fmt::Debug for SingleUseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SingleUseKey({})", self.key_id)
    }
}

impl fmt::Debug for UnwrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnwrappedKey({})", self.head.header().key_id)
    }
}

#[cfg(test)]
mod tests;
