//! Section 4: key derivation.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256 under a key of 32 bytes.
pub fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // RFC 2104 appends zeros to a short key up to the 64 bytes of a block. Doing so here
    // leaves no length that could be wrong.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut hmac = Hmac::<Sha256>::new(&block.into());
    hmac.update(message);
    hmac.finalize().into_bytes().into()
}

/// Section 4.1: `X(K, label, p, n)`, with n = `N`.
pub fn x<const N: usize>(k: &[u8; 32], label: &str, p: &[u8]) -> [u8; N] {
    let info = [b"bulla.v1/", label.as_bytes(), &[0x00], p].concat();
    let mut output = Vec::new();
    let mut t = Vec::new(); // T(0)
    let mut i = 0_u8;
    while output.len() < N {
        i += 1;
        t = hmac_sha256(k, &[&t[..], &info, &[i]].concat()).to_vec();
        output.extend(&t);
    }
    let mut first = [0; N];
    first.copy_from_slice(&output[..N]);
    first
}

/// Section 4.2: key id = `X(DEK, "key-id", u32(version) || CTX(scope), 32)`.
pub fn key_id(dek: &[u8; 32], version: u32, ctx_scope: &[u8]) -> [u8; 32] {
    x(dek, "key-id", &[&version.to_be_bytes(), ctx_scope].concat())
}

/// Section 4.2: seal key = `X(DEK, "seal", u8(suite) || key id, 32)`.
pub fn seal_key(dek: &[u8; 32], suite: u8, key_id: &[u8; 32]) -> [u8; 32] {
    x(dek, "seal", &[&[suite], &key_id[..]].concat())
}

/// Section 4.2: stream key = `X(DEK, "stream", u8(suite) || key id, 32)`.
pub fn stream_key(dek: &[u8; 32], suite: u8, key_id: &[u8; 32]) -> [u8; 32] {
    x(dek, "stream", &[&[suite], &key_id[..]].concat())
}

/// Section 4.2: wraps MAC key = `X(DEK, "wraps", key id, 32)`.
pub fn wraps_key(dek: &[u8; 32], key_id: &[u8; 32]) -> [u8; 32] {
    x(dek, "wraps", key_id)
}

/// Section 4.2: what the last line of the table derives for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamKeys {
    /// The key of every chunk.
    pub chunk_key: [u8; 32],
    /// What section 7.1 makes the nonces of.
    pub base_nonce: [u8; 12],
    /// The first 32 bytes of the payload.
    pub commitment: [u8; 32],
}

/// Section 4.2: chunk key, base nonce and commitment, in this order, are
/// `X(stream key, "chunks", header[0:68] || CTX(record), 76)`.
pub fn chunks(stream_key: &[u8; 32], header: &[u8; 68], ctx_record: &[u8]) -> StreamKeys {
    let output: [u8; 76] = x(stream_key, "chunks", &[&header[..], ctx_record].concat());
    let mut keys = StreamKeys { chunk_key: [0; 32], base_nonce: [0; 12], commitment: [0; 32] };
    keys.chunk_key.copy_from_slice(&output[0..32]);
    keys.base_nonce.copy_from_slice(&output[32..44]);
    keys.commitment.copy_from_slice(&output[44..76]);
    keys
}
