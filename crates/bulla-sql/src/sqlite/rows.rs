//! From columns to the types of the contract. Whatever does not fit is corrupt.

use bulla_backend::{DekState, KekId, KekVersion, ScopeId, StoreError, WrappedKey};
use bulla_core::{DekVersion, KeyId};
use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::error::{corrupt, corrupt_at};

/// The value of a column, whose name in the row is that in the table.
pub(super) fn value<T: FromSql>(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError> {
    row.get(column).map_err(corrupt_at(table, column))
}

/// The text in a column, where it lies.
pub(super) fn text<'r>(
    row: &'r Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<Option<&'r str>, StoreError> {
    let value = row.get_ref(column).map_err(corrupt_at(table, column))?;
    value.as_str_or_null().map_err(corrupt_at(table, column))
}

/// A number that is never negative.
pub(super) fn number(
    row: &Row<'_>,
    table: &'static str,
    column: &'static str,
) -> Result<u64, StoreError> {
    u64::try_from(value::<i64>(row, table, column)?).map_err(corrupt_at(table, column))
}

/// `deks.key_id`
pub(super) fn key_id(row: &Row<'_>) -> Result<KeyId, StoreError> {
    value(row, "deks", "key_id").map(KeyId::from_bytes)
}

/// `deks.version`
pub(super) fn dek_version(row: &Row<'_>) -> Result<DekVersion, StoreError> {
    let version: i64 = value(row, "deks", "version")?;
    let version = u32::try_from(version).ok().and_then(DekVersion::new);
    version.ok_or_else(|| corrupt("deks", "version"))
}

/// `deks.state`
pub(super) fn dek_state(row: &Row<'_>) -> Result<DekState, StoreError> {
    let word = text(row, "deks", "state")?;
    word.and_then(DekState::from_word).ok_or_else(|| corrupt("deks", "state"))
}

/// `scopes.tenant` and `scopes.purpose`
pub(super) fn scope(row: &Row<'_>) -> Result<ScopeId, StoreError> {
    let tenant = text(row, "scopes", "tenant")?.unwrap_or_default();
    let purpose = text(row, "scopes", "purpose")?.unwrap_or_default();
    ScopeId::new(tenant, purpose).map_err(corrupt_at("scopes", "tenant"))
}

/// `wraps.kek_version` and `wraps.version_source`
pub(super) fn kek_version(row: &Row<'_>) -> Result<KekVersion, StoreError> {
    let label = text(row, "wraps", "kek_version")?;
    let source = text(row, "wraps", "version_source")?;
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
pub(super) fn wrapped_key(row: &Row<'_>) -> Result<WrappedKey, StoreError> {
    let kek = text(row, "keks", "uri")?.ok_or_else(|| corrupt("keks", "uri"))?;
    let blob: Vec<u8> = value(row, "wraps", "blob")?;
    if blob.is_empty() || blob.len() > WrappedKey::BLOB_BYTES_MAX {
        return Err(corrupt("wraps", "blob"));
    }
    Ok(WrappedKey::new(KekId::new(kek), kek_version(row)?, blob))
}
