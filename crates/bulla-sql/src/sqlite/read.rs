//! Look-ups, counts and the change feed.

use bulla_backend::{
    Changes, DekChange, DekQuery, DekRecord, DekState, KekId, KekUsage, StoreError, StoreIdentity,
    StoreRevision, StoredWrap,
};
use sqlx::sqlite::SqliteRow;

use super::{SqliteKeyStore, Unit, rows};
use crate::error::{corrupt, corrupt_at, from_sqlx};
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

pub(super) async fn find_deks(
    store: &SqliteKeyStore,
    queries: &[DekQuery],
) -> Result<Vec<Option<DekRecord>>, StoreError> {
    let mut unit = store.read().await?;
    let mut found = Vec::with_capacity(queries.len());
    for query in queries {
        found.push(find(&mut unit, query).await?);
    }
    unit.roll_back().await?;
    Ok(found)
}

async fn find(unit: &mut Unit, query: &DekQuery) -> Result<Option<DekRecord>, StoreError> {
    let (scope, statement) = match query {
        DekQuery::Active(scope) => (scope, sqlx::query(dek_by!("d.state = 'active'"))),
        DekQuery::Key { scope, .. } => (scope, sqlx::query(dek_by!("d.key_id = ?3"))),
    };
    let statement = statement.bind(scope.tenant()).bind(scope.purpose());
    let statement = match query {
        DekQuery::Active(_) => statement,
        DekQuery::Key { key_id, .. } => statement.bind(key_id.as_bytes().as_slice()),
    };
    let found = statement.fetch_all(unit.connection()).await.map_err(from_sqlx)?;
    let Some(first) = found.first() else { return Ok(None) };
    let state = rows::dek_state(first)?;
    // A DEK has wraps until it is shredded, and none from then on.
    let wrapped = rows::value::<Option<i64>>(first, "wraps", "slot")?.is_some();
    if wrapped == matches!(state, DekState::Shredded | DekState::Final) {
        return Err(corrupt("wraps", "key_id"));
    }
    let wraps = match wrapped {
        true => found.iter().map(stored_wrap).collect::<Result<_, _>>()?,
        false => Vec::new(),
    };
    Ok(Some(DekRecord::new(
        scope.clone(),
        rows::dek_version(first)?,
        rows::key_id(first)?,
        state,
        limits::between(rows::value(first, "deks", "created_at")?, unit.now),
        wraps,
    )))
}

fn stored_wrap(row: &SqliteRow) -> Result<StoredWrap, StoreError> {
    let slot = rows::value::<i64>(row, "wraps", "slot")?;
    Ok(StoredWrap::new(
        u8::try_from(slot).map_err(corrupt_at("wraps", "slot"))?,
        rows::number(row, "wraps", "wrap_rev")?,
        rows::wrapped_key(row)?,
    ))
}

pub(super) async fn kek_usage(
    store: &SqliteKeyStore,
    kek: &KekId,
) -> Result<Vec<KekUsage>, StoreError> {
    let mut unit = store.read().await?;
    let found = sqlx::query(
        // One version may be known both ways; the word of the KMS is the better, and
        // the greater.
        "SELECT w.kek_version, max(w.version_source) AS version_source, count(*) AS count
         FROM keks k JOIN wraps w ON w.kek_pk = k.kek_pk
         WHERE k.uri = ?1
         GROUP BY w.kek_version ORDER BY w.kek_version",
    )
    .bind(kek.as_str())
    .fetch_all(unit.connection())
    .await
    .map_err(from_sqlx)?;
    unit.roll_back().await?;
    let usage =
        |row| Ok(KekUsage::new(rows::kek_version(row)?, rows::number(row, "wraps", "count")?));
    found.iter().map(usage).collect()
}

pub(super) async fn changes_since(
    store: &SqliteKeyStore,
    seen: Option<StoreRevision>,
    limit: u32,
) -> Result<Changes, StoreError> {
    let mut unit = store.read().await?;
    let identity = identity(&mut unit).await?;
    let (deks, last) = match seen {
        Some(StoreRevision(seen)) => {
            changed(&mut unit, limits::revision(seen), limit.max(1)).await?
        }
        None => (Vec::new(), unit.rev),
    };
    let newest: i64 = sqlx::query_scalar("SELECT coalesce(max(rev), 0) FROM deks")
        .fetch_one(unit.connection())
        .await
        .map_err(from_sqlx)?;
    if newest > unit.rev {
        return Err(corrupt("deks", "rev"));
    }
    let more = newest > last;
    // Up to the present where nothing is left: mutations that touch no DEK count too.
    let revision = if more { last } else { unit.rev };
    unit.roll_back().await?;
    let revision = u64::try_from(revision).map_err(corrupt_at("store_meta", "rev"))?;
    Ok(Changes::new(identity, StoreRevision(revision), more, deks))
}

/// The DEKs of the revisions after `seen`, until they are `limit` or more, and the
/// last of these revisions.
async fn changed(
    unit: &mut Unit,
    seen: i64,
    limit: u32,
) -> Result<(Vec<DekChange>, i64), StoreError> {
    let full: Option<i64> =
        sqlx::query_scalar("SELECT rev FROM deks WHERE rev > ?1 ORDER BY rev LIMIT 1 OFFSET ?2")
            .bind(seen)
            .bind(i64::from(limit) - 1)
            .fetch_optional(unit.connection())
            .await
            .map_err(from_sqlx)?;
    let last = full.unwrap_or(unit.rev);
    let found = sqlx::query(
        "SELECT s.tenant, s.purpose, d.key_id, d.version, d.state
         FROM deks d JOIN scopes s ON s.scope_pk = d.scope_pk
         WHERE d.rev > ?1 AND d.rev <= ?2
         ORDER BY d.rev, d.version",
    )
    .bind(seen)
    .bind(last)
    .fetch_all(unit.connection())
    .await
    .map_err(from_sqlx)?;
    let change = |row| {
        Ok(DekChange::new(
            rows::scope(row)?,
            rows::key_id(row)?,
            rows::dek_version(row)?,
            rows::dek_state(row)?,
        ))
    };
    Ok((found.iter().map(change).collect::<Result<_, StoreError>>()?, last))
}

async fn identity(unit: &mut Unit) -> Result<StoreIdentity, StoreError> {
    let row = sqlx::query("SELECT store_id, epoch FROM store_meta")
        .fetch_one(unit.connection())
        .await
        .map_err(from_sqlx)?;
    let store_id: &str = rows::value(&row, "store_meta", "store_id")?;
    Ok(StoreIdentity::new(store_id, rows::number(&row, "store_meta", "epoch")?))
}
