//! Bytes on the command line.

use bulla_core::{DataKey, DekVersion, EnvelopeKey, KeyOptions, RecordContext, ScopeContext};
use data_encoding::HEXLOWER_PERMISSIVE;

use super::args::Keys;
use super::failure::Failure;

/// `N` bytes from hexadecimal digits. The message does not repeat what was given.
pub(crate) fn array<const N: usize>(option: &str, digits: &str) -> Result<[u8; N], Failure> {
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
    bytes.and_then(|bytes| <[u8; N]>::try_from(bytes).ok()).ok_or_else(|| {
        let (needed, found) = (2 * N, digits.len());
        Failure::Usage(format!("{option} takes {needed} hexadecimal digits; these are {found}"))
    })
}

/// The keys and contexts that both sealing and opening need.
pub(crate) fn key(
    keys: &Keys,
    options: KeyOptions,
) -> Result<(EnvelopeKey, RecordContext), Failure> {
    let dek: [u8; DataKey::LEN] = array("--dek", &keys.dek)?;
    let scope = pairs("--scope", &keys.scope, &keys.scope_hex)?;
    let record = pairs("--context", &keys.context, &keys.context_hex)?;
    let version = DekVersion::new(keys.version)
        .ok_or_else(|| Failure::Usage("--version is 1 and up".into()))?;
    let (scope, record) = (ScopeContext::new(scope)?, RecordContext::new(record)?);
    let dek = DataKey::init_with(|bytes| *bytes = dek);
    let options = options.with_library(keys.library);
    Ok((EnvelopeKey::derive(&dek, version, &scope, options)?, record))
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Pairs `k=v` of text, and of hexadecimal bytes.
fn pairs(option: &str, text: &[String], hex: &[String]) -> Result<Pairs, Failure> {
    let split = |pair: &str| match pair.split_once('=') {
        Some((key, value)) => Ok((key.as_bytes().to_vec(), value.as_bytes().to_vec())),
        None => Err(Failure::Usage(format!("{option} takes KEY=VALUE"))),
    };
    let decode = |digits: &[u8]| {
        let wrong = |_| Failure::Usage(format!("{option}-hex takes hexadecimal bytes"));
        HEXLOWER_PERMISSIVE.decode(digits).map_err(wrong)
    };
    let mut pairs: Pairs = text.iter().map(|pair| split(pair)).collect::<Result<_, _>>()?;
    for pair in hex {
        let (key, value) = split(pair)?;
        pairs.push((decode(&key)?, decode(&value)?));
    }
    Ok(pairs)
}
