//! The one-shot payload: one AEAD message under header and record context (spec,
//! section 5).

use zeroize::Zeroize;

use crate::aead::{AeadKey, NONCE_LEN, TAG_LEN};
use crate::context::RecordContext;
use crate::error::{HeaderError, KeyError, OpenError, SealError};
use crate::limits::{ONE_SHOT_PLAINTEXT_BYTES_MAX, RECORD_CONTEXT_BYTES_MAX};
use crate::xaes::PREFIX_LEN;
use crate::{Codec, Header, Kind, Suite};

/// Header bytes 0..44: everything but the nonce.
pub(crate) type Prefix = [u8; Header::PREFIX_LEN];

/// Where the codec is in a header.
pub(crate) const CODEC_AT: usize = 6;

/// The prefix of one-shot headers with codec 0.
pub(crate) fn prefix(
    kind: Kind,
    suite: Suite,
    dek_version: Option<crate::DekVersion>,
    key_id: crate::KeyId,
) -> Prefix {
    let header = Header {
        kind,
        suite,
        codec: Codec::RAW,
        chunk_log2: None,
        dek_version,
        key_id,
        nonce: [0; Header::NONCE_LEN],
    };
    let mut prefix = [0; Header::PREFIX_LEN];
    prefix.copy_from_slice(&header.to_bytes()[..Header::PREFIX_LEN]);
    prefix
}

/// Refuses a plaintext longer than 2^30 bytes.
pub(crate) fn check_plaintext_len(len: usize) -> Result<(), SealError> {
    match len {
        0..=ONE_SHOT_PLAINTEXT_BYTES_MAX => Ok(()),
        _ => Err(SealError::PlaintextTooLong { len, max: ONE_SHOT_PLAINTEXT_BYTES_MAX }),
    }
}

/// Refuses a payload without room for a tag, or of more than 2^30 bytes and a tag.
pub(crate) fn check_payload_len(len: usize) -> Result<(), HeaderError> {
    if len < TAG_LEN {
        return Err(HeaderError::PayloadTooShort { len, min: TAG_LEN });
    }
    if len > ONE_SHOT_PLAINTEXT_BYTES_MAX + TAG_LEN {
        return Err(HeaderError::PayloadTooLong);
    }
    Ok(())
}

/// Writes the ciphertext of `plaintext` and its tag over `out`, which is 16 bytes
/// longer, or zeros. `aead` is the derived key that the first half of `nonce` chooses.
#[inline]
pub(crate) fn encrypt(
    aead: &AeadKey,
    prefix: &Prefix,
    nonce: &[u8; Header::NONCE_LEN],
    context: &RecordContext,
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<(), SealError> {
    let (ciphertext, tag) = out.split_at_mut(plaintext.len());
    let (_, tail) = split_nonce(nonce);
    let sealed = with_aad(prefix, context, |aad| aead.seal(&tail, aad, plaintext, ciphertext));
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

/// Writes the plaintext of `ciphertext` over `out`, which is as long. After an error,
/// `out` may hold anything and must be wiped.
#[inline]
pub(crate) fn decrypt(
    aead: &AeadKey,
    prefix: &Prefix,
    tail: &[u8; NONCE_LEN],
    context: &RecordContext,
    (ciphertext, tag): (&[u8], &[u8; TAG_LEN]),
    out: &mut [u8],
) -> Result<(), OpenError> {
    with_aad(prefix, context, |aad| aead.open(tail, aad, ciphertext, tag, out))
        .map_err(|_| OpenError::Authentication)
}

/// AES blocks of one record: plaintext and associated data, each padded, and two
/// for lengths and tag. More than GCM's bound counts, never less.
pub(crate) fn blocks(plaintext: &[u8], context: &RecordContext) -> u64 {
    let aad = Header::PREFIX_LEN + context.as_bytes().len();
    (plaintext.len().div_ceil(16) + aad.div_ceil(16) + 2) as u64
}

/// The half that chooses the derived key, and the half that is its nonce.
#[inline]
pub(crate) fn split_nonce(nonce: &[u8; Header::NONCE_LEN]) -> ([u8; PREFIX_LEN], [u8; NONCE_LEN]) {
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
pub(crate) fn with_aad<T>(
    prefix: &Prefix,
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
