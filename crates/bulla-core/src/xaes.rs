//! The key derivation of XAES-256-GCM (C2SP, `XAES-256-GCM.md` v1.0.1).
//!
//! A 24-byte nonce is split: its first half chooses a derived AES-256-GCM key,
//! its second half is the nonce under that key. The derivation is the counter-mode
//! KDF of NIST SP 800-108r1 (section 4.1) over CMAC, which for one-block messages
//! is two AES calls with the first CMAC subkey mixed in.

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

/// Length of the half of the nonce that chooses the derived key, in bytes.
pub(crate) const PREFIX_LEN: usize = 12;

/// An XAES key with its schedule and CMAC subkey, 256 bytes, wiped on drop. In a box,
/// all of it: what holds it is moved from place to place.
pub(crate) struct XaesKey(Box<Parts>);

struct Parts {
    cipher: Aes256Enc,
    subkey: Zeroizing<[u8; 16]>,
}

impl XaesKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        bulla_sys::apart(|| {
            let cipher = Aes256Enc::new(key.into());
            let mut parts = Box::new(Parts { cipher, subkey: Zeroizing::new([0; 16]) });
            let Parts { cipher, subkey } = &mut *parts;
            cipher.encrypt_block((&mut **subkey).into());
            **subkey = double(subkey);
            Self(parts)
        })
    }

    /// Calls `use_key` with the AES-256-GCM key for nonces that start with `prefix`.
    pub(crate) fn derive<T>(
        &self,
        prefix: &[u8; PREFIX_LEN],
        use_key: impl FnOnce(&[u8; 32]) -> T,
    ) -> T {
        bulla_sys::apart(|| {
            let Parts { cipher, subkey } = &*self.0;
            let mut key = Zeroizing::new([0; 32]);
            for (counter, half) in (1_u8..).zip(key.as_chunks_mut::<16>().0) {
                half[..4].copy_from_slice(&[0, counter, b'X', 0]);
                half[4..].copy_from_slice(prefix);
                half.iter_mut().zip(subkey.iter()).for_each(|(byte, k)| *byte ^= k);
                cipher.encrypt_block(half.into());
            }
            use_key(&key)
        })
    }
}

/// Doubling in GF(2^128) (NIST SP 800-38B, section 6.1), without a branch on the
/// secret top bit.
fn double(block: &[u8; 16]) -> [u8; 16] {
    let value = u128::from_be_bytes(*block);
    let carry = value >> 127;
    ((value << 1) ^ (carry * 0x87)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Suite;
    use crate::aead::{AeadKey, Library, TAG_LEN};
    use data_encoding::HEXLOWER;
    use sha3::Shake128;
    use sha3::digest::{ExtendableOutput, Update, XofReader};

    /// The two vectors of the specification: the key's most significant bit after
    /// the first AES call is clear in one and set in the other.
    #[test]
    fn c2sp_vectors() {
        let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
        let cases: [(u8, &[u8], &str); 2] = [
            (1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (
                3,
                b"c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ];
        for (key_byte, aad, expected) in cases {
            let xaes = XaesKey::new(&[key_byte; 32]);
            for library in Library::ALL {
                let new = |derived: &_| AeadKey::new(*library, Suite::Xaes256Gcm, derived);
                let key = xaes.derive(nonce[..12].try_into().unwrap(), new).unwrap();
                let mut out = [0; 12 + TAG_LEN];
                key.seal(nonce[12..].try_into().unwrap(), aad, b"XAES-256-GCM", &mut out).unwrap();
                assert_eq!(HEXLOWER.encode(&out), expected);
            }
        }
    }

    /// The accumulated tests of the specification ("Accumulated randomized tests"): key,
    /// nonce, and plaintext and associated data each behind a byte of length, are read
    /// from SHAKE128 of nothing; ciphertexts and tags are hashed by another SHAKE128.
    fn accumulated(iterations: usize, expected: &str) {
        let mut stream = Shake128::default().finalize_xof();
        let mut hashes: Vec<_> = Library::ALL.iter().map(|_| Shake128::default()).collect();
        let (mut key, mut nonce) = ([0; 32], [0; 24]);
        let (mut plaintext, mut aad, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..iterations {
            stream.read(&mut key);
            stream.read(&mut nonce);
            for field in [&mut plaintext, &mut aad] {
                let mut len = [0];
                stream.read(&mut len);
                field.resize(len[0].into(), 0);
                stream.read(field);
            }
            let tail = nonce[12..].try_into().unwrap();
            let derived = XaesKey::new(&key).derive(nonce[..12].try_into().unwrap(), |key| *key);
            for (library, hash) in Library::ALL.iter().zip(&mut hashes) {
                let aead = AeadKey::new(*library, Suite::Xaes256Gcm, &derived).unwrap();
                out.resize(plaintext.len() + TAG_LEN, 0);
                aead.seal(tail, &aad, &plaintext, &mut out).unwrap();
                hash.update(&out);
                let (ciphertext, tag) = out.split_last_chunk().unwrap();
                let mut opened = vec![0; plaintext.len()];
                aead.open(tail, &aad, ciphertext, tag, &mut opened).unwrap();
                assert_eq!(opened, plaintext);
            }
        }
        for (library, hash) in Library::ALL.iter().zip(hashes) {
            let mut digest = [0; 32];
            hash.finalize_xof().read(&mut digest);
            assert_eq!(HEXLOWER.encode(&digest), expected, "{library:?}");
        }
    }

    #[test]
    fn c2sp_accumulated_vectors() {
        accumulated(10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939");
    }

    /// `BULLA_LONG=1 cargo test --release` for the million: half a minute.
    #[test]
    fn c2sp_accumulated_vectors_of_a_million() {
        if std::env::var_os("BULLA_LONG").is_some_and(|long| long == "1") {
            let expected = "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15";
            accumulated(1_000_000, expected);
        }
    }
}
