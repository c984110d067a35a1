//! Sections 2.5, 3 and 6.2: what is refused before a key is looked at.

use super::spec::blocks;
use super::*;
use crate::reference::chunks::Layout;
use crate::reference::{Class, context, header, seal, wraps};

/// B.4 with another wraps section, from wraps_len to the entries; the MAC stays.
fn with_section(section: &[u8]) -> Result<header::Parsed, Class> {
    let envelope = blocks("### B.4 ")[0].hex("envelope");
    header::parse(&[&envelope[..68], section, &envelope[38 + 0x6b..]].concat())
}

fn with_entries(entries: &[Entry]) -> Result<header::Parsed, Class> {
    with_section(&wraps::encode(0, entries).unwrap())
}

#[test]
fn wraps_at_their_limits_parse_and_beyond_them_do_not() {
    let [one, two] = entries().try_into().unwrap();
    let of = |kek_id: usize, kek_version: usize, blob: usize| Entry {
        backend: 128,
        kek_id: vec![1; kek_id],
        kek_version: vec![1; kek_version],
        blob: vec![1; blob],
    };
    assert!(with_entries(&[one.clone(), two.clone()]).is_ok());
    assert_eq!(with_entries(&[of(1, 0, 1)]).unwrap().wraps.unwrap().wraps_len, 45);
    assert!(with_entries(&[of(512, 255, 1024)]).is_ok());
    for refused in [of(0, 0, 1), of(513, 0, 1), of(1, 0, 0), of(1, 0, 1025)] {
        assert_eq!(with_entries(&[refused]), Err(Class::Malformed));
    }
    assert_eq!(with_entries(&[Entry { backend: 0, ..one.clone() }]), Err(Class::Malformed));
    assert_eq!(with_entries(&[]), Err(Class::Malformed));
    let numbered = |n: u8| -> Vec<Entry> {
        (1..=n).map(|i| Entry { kek_version: vec![i], ..of(512, 1, 1024) }).collect()
    };
    assert!(with_entries(&numbered(8)).is_ok());
    assert_eq!(with_entries(&numbered(9)), Err(Class::Malformed));
}

#[test]
fn entries_are_ordered_by_value_and_not_by_length() {
    let named = |kek_id: &[u8], kek_version: &[u8], blob: u8| Entry {
        backend: 1,
        kek_id: kek_id.to_vec(),
        kek_version: kek_version.to_vec(),
        blob: vec![blob],
    };
    assert!(with_entries(&[named(b"aa", b"", 1), named(b"b", b"", 1)]).is_ok());
    assert!(with_entries(&[named(b"a", b"", 1), named(b"aa", b"", 1)]).is_ok());
    assert!(with_entries(&[named(b"a", b"", 2), named(b"a", b"1", 1)]).is_ok());
    let again = with_entries(&[named(b"a", b"1", 1), named(b"a", b"1", 2)]);
    assert_eq!(again, Err(Class::Malformed));
    let backwards = with_entries(&[named(b"b", b"", 1), named(b"aa", b"", 1)]);
    assert_eq!(backwards, Err(Class::Malformed));
}

#[test]
fn a_wraps_section_ends_where_its_mac_begins() {
    let section = wraps::encode(0, &entries()).unwrap();
    assert!(with_section(&section).is_ok());
    let mut longer = [&section[..], &[0]].concat();
    longer[1] += 1;
    assert_eq!(with_section(&longer), Err(Class::Malformed));
    let mut shorter = section[..section.len() - 1].to_vec();
    shorter[1] -= 1;
    assert_eq!(with_section(&shorter), Err(Class::Malformed));
}

#[test]
fn chunk_log2_has_its_range_in_chunked_kinds_and_is_0_in_others() {
    for (example, fits) in [("### B.1 ", 0..=0), ("### B.3 ", 12..=22)] {
        let mut envelope = blocks(example)[0].hex("envelope");
        for chunk_log2 in 0..=255 {
            envelope[7] = chunk_log2;
            let parsed = header::parse(&envelope).map(|_| ());
            let expected = if fits.contains(&chunk_log2) { Ok(()) } else { Err(Class::Malformed) };
            assert_eq!(parsed, expected, "{example}: {chunk_log2}");
        }
    }
}

#[test]
fn an_envelope_needs_a_tag_or_a_commitment_after_what_precedes_the_payload() {
    let b5_inputs = Inputs { nonce: stream_inputs().nonce, ..self_contained_inputs() };
    let b5 = seal::self_contained_chunked(&b5_inputs, &entries(), 12, b"hello").unwrap();
    for (envelope, shortest) in [
        (blocks("### B.1 ")[0].hex("envelope"), 68 + 16),
        (blocks("### B.3 ")[0].hex("envelope"), 68 + 32),
        (blocks("### B.4 ")[0].hex("envelope"), 70 + 0x6b + 16),
        (b5, 70 + 0x6b + 32),
    ] {
        for len in 0..=envelope.len() {
            let parsed = header::parse(&envelope[..len]).map(|_| ());
            let expected = if len < shortest { Err(Class::Malformed) } else { Ok(()) };
            assert_eq!(parsed, expected, "kind {:02x}, {len} bytes", envelope[4]);
        }
    }
}

#[test]
fn version_0_is_that_of_self_contained_kinds_and_of_no_other() {
    for (example, version) in [("### B.1 ", 0), ("### B.3 ", 0), ("### B.4 ", 1)] {
        let mut envelope = blocks(example)[0].hex("envelope");
        assert!(header::parse(&envelope).is_ok());
        envelope[11] = version;
        assert_eq!(header::parse(&envelope), Err(Class::Malformed), "{example}");
    }
}

/// Section 7.1: with the smallest chunks the count binds first, by one byte.
#[test]
fn streams_are_limited_in_chunks_and_in_bytes() {
    let of = |chunk_log2: u8, full: u64, r: u64| {
        Layout::new(chunk_log2, full * ((1 << chunk_log2) + 16) + r)
    };
    let longest = of(12, (1 << 32) - 1, 4095 + 16);
    assert_eq!((longest.chunks(), longest.plaintext_len()), (1 << 32, (1 << 44) - 1));
    assert!(longest.is_within_limits());
    assert!(!of(12, 1 << 32, 16).is_within_limits());
    // Truncated, which is not malformed: chunk m counts as none.
    assert!(of(12, 1 << 32, 15).is_within_limits());
    assert!(!of(12, (1 << 32) + 1, 15).is_within_limits());
    assert!(of(16, 1 << 28, 16).is_within_limits());
    assert!(!of(16, 1 << 28, 17).is_within_limits());
}

#[test]
fn contexts_keep_their_limits() {
    let refused = |result: Result<Vec<u8>, Class>| assert_eq!(result, Err(Class::Context));
    let many =
        |n: u8, value: usize| -> Pairs { (0..n).map(|i| (vec![i], vec![0; value])).collect() };
    let both = [context::ctx_scope as fn(&Pairs) -> _, context::ctx_record];
    for ctx in both {
        assert_eq!(ctx(&vec![]), Ok(vec![0, 0]));
        assert!(ctx(&vec![(vec![1; 64], vec![])]).is_ok());
        refused(ctx(&vec![(vec![1; 65], vec![])]));
        refused(ctx(&vec![(vec![], vec![1])]));
        refused(ctx(&pairs(&[("a", "1"), ("b", "2"), ("a", "1")])));
        refused(ctx(&pairs(&[("bulla", "")])));
        assert!(ctx(&pairs(&[("bull", ""), ("Bulla", ""), ("xbulla", "")])).is_ok());
    }
    assert!(context::ctx_scope(&many(8, 0)).is_ok());
    refused(context::ctx_scope(&many(9, 0)));
    assert!(context::ctx_scope(&many(1, 1024 - 2 - 5)).is_ok());
    refused(context::ctx_scope(&many(1, 1024 - 2 - 5 + 1)));
    refused(context::ctx_scope(&vec![(vec![0xff], vec![])]));
    refused(context::ctx_scope(&vec![(vec![1], vec![0xff])]));

    assert!(context::ctx_record(&vec![(vec![0xff], vec![0xff])]).is_ok());
    assert!(context::ctx_record(&many(32, 0)).is_ok());
    refused(context::ctx_record(&many(33, 0)));
    assert!(context::ctx_record(&many(1, 1024)).is_ok());
    refused(context::ctx_record(&many(1, 1025)));
    // 2 + 3 × (5 + 1024) + 5 + 1002 = 4096
    let mut longest = many(3, 1024);
    longest.push((vec![9], vec![0; 1002]));
    assert_eq!(context::ctx_record(&longest).map(|ctx| ctx.len()), Ok(4096));
    longest[3].1.push(0);
    refused(context::ctx_record(&longest));
}
