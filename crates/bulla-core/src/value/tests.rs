use super::*;
use std::collections::BTreeMap;

use crate::{DataKey, DekVersion, KeyOptions, ScopeContext};
use proptest::prelude::*;
use serde::{Deserialize, Serializer};

fn key() -> EnvelopeKey {
    let dek = DataKey::init_with(|bytes| bytes.fill(7));
    let scope = ScopeContext::new([("tenant", "acme"), ("purpose", "people")]).unwrap();
    EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, KeyOptions::default()).unwrap()
}

fn record() -> RecordContext {
    RecordContext::new([("row", "42")]).unwrap()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    age: u16,
    balance: i32,
    tags: Vec<Tag>,
    note: Option<char>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tag {
    Staff,
    Points(u64),
    At { x: f32, seen: bool },
}

fn ada() -> Person {
    Person {
        name: "ada".into(),
        age: 300,
        balance: -3,
        tags: vec![Tag::Points(1 << 32), Tag::Staff, Tag::At { x: 1.5, seen: true }],
        note: Some('é'),
    }
}

/// By hand, from the specification of bincode 2: integers of up to 250 are one byte,
/// larger ones have a mark for their width; signed ones are zigzag; lengths and variants
/// are integers; floats are little-endian.
#[cfg(feature = "bincode")]
const ADA_IN_BINCODE: &[u8] = &[
    3, b'a', b'd', b'a', // name
    251, 0x2c, 0x01, // age
    5,    // balance
    3,    // tags
    1, 253, 0, 0, 0, 0, 1, 0, 0, 0, // Points
    0, // Staff
    2, 0x00, 0x00, 0xc0, 0x3f, 1, // At
    1, 0xc3, 0xa9, // note
];

#[cfg(feature = "json")]
const ADA_IN_JSON: &str = r#"{"name":"ada","age":300,"balance":-3,"tags":[{"Points":4294967296},"Staff",{"At":{"x":1.5,"seen":true}}],"note":"é"}"#;

/// What `C` writes is `bytes`, also when it was sealed and opened as bytes.
fn is_written_as<C: ValueCodec>(bytes: &[u8]) {
    assert_eq!(C::encode(&ada()).unwrap()[..], *bytes);
    assert_eq!(C::decode::<Person>(bytes), Ok(ada()));
    let sealed = key().seal_value::<C, _>(&ada(), &record()).unwrap();
    assert_eq!(key().open_as(C::CODEC, &sealed, &record()).unwrap(), bytes);
    assert_eq!(key().open_value::<C, Person>(&sealed, &record()), Ok(ada()));
    let by_hand = key().seal_as(C::CODEC, bytes, &record()).unwrap();
    assert_eq!(key().open_value::<C, Person>(&by_hand, &record()), Ok(ada()));
}

#[cfg(feature = "bincode")]
#[test]
fn the_bytes_of_bincode_are_pinned() {
    is_written_as::<Bincode>(ADA_IN_BINCODE);
    assert_eq!(Bincode::CODEC.as_byte(), 1);
}

#[cfg(feature = "json")]
#[test]
fn the_text_of_json_is_pinned() {
    is_written_as::<Json>(ADA_IN_JSON.as_bytes());
    assert_eq!(Json::CODEC.as_byte(), 2);
}

#[cfg(feature = "bincode")]
#[test]
fn widths_of_bincode_integers_are_pinned() {
    for (value, bytes) in [
        (0_u128, &[0][..]),
        (250, &[250]),
        (251, &[251, 251, 0]),
        (0xffff, &[251, 0xff, 0xff]),
        (0x1_0000, &[252, 0, 0, 1, 0]),
        (0xffff_ffff, &[252, 0xff, 0xff, 0xff, 0xff]),
        (1 << 32, &[253, 0, 0, 0, 0, 1, 0, 0, 0]),
        (1 << 64, &[254, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        assert_eq!(Bincode::encode(&value).unwrap()[..], *bytes);
        assert_eq!(Bincode::decode(bytes), Ok(value));
    }
    // A byte is a byte.
    assert_eq!(Bincode::encode(&255_u8).unwrap()[..], [255]);
    assert!(Bincode::encode(&()).unwrap().is_empty());
    assert_eq!(Bincode::decode(&[]), Ok(()));
}

#[cfg(all(feature = "json", feature = "bincode"))]
#[test]
fn one_codec_does_not_open_another() {
    let json = key().seal_value::<Json, _>(&7_u8, &record()).unwrap();
    let bincode = key().seal_value::<Bincode, _>(&7_u8, &record()).unwrap();
    let raw = key().seal(&[7], &record()).unwrap();
    let wrong = |found, expected| Err(OpenError::WrongCodec { found, expected }.into());
    assert_eq!(key().open_value::<Bincode, u8>(&json, &record()), wrong(2, 1));
    assert_eq!(key().open_value::<Bincode, u8>(&raw, &record()), wrong(0, 1));
    assert_eq!(key().open_value::<Json, u8>(&bincode, &record()), wrong(1, 2));
    assert_eq!(key().open_value::<Json, u8>(&raw, &record()), wrong(0, 2));
    for sealed in [json, bincode] {
        assert!(matches!(key().open(&sealed, &record()), Err(OpenError::WrongCodec { .. })));
        // Relabelled, it is not authentic any more.
        let mut relabelled = sealed;
        relabelled[6] ^= 3;
        let codec = Codec::from_byte(relabelled[6]).unwrap();
        let refused = key().open_as(codec, &relabelled, &record());
        assert_eq!(refused, Err(OpenError::Authentication));
    }
}

/// `bytes` is a whole value, and neither less nor more of it is.
fn is_whole<C: ValueCodec>(bytes: &[u8], behind: &[&[u8]]) {
    assert!(C::decode::<Person>(bytes).is_ok());
    for cut in 0..bytes.len() {
        assert_eq!(C::decode::<Person>(&bytes[..cut]), Err(ValueError::Decode(C::CODEC)));
    }
    for more in behind {
        let longer = [bytes, more].concat();
        assert_eq!(C::decode::<Person>(&longer), Err(ValueError::Decode(C::CODEC)));
    }
}

#[cfg(feature = "bincode")]
#[test]
fn bincode_ends_with_the_value() {
    is_whole::<Bincode>(ADA_IN_BINCODE, &[&[0], &[1], ADA_IN_BINCODE]);
}

#[cfg(feature = "json")]
#[test]
fn json_ends_with_the_value() {
    is_whole::<Json>(ADA_IN_JSON.as_bytes(), &[b"x", b",", b"{}", b"\0", ADA_IN_JSON.as_bytes()]);
    // White space is no value (RFC 8259, section 2); a byte-order mark is no white space.
    assert_eq!(Json::decode(b" 7\n"), Ok(7));
    assert_eq!(Json::decode::<u8>(b"\xef\xbb\xbf7"), Err(ValueError::Decode(Codec::JSON)));
}

/// Whether `bytes` were refused, and how much memory that took at most.
#[cfg(feature = "bincode")]
fn refusal<C: ValueCodec, T: DeserializeOwned>(bytes: &[u8]) -> u64 {
    let info = allocation_counter::measure(|| {
        assert_eq!(C::decode::<T>(bytes).map(|_| ()), Err(ValueError::Decode(C::CODEC)));
    });
    info.bytes_max
}

/// serde reserves at most this much for a sequence whose length is only claimed, once for
/// each sequence inside another.
#[cfg(feature = "bincode")]
const CAUTIOUS: u64 = 1 << 20;

#[cfg(feature = "bincode")]
#[test]
fn lengths_that_lie_in_bincode_allocate_nothing_for_it() {
    for length in [
        &[253, 0, 0, 0, 0, 0, 0, 0, 0x10][..], // 2^60
        &[253, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[252, 0, 0, 0, 0x40], // 2^30
        &[252, 0, 0, 0x80, 0], // 2^23
        &[251, 0xff, 0xff],    // 65,535
    ] {
        // The limits grow in steps of 4.
        for (tail, limit) in [(0, 1 << 14), (1000, 1 << 14), (30_000, 1 << 19), (50_000, 1 << 20)] {
            let bytes = [length, &vec![b'a'; tail]].concat();
            if length == [251, 0xff, 0xff] && tail == 50_000 {
                // Not much of a lie.
                continue;
            }
            let small = limit + 1000;
            let taken = refusal::<Bincode, String>(&bytes);
            assert!(taken <= small, "{taken} for a string of {} bytes", bytes.len());
            let taken = refusal::<Bincode, Vec<u64>>(&bytes);
            assert!(taken <= small + CAUTIOUS, "{taken} for {} bytes", bytes.len());
            let taken = refusal::<Bincode, BTreeMap<String, u8>>(&bytes);
            assert!(taken <= small + CAUTIOUS, "{taken} for {} bytes", bytes.len());
        }
    }
}

#[cfg(feature = "bincode")]
#[test]
fn sequences_in_sequences_that_lie_allocate_nothing_for_it() {
    type Nested = Vec<Vec<Vec<Vec<u64>>>>;
    let claim = [253, 0, 0, 0, 0, 0, 0, 0, 0x10];
    let taken = refusal::<Bincode, Nested>(&claim.repeat(4));
    assert!(taken <= 4 * CAUTIOUS + 1000, "{taken}");
    // Many of them, each of which could claim: the first that does is the last.
    let taken = refusal::<Bincode, Nested>(&[&[200][..], &claim.repeat(100)].concat());
    assert!(taken <= 4 * CAUTIOUS + 1000, "{taken}");
    let strings = [&[200, 1, b'a'][..], &claim, &[b'a'; 100]].concat();
    let taken = refusal::<Bincode, Vec<String>>(&strings);
    assert!(taken <= 20_000, "{taken}");
}

#[cfg(feature = "bincode")]
#[test]
fn the_limit_admits_every_honest_value() {
    fn round_trips<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> usize {
        let bytes = Bincode::encode(value).unwrap();
        assert!(Bincode::decode::<T>(&bytes).as_ref() == Ok(value), "{} bytes", bytes.len());
        bytes.len()
    }
    // The largest claim for the fewest bytes: 16 for one, at the boundaries of the limits.
    let kib = 1 << 10;
    for len in [0, 1, 250, 251, kib - 4, kib - 3, kib - 2, kib, 4 * kib - 3, 4 * kib, 64 * kib] {
        round_trips(&vec![7_u128; len]);
        round_trips(&vec![-7_i128; len]);
        round_trips(&"x".repeat(len));
        round_trips(&vec![String::new(); len]);
    }
    for len in [kib * kib - 5, kib * kib - 4] {
        round_trips(&vec![7_u128; len]);
    }
    // Nothing but claims, and as many bytes as the first limit is for.
    let dense = [[7_u128; 32]; 32];
    assert_eq!(round_trips(&dense), 1024);
    round_trips(&(dense, 7_u128));
}

/// A value that says its secret in its error.
struct Telltale;

impl Serialize for Telltale {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("the secret is hunter2"))
    }
}

/// Everything that an error shows.
fn shown(error: &ValueError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

fn tells_nothing<C: ValueCodec>(secret: &[u8]) {
    let error = key().seal_value::<C, _>(&Telltale, &record()).unwrap_err();
    assert_eq!(error, ValueError::Encode(C::CODEC));
    assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
    let sealed = key().seal_as(C::CODEC, secret, &record()).unwrap();
    for error in [
        key().open_value::<C, u32>(&sealed, &record()).unwrap_err(),
        key().open_value::<C, Person>(&sealed, &record()).unwrap_err(),
        key().open_value::<C, bool>(&sealed, &record()).unwrap_err(),
    ] {
        assert_eq!(error, ValueError::Decode(C::CODEC));
        assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
    }
}

#[cfg(feature = "bincode")]
#[test]
fn errors_of_bincode_hold_no_plaintext() {
    tells_nothing::<Bincode>(b"\x07hunter2");
    let error = ValueError::Decode(Codec::BINCODE);
    assert_eq!(error.to_string(), "the opened plaintext is no bincode of this type");
}

#[cfg(feature = "json")]
#[test]
fn errors_of_json_hold_no_plaintext() {
    tells_nothing::<Json>(br#""hunter2""#);
    let error = ValueError::Encode(Codec::JSON);
    assert_eq!(error.to_string(), "JSON cannot express this value");
    assert_eq!(
        key().seal_value::<Json, _>(&BTreeMap::from([((1, 2), 3)]), &record()),
        Err(ValueError::Encode(Codec::JSON))
    );
}

#[cfg(feature = "json")]
type Inner = Json;
#[cfg(not(feature = "json"))]
type Inner = Bincode;

/// A codec of one's own: another one behind the number of a schema.
struct Versioned;

impl ValueCodec for Versioned {
    const CODEC: Codec = match Codec::from_byte(200) {
        Some(codec) => codec,
        None => panic!("it is for private use"),
    };

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, ValueError> {
        let mut bytes = Inner::encode(value)?;
        bytes.insert(0, 9);
        Ok(bytes)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
        let rest = bytes.strip_prefix(&[9]).ok_or(ValueError::Decode(Self::CODEC))?;
        Inner::decode(rest).map_err(|_| ValueError::Decode(Self::CODEC))
    }
}

#[test]
fn a_private_codec_is_one_like_the_others() {
    let sealed = key().seal_value::<Versioned, _>(&ada(), &record()).unwrap();
    assert_eq!(sealed[6], 200);
    assert_eq!(key().open_value::<Versioned, Person>(&sealed, &record()), Ok(ada()));
    assert_eq!(
        key().open_value::<Inner, Person>(&sealed, &record()),
        Err(OpenError::WrongCodec { found: 200, expected: Inner::CODEC.as_byte() }.into())
    );
    let unversioned = key().seal_as(Versioned::CODEC, b"\x0a7", &record()).unwrap();
    let error = key().open_value::<Versioned, u8>(&unversioned, &record()).unwrap_err();
    assert_eq!(error, ValueError::Decode(Versioned::CODEC));
    assert_eq!(error.to_string(), "the opened plaintext is no private codec 200 of this type");
}

#[test]
fn refusals_to_seal_and_to_open_are_passed_on() {
    let sealed = key().seal_value::<Versioned, _>(&ada(), &record()).unwrap();
    let mut forged = sealed.clone();
    *forged.last_mut().unwrap() ^= 1;
    let error = key().open_value::<Versioned, Person>(&forged, &record()).unwrap_err();
    assert_eq!(error, ValueError::Open(OpenError::Authentication));
    assert_eq!(error.to_string(), OpenError::Authentication.to_string());
    let elsewhere = RecordContext::empty();
    assert!(key().open_value::<Versioned, Person>(&sealed, &elsewhere).is_err());
}

proptest! {
    #[test]
    fn values_round_trip(
        name in ".{0,20}",
        age: u16,
        balance: i32,
        points in prop::collection::vec(any::<u64>(), 0..20),
        note: Option<char>,
    ) {
        let tags = points.into_iter().map(Tag::Points).collect();
        let person = Person { name, age, balance, tags, note };
        let sealed = key().seal_value::<Versioned, _>(&person, &record()).unwrap();
        let opened = key().open_value::<Versioned, Person>(&sealed, &record());
        prop_assert_eq!(opened, Ok(person));
    }

    /// Bytes from anywhere never panic and take no more memory than serde allows.
    #[test]
    fn any_bytes_are_a_value_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let info = allocation_counter::measure(|| {
            let _ = Versioned::decode::<Person>(&[&[9], &bytes[..]].concat());
            let _ = Inner::decode::<Vec<Person>>(&bytes);
            let _ = Inner::decode::<BTreeMap<String, Vec<String>>>(&bytes);
        });
        prop_assert!(info.bytes_max <= (2 << 20) + 100_000, "{}", info.bytes_max);
    }
}
