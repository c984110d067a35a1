//! Typed values of vectors (section 6 of their README).

use bulla_core::{Bincode, Codec, Json, ValueCodec, ValueError};
use serde::{Deserialize, Serialize};

use super::Vector;

/// The value that the plaintext of a `codec-*` vector is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typed {
    /// A number of any size.
    pub id: u64,
    /// A string.
    pub name: String,
    /// Strings.
    pub tags: Vec<String>,
    /// One byte in bincode.
    pub flag: bool,
    /// A number with a sign.
    pub delta: i64,
}

/// Decodes `plaintext` as `codec` and compares it with what the vector says.
pub(super) fn compare(vector: &Vector, plaintext: &[u8], mismatches: &mut Vec<String>) {
    match vector.codec.and_then(Codec::from_byte) {
        Some(Codec::BINCODE) => compare_as::<Bincode>(vector, plaintext, mismatches),
        Some(Codec::JSON) => compare_as::<Json>(vector, plaintext, mismatches),
        other => mismatches.push(format!("a typed value in {other:?}")),
    }
}

fn compare_as<C: ValueCodec>(vector: &Vector, plaintext: &[u8], mismatches: &mut Vec<String>) {
    let decoded = C::decode::<Typed>(plaintext);
    let Some(json) = &vector.value_json else {
        if decoded != Err(ValueError::Decode(C::CODEC)) {
            mismatches.push(format!("decoded to {decoded:?}, it is no such value"));
        }
        return;
    };
    let value = match serde_json::from_str::<Typed>(json) {
        Ok(value) => value,
        Err(error) => return mismatches.push(format!("value-json is no such value: {error}")),
    };
    if decoded.as_ref() != Ok(&value) {
        mismatches.push(format!("decoded to {decoded:?}, the vector states {value:?}"));
    }
    let encoded = C::encode(&value);
    let is_exact = vector.name != "codec-json-spaced";
    if is_exact && encoded.as_ref().map(|encoded| &***encoded) != Ok(plaintext) {
        mismatches.push("the value is encoded to other bytes".into());
    }
}
