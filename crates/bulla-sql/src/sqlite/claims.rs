//! New versions: who makes them, and their first row.

use bulla_backend::{
    Claim, ClaimRequest, DekState, Insertion, MemberId, NewDek, ScopeId, StoreError,
};
use bulla_core::{DekVersion, KeyId};

use super::{SqliteKeyStore, Unit, rows, wraps};
use crate::error::{from_sqlx, refused};
use crate::limits;

pub(super) async fn claim_next_version(
    store: &SqliteKeyStore,
    request: &ClaimRequest,
) -> Result<Claim, StoreError> {
    let mut unit = store.write().await?;
    let newest = newest(&mut unit, &request.scope).await?;
    if let Some((newest, state)) = newest
        && Some(newest) > request.after
    {
        unit.roll_back().await?;
        return Ok(Claim::Superseded { newest, state });
    }
    if newest.map(|(newest, _)| newest) < request.after {
        return Err(refused("the claim is on top of a version that the store does not have"));
    }
    let next = match request.after {
        None => DekVersion::FIRST,
        Some(after) => after.next().ok_or_else(|| refused("the scope is out of versions"))?,
    };
    if let Some(until) = claimed_until(&mut unit, &request.scope, &request.owner).await? {
        let remaining = limits::between(unit.now, until);
        unit.roll_back().await?;
        return Ok(Claim::Busy { remaining });
    }
    unit.bump().await?;
    sqlx::query(
        "INSERT INTO scopes (tenant, purpose, claim_owner, claim_until) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant, purpose)
         DO UPDATE SET claim_owner = excluded.claim_owner, claim_until = excluded.claim_until",
    )
    .bind(request.scope.tenant())
    .bind(request.scope.purpose())
    .bind(request.owner.as_str())
    .bind(limits::after(unit.now, request.ttl))
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    unit.commit().await?;
    Ok(Claim::Granted(next))
}

/// Until when somebody other than `owner` claims the scope, if it has not ended.
async fn claimed_until(
    unit: &mut Unit,
    scope: &ScopeId,
    owner: &MemberId,
) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar(
        "SELECT claim_until FROM scopes
         WHERE tenant = ?1 AND purpose = ?2 AND claim_owner <> ?3 AND claim_until > ?4",
    )
    .bind(scope.tenant())
    .bind(scope.purpose())
    .bind(owner.as_str())
    .bind(unit.now)
    .fetch_optional(unit.connection())
    .await
    .map_err(from_sqlx)
}

pub(super) async fn insert_dek(
    store: &SqliteKeyStore,
    dek: &NewDek,
) -> Result<Insertion, StoreError> {
    let mut unit = store.write().await?;
    let newest = newest(&mut unit, &dek.scope).await?.map(|(newest, _)| newest);
    if newest >= Some(dek.version) {
        unit.roll_back().await?;
        return Ok(Insertion::Lost);
    }
    if newest.map_or(Some(DekVersion::FIRST), DekVersion::next) != Some(dek.version) {
        return Err(refused("the version would leave a gap in the lineage of its scope"));
    }
    if exists(&mut unit, &dek.key_id).await? {
        return Err(refused("the key id is taken by another version or scope"));
    }
    let state = match newest {
        None => DekState::Active,
        Some(_) => DekState::Pending,
    };
    unit.bump().await?;
    insert_row(&mut unit, dek, state).await?;
    for (slot, wrap) in (0..).zip(dek.wraps()) {
        wraps::insert(&mut unit, &dek.key_id, slot, wrap).await?;
    }
    unit.commit().await?;
    Ok(Insertion::Stored(state))
}

/// Adds the DEK to its scope, and ends the claim there.
async fn insert_row(unit: &mut Unit, dek: &NewDek, state: DekState) -> Result<(), StoreError> {
    let scope_pk: i64 = sqlx::query_scalar(
        "INSERT INTO scopes (tenant, purpose) VALUES (?1, ?2)
         ON CONFLICT (tenant, purpose) DO UPDATE SET claim_owner = NULL, claim_until = NULL
         RETURNING scope_pk",
    )
    .bind(dek.scope.tenant())
    .bind(dek.scope.purpose())
    .fetch_one(unit.connection())
    .await
    .map_err(from_sqlx)?;
    sqlx::query(
        "INSERT INTO deks (key_id, scope_pk, version, state, created_at, activate_at, rev)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(dek.key_id.as_bytes().as_slice())
    .bind(scope_pk)
    .bind(i64::from(dek.version.get()))
    .bind(state.as_str())
    .bind(unit.now)
    .bind(limits::after(unit.now, dek.activation_delay))
    .bind(unit.rev)
    .execute(unit.connection())
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

/// The newest version of a scope, and its state.
async fn newest(
    unit: &mut Unit,
    scope: &ScopeId,
) -> Result<Option<(DekVersion, DekState)>, StoreError> {
    let newest = sqlx::query(
        "SELECT d.version, d.state FROM scopes s JOIN deks d ON d.scope_pk = s.scope_pk
         WHERE s.tenant = ?1 AND s.purpose = ?2 ORDER BY d.version DESC LIMIT 1",
    )
    .bind(scope.tenant())
    .bind(scope.purpose())
    .fetch_optional(unit.connection())
    .await
    .map_err(from_sqlx)?;
    newest.map(|row| Ok((rows::dek_version(&row)?, rows::dek_state(&row)?))).transpose()
}

async fn exists(unit: &mut Unit, key_id: &KeyId) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM deks WHERE key_id = ?1)")
        .bind(key_id.as_bytes().as_slice())
        .fetch_one(unit.connection())
        .await
        .map_err(from_sqlx)
}
