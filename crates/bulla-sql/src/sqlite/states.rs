//! States of DEKs: activation, retirement, shredding.

use bulla_backend::{DekState, StateChange, StoreError};
use bulla_core::{DekVersion, KeyId};

use super::unit::Unit;
use super::{rows, wraps};
use crate::error::refused;

/// A pending version whose time has come.
struct Due {
    key_id: KeyId,
    scope_pk: i64,
    version: DekVersion,
}

/// Whether there is nothing to activate.
pub(super) fn is_idle(unit: &mut Unit<'_>) -> Result<bool, StoreError> {
    Ok(due(unit)?.is_empty())
}

pub(super) fn activate_due(unit: &mut Unit<'_>) -> Result<u64, StoreError> {
    let due = due(unit)?;
    if due.is_empty() {
        return Ok(0);
    }
    unit.bump()?;
    for dek in &due {
        activate(unit, dek)?;
    }
    Ok(due.len() as u64)
}

/// The oldest of each scope first.
fn due(unit: &Unit<'_>) -> Result<Vec<Due>, StoreError> {
    unit.all(
        "SELECT d.key_id, d.scope_pk, d.version FROM deks d
         WHERE d.state = 'pending' AND d.activate_at <= ?1
         AND NOT EXISTS (
             SELECT 1 FROM members m WHERE m.alive_until > ?1 AND m.acked_rev < d.rev
         )
         ORDER BY d.version",
        (unit.now,),
        |row| {
            Ok(Due {
                key_id: rows::key_id(row)?,
                scope_pk: rows::value(row, "deks", "scope_pk")?,
                version: rows::dek_version(row)?,
            })
        },
    )
}

fn activate(unit: &Unit<'_>, due: &Due) -> Result<(), StoreError> {
    let active = unit.first(
        "SELECT key_id, version FROM deks WHERE scope_pk = ?1 AND state = 'active'",
        (due.scope_pk,),
        |row| Ok((rows::key_id(row)?, rows::dek_version(row)?)),
    )?;
    if let Some((active, version)) = active {
        // A lineage never goes back: what was overtaken only opens.
        if version > due.version {
            return set_state(unit, &due.key_id, DekState::DecryptOnly);
        }
        set_state(unit, &active, DekState::DecryptOnly)?;
    }
    set_state(unit, &due.key_id, DekState::Active)
}

pub(super) fn change_state(unit: &mut Unit<'_>, change: &StateChange) -> Result<bool, StoreError> {
    if !change.from.may_become(change.to) {
        return Err(refused("the state diagram has no such arrow"));
    }
    let state = unit.first(
        "SELECT state FROM deks WHERE key_id = ?1",
        (change.key_id.as_bytes(),),
        rows::dek_state,
    )?;
    if state != Some(change.from) {
        return Ok(false);
    }
    unit.bump()?;
    if change.to == DekState::Shredded {
        wraps::delete(unit, &change.key_id)?;
    }
    set_state(unit, &change.key_id, change.to)?;
    Ok(true)
}

fn set_state(unit: &Unit<'_>, key_id: &KeyId, state: DekState) -> Result<(), StoreError> {
    unit.execute(
        "UPDATE deks SET state = ?2, rev = ?3 WHERE key_id = ?1",
        (key_id.as_bytes(), state.as_str(), unit.rev),
    )?;
    Ok(())
}
