//! Wraps, and the KEKs that make them.

use std::time::{SystemTime, UNIX_EPOCH};

use bulla_backend::{KekState, KekStatus, NewWrap, StoreError, WrapSwap, WrappedKey};
use bulla_core::KeyId;
use rusqlite::params;

use super::rows;
use super::unit::Unit;
use crate::limits;

pub(super) fn replace_wrap(unit: &mut Unit<'_>, swap: &WrapSwap) -> Result<bool, StoreError> {
    if !may_wrap(unit, &swap.wrapped)? || !log_old(unit, swap)? {
        return Ok(false);
    }
    unit.bump()?;
    let kek_pk = register(unit, &swap.wrapped)?;
    unit.execute(
        "UPDATE wraps SET kek_pk = ?3, kek_version = ?4, version_source = ?5, blob = ?6,
                          wrap_rev = wrap_rev + 1, wrapped_at = ?7, rev = ?8
         WHERE key_id = ?1 AND slot = ?2",
        params![
            swap.key_id.as_bytes(),
            swap.slot,
            kek_pk,
            swap.wrapped.kek_version.label(),
            rows::version_source(&swap.wrapped.kek_version),
            swap.wrapped.blob,
            unit.now,
            unit.rev,
        ],
    )?;
    stamp_dek(unit, &swap.key_id)?;
    Ok(true)
}

pub(super) fn add_wrap(unit: &mut Unit<'_>, new: &NewWrap) -> Result<bool, StoreError> {
    if !may_wrap(unit, &new.wrapped)? || !has_room(unit, new)? {
        return Ok(false);
    }
    unit.bump()?;
    insert(unit, &new.key_id, new.slot, &new.wrapped)?;
    stamp_dek(unit, &new.key_id)?;
    Ok(true)
}

/// Whether the DEK has wraps, none of them in this slot or by this KEK.
fn has_room(unit: &Unit<'_>, new: &NewWrap) -> Result<bool, StoreError> {
    unit.scalar(
        "SELECT count(*) > 0 AND coalesce(max(w.slot = ?2 OR k.uri = ?3), 0) = 0
         FROM wraps w JOIN keks k ON k.kek_pk = w.kek_pk WHERE w.key_id = ?1",
        (new.key_id.as_bytes(), new.slot, new.wrapped.kek.as_str()),
    )
}

/// Puts a wrap into a slot that is free.
pub(super) fn insert(
    unit: &Unit<'_>,
    key_id: &KeyId,
    slot: u8,
    wrap: &WrappedKey,
) -> Result<(), StoreError> {
    let kek_pk = register(unit, wrap)?;
    unit.execute(
        "INSERT INTO wraps
             (key_id, slot, kek_pk, kek_version, version_source, blob, wrap_rev, wrapped_at, rev)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8)",
        params![
            key_id.as_bytes(),
            slot,
            kek_pk,
            wrap.kek_version.label(),
            rows::version_source(&wrap.kek_version),
            wrap.blob,
            unit.now,
            unit.rev,
        ],
    )?;
    Ok(())
}

/// The DEK has changed in the present revision.
fn stamp_dek(unit: &Unit<'_>, key_id: &KeyId) -> Result<(), StoreError> {
    unit.execute("UPDATE deks SET rev = ?2 WHERE key_id = ?1", (key_id.as_bytes(), unit.rev))?;
    Ok(())
}

/// Whether neither the KEK of `wrap` nor its version is known to be unusable.
fn may_wrap(unit: &Unit<'_>, wrap: &WrappedKey) -> Result<bool, StoreError> {
    unit.scalar(
        "SELECT NOT EXISTS (
             SELECT 1 FROM keks k
             LEFT JOIN kek_versions v ON v.kek_pk = k.kek_pk AND v.label = ?2
             WHERE k.uri = ?1 AND (k.state <> 'enabled' OR v.state <> 'enabled')
         )",
        (wrap.kek.as_str(), wrap.kek_version.label()),
    )
}

/// Logs the wrap that `swap` is about to replace; `false` if it is not the expected
/// one any more.
fn log_old(unit: &Unit<'_>, swap: &WrapSwap) -> Result<bool, StoreError> {
    let logged = unit.execute(
        "INSERT INTO wrap_log (key_id, slot, kek_pk, kek_version, from_at, until_at)
         SELECT key_id, slot, kek_pk, kek_version, wrapped_at, ?4 FROM wraps
         WHERE key_id = ?1 AND slot = ?2 AND wrap_rev = ?3",
        (swap.key_id.as_bytes(), swap.slot, limits::revision(swap.expected_rev), unit.now),
    )?;
    Ok(logged > 0)
}

/// Deletes every wrap of a DEK, and logs what made them.
pub(super) fn delete(unit: &Unit<'_>, key_id: &KeyId) -> Result<(), StoreError> {
    unit.execute(
        "INSERT INTO wrap_log (key_id, slot, kek_pk, kek_version, from_at, until_at)
         SELECT key_id, slot, kek_pk, kek_version, wrapped_at, ?2 FROM wraps WHERE key_id = ?1",
        (key_id.as_bytes(), unit.now),
    )?;
    unit.execute("DELETE FROM wraps WHERE key_id = ?1", (key_id.as_bytes(),))?;
    Ok(())
}

/// Makes the KEK of `wrap` and its version known. That they wrapped shows that they
/// were enabled; what is known already is not overruled. Returns `keks.kek_pk`.
fn register(unit: &Unit<'_>, wrap: &WrappedKey) -> Result<i64, StoreError> {
    unit.execute(
        "INSERT INTO keks (uri, state) VALUES (?1, 'enabled') ON CONFLICT DO NOTHING",
        (wrap.kek.as_str(),),
    )?;
    let kek_pk = kek_pk(unit, wrap.kek.as_str())?;
    if let Some(label) = wrap.kek_version.label() {
        unit.execute(
            "INSERT INTO kek_versions (kek_pk, label, state, first_seen)
             VALUES (?1, ?2, 'enabled', ?3) ON CONFLICT DO NOTHING",
            (kek_pk, label, unit.now),
        )?;
    }
    Ok(kek_pk)
}

fn kek_pk(unit: &Unit<'_>, uri: &str) -> Result<i64, StoreError> {
    unit.scalar("SELECT kek_pk FROM keks WHERE uri = ?1", (uri,))
}

pub(super) fn record_kek(unit: &mut Unit<'_>, state: &KekState) -> Result<(), StoreError> {
    let mut changed = unit.execute(
        "INSERT INTO keks (uri, state) VALUES (?1, ?2)
         ON CONFLICT (uri) DO UPDATE SET state = excluded.state
         WHERE state <> excluded.state",
        (state.kek.as_str(), state.status.as_str()),
    )?;
    let kek_pk = kek_pk(unit, state.kek.as_str())?;
    // The version that wraps can be used as far as the KEK can, unless the list that
    // comes next knows better.
    let current = state.current.label();
    let listed = |label: &str| state.versions.iter().any(|version| *version.label == *label);
    if let Some(label) = current.filter(|label| !listed(label)) {
        changed += record_version(unit, kek_pk, label, state.status, None)?;
    }
    for version in &state.versions {
        let created_at = version.created_at.map(millis);
        changed += record_version(unit, kek_pk, &version.label, version.status, created_at)?;
    }
    match changed {
        0 => Ok(()),
        _ => unit.bump(),
    }
}

/// Returns how many rows changed: one, or none if all is known.
fn record_version(
    unit: &Unit<'_>,
    kek_pk: i64,
    label: &str,
    status: KekStatus,
    created_at: Option<i64>,
) -> Result<usize, StoreError> {
    unit.execute(
        "INSERT INTO kek_versions (kek_pk, label, state, created_at, first_seen)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (kek_pk, label)
         DO UPDATE SET state = excluded.state,
                       created_at = coalesce(excluded.created_at, created_at)
         WHERE state <> excluded.state
            OR created_at IS NOT coalesce(excluded.created_at, created_at)",
        (kek_pk, label, status.as_str(), created_at, unit.now),
    )
}

/// Milliseconds since 1970; negative before.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => limits::after(0, since),
        Err(before) => -limits::after(0, before.duration()),
    }
}
