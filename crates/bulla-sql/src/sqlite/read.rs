//! Look-ups, counts and the change feed.

use bulla_backend::{
    Changes, DekChange, DekQuery, DekRecord, DekState, KekId, KekUsage, ScopeId, StoreError,
    StoreIdentity, StoreRevision, StoredWrap,
};
use rusqlite::Row;

use super::rows;
use super::unit::Unit;
use crate::error::{corrupt, corrupt_at};
use crate::limits;

/// One row for each wrap, in the order of their slots, or one without.
macro_rules! dek_by {
    ($condition:literal) => {
        concat!(
            "SELECT d.key_id, d.version, d.state, d.created_at,
                    w.slot, w.wrap_rev, k.uri, w.kek_version, w.version_source, w.blob
             FROM scopes s
             JOIN deks d ON d.scope_pk = s.scope_pk
             LEFT JOIN wraps w ON w.key_id = d.key_id
             LEFT JOIN keks k ON k.kek_pk = w.kek_pk
             WHERE s.tenant = ?1 AND s.purpose = ?2 AND ",
            $condition,
            " ORDER BY w.slot"
        )
    };
}

pub(super) const ACTIVE_DEK: &str = dek_by!("d.state = 'active'");
pub(super) const DEK_BY_KEY: &str = dek_by!("d.key_id = ?3");

pub(super) fn find_deks(
    unit: &mut Unit<'_>,
    queries: &[DekQuery],
) -> Result<Vec<Option<DekRecord>>, StoreError> {
    queries.iter().map(|query| find(unit, query)).collect()
}

fn find(unit: &Unit<'_>, query: &DekQuery) -> Result<Option<DekRecord>, StoreError> {
    let (DekQuery::Active(scope) | DekQuery::Key { scope, .. }) = query;
    let (tenant, purpose) = (scope.tenant(), scope.purpose());
    let read = |row: &Row<'_>| dek(row, scope, unit.now);
    let found = match query {
        DekQuery::Active(_) => unit.all(ACTIVE_DEK, (tenant, purpose), read),
        DekQuery::Key { key_id, .. } => {
            unit.all(DEK_BY_KEY, (tenant, purpose, key_id.as_bytes()), read)
        }
    };
    let mut rows = found?.into_iter();
    let Some(mut dek) = rows.next() else { return Ok(None) };
    dek.wraps.extend(rows.flat_map(|row| row.wraps));
    // A DEK has wraps until it is shredded, and none from then on.
    if dek.wraps.is_empty() != matches!(dek.state, DekState::Shredded | DekState::Final) {
        return Err(corrupt("wraps", "key_id"));
    }
    Ok(Some(dek))
}

/// A DEK with the wrap of this row, if it has one.
fn dek(row: &Row<'_>, scope: &ScopeId, now: i64) -> Result<DekRecord, StoreError> {
    let wrap = match rows::value::<Option<i64>>(row, "wraps", "slot")? {
        None => None,
        Some(slot) => Some(StoredWrap::new(
            u8::try_from(slot).map_err(corrupt_at("wraps", "slot"))?,
            rows::number(row, "wraps", "wrap_rev")?,
            rows::wrapped_key(row)?,
        )),
    };
    Ok(DekRecord::new(
        scope.clone(),
        rows::dek_version(row)?,
        rows::key_id(row)?,
        rows::dek_state(row)?,
        limits::between(rows::value(row, "deks", "created_at")?, now),
        Vec::from_iter(wrap),
    ))
}

pub(super) fn kek_usage(unit: &mut Unit<'_>, kek: &KekId) -> Result<Vec<KekUsage>, StoreError> {
    unit.all(
        // One version may be known both ways; the word of the KMS is the better, and
        // the greater.
        "SELECT w.kek_version, max(w.version_source) AS version_source, count(*) AS count
         FROM keks k JOIN wraps w ON w.kek_pk = k.kek_pk
         WHERE k.uri = ?1
         GROUP BY w.kek_version ORDER BY w.kek_version",
        (kek.as_str(),),
        |row| Ok(KekUsage::new(rows::kek_version(row)?, rows::number(row, "wraps", "count")?)),
    )
}

pub(super) fn changes_since(
    unit: &mut Unit<'_>,
    seen: Option<StoreRevision>,
    limit: u32,
) -> Result<Changes, StoreError> {
    let identity = identity(unit)?;
    let (deks, last) = match seen {
        Some(StoreRevision(seen)) => changed(unit, limits::revision(seen), limit.max(1))?,
        None => (Vec::new(), unit.rev),
    };
    let newest: i64 = unit.scalar("SELECT coalesce(max(rev), 0) FROM deks", ())?;
    if newest > unit.rev {
        return Err(corrupt("deks", "rev"));
    }
    let more = newest > last;
    // Up to the present where nothing is left: mutations that touch no DEK count too.
    let revision = if more { last } else { unit.rev };
    let revision = u64::try_from(revision).map_err(corrupt_at("store_meta", "rev"))?;
    Ok(Changes::new(identity, StoreRevision(revision), more, deks))
}

/// The DEKs of the revisions after `seen`, until they are `limit` or more, and the
/// last of these revisions.
fn changed(unit: &Unit<'_>, seen: i64, limit: u32) -> Result<(Vec<DekChange>, i64), StoreError> {
    let full = unit.first(
        "SELECT rev FROM deks WHERE rev > ?1 ORDER BY rev LIMIT 1 OFFSET ?2",
        (seen, i64::from(limit) - 1),
        |row| rows::value(row, "deks", "rev"),
    )?;
    let last = full.unwrap_or(unit.rev);
    let deks = unit.all(
        "SELECT s.tenant, s.purpose, d.key_id, d.version, d.state
         FROM deks d JOIN scopes s ON s.scope_pk = d.scope_pk
         WHERE d.rev > ?1 AND d.rev <= ?2
         ORDER BY d.rev, d.version",
        (seen, last),
        |row| {
            Ok(DekChange::new(
                rows::scope(row)?,
                rows::key_id(row)?,
                rows::dek_version(row)?,
                rows::dek_state(row)?,
            ))
        },
    )?;
    Ok((deks, last))
}

fn identity(unit: &Unit<'_>) -> Result<StoreIdentity, StoreError> {
    let identity = unit.first("SELECT store_id, epoch FROM store_meta", (), |row| {
        let store_id = rows::text(row, "store_meta", "store_id")?.unwrap_or_default();
        Ok(StoreIdentity::new(store_id, rows::number(row, "store_meta", "epoch")?))
    })?;
    identity.ok_or_else(|| corrupt("store_meta", "only_row"))
}
