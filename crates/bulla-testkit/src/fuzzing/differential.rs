//! Target `differential`: three sealers, three openers.

use std::collections::HashSet;

use arbitrary::{Result, Unstructured};
use bulla_core::{Header, Library};

use super::case::{ALL, Case};
use super::real;
use crate::reference::Class;
use crate::reference::header::REFERENCED_ONE_SHOT;

/// Seals the same with the reference and both AEAD libraries: the bytes are the same, or the
/// refusal is; and each opens it. What the libraries seal with nonces of their own (lanes,
/// epochs, batches), the reference opens, and no nonce comes twice.
pub fn differential(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut case = Case::take(u, &ALL)?;
    let piece_len = u.int_in_range(1..=5000)?;
    // What is left chooses plaintext, or DEK and nonce, byte by byte.
    if case.chunk_log2 == 0 && u.arbitrary()? {
        case.plaintext = u.bytes(u.len())?.to_vec();
    } else {
        for fill in [&mut case.inputs.dek[..], &mut case.inputs.nonce] {
            let len = fill.len().min(u.len());
            fill[..len].copy_from_slice(u.bytes(len)?);
        }
    }

    let (ask, keks) = (case.ask(), case.keks());
    let sealed = case.seal();
    for library in Library::ALL {
        assert_eq!(real::seal(*library, &case, piece_len), sealed);
    }
    let sealed = match sealed {
        Ok(sealed) => sealed,
        Err(class) => {
            assert!([Class::Context, Class::Refused].contains(&class));
            return Ok(());
        }
    };
    let plaintext = Ok(case.plaintext.clone());
    assert_eq!(ask.opener(&case, &keks).open(&sealed), plaintext);
    for library in Library::ALL {
        assert_eq!(real::open(*library, &ask, &case, &keks, &sealed), plaintext);
    }
    if case.kind == REFERENCED_ONE_SHOT {
        let mut nonces = HashSet::new();
        for sealed in Library::ALL.iter().flat_map(|one| real::seal_with_own_nonces(*one, &case)) {
            assert_eq!(ask.opener(&case, &keks).open(&sealed), plaintext);
            let nonce = Header::parse(&sealed).unwrap().nonce;
            assert!(nonces.insert(nonce), "a nonce twice");
        }
    }
    Ok(())
}
