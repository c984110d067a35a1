//! Sections 6.4, 7.3 and 8.1: which failure is reported, and which part is not looked at.

use std::cell::RefCell;

use super::*;
use crate::reference::{Class, context, header, seal};

fn self_contained() -> Vec<u8> {
    seal::self_contained_one_shot(&self_contained_inputs(), &entries(), PLAINTEXT).unwrap()
}

fn open_with(recipients: Vec<Recipient<'_>>) -> Result<Vec<u8>, Class> {
    let Inputs { scope, record, .. } = inputs();
    let keys = Keys { deks: vec![], recipients };
    let kinds = &header::KINDS;
    Opener { scope, record, kinds, suites: &[1], codec: 0, keys }.open(&self_contained())
}

#[test]
fn each_check_comes_after_those_before_it() {
    let good = || (seal::referenced_one_shot(&inputs(), 1, PLAINTEXT).unwrap(), opener());
    // From the last check to the first: each defect hides all that were made before it.
    let (mut envelope, mut opener) = good();
    let last = envelope.len() - 1;
    envelope[last] ^= 1;
    assert_eq!(opener.open(&envelope), Err(Class::Authentication));
    opener.keys.deks.clear();
    assert_eq!(opener.open(&envelope), Err(Class::UnknownKey));
    opener.codec = 1;
    assert_eq!(opener.open(&envelope), Err(Class::NotAccepted));
    envelope[8..12].fill(0);
    assert_eq!(opener.open(&envelope), Err(Class::Malformed));
    envelope[5] = 9;
    assert_eq!(opener.open(&envelope), Err(Class::Unsupported));
    opener.record = pairs(&[("", "")]);
    assert_eq!(opener.open(&envelope), Err(Class::Context));
}

#[test]
fn kinds_and_suites_are_accepted_one_by_one() {
    let envelope = self_contained();
    for (kinds, suites) in [(&[0x01, 0x02, 0x12][..], &[1, 2][..]), (&[0x11], &[2]), (&[], &[1])] {
        let refused = Opener { kinds, suites, ..opener() };
        assert_eq!(refused.open(&envelope), Err(Class::NotAccepted));
    }
    let accepted = Opener { kinds: &[0x11], suites: &[1], ..opener() };
    assert!(accepted.open(&envelope).is_ok());
}

#[test]
fn an_envelope_without_an_entry_for_the_opener_is_an_unknown_key() {
    let [one, _] = entries().try_into().unwrap();
    let dek = self_contained_inputs().dek;
    assert_eq!(open_with(vec![]), Err(Class::UnknownKey));
    let stranger = Entry { kek_id: b"another-kek".to_vec(), ..one.clone() };
    assert_eq!(open_with(vec![recipient(&stranger, &dek)]), Err(Class::UnknownKey));
    let stranger = Entry { backend: 2, ..one.clone() };
    assert_eq!(open_with(vec![recipient(&stranger, &dek)]), Err(Class::UnknownKey));
    assert!(open_with(vec![recipient(&one, &dek)]).is_ok());
}

#[test]
fn a_kek_that_fails_is_passed_over_and_a_wrong_dek_is_not() {
    let [one, two] = entries().try_into().unwrap();
    let dek = self_contained_inputs().dek;
    let fails = || Recipient::new(one.backend, &one.kek_id, Box::new(|_, _| None));
    assert_eq!(open_with(vec![fails()]), Err(Class::KmsFailure));
    assert!(open_with(vec![fails(), recipient(&two, &dek)]).is_ok());
    for wrong in [&dek[..31], &[0; 32], &[0; 33]] {
        let recipients = vec![recipient(&one, wrong), recipient(&two, &dek)];
        assert_eq!(open_with(recipients), Err(Class::UnknownKey));
    }
}

#[test]
fn an_unwrap_is_given_the_kms_context_of_version_0() {
    let seen = RefCell::new(vec![]);
    let unwrap = |_: &Entry, ctx_kms: &[u8]| {
        seen.borrow_mut().push(ctx_kms.to_vec());
        None
    };
    let [one, _] = entries().try_into().unwrap();
    let kek = Recipient::new(one.backend, &one.kek_id, Box::new(unwrap));
    assert_eq!(open_with(vec![kek]), Err(Class::KmsFailure));
    let mut expected = inputs().scope;
    expected.extend(pairs(&[("bulla-format", "1"), ("bulla-dek-version", "0")]));
    assert_eq!(seen.into_inner(), [context::encode(&expected).unwrap()]);
}

/// Three chunks: two full ones and one with ten bytes.
fn stream() -> (Vec<u8>, Vec<u8>) {
    let plaintext: Vec<u8> = (0..2 * 4096 + 10).map(|i: u32| i as u8).collect();
    (seal::referenced_chunked(&stream_inputs(), 1, 12, &plaintext).unwrap(), plaintext)
}

#[test]
fn a_range_opens_the_chunks_it_needs_and_no_others() {
    let (envelope, plaintext) = stream();
    let chunk = |i: usize| 100 + i * 4112;
    let damaged = |i: usize| {
        let mut envelope = envelope.clone();
        envelope[chunk(i)] ^= 1;
        envelope
    };
    let (c, end) = (4096, 2 * 4096 + 10);
    // The range and the chunks that it needs.
    for (a, b, needs) in [
        (0, 0, &[0][..]),
        (0, c, &[0]),
        (c, c, &[1]),
        (c - 1, c + 1, &[0, 1]),
        (c, 2 * c, &[1]),
        (5, end, &[0, 1, 2]),
        (2 * c, end, &[2]),
        (end, end, &[2]),
    ] {
        let expected = plaintext[a as usize..b as usize].to_vec();
        assert_eq!(opener().open_range(&envelope, a, b), Ok(expected.clone()), "{a}..{b}");
        for i in 0..3 {
            let result = opener().open_range(&damaged(i), a, b);
            let untouched =
                if needs.contains(&i) { Err(Class::Authentication) } else { Ok(expected.clone()) };
            assert_eq!(result, untouched, "{a}..{b} with chunk {i} damaged");
        }
    }
    // Out of range: chunk m alone.
    for (a, b) in [(0, end + 1), (end + 1, end + 1), (u64::MAX, u64::MAX)] {
        assert_eq!(opener().open_range(&envelope, a, b), Err(Class::OutOfRange));
        assert_eq!(opener().open_range(&damaged(0), a, b), Err(Class::OutOfRange));
        assert_eq!(opener().open_range(&damaged(2), a, b), Err(Class::Authentication));
    }
}

#[test]
fn a_range_before_the_end_is_served_from_a_truncated_stream() {
    let (envelope, plaintext) = stream();
    for tail in [0, 1, 15] {
        let cut = &envelope[..100 + 2 * 4112 + tail];
        assert_eq!(opener().open(cut), Err(Class::Authentication));
        let all = opener().open_range(cut, 0, 8192);
        assert_eq!(all.as_deref(), Ok(&plaintext[..8192]));
        for (a, b) in [(8192, 8192), (0, 8193), (9000, 9001)] {
            assert_eq!(opener().open_range(cut, a, b), Err(Class::Authentication));
        }
    }
    // Cut within chunk 1, it is chunk m, and not authentic.
    let cut = &envelope[..100 + 4112 + 100];
    assert_eq!(opener().open_range(cut, 0, 4096).as_deref(), Ok(&plaintext[..4096]));
    assert_eq!(opener().open_range(cut, 4096, 4097), Err(Class::Authentication));
    assert_eq!(opener().open_range(cut, 0, 8192), Err(Class::Authentication));
}

#[test]
fn a_range_of_a_one_shot_envelope_is_not_accepted() {
    assert_eq!(opener().open_range(&self_contained(), 0, 1), Err(Class::NotAccepted));
}

#[test]
fn a_wrong_commitment_is_noticed_by_every_range() {
    let (mut envelope, _) = stream();
    envelope[68] ^= 1;
    assert_eq!(opener().open_range(&envelope, 0, 0), Err(Class::Authentication));
    assert_eq!(opener().open_range(&envelope, 0, u64::MAX), Err(Class::Authentication));
}
