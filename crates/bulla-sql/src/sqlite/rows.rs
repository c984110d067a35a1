//! From columns to the types of the contract. Whatever does not fit is corrupt.

use bulla_backend::{DekState, KekId, KekVersion, ScopeId, StoreError, WrappedKey};
use bulla_core::{DekVersion, KeyId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::error::{corrupt, corrupt_at};

/// The value of a column, whose name in the row is that in the table.
pub(super) fn value<'r, T>(
    row: &'r SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(column).map_err(corrupt_at(table, column))
}

/// A number that is never negative.
pub(super) fn number(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<u64, StoreError> {
    u64::try_from(value::<i64>(row, table, column)?).map_err(corrupt_at(table, column))
}

/// `deks.key_id`
pub(super) fn key_id(row: &SqliteRow) -> Result<KeyId, StoreError> {
    let bytes: &[u8] = value(row, "deks", "key_id")?;
    bytes.try_into().map(KeyId::from_bytes).map_err(corrupt_at("deks", "key_id"))
}

/// `deks.version`
pub(super) fn dek_version(row: &SqliteRow) -> Result<DekVersion, StoreError> {
    let version: i64 = value(row, "deks", "version")?;
    let version = u32::try_from(version).ok().and_then(DekVersion::new);
    version.ok_or_else(|| corrupt("deks", "version"))
}

/// `deks.state`
pub(super) fn dek_state(row: &SqliteRow) -> Result<DekState, StoreError> {
    let word: &str = value(row, "deks", "state")?;
    DekState::from_word(word).ok_or_else(|| corrupt("deks", "state"))
}

/// `scopes.tenant` and `scopes.purpose`
pub(super) fn scope(row: &SqliteRow) -> Result<ScopeId, StoreError> {
    let tenant: &str = value(row, "scopes", "tenant")?;
    let purpose: &str = value(row, "scopes", "purpose")?;
    ScopeId::new(tenant, purpose).map_err(corrupt_at("scopes", "tenant"))
}

/// `wraps.kek_version` and `wraps.version_source`
pub(super) fn kek_version(row: &SqliteRow) -> Result<KekVersion, StoreError> {
    let label: Option<&str> = value(row, "wraps", "kek_version")?;
    let source: Option<&str> = value(row, "wraps", "version_source")?;
    match (label, source) {
        (None, None) => Ok(KekVersion::Unknown),
        (Some(label), Some("reported")) => Ok(KekVersion::Reported(label.into())),
        (Some(label), Some("parsed")) => Ok(KekVersion::Parsed(label.into())),
        _ => Err(corrupt("wraps", "version_source")),
    }
}

/// What [`kek_version`] reads back into the variant.
pub(super) fn version_source(version: &KekVersion) -> Option<&'static str> {
    match version {
        KekVersion::Reported(_) => Some("reported"),
        KekVersion::Parsed(_) => Some("parsed"),
        KekVersion::Unknown => None,
    }
}

/// `keks.uri` and `wraps.blob` with its version
pub(super) fn wrapped_key(row: &SqliteRow) -> Result<WrappedKey, StoreError> {
    let kek: &str = value(row, "keks", "uri")?;
    let blob: Vec<u8> = value(row, "wraps", "blob")?;
    if blob.is_empty() || blob.len() > WrappedKey::BLOB_BYTES_MAX {
        return Err(corrupt("wraps", "blob"));
    }
    Ok(WrappedKey::new(KekId::new(kek), kek_version(row)?, blob))
}
