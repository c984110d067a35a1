//! Target `codecs`: any bytes as typed values.

use std::collections::BTreeMap;

use bulla_core::{Bincode, Json, ValueCodec, ValueError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The value of the test vectors (`docs/spec/vectors/README.md`, section 6).
#[derive(Serialize, Deserialize)]
struct Sample {
    id: u64,
    name: String,
    tags: Vec<String>,
    flag: bool,
    delta: i64,
}

/// Every form of variant.
#[derive(Serialize, Deserialize)]
enum Choice {
    Unit,
    Newtype(u16),
    Tuple(char, Option<bool>),
    Struct { bytes: Vec<u8>, maybe: Option<Box<Choice>> },
}

/// Decodes `data` as JSON and bincode into several types: no panic, no more memory than the
/// bytes stand for (`scripts/fuzz` limits it), and what was read is written and read again
/// as the same.
pub fn codecs(data: &[u8]) {
    both::<u64>(data);
    both::<i128>(data);
    both::<String>(data);
    both::<Vec<u8>>(data);
    both::<Vec<u128>>(data);
    both::<Vec<Vec<Vec<String>>>>(data);
    both::<BTreeMap<String, Vec<Option<i32>>>>(data);
    both::<(f64, Option<f32>, char, bool)>(data);
    both::<Vec<f64>>(data);
    both::<[[u16; 3]; 2]>(data);
    both::<Sample>(data);
    both::<Choice>(data);
    both::<Vec<Choice>>(data);
}

fn both<T: Serialize + DeserializeOwned>(data: &[u8]) {
    round_trip::<Json, T>(data);
    round_trip::<Bincode, T>(data);
}

fn round_trip<C: ValueCodec, T: Serialize + DeserializeOwned>(data: &[u8]) {
    let value = match C::decode::<T>(data) {
        Ok(value) => value,
        Err(error) => return assert_eq!(error, ValueError::Decode(C::CODEC)),
    };
    let written = C::encode(&value).unwrap();
    let again = C::decode::<T>(&written).unwrap();
    // Bincode tells all values apart, also those that are not equal to themselves.
    let same = [&value, &again].map(|value| Bincode::encode(value).unwrap());
    assert_eq!(same[0], same[1], "{} changed the value", C::CODEC);
    assert_eq!(C::encode(&again).unwrap(), written);
    // A value takes up all of its bytes; one of bincode also needs them all.
    let longer = C::decode::<T>(&[&written[..], b"\0"].concat());
    assert_eq!(longer.err(), Some(ValueError::Decode(C::CODEC)));
    if C::CODEC == Bincode::CODEC {
        let shorter = C::decode::<T>(&written[..written.len() - 1]);
        assert_eq!(shorter.err(), Some(ValueError::Decode(C::CODEC)));
    }
}
