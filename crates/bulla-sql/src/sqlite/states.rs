//! States of DEKs: activation, retirement, shredding.

use bulla_backend::{DekState, StateChange, StoreError};
use bulla_core::KeyId;
use sqlx::sqlite::SqliteRow;

use super::{SqliteKeyStore, Unit, rows, wraps};
use crate::error::{from_sqlx, refused};

/// Pending versions whose time has come, the oldest of each scope first.
const DUE: &str = "SELECT d.key_id, d.scope_pk, d.version FROM deks d
     WHERE d.state = 'pending' AND d.activate_at <= ?1
     AND NOT EXISTS (SELECT 1 FROM members m WHERE m.alive_until > ?1 AND m.acked_rev < d.rev)
     ORDER BY d.version";

pub(super) async fn activate_due(store: &SqliteKeyStore) -> Result<u64, StoreError> {
    // Most calls find nothing: they should not queue up behind the writers.
    let mut unit = store.read().await?;
    let idle = due(&mut unit).await?.is_empty();
    unit.roll_back().await?;
    if idle {
        return Ok(0);
    }
    let mut unit = store.write().await?;
    let due = due(&mut unit).await?;
    if due.is_empty() {
        unit.roll_back().await?;
        return Ok(0);
    }
    unit.bump().await?;
    for row in &due {
        activate(&mut unit, row).await?;
    }
    unit.commit().await?;
    Ok(due.len() as u64)
}

async fn due(unit: &mut Unit) -> Result<Vec<SqliteRow>, StoreError> {
    let now = unit.now;
    sqlx::query(DUE).bind(now).fetch_all(unit.connection()).await.map_err(from_sqlx)
}

async fn activate(unit: &mut Unit, row: &SqliteRow) -> Result<(), StoreError> {
    let key_id = rows::key_id(row)?;
    let version = rows::dek_version(row)?;
    let active =
        sqlx::query("SELECT key_id, version FROM deks WHERE scope_pk = ?1 AND state = 'active'")
            .bind(rows::value::<i64>(row, "deks", "scope_pk")?)
            .fetch_optional(unit.connection())
            .await
            .map_err(from_sqlx)?;
    if let Some(active) = active {
        // A lineage never goes back: what was overtaken only opens.
        if rows::dek_version(&active)? > version {
            return set_state(unit, &key_id, DekState::DecryptOnly).await;
        }
        set_state(unit, &rows::key_id(&active)?, DekState::DecryptOnly).await?;
    }
    set_state(unit, &key_id, DekState::Active).await
}

pub(super) async fn change_state(
    store: &SqliteKeyStore,
    change: &StateChange,
) -> Result<bool, StoreError> {
    if !change.from.may_become(change.to) {
        return Err(refused("the state diagram has no such arrow"));
    }
    let mut unit = store.write().await?;
    let row = sqlx::query("SELECT state FROM deks WHERE key_id = ?1")
        .bind(change.key_id.as_bytes().as_slice())
        .fetch_optional(unit.connection())
        .await
        .map_err(from_sqlx)?;
    if row.as_ref().map(rows::dek_state).transpose()? != Some(change.from) {
        unit.roll_back().await?;
        return Ok(false);
    }
    unit.bump().await?;
    if change.to == DekState::Shredded {
        wraps::delete(&mut unit, &change.key_id).await?;
    }
    set_state(&mut unit, &change.key_id, change.to).await?;
    unit.commit().await?;
    Ok(true)
}

async fn set_state(unit: &mut Unit, key_id: &KeyId, state: DekState) -> Result<(), StoreError> {
    sqlx::query("UPDATE deks SET state = ?2, rev = ?3 WHERE key_id = ?1")
        .bind(key_id.as_bytes().as_slice())
        .bind(state.as_str())
        .bind(unit.rev)
        .execute(unit.connection())
        .await
        .map_err(from_sqlx)?;
    Ok(())
}
