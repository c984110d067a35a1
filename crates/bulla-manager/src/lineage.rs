//! New versions of a scope's DEK.
//!
//! Several processes may want the next version at once. A claim in the store spares
//! the others their KMS calls; the unique (scope, version) decides; who loses adopts
//! the winner's.

use std::sync::Arc;
use std::time::Duration;

use bulla_backend::{
    Claim, ClaimRequest, DekQuery, DekRecord, DekState, Insertion, NewDek, ScopeId, StoredWrap,
};
use bulla_core::DekVersion;
use futures_util::future::try_join;

use crate::Error;
use crate::inner::Inner;
use crate::load::{Dek, Read};
use crate::slot::Slot;

/// How long a claim holds: longer than making a key takes, shorter than a caller waits.
const CLAIM_TTL: Duration = Duration::from_secs(3);
/// How often those who wait for another process look again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

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
    /// The slot that seals for `scope`, where the store named `read` as the active DEK.
    /// Makes the scope's first DEK, or the successor of one that is used up.
    pub(crate) async fn active(
        self: &Arc<Self>,
        scope: &ScopeId,
        read: Read<Option<DekRecord>>,
    ) -> Result<Arc<Slot>, Error> {
        let mut used_up = None;
        if let Read { found: Some(found), batch } = read {
            used_up = Some(found.version);
            let slot = self.admit(Read { found, batch }).await?;
            if self.may_seal(&slot, self.now()) {
                return Ok(slot);
            }
        }
        self.make_after(scope, used_up).await?;
        // The new version is pending until every other process has seen it; they look
        // once per feed interval.
        let give_up = self.now().after(self.policy.load_timeout.mul_f32(0.8));
        loop {
            self.look_at_feed().await?;
            let read = self.read_one(DekQuery::Active(scope.clone())).await?;
            match read.found {
                Some(found) if Some(found.version) > used_up => {
                    return self.admit(Read { found, batch: read.batch }).await;
                }
                _ if self.now() >= give_up => return Err(Error::NotActiveYet),
                _ => self.pause().await,
            }
        }
    }

    /// Makes the version after `after`, or finds that somebody has made one that
    /// seals or will. Returns whether this process did.
    pub(crate) async fn make_after(
        &self,
        scope: &ScopeId,
        after: Option<DekVersion>,
    ) -> Result<bool, Error> {
        let state = self.cache.scope_state(scope);
        let _making = state.making.lock().await;
        let mut after = after;
        loop {
            self.check_running()?;
            if after.is_some_and(|version| version.next().is_none()) {
                return Err(Error::LineageExhausted);
            }
            let (scope, owner) = (scope.clone(), self.member.clone());
            let claim = ClaimRequest::new(scope.clone(), after, owner, CLAIM_TTL);
            match self.store.claim_next_version(&claim).await? {
                Claim::Granted(version) => return self.make(&scope, version).await,
                Claim::Busy { .. } => self.pause().await,
                Claim::Superseded { newest, state } => match state {
                    DekState::Pending | DekState::Active => return Ok(false),
                    // It was retired or shredded: the lineage goes on after it.
                    _ => after = Some(newest),
                },
            }
        }
    }

    async fn make(&self, scope: &ScopeId, version: DekVersion) -> Result<bool, Error> {
        let generated = self.kek.generate(&scope.context().kms_context(version)).await?;
        let key_id = generated.data_key.id(version, scope.context())?;
        let dek = Dek { scope, version, key_id };
        let also_wrapped = self.wrap_under_others(dek, &generated.data_key).await?;
        drop(generated.data_key);
        // A wrap that does not unwrap would be found when records are lost already.
        let wrapped = generated.wrapped;
        let (proven, also_wrapped) =
            try_join(self.prove(dek, &wrapped), self.prove_all(dek, also_wrapped)).await?;
        let delay = self.policy.activation_delay;
        let dek = NewDek::new(scope.clone(), version, key_id, wrapped, delay);
        let dek = dek.also_wrapped(also_wrapped);
        let batch = self.feed_batch();
        let Insertion::Stored(state) = self.store.insert_dek(&dek).await? else {
            return Ok(false);
        };
        self.counters.created.add_one();
        tracing::info!(%scope, %version, %key_id, "made a data key");
        let wraps = (0..).zip(dek.wraps()).map(|(at, wrap)| StoredWrap::new(at, 1, wrap.clone()));
        let wraps = wraps.collect();
        let record = DekRecord::new(scope.clone(), version, key_id, state, Duration::ZERO, wraps);
        let closures = proven.closures;
        let slot = self.new_slot(&record, proven);
        // If the store or the KEK has changed meanwhile, the next load looks again.
        let _ = self.apply_unless_changed(batch, || self.keep_slot(&slot, closures));
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
            }
        });
    }

    /// Rotates the DEK of `scope`.
    pub(crate) async fn rotate(self: &Arc<Self>, scope: &ScopeId) -> Result<Rotation, Error> {
        self.check_running()?;
        let from = self.active_version(scope).await?;
        let made_here = self.make_after(scope, from).await?;
        self.look_at_feed().await?;
        let active = self.active_version(scope).await?.ok_or(Error::NotActiveYet)?;
        Ok(Rotation { from, active, made_here })
    }

    async fn active_version(&self, scope: &ScopeId) -> Result<Option<DekVersion>, Error> {
        let read = self.read_one(DekQuery::Active(scope.clone())).await?;
        Ok(read.found.map(|record| record.version))
    }

    async fn pause(&self) {
        self.clock.sleep_until(self.now().after(LOOK_AGAIN)).await;
    }
}
