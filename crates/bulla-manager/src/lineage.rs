//! New versions of a scope's DEK.
//!
//! Several processes may want the next version at once. A claim in the store spares
//! the others their KMS calls; the unique (scope, version) decides; who loses adopts
//! the winner's.

use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{
    Claim, ClaimRequest, DekQuery, DekRecord, Insertion, Instant, NewDek, ScopeId,
};
use bulla_core::DekVersion;

use crate::Error;
use crate::inner::Inner;
use crate::load::Dek;
use crate::slot::Slot;

/// How long a claim holds: longer than making a key takes, short enough that nobody
/// waits long for a process that died over it.
const CLAIM_TTL: Duration = Duration::from_secs(10);
/// How often those who wait for another process look again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What [`Scope::rotate`](crate::Scope::rotate) has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// The version that was active before; `None` for a scope without one.
    pub from: Option<DekVersion>,
    /// The version that is active now; the same as `from` while its successor is
    /// pending.
    pub active: DekVersion,
    /// Whether this call made the new version; another process may have.
    pub made_here: bool,
}

impl Inner {
    /// The slot that seals for `scope`, where the store named `record` as the active
    /// DEK. Makes the scope's first DEK, or the successor of one that is used up.
    pub(crate) async fn active(
        self: &Arc<Self>,
        scope: &ScopeId,
        record: Option<DekRecord>,
        began: Instant,
    ) -> Result<Arc<Slot>, Error> {
        if let Some(record) = &record {
            let slot = self.admit(record, began).await?;
            if self.may_seal(&slot, self.now()) {
                return Ok(slot);
            }
        }
        let used_up = record.map(|record| record.version);
        self.make_after(scope, used_up).await?;
        loop {
            let began = self.now();
            self.look_at_feed().await?;
            let query = DekQuery::Active(scope.clone());
            let record = self.find(std::slice::from_ref(&query)).await?.pop().flatten();
            if let Some(record) = record
                && Some(record.version) > used_up
            {
                return self.admit(&record, began).await;
            }
            // Pending until every other process has seen it.
            self.pause().await;
        }
    }

    /// Makes the version after `after`, or finds that somebody has. Returns whether
    /// this process did.
    pub(crate) async fn make_after(
        &self,
        scope: &ScopeId,
        after: Option<DekVersion>,
    ) -> Result<bool, Error> {
        if after.is_some_and(|version| version.next().is_none()) {
            return Err(Error::LineageExhausted);
        }
        let claim = ClaimRequest::new(scope.clone(), after, self.member.clone(), CLAIM_TTL);
        loop {
            match self.store.claim_next_version(&claim).await? {
                Claim::Superseded => return Ok(false),
                Claim::Busy { .. } => self.pause().await,
                Claim::Granted(version) => return self.make(scope, version).await,
            }
        }
    }

    async fn make(&self, scope: &ScopeId, version: DekVersion) -> Result<bool, Error> {
        let permit = self.kms_permits.acquire().await.map_err(|_| Error::Closed)?;
        let generated = self.kek.generate(&scope.context().kms_context(version)).await?;
        drop(permit);
        let key_id = generated.data_key.id(version, scope.context())?;
        drop(generated.data_key);
        // A wrap that does not unwrap would be found when records are lost already.
        let (began, wrapped) = (self.now(), generated.wrapped);
        let keys = self.prove(Dek { scope, version, key_id }, &wrapped).await?;
        let delay = self.policy.activation_delay;
        let dek = NewDek::new(scope.clone(), version, key_id, wrapped.clone(), delay);
        let Insertion::Stored(state) = self.store.insert_dek(&dek).await? else {
            return Ok(false);
        };
        self.counters.created.add_one();
        tracing::info!(%scope, %version, %key_id, "made a data key");
        let record =
            DekRecord::new(scope.clone(), version, key_id, state, Duration::ZERO, Vec::new());
        self.install(&record, keys, &wrapped, began)?;
        Ok(true)
    }

    /// Has the successor of a half-used DEK made, in the background.
    pub(crate) fn stage_successor(self: &Arc<Self>, slot: &Arc<Slot>) {
        let (inner, slot) = (Arc::clone(self), Arc::clone(slot));
        self.spawn(async move {
            let work = async {
                inner.make_after(&slot.scope.id, Some(slot.version)).await?;
                inner.look_at_feed().await
            };
            if let Err(error) = inner.in_time(work).await {
                tracing::warn!(scope = %slot.scope.id, %error, "the next data key could not be made yet");
                slot.budget.unstage();
            }
        });
    }

    /// Rotates the DEK of `scope`.
    pub(crate) async fn rotate(self: &Arc<Self>, scope: &ScopeId) -> Result<Rotation, Error> {
        let from = self.active_version(scope).await?;
        let made_here = self.make_after(scope, from).await?;
        self.look_at_feed().await?;
        let active = self.active_version(scope).await?.ok_or(Error::NotActiveYet)?;
        Ok(Rotation { from, active, made_here })
    }

    async fn active_version(&self, scope: &ScopeId) -> Result<Option<DekVersion>, Error> {
        let found = self.find(&[DekQuery::Active(scope.clone())]).await?.pop().flatten();
        Ok(found.map(|record| record.version))
    }

    async fn pause(&self) {
        self.clock.sleep_until(self.now().after(LOOK_AGAIN)).await;
    }
}
