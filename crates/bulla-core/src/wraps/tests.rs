use super::*;
use proptest::prelude::*;

fn wrap(backend: u8, kek_id: &[u8], kek_version: &[u8]) -> Wrap {
    Wrap::new(backend, kek_id, kek_version, [0xb0; 16])
}

fn two() -> Wraps {
    Wraps::new([wrap(1, b"example-kek", b""), wrap(3, b"transit/orders", b"7")]).unwrap()
}

const MAC: [u8; MAC_LEN] = [0xcc; MAC_LEN];

/// The whole section, with a MAC that nobody checks here.
fn section(wraps: &Wraps) -> Vec<u8> {
    [wraps.to_bytes(), MAC.to_vec()].concat()
}

/// As a head is read: as long as the section says.
fn parse(bytes: &[u8]) -> Result<(Wraps, [u8; MAC_LEN]), WrapsError> {
    let section = bytes.get(..Wraps::section_len(bytes)?).ok_or(WrapsError::SectionLength)?;
    Wraps::parse(section)
}

/// A section of `entries`, whatever they are, with a `wraps_len` that fits.
fn section_of(count: u8, entries: &[&[u8]]) -> Vec<u8> {
    let body = [&[0, 0, 0, 0, count][..], &entries.concat(), &MAC].concat();
    [&(body.len() as u16).to_be_bytes()[..], &body].concat()
}

fn entry(wrap: &Wrap) -> Vec<u8> {
    let section = Wraps { generation: 0, entries: vec![wrap.clone()] }.to_bytes();
    section[LEN_FIELD + 5..].to_vec()
}

#[test]
fn the_layout_is_the_drawn_one() {
    let wraps = Wraps::new([Wrap::new(1, *b"k", *b"v", *b"blob")]).unwrap();
    assert_eq!(
        section(&wraps.replaced_by(wraps.entries().to_vec()).unwrap()),
        [&[0, 49, 0, 0, 0, 1, 1, 1, 0, 1, b'k', 1, b'v', 0, 4][..], b"blob", &MAC,].concat()
    );
}

#[test]
fn each_wrap_that_cannot_be_made_is_refused_by_its_own_error() {
    let new = |entries: &[Wrap]| Wraps::new(entries.to_vec()).unwrap_err();
    let alone = |wrap: Wrap| new(&[wrap]);
    let many = |n: u8| (0..n).map(|i| wrap(1, &[i], b"")).collect::<Vec<_>>();
    assert_eq!(new(&[]), WrapsError::Count(0));
    assert!(Wraps::new(many(8)).is_ok());
    assert_eq!(new(&many(9)), WrapsError::Count(9));
    for reserved in [7, 64, 127] {
        assert_eq!(alone(wrap(reserved, b"k", b"")), WrapsError::Backend(reserved));
    }
    assert_eq!(alone(wrap(0, b"k", b"")), WrapsError::Backend(0));
    for backend in [1, 6, 128, 255] {
        assert!(Wraps::new([wrap(backend, b"k", b"")]).is_ok());
    }
    let length = |field, len, min, max| WrapsError::FieldLength { field, len, min, max };
    assert_eq!(alone(wrap(1, b"", b"")), length("KEK id", 0, 1, 512));
    assert_eq!(alone(wrap(1, &[7; 513], b"")), length("KEK id", 513, 1, 512));
    assert_eq!(alone(wrap(1, b"k", &[7; 256])), length("KEK version", 256, 0, 255));
    assert_eq!(alone(Wrap::new(1, *b"k", *b"", *b"")), length("blob", 0, 1, 1024));
    assert_eq!(alone(Wrap::new(1, *b"k", *b"", [7; 1025])), length("blob", 1025, 1, 1024));
    assert_eq!(new(&[wrap(1, b"k", b"v"), wrap(1, b"k", b"v")]), WrapsError::Order);
    // Another blob does not make another name.
    let again = Wrap::new(1, *b"k", *b"v", *b"another");
    assert_eq!(new(&[wrap(1, b"k", b"v"), again]), WrapsError::Order);
}

#[test]
fn an_endless_iterator_is_refused_not_collected() {
    let endless = std::iter::repeat_with(|| wrap(1, b"k", b""));
    assert_eq!(Wraps::new(endless).unwrap_err(), WrapsError::Count(9));
}

#[test]
fn each_malformed_section_is_refused_by_its_own_error() {
    let one = entry(&wrap(1, b"k", b""));
    assert!(parse(&section_of(1, &[&one])).is_ok());
    assert_eq!(parse(&section_of(0, &[&one])), Err(WrapsError::Count(0)));
    assert_eq!(parse(&section_of(9, &[&one[..]; 9])), Err(WrapsError::Count(9)));
    assert_eq!(parse(&section_of(255, &[&one])), Err(WrapsError::Count(255)));
    let bad = |wrap: Wrap| parse(&section_of(1, &[&entry(&wrap)])).unwrap_err();
    let length = |field, len, min, max| WrapsError::FieldLength { field, len, min, max };
    assert_eq!(bad(wrap(0, b"k", b"")), WrapsError::Backend(0));
    assert_eq!(bad(wrap(1, b"", b"")), length("KEK id", 0, 1, 512));
    assert_eq!(bad(wrap(1, &[7; 513], b"")), length("KEK id", 513, 1, 512));
    assert_eq!(bad(Wrap::new(1, *b"k", *b"", *b"")), WrapsError::SectionLength, "under 45 bytes");
    assert_eq!(bad(Wrap::new(1, *b"kk", *b"", *b"")), length("blob", 0, 1, 1024));
    assert_eq!(bad(Wrap::new(1, *b"k", *b"", [7; 1025])), length("blob", 1025, 1, 1024));
    let other = entry(&wrap(1, b"l", b""));
    assert!(parse(&section_of(2, &[&one, &other])).is_ok());
    assert_eq!(parse(&section_of(2, &[&other, &one])), Err(WrapsError::Order));
    assert_eq!(parse(&section_of(2, &[&one, &one])), Err(WrapsError::Order));
    // More entries than counted, fewer, and one that reaches into the MAC.
    assert_eq!(parse(&section_of(1, &[&one, &other])), Err(WrapsError::SectionLength));
    assert_eq!(parse(&section_of(2, &[&one])), Err(WrapsError::SectionLength));
    assert_eq!(
        parse(&section_of(1, &[&[1, 0, 1, b'k', 0, 0, 40], &[7; 39]])),
        Err(WrapsError::SectionLength)
    );
    for wraps_len in [0, 44, 16_385, u16::MAX] {
        let bytes = [&wraps_len.to_be_bytes()[..], &[0; 70_000]].concat();
        assert_eq!(parse(&bytes), Err(WrapsError::SectionLength), "{wraps_len}");
    }
    assert_eq!(Wraps::section_len(&[0, 45]), Ok(47));
    assert_eq!(Wraps::section_len(&[0x40, 0]), Ok(16_386));
    assert_eq!(Wraps::section_len(&[0]), Err(WrapsError::SectionLength));
}

#[test]
fn the_largest_wraps_fit_and_the_smallest_have_45_bytes() {
    let largest = |i: u8| Wrap::new(1, [i; 512], [i; 255], [i; 1024]);
    let wraps = Wraps::new((0..8).map(largest)).unwrap();
    let bytes = section(&wraps);
    assert_eq!(bytes.len(), LEN_FIELD + 14_413);
    assert_eq!(parse(&bytes).unwrap(), (wraps, MAC));
    let smallest = Wraps::new([Wrap::new(1, *b"k", *b"", *b"b")]).unwrap();
    assert_eq!(section(&smallest).len(), LEN_FIELD + WRAPS_LEN_MIN);
}

#[test]
fn reserved_backends_are_read_and_passed_over() {
    let wraps = Wraps {
        generation: 3,
        entries: vec![wrap(1, b"ours", b""), wrap(77, b"of a newer service", b"")],
    };
    let (read, _) = parse(&section(&wraps)).unwrap();
    assert_eq!(read, wraps);
    assert_eq!(read.by_kek(1, b"ours").count(), 1);
    assert_eq!(format!("{:?}", read.entries()[1]).split(' ').next(), Some("backend"));
}

#[test]
fn wraps_are_sorted_by_backend_kek_id_and_kek_version_as_values() {
    let sorted = [
        wrap(1, b"aa", b""),
        wrap(1, b"aa", b"1"),
        wrap(1, b"aa", b"10"),
        wrap(1, b"aa", b"2"),
        // Behind "aa", although its length would put it in front.
        wrap(1, b"b", b""),
        wrap(2, b"a", b""),
        wrap(2, b"a\x80", b""),
        wrap(255, b"a", b""),
    ];
    let mut shuffled = sorted.to_vec();
    for by in 0..sorted.len() {
        shuffled.rotate_left(by);
        shuffled.swap(0, 3);
        let wraps = Wraps::new(shuffled.clone()).unwrap();
        assert_eq!(wraps.entries(), sorted);
        assert_eq!(parse(&section(&wraps)).unwrap().0, wraps);
    }
    let wraps = Wraps::new(sorted).unwrap();
    let versions: Vec<_> = wraps.by_kek(1, b"aa").map(|wrap| &*wrap.kek_version).collect();
    assert_eq!(versions, [&b""[..], b"1", b"10", b"2"]);
    assert_eq!(wraps.by_kek(1, b"a").count(), 0);
    assert_eq!(wraps.by_kek(2, b"aa").count(), 0);
}

#[test]
fn generations_are_counted_to_their_end() {
    let wraps = two();
    assert_eq!(wraps.generation(), 0);
    let next = wraps.replaced_by([wrap(1, b"k", b"")]).unwrap();
    assert_eq!((next.generation(), next.entries().len()), (1, 1));
    let last = Wraps { generation: u32::MAX - 1, ..two() }.replaced_by(two().entries).unwrap();
    assert_eq!(last.generation(), u32::MAX);
    assert_eq!(parse(&section(&last)).unwrap().0, last);
    assert_eq!(last.replaced_by(two().entries), Err(WrapsError::GenerationEnded));
}

#[test]
fn debug_escapes_what_is_not_printable_and_hides_the_blob() {
    let show = |backend, kek_id: &[u8], kek_version: &[u8]| {
        format!("{:?}", wrap(backend, kek_id, kek_version))
    };
    assert_eq!(show(1, b"plain", b""), r#"local "plain", version not known, 16 bytes"#);
    assert_eq!(
        show(2, b"\x1b[31mred\r\n\"\\", b"\x00\xff\xc3\xa4"),
        r#"aws-kms "\x1b[31mred\r\n\"\\", version "\x00\xff\xc3\xa4", 16 bytes"#
    );
    assert_eq!(show(200, b"k", b"3"), r#"backend 200 "k", version "3", 16 bytes"#);
    for (backend, name) in BACKENDS {
        assert!(show(backend, b"k", b"").starts_with(&format!("{name} \"k\"")));
    }
}

/// There is one encoding of a set of wraps: no other bytes stand for the same.
#[test]
fn every_cut_and_every_changed_byte_is_noticed() {
    let wraps = two();
    let bytes = section(&wraps);
    for cut in 0..bytes.len() {
        assert_eq!(parse(&bytes[..cut]), Err(WrapsError::SectionLength), "{cut}");
    }
    for at in 0..bytes.len() {
        for changed in (0..=255).filter(|byte| *byte != bytes[at]) {
            let mut forged = bytes.clone();
            forged[at] = changed;
            if let Ok((read, mac)) = parse(&forged) {
                assert_ne!((&read, mac), (&wraps, MAC), "byte {at} is {changed}");
                assert_eq!([read.to_bytes(), mac.to_vec()].concat(), forged);
            }
        }
    }
}

#[test]
fn lengths_that_lie_allocate_nothing_for_it() {
    let fill = |byte: u8| [&[0x40, 0, 0, 0, 0, 0, 8][..], &[byte; 16_379]].concat();
    let lengths = [&[1, 0xff, 0xff][..], &[1, 0, 1, b'k', 0xff], &[1, 0, 1, b'k', 0, 0xff, 0xff]];
    let hostile = lengths.map(|entry| section_of(8, &[entry, &[0xff; 100]]));
    for bytes in hostile.into_iter().chain([fill(0), fill(1), fill(0xff)]) {
        let info = allocation_counter::measure(|| {
            parse(&bytes).unwrap_err();
        });
        assert!(info.bytes_max <= 3 * bytes.len() as u64, "{} bytes", info.bytes_max);
    }
}

#[test]
fn the_mac_covers_header_and_section() {
    let bytes = section(&two());
    let mac = |key: [u8; 32], header: [u8; 68], section: &[u8]| {
        mac_of(&key, &header, section).unwrap().finalize().into_bytes()
    };
    let all = [mac([1; 32], [2; 68], &bytes), mac([3; 32], [2; 68], &bytes)];
    assert_ne!(all[0], all[1]);
    assert_ne!(all[0], mac([1; 32], [3; 68], &bytes));
    assert_ne!(all[0], mac([1; 32], [2; 68], &bytes[1..]));
}

fn any_wrap() -> impl Strategy<Value = Wrap> {
    let bytes = |range| prop::collection::vec(any::<u8>(), range);
    let backend = prop_oneof![1..=6_u8, 128..=255_u8];
    (backend, bytes(1..40), bytes(0..20), bytes(1..80))
        .prop_map(|(backend, id, version, blob)| Wrap::new(backend, id, version, blob))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        entries in prop::collection::vec(any_wrap(), 1..=8),
        generation in any::<u32>(),
        mac in any::<[u8; 32]>(),
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let Ok(wraps) = Wraps::of_generation(generation, entries.clone()) else {
            // Two of the same name.
            return Ok(());
        };
        prop_assert_eq!(wraps.entries().len(), entries.len());
        prop_assert!(entries.iter().all(|entry| wraps.entries().contains(entry)));
        let bytes = [wraps.to_bytes(), mac.to_vec()].concat();
        let (read, read_mac) = parse(&[&bytes[..], &behind].concat()).unwrap();
        prop_assert_eq!((&read, read_mac), (&wraps, mac));
        prop_assert_eq!(read.to_bytes(), wraps.to_bytes());
    }

    /// Bytes from anywhere never panic, and those that are read are written back the same.
    #[test]
    fn parsing_is_injective(
        count in 0_u8..4,
        fields in prop::collection::vec((0_u8..3, 0_u8..3, 0_u8..2, 0_u8..3), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let entries: Vec<Vec<u8>> = fields
            .into_iter()
            .map(|(backend, id, version, blob)| {
                [
                    &[backend, 0, id][..], &b"ab"[..id.into()], &[version],
                    &b"1"[..version.into()], &[0, blob], &b"bb"[..blob.into()],
                ]
                .concat()
            })
            .collect();
        let mut parts: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        parts.push(&tail);
        let bytes = section_of(count, &parts);
        if let Ok((read, mac)) = parse(&bytes) {
            prop_assert_eq!([read.to_bytes(), mac.to_vec()].concat(), bytes);
        }
    }
}
