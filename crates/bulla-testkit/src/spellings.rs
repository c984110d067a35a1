//! How a key looks where it should not be.

use bulla_core::DataKey;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// How the middle of a key would look if it were printed: in hexadecimal, base64, as
/// numbers, as escaped bytes.
pub(crate) fn spellings(key: &DataKey) -> [String; 7] {
    // Base64 of a part is part of the base64 if it starts at a multiple of three.
    let part = &key.expose_secret()[6..24];
    let numbers: Vec<_> = part.iter().map(u8::to_string).collect();
    [
        HEXLOWER.encode(part),
        HEXUPPER.encode(part),
        BASE64_NOPAD.encode(part),
        BASE64URL_NOPAD.encode(part),
        numbers.join(","),
        numbers.join(", "),
        part.escape_ascii().to_string(),
    ]
}
