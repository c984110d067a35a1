//! Section 3: contexts.

use super::Class;

/// The pairs of a context as a caller gives them: in any order, and possibly not allowed.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Section 10: record context, pairs.
pub const RECORD_PAIRS_MAX: usize = 32;
/// Section 10: record context, bytes of the encoding.
pub const RECORD_ENCODING_MAX: usize = 4096;
/// Section 10: scope context, pairs.
pub const SCOPE_PAIRS_MAX: usize = 8;
/// Section 10: scope context, bytes of the encoding.
pub const SCOPE_ENCODING_MAX: usize = 1024;
/// Section 10: bytes of a key, in both.
pub const KEY_MAX: usize = 64;
/// Section 10: bytes of a value, in both.
pub const VALUE_MAX: usize = 1024;

/// CTX(scope), if the pairs obey sections 3.1, 3.2 and 10.
pub fn ctx_scope(pairs: &Pairs) -> Result<Vec<u8>, Class> {
    for (key, value) in pairs {
        if std::str::from_utf8(key).is_err() || std::str::from_utf8(value).is_err() {
            return Err(Class::Context);
        }
    }
    checked(pairs, SCOPE_PAIRS_MAX, SCOPE_ENCODING_MAX)
}

/// CTX(record), if the pairs obey sections 3.1 and 10.
pub fn ctx_record(pairs: &Pairs) -> Result<Vec<u8>, Class> {
    checked(pairs, RECORD_PAIRS_MAX, RECORD_ENCODING_MAX)
}

/// Section 3.2: the pairs that accompany every wrap and unwrap of a DEK.
pub fn kms_pairs(scope: &Pairs, version: u32) -> Pairs {
    let mut pairs = scope.clone();
    pairs.push((b"bulla-format".to_vec(), b"1".to_vec()));
    pairs.push((b"bulla-dek-version".to_vec(), version.to_string().into_bytes()));
    pairs
}

/// Section 3.2: CTX(KMS), for a scope that is allowed.
pub fn ctx_kms(scope: &Pairs, version: u32) -> Result<Vec<u8>, Class> {
    ctx_scope(scope)?;
    encode(&kms_pairs(scope, version))
}

/// The rules of section 3.1 that callers' contexts share, then the encoding.
fn checked(pairs: &Pairs, pairs_max: usize, encoding_max: usize) -> Result<Vec<u8>, Class> {
    if pairs.len() > pairs_max {
        return Err(Class::Context);
    }
    for (i, (key, value)) in pairs.iter().enumerate() {
        if key.is_empty() || key.len() > KEY_MAX || value.len() > VALUE_MAX {
            return Err(Class::Context);
        }
        if key.starts_with(b"bulla") {
            return Err(Class::Context);
        }
        if pairs[..i].iter().any(|(earlier, _)| earlier == key) {
            return Err(Class::Context);
        }
    }
    let encoding = encode(pairs)?;
    if encoding.len() > encoding_max {
        return Err(Class::Context);
    }
    Ok(encoding)
}

/// Section 3.1: CTX of pairs without a key that occurs twice. No other rule is checked but
/// that counts and lengths fit their fields.
pub fn encode(pairs: &Pairs) -> Result<Vec<u8>, Class> {
    let mut sorted = pairs.clone();
    sorted.sort();
    let mut ctx = u16_be(sorted.len())?.to_vec();
    for (key, value) in &sorted {
        ctx.extend(u16_be(key.len())?);
        ctx.extend(key);
        ctx.extend(u16_be(value.len())?);
        ctx.extend(value);
    }
    Ok(ctx)
}

fn u16_be(n: usize) -> Result<[u8; 2], Class> {
    u16::try_from(n).map(u16::to_be_bytes).map_err(|_| Class::Context)
}
