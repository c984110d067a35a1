//! Wraps, and the KEKs that make them.

use std::time::{SystemTime, UNIX_EPOCH};

use bulla_backend::{KekState, KekStatus, NewWrap, StoreError, WrapSwap, WrappedKey};
use bulla_core::KeyId;

use super::{SqliteKeyStore, Unit, rows};
use crate::error::from_sqlx;
use crate::limits;

pub(super) async fn replace_wrap(
    store: &SqliteKeyStore,
    swap: &WrapSwap,
) -> Result<bool, StoreError> {
    let mut unit = store.write().await?;
    if !may_wrap(&mut unit, &swap.wrapped).await? || !log_old(&mut unit, swap).await? {
        unit.roll_back().await?;
        return Ok(false);
    }
    unit.bump().await?;
    let kek_pk = register(&mut unit, &swap.wrapped).await?;
    sqlx::query(
        "UPDATE wraps SET kek_pk = ?3, kek_version = ?4, version_source = ?5, blob = ?6,
                          wrap_rev = wrap_rev + 1, wrapped_at = ?7, rev = ?8
         WHERE key_id = ?1 AND slot = ?2",
    )
    .bind(swap.key_id.as_bytes().as_slice())
    .bind(i64::from(swap.slot))
    .bind(kek_pk)
    .bind(swap.wrapped.kek_version.label())
    .bind(rows::version_source(&swap.wrapped.kek_version))
    .bind(swap.wrapped.blob.as_slice())
    .bind(unit.now)
    .bind(unit.rev)
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    stamp_dek(&mut unit, &swap.key_id).await?;
    unit.commit().await?;
    Ok(true)
}

pub(super) async fn add_wrap(store: &SqliteKeyStore, new: &NewWrap) -> Result<bool, StoreError> {
    let mut unit = store.write().await?;
    if !may_wrap(&mut unit, &new.wrapped).await? || !has_room(&mut unit, new).await? {
        unit.roll_back().await?;
        return Ok(false);
    }
    unit.bump().await?;
    insert(&mut unit, &new.key_id, new.slot, &new.wrapped).await?;
    stamp_dek(&mut unit, &new.key_id).await?;
    unit.commit().await?;
    Ok(true)
}

/// Whether the DEK has wraps, none of them in this slot or by this KEK.
async fn has_room(unit: &mut Unit, new: &NewWrap) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT count(*) > 0 AND coalesce(max(w.slot = ?2 OR k.uri = ?3), 0) = 0
         FROM wraps w JOIN keks k ON k.kek_pk = w.kek_pk WHERE w.key_id = ?1",
    )
    .bind(new.key_id.as_bytes().as_slice())
    .bind(i64::from(new.slot))
    .bind(new.wrapped.kek.as_str())
    .fetch_one(unit.connection())
    .await
    .map_err(from_sqlx)
}

/// Puts a wrap into a slot that is free.
pub(super) async fn insert(
    unit: &mut Unit,
    key_id: &KeyId,
    slot: u8,
    wrap: &WrappedKey,
) -> Result<(), StoreError> {
    let kek_pk = register(unit, wrap).await?;
    sqlx::query(
        "INSERT INTO wraps
             (key_id, slot, kek_pk, kek_version, version_source, blob, wrap_rev, wrapped_at, rev)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8)",
    )
    .bind(key_id.as_bytes().as_slice())
    .bind(i64::from(slot))
    .bind(kek_pk)
    .bind(wrap.kek_version.label())
    .bind(rows::version_source(&wrap.kek_version))
    .bind(wrap.blob.as_slice())
    .bind(unit.now)
    .bind(unit.rev)
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

/// The DEK has changed in the present revision.
async fn stamp_dek(unit: &mut Unit, key_id: &KeyId) -> Result<(), StoreError> {
    sqlx::query("UPDATE deks SET rev = ?2 WHERE key_id = ?1")
        .bind(key_id.as_bytes().as_slice())
        .bind(unit.rev)
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    Ok(())
}

/// Whether neither the KEK of `wrap` nor its version is known to be unusable.
async fn may_wrap(unit: &mut Unit, wrap: &WrappedKey) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT NOT EXISTS (
             SELECT 1 FROM keks k
             LEFT JOIN kek_versions v ON v.kek_pk = k.kek_pk AND v.label = ?2
             WHERE k.uri = ?1 AND (k.state <> 'enabled' OR v.state <> 'enabled')
         )",
    )
    .bind(wrap.kek.as_str())
    .bind(wrap.kek_version.label())
    .fetch_one(unit.connection())
    .await
    .map_err(from_sqlx)
}

/// Logs the wrap that `swap` is about to replace; `false` if it is not the expected
/// one any more.
async fn log_old(unit: &mut Unit, swap: &WrapSwap) -> Result<bool, StoreError> {
    let logged = sqlx::query(
        "INSERT INTO wrap_log (key_id, slot, kek_pk, kek_version, from_at, until_at)
         SELECT key_id, slot, kek_pk, kek_version, wrapped_at, ?4 FROM wraps
         WHERE key_id = ?1 AND slot = ?2 AND wrap_rev = ?3",
    )
    .bind(swap.key_id.as_bytes().as_slice())
    .bind(i64::from(swap.slot))
    .bind(limits::revision(swap.expected_rev))
    .bind(unit.now)
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    Ok(logged.rows_affected() > 0)
}

/// Deletes every wrap of a DEK, and logs what made them.
pub(super) async fn delete(unit: &mut Unit, key_id: &KeyId) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO wrap_log (key_id, slot, kek_pk, kek_version, from_at, until_at)
         SELECT key_id, slot, kek_pk, kek_version, wrapped_at, ?2 FROM wraps WHERE key_id = ?1",
    )
    .bind(key_id.as_bytes().as_slice())
    .bind(unit.now)
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    sqlx::query("DELETE FROM wraps WHERE key_id = ?1")
        .bind(key_id.as_bytes().as_slice())
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    Ok(())
}

/// Makes the KEK of `wrap` and its version known. That they wrapped shows that they
/// were enabled; what is known already is not overruled. Returns `keks.kek_pk`.
pub(super) async fn register(unit: &mut Unit, wrap: &WrappedKey) -> Result<i64, StoreError> {
    sqlx::query("INSERT INTO keks (uri, state) VALUES (?1, 'enabled') ON CONFLICT DO NOTHING")
        .bind(wrap.kek.as_str())
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    let kek_pk = kek_pk(unit, wrap.kek.as_str()).await?;
    if let Some(label) = wrap.kek_version.label() {
        sqlx::query(
            "INSERT INTO kek_versions (kek_pk, label, state, first_seen)
             VALUES (?1, ?2, 'enabled', ?3) ON CONFLICT DO NOTHING",
        )
        .bind(kek_pk)
        .bind(label)
        .bind(unit.now)
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    }
    Ok(kek_pk)
}

async fn kek_pk(unit: &mut Unit, uri: &str) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT kek_pk FROM keks WHERE uri = ?1")
        .bind(uri)
        .fetch_one(unit.connection())
        .await
        .map_err(from_sqlx)
}

pub(super) async fn record_kek(store: &SqliteKeyStore, state: &KekState) -> Result<(), StoreError> {
    let mut unit = store.write().await?;
    let mut changed = sqlx::query(
        "INSERT INTO keks (uri, state) VALUES (?1, ?2)
         ON CONFLICT (uri) DO UPDATE SET state = excluded.state
         WHERE state <> excluded.state",
    )
    .bind(state.kek.as_str())
    .bind(state.status.as_str())
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?
    .rows_affected();
    let kek_pk = kek_pk(&mut unit, state.kek.as_str()).await?;
    // The version that wraps can be used as far as the KEK can, unless the list that
    // comes next knows better.
    let current = state.current.label();
    let listed = |label: &str| state.versions.iter().any(|version| *version.label == *label);
    if let Some(label) = current.filter(|label| !listed(label)) {
        changed += record_version(&mut unit, kek_pk, label, state.status, None).await?;
    }
    for version in &state.versions {
        let created_at = version.created_at.map(millis);
        changed +=
            record_version(&mut unit, kek_pk, &version.label, version.status, created_at).await?;
    }
    if changed == 0 {
        return unit.roll_back().await;
    }
    unit.bump().await?;
    unit.commit().await
}

/// Returns how many rows changed: one, or none if all is known.
async fn record_version(
    unit: &mut Unit,
    kek_pk: i64,
    label: &str,
    status: KekStatus,
    created_at: Option<i64>,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "INSERT INTO kek_versions (kek_pk, label, state, created_at, first_seen)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (kek_pk, label)
         DO UPDATE SET state = excluded.state,
                       created_at = coalesce(excluded.created_at, created_at)
         WHERE state <> excluded.state
            OR created_at IS NOT coalesce(excluded.created_at, created_at)",
    )
    .bind(kek_pk)
    .bind(label)
    .bind(status.as_str())
    .bind(created_at)
    .bind(unit.now)
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    Ok(done.rows_affected())
}

/// Milliseconds since 1970; negative before.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => limits::after(0, since),
        Err(before) => -limits::after(0, before.duration()),
    }
}
