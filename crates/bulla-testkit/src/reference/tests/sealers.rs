//! What is not written, and what a rewrap changes.

use super::*;
use crate::reference::{Class, derive, header, seal, wraps};

#[test]
fn what_no_opener_would_accept_is_not_written() {
    let one_shot = |inputs: Inputs, version| seal::referenced_one_shot(&inputs, version, b"");
    for suite in [0, 3, 4, 255] {
        assert_eq!(one_shot(Inputs { suite, ..inputs() }, 1), Err(Class::Refused));
    }
    for codec in [3, 127] {
        assert_eq!(one_shot(Inputs { codec, ..inputs() }, 1), Err(Class::Refused));
    }
    for codec in [0, 1, 2, 128, 255] {
        assert!(one_shot(Inputs { codec, ..inputs() }, 1).is_ok());
    }
    assert_eq!(one_shot(inputs(), 0), Err(Class::Refused));
    let record = pairs(&[("bulla-x", "1")]);
    assert_eq!(one_shot(Inputs { record, ..inputs() }, 1), Err(Class::Context));
    for chunk_log2 in [0, 11, 23, 255] {
        let refused = seal::referenced_chunked(&inputs(), 1, chunk_log2, b"");
        assert_eq!(refused, Err(Class::Refused));
    }
}

#[test]
fn wraps_are_written_in_order_and_reserved_backends_not_at_all() {
    let sealed = |entries: &[Entry]| {
        seal::self_contained_one_shot(&self_contained_inputs(), entries, PLAINTEXT)
    };
    let [one, two] = entries().try_into().unwrap();
    let envelope = sealed(&[two.clone(), one.clone()]).unwrap();
    assert_eq!(header::parse(&envelope).unwrap().wraps.unwrap().entries, entries());
    assert_eq!(sealed(&[one.clone(), one.clone()]), Err(Class::Refused));
    assert_eq!(sealed(&[]), Err(Class::Refused));
    for (backend, written) in [(0, false), (6, true), (7, false), (127, false), (128, true)] {
        let result = sealed(&[Entry { backend, ..one.clone() }]);
        assert_eq!(result.is_ok(), written, "backend {backend}");
    }
}

#[test]
fn an_opener_passes_over_a_reserved_backend() {
    let Inputs { dek, .. } = self_contained_inputs();
    let [one, _] = entries().try_into().unwrap();
    let newer = Entry { backend: 9, ..one.clone() };
    let envelope = with_wraps(0, &[one, newer], &dek);
    assert_eq!(opener().open(&envelope).as_deref(), Ok(PLAINTEXT));
}

#[test]
fn a_rewrap_counts_generations_until_there_are_no_more() {
    let Inputs { dek, .. } = self_contained_inputs();
    let generation = |envelope: &[u8]| header::parse(envelope).unwrap().wraps.unwrap().generation;
    let before = with_wraps(u32::MAX - 1, &entries(), &dek);
    let last = seal::rewrap(&opener(), &before, &entries()[..1]).unwrap();
    assert_eq!(generation(&last), u32::MAX);
    assert_eq!(opener().open(&last).as_deref(), Ok(PLAINTEXT));
    assert_eq!(seal::rewrap(&opener(), &last, &entries()), Err(Class::Refused));
}

#[test]
fn a_rewrap_checks_key_id_and_mac_and_leaves_the_payload_alone() {
    let Inputs { dek, .. } = self_contained_inputs();
    let envelope = with_wraps(0, &entries(), &dek);
    let mut changed = envelope.clone();
    changed[73] = 1;
    assert_eq!(seal::rewrap(&opener(), &changed, &entries()), Err(Class::Authentication));
    // A payload that does not open is carried over as it is.
    let mut changed = envelope.clone();
    *changed.last_mut().unwrap() ^= 1;
    let rewrapped = seal::rewrap(&opener(), &changed, &entries()).unwrap();
    let payload = header::parse(&changed).unwrap().payload_offset;
    assert_eq!(rewrapped[payload..], changed[payload..]);
    let referenced = seal::referenced_one_shot(&inputs(), 1, PLAINTEXT).unwrap();
    assert_eq!(seal::rewrap(&opener(), &referenced, &entries()), Err(Class::NotAccepted));
}

/// B.4 with other wraps, be they allowed to a sealer or not, and the right MAC.
fn with_wraps(generation: u32, entries: &[Entry], dek: &[u8; 32]) -> Vec<u8> {
    let b4 = super::spec::blocks("### B.4 ")[0].hex("envelope");
    let parsed = header::parse(&b4).unwrap();
    let mut envelope = b4[..68].to_vec();
    envelope.extend(wraps::encode(generation, entries).unwrap());
    let mac = wraps::mac(&derive::wraps_key(dek, &parsed.header.key_id), &envelope);
    envelope.extend(mac);
    envelope.extend(&b4[parsed.payload_offset..]);
    envelope
}
