//! Section 5: the one-shot payload.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

use super::{Class, aead};

/// Section 5.1: AAD = `header[0:44] || CTX(record)`.
pub fn aad(header: &[u8; 68], ctx_record: &[u8]) -> Vec<u8> {
    [&header[0..44], ctx_record].concat()
}

/// Section 5.2: what the XAES derivation goes through, under the names it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xaes {
    /// L, step 1.
    pub l: [u8; 16],
    /// K1, step 2.
    pub k1: [u8; 16],
    /// M1, step 3.
    pub m1: [u8; 16],
    /// M2, step 3.
    pub m2: [u8; 16],
    /// Kx, step 4: the message key.
    pub kx: [u8; 32],
    /// Nx, step 5: the message's nonce.
    pub nx: [u8; 12],
}

/// Section 5.2: from the seal key K and the nonce N.
pub fn xaes(k: &[u8; 32], n: &[u8; 24]) -> Xaes {
    // 1
    let l = aes_block(k, [0; 16]);
    // 2
    let number = u128::from_be_bytes(l);
    let mut k1 = (number << 1).to_be_bytes();
    if number >> 127 == 1 {
        k1[15] ^= 0x87;
    }
    // 3
    let mut m1 = [0; 16];
    m1[0..4].copy_from_slice(&[0x00, 0x01, 0x58, 0x00]);
    m1[4..16].copy_from_slice(&n[0..12]);
    let mut m2 = [0; 16];
    m2[0..4].copy_from_slice(&[0x00, 0x02, 0x58, 0x00]);
    m2[4..16].copy_from_slice(&n[0..12]);
    // 4
    let mut kx = [0; 32];
    kx[0..16].copy_from_slice(&aes_block(k, xor(m1, k1)));
    kx[16..32].copy_from_slice(&aes_block(k, xor(m2, k1)));
    // 5
    let mut nx = [0; 12];
    nx.copy_from_slice(&n[12..24]);
    Xaes { l, k1, m1, m2, kx, nx }
}

/// Section 5.3: ciphertext and tag. `header` holds suite and nonce.
pub fn seal(
    seal_key: &[u8; 32],
    header: &[u8; 68],
    ctx_record: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Class> {
    let Xaes { kx, nx, .. } = xaes(seal_key, &nonce(header));
    aead::seal(header[5], &kx, &nx, &aad(header, ctx_record), plaintext)
}

/// Section 5.3: the plaintext of ciphertext and tag.
pub fn open(
    seal_key: &[u8; 32],
    header: &[u8; 68],
    ctx_record: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, Class> {
    let Xaes { kx, nx, .. } = xaes(seal_key, &nonce(header));
    aead::open(header[5], &kx, &nx, &aad(header, ctx_record), payload)
}

fn nonce(header: &[u8; 68]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&header[44..68]);
    nonce
}

/// AES_K: the block encryption of AES-256.
pub fn aes_block(k: &[u8; 32], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    Aes256::new(k.into()).encrypt_block(&mut block);
    block.into()
}

fn xor(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
    (u128::from_be_bytes(a) ^ u128::from_be_bytes(b)).to_be_bytes()
}
