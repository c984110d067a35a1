//! The one-shot payload: one AEAD message under header and record context (spec,
//! section 5).

use arrayvec::ArrayVec;
use zeroize::Zeroize;

use crate::aead::{AeadError, AeadKey, NONCE_LEN, TAG_LEN};
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

/// The same prefix with another codec.
pub(crate) fn with_codec(mut prefix: Prefix, codec: Codec) -> Prefix {
    prefix[CODEC_AT] = codec.as_byte();
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
/// longer, or zeros. `aead` is the derived key that the first half of the nonce chooses,
/// `tail` the second half; `aad` is of [`with_aad`].
#[inline]
pub(crate) fn encrypt(
    aead: &AeadKey,
    tail: &[u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<(), SealError> {
    or_zeros(aead.seal(tail, aad, plaintext, out), out)
}

/// As [`encrypt`], for one of many: within [`wiping_after`](crate::aead::wiping_after).
#[inline]
pub(crate) fn encrypt_unwiped(
    aead: &AeadKey,
    tail: &[u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut [u8],
) -> Result<(), SealError> {
    or_zeros(aead.seal_unwiped(tail, aad, plaintext, out), out)
}

#[inline]
fn or_zeros(sealed: Result<(), AeadError>, out: &mut [u8]) -> Result<(), SealError> {
    sealed.map_err(|_| {
        out.zeroize();
        KeyError::Library.into()
    })
}

/// Writes the plaintext of `ciphertext` over `out`, which is as long. After an error,
/// `out` may hold anything and must be wiped.
#[inline]
pub(crate) fn decrypt(
    aead: &AeadKey,
    tail: &[u8; NONCE_LEN],
    aad: &[u8],
    (ciphertext, tag): (&[u8], &[u8; TAG_LEN]),
    out: &mut [u8],
) -> Result<(), OpenError> {
    aead.open(tail, aad, ciphertext, tag, out).map_err(|_| OpenError::Authentication)
}

/// AES blocks of one record: plaintext and associated data, each padded, and two
/// for lengths and tag. More than GCM's bound counts, never less.
#[inline]
pub(crate) fn blocks(plaintext: &[u8], aad: &[u8]) -> u64 {
    (plaintext.len().div_ceil(16) + aad.len().div_ceil(16) + 2) as u64
}

/// The half that chooses the derived key, and the half that is its nonce.
#[inline]
pub(crate) fn split_nonce(nonce: &[u8; Header::NONCE_LEN]) -> ([u8; PREFIX_LEN], [u8; NONCE_LEN]) {
    let (mut prefix, mut tail) = ([0; PREFIX_LEN], [0; NONCE_LEN]);
    prefix.copy_from_slice(&nonce[..PREFIX_LEN]);
    tail.copy_from_slice(&nonce[PREFIX_LEN..]);
    (prefix, tail)
}

/// Calls `f` with header bytes 0..44 followed by the encoded context: the
/// associated data of the AEAD, which takes it in one piece.
#[inline]
pub(crate) fn with_aad<T>(
    prefix: &Prefix,
    context: &RecordContext,
    f: impl FnOnce(&[u8]) -> T,
) -> T {
    // Room for the longest context, on the stack, and none of it is zeroed first.
    let mut aad = ArrayVec::<u8, { Header::PREFIX_LEN + RECORD_CONTEXT_BYTES_MAX }>::new();
    let complete = aad.try_extend_from_slice(prefix).is_ok()
        && aad.try_extend_from_slice(context.as_bytes()).is_ok();
    debug_assert!(complete, "a context is never longer");
    f(&aad)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38D, section 6.4: GHASH goes over the padded associated data, the padded
    /// ciphertext and one block of lengths; the tag takes one block of the cipher.
    #[test]
    fn blocks_are_those_of_text_and_associated_data_and_two() {
        let cases = [
            (0, 0, 2),
            (0, 1, 3),
            (1, 0, 3),
            (16, 16, 4),
            (17, 16, 5),
            (16, 17, 5),
            (1000, 93, 63 + 6 + 2),
        ];
        for (plaintext, aad, expected) in cases {
            assert_eq!(blocks(&vec![0; plaintext], &vec![0; aad]), expected);
        }
    }
}
