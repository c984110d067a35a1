//! Appendix B, byte for byte. All values are read from the specification.

use sha2::{Digest, Sha256};

use super::spec::{Block, blocks};
use super::*;
use crate::reference::one_shot::Xaes;
use crate::reference::{Trace, chunks, header, seal, wraps};

fn trace(inputs: &Inputs, envelope: &[u8]) -> Trace {
    Trace::new(&inputs.dek, &inputs.scope, &inputs.record, envelope).unwrap()
}

/// Seal key to Nx, the AAD, and what they make of the plaintext.
fn check_one_shot(block: &Block, inputs: &Inputs, envelope: &[u8]) {
    let shot = trace(inputs, envelope).one_shot.expect("a one-shot envelope");
    let Xaes { l, k1, m1, m2, kx, nx } = shot.xaes;
    let nonces = &blocks("### B.1 ")[0];
    assert_eq!(shot.seal_key[..], block.hex("seal key"));
    assert_eq!(l[..], block.hex("L"));
    assert_eq!(k1[..], block.hex("K1"));
    assert_eq!(m1[..], nonces.hex("M1"));
    assert_eq!(m2[..], nonces.hex("M2"));
    assert_eq!(kx[..], block.hex("Kx"));
    assert_eq!(nx[..], nonces.hex("Nx"));
    assert_eq!(shot.aad, block.hex("AAD"));
    let payload = header::parse(envelope).unwrap().payload_offset;
    assert_eq!(envelope[payload..], [block.hex("ciphertext"), block.hex("tag")].concat());
    assert_eq!(envelope, block.hex("envelope"));
}

/// Stream key to chunk 0.
fn check_chunked(block: &Block, inputs: &Inputs, envelope: &[u8]) {
    let stream = trace(inputs, envelope).chunked.expect("a chunked envelope");
    assert_eq!(stream.stream_key[..], block.hex("stream key"));
    assert_eq!(stream.keys.chunk_key[..], block.hex("chunk key"));
    assert_eq!(stream.keys.base_nonce[..], block.hex("base nonce"));
    assert_eq!(stream.keys.commitment[..], block.hex("commitment"));
    assert_eq!(chunks::nonce(&stream.keys.base_nonce, 0)[..], block.hex("nonce 0"));
    let payload = header::parse(envelope).unwrap().payload_offset;
    let expected = [block.hex("commitment"), block.hex("chunk 0")].concat();
    assert_eq!(envelope[payload..], expected);
}

#[test]
fn the_common_values_are_those_of_appendix_b() {
    let blocks = blocks("## Appendix B");
    let (given, derived, kms) = (&blocks[0], &blocks[1], &blocks[2]);
    let inputs = inputs();
    assert_eq!(inputs.dek[..], given.hex("DEK"));
    assert_eq!(inputs.nonce[..], given.hex("nonce"));
    assert_eq!(PLAINTEXT, given.text("plaintext").trim_matches('"').as_bytes());

    let trace = trace(&inputs, &seal::referenced_one_shot(&inputs, 1, PLAINTEXT).unwrap());
    assert_eq!(trace.ctx_scope, derived.hex("CTX(scope)"));
    assert_eq!(trace.ctx_record, derived.hex("CTX(record)"));
    assert_eq!(trace.key_id[..], derived.hex("key id"));
    assert_eq!(trace.ctx_kms, kms.hex("CTX(KMS)"));
}

#[test]
fn b1_referenced_one_shot_in_suite_1() {
    let envelope = seal::referenced_one_shot(&inputs(), 1, PLAINTEXT).unwrap();
    check_one_shot(&blocks("### B.1 ")[0], &inputs(), &envelope);
    assert_eq!(envelope.len(), PLAINTEXT.len() + 84);
    assert_eq!(opener().open(&envelope).as_deref(), Ok(PLAINTEXT));
}

#[test]
fn b2_referenced_one_shot_in_suite_2() {
    let inputs = Inputs { suite: 2, ..inputs() };
    let envelope = seal::referenced_one_shot(&inputs, 1, PLAINTEXT).unwrap();
    check_one_shot(&blocks("### B.2 ")[0], &inputs, &envelope);
    let opener = Opener { suites: &[2], ..opener() };
    assert_eq!(opener.open(&envelope).as_deref(), Ok(PLAINTEXT));
}

#[test]
fn b3_referenced_chunked_in_both_suites() {
    let blocks = blocks("### B.3 ");
    for (suite, block) in [(1, &blocks[0]), (2, &blocks[1])] {
        let inputs = Inputs { suite, ..stream_inputs() };
        let envelope = seal::referenced_chunked(&inputs, 1, 12, b"hello").unwrap();
        check_chunked(block, &inputs, &envelope);
        assert_eq!(envelope, block.hex("envelope"));
        let opener = Opener { suites: &[suite], ..opener() };
        assert_eq!(opener.open(&envelope).as_deref(), Ok(&b"hello"[..]));
    }
    assert_eq!(stream_inputs().nonce[..], blocks[0].hex("salt"));
}

#[test]
fn b3_a_full_chunk_and_an_empty_one() {
    let block = &blocks("### B.3 ")[2];
    let envelope = seal::referenced_chunked(&stream_inputs(), 1, 12, &[0; 4096]).unwrap();
    let keys = trace(&stream_inputs(), &envelope).chunked.unwrap().keys;
    assert_eq!(envelope.len(), 4228);
    assert_eq!(chunks::nonce(&keys.base_nonce, 1)[..], block.hex("nonce 1"));
    let chunk_1 = 68 + 32 + 4096 + 16;
    assert_eq!(envelope[chunk_1 - 16..chunk_1], block.hex("tag 0"));
    assert_eq!(envelope[chunk_1..], block.hex("chunk 1"));
    assert_eq!(Sha256::digest(&envelope)[..], block.hex("SHA-256"));
    assert_eq!(opener().open(&envelope), Ok(vec![0; 4096]));
}

#[test]
fn b4_self_contained_one_shot() {
    let block = &blocks("### B.4 ")[0];
    let inputs = self_contained_inputs();
    let envelope = seal::self_contained_one_shot(&inputs, &entries(), PLAINTEXT).unwrap();
    let trace = trace(&inputs, &envelope);
    let wraps = trace.wraps.as_ref().expect("a self-contained envelope");
    assert_eq!(inputs.dek[..], block.hex("DEK"));
    assert_eq!(trace.key_id[..], block.hex("key id"));
    assert_eq!(wraps.wraps_key[..], block.hex("wraps key"));
    assert_eq!(wraps.mac[..], block.hex("MAC"));
    let section = [block.hex("wraps_len"), block.hex("generation..")].concat();
    assert_eq!(wraps::encode(0, &entries()), Ok(section));
    check_one_shot(block, &inputs, &envelope);
    assert_eq!(opener().open(&envelope).as_deref(), Ok(PLAINTEXT));
}

#[test]
fn b4_a_rewrap_changes_the_wraps_section_and_nothing_else() {
    let blocks = blocks("### B.4 ");
    let envelope = blocks[0].hex("envelope");
    let rewrapped = seal::rewrap(&opener(), &envelope, &entries()[..1]).unwrap();
    let section = ["wraps_len", "generation..", "MAC"].map(|name| blocks[1].hex(name)).concat();
    let payload = 70 + 0x6b;
    assert_eq!(rewrapped, [&envelope[..68], &section, &envelope[payload..]].concat());
    assert_eq!(opener().open(&rewrapped).as_deref(), Ok(PLAINTEXT));
}

#[test]
fn b5_self_contained_chunked() {
    let block = &blocks("### B.5 ")[0];
    let inputs = Inputs { nonce: stream_inputs().nonce, ..self_contained_inputs() };
    let envelope = seal::self_contained_chunked(&inputs, &entries(), 12, b"hello").unwrap();
    check_chunked(block, &inputs, &envelope);
    assert_eq!(envelope[..68], block.hex("header"));
    assert_eq!(trace(&inputs, &envelope).wraps.unwrap().mac[..], block.hex("MAC"));
    assert_eq!(envelope.len(), 230);
    assert_eq!(Sha256::digest(&envelope)[..], block.hex("SHA-256"));
    assert_eq!(opener().open(&envelope).as_deref(), Ok(&b"hello"[..]));
}
