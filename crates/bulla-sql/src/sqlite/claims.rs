//! New versions: who makes them, and their first row.

use bulla_backend::{
    Claim, ClaimRequest, DekState, Insertion, MemberId, NewDek, ScopeId, StoreError,
};
use bulla_core::{DekVersion, KeyId};
use rusqlite::params;

use super::unit::Unit;
use super::{rows, wraps};
use crate::error::refused;
use crate::limits;

pub(super) fn claim_next_version(
    unit: &mut Unit<'_>,
    request: &ClaimRequest,
) -> Result<Claim, StoreError> {
    let newest = newest(unit, &request.scope)?;
    if let Some((newest, state)) = newest
        && Some(newest) > request.after
    {
        return Ok(Claim::Superseded { newest, state });
    }
    if newest.map(|(newest, _)| newest) < request.after {
        return Err(refused("the claim is on top of a version that the store does not have"));
    }
    let next = match request.after {
        None => DekVersion::FIRST,
        Some(after) => after.next().ok_or_else(|| refused("the scope is out of versions"))?,
    };
    if let Some(until) = claimed_until(unit, &request.scope, &request.owner)? {
        return Ok(Claim::Busy { remaining: limits::between(unit.now, until) });
    }
    unit.bump()?;
    unit.execute(
        "INSERT INTO scopes (tenant, purpose, claim_owner, claim_until) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant, purpose)
         DO UPDATE SET claim_owner = excluded.claim_owner, claim_until = excluded.claim_until",
        (
            request.scope.tenant(),
            request.scope.purpose(),
            request.owner.as_str(),
            limits::after(unit.now, request.ttl),
        ),
    )?;
    Ok(Claim::Granted(next))
}

/// Until when somebody other than `owner` claims the scope, if it has not ended.
fn claimed_until(
    unit: &Unit<'_>,
    scope: &ScopeId,
    owner: &MemberId,
) -> Result<Option<i64>, StoreError> {
    unit.first(
        "SELECT claim_until FROM scopes
         WHERE tenant = ?1 AND purpose = ?2 AND claim_owner <> ?3 AND claim_until > ?4",
        (scope.tenant(), scope.purpose(), owner.as_str(), unit.now),
        |row| rows::value(row, "scopes", "claim_until"),
    )
}

pub(super) fn insert_dek(unit: &mut Unit<'_>, dek: &NewDek) -> Result<Insertion, StoreError> {
    let newest = newest(unit, &dek.scope)?.map(|(newest, _)| newest);
    if newest >= Some(dek.version) {
        return Ok(Insertion::Lost);
    }
    if newest.map_or(Some(DekVersion::FIRST), DekVersion::next) != Some(dek.version) {
        return Err(refused("the version would leave a gap in the lineage of its scope"));
    }
    if exists(unit, &dek.key_id)? {
        return Err(refused("the key id is taken by another version or scope"));
    }
    let state = match newest {
        None => DekState::Active,
        Some(_) => DekState::Pending,
    };
    unit.bump()?;
    insert_row(unit, dek, state)?;
    for (slot, wrap) in (0..).zip(dek.wraps()) {
        wraps::insert(unit, &dek.key_id, slot, wrap)?;
    }
    Ok(Insertion::Stored(state))
}

/// Adds the DEK to its scope, and ends the claim there.
fn insert_row(unit: &Unit<'_>, dek: &NewDek, state: DekState) -> Result<(), StoreError> {
    let scope_pk: i64 = unit.scalar(
        "INSERT INTO scopes (tenant, purpose) VALUES (?1, ?2)
         ON CONFLICT (tenant, purpose) DO UPDATE SET claim_owner = NULL, claim_until = NULL
         RETURNING scope_pk",
        (dek.scope.tenant(), dek.scope.purpose()),
    )?;
    unit.execute(
        "INSERT INTO deks (key_id, scope_pk, version, state, created_at, activate_at, rev)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            dek.key_id.as_bytes(),
            scope_pk,
            dek.version.get(),
            state.as_str(),
            unit.now,
            limits::after(unit.now, dek.activation_delay),
            unit.rev,
        ],
    )?;
    Ok(())
}

/// The newest version of a scope, and its state.
fn newest(unit: &Unit<'_>, scope: &ScopeId) -> Result<Option<(DekVersion, DekState)>, StoreError> {
    unit.first(
        "SELECT d.version, d.state FROM scopes s JOIN deks d ON d.scope_pk = s.scope_pk
         WHERE s.tenant = ?1 AND s.purpose = ?2 ORDER BY d.version DESC LIMIT 1",
        (scope.tenant(), scope.purpose()),
        |row| Ok((rows::dek_version(row)?, rows::dek_state(row)?)),
    )
}

fn exists(unit: &Unit<'_>, key_id: &KeyId) -> Result<bool, StoreError> {
    unit.scalar("SELECT EXISTS (SELECT 1 FROM deks WHERE key_id = ?1)", (key_id.as_bytes(),))
}
