//! The cold path: from a question to a warm slot.
//!
//! One read of the store answers all the questions of a call, one KMS call unwraps
//! each DEK, and everybody else who asks the same meanwhile waits for the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bulla_backend::{DekQuery, DekRecord, Instant, ScopeId, StoredWrap, WrappedKey};
use bulla_core::{DekVersion, EnvelopeKey, KeyId};
use futures_util::future::join_all;

use crate::Error;
use crate::flights::Landing;
use crate::inner::Inner;
use crate::kek::KekHandle;
use crate::slot::{NewSlot, Slot};

/// Which DEK a wrap should hold.
#[derive(Clone, Copy)]
pub(crate) struct Dek<'a> {
    pub(crate) scope: &'a ScopeId,
    pub(crate) version: DekVersion,
    pub(crate) key_id: KeyId,
}

type SlotLanding = Landing<DekQuery, Result<Arc<Slot>, Error>>;

impl Inner {
    /// Warm slots for all `queries`, in their order.
    ///
    /// Dropping the future stops the waiting, not the loading.
    pub(crate) async fn load(
        self: &Arc<Self>,
        queries: &[DekQuery],
    ) -> Vec<Result<Arc<Slot>, Error>> {
        if self.closed.load(Ordering::Relaxed) {
            return queries.iter().map(|_| Err(Error::Closed)).collect();
        }
        let (waiters, landings) = self.flights.join(queries);
        if !landings.is_empty() {
            let inner = Arc::clone(self);
            self.spawn(async move { inner.fetch(landings).await });
        }
        let outcomes = waiters.into_iter().map(|waiter| async {
            // A fetch that died took its runtime or a backend with it.
            waiter.outcome().await.unwrap_or(Err(Error::Closed))
        });
        join_all(outcomes).await
    }

    /// Fetches what `landings` stand for and tells the waiters.
    async fn fetch(self: Arc<Self>, landings: Vec<SlotLanding>) {
        let mut missing = Vec::new();
        for landing in landings {
            // Another fetch may have ended between the caller's look and its joining.
            match self.at_hand(landing.key()) {
                Some(outcome) => landing.land(outcome),
                None => missing.push(landing),
            }
        }
        if missing.is_empty() {
            return;
        }
        let began = self.now();
        let batch = self.feed_batch.load(Ordering::SeqCst);
        let queries: Vec<_> = missing.iter().map(|landing| landing.key().clone()).collect();
        let records = match self.in_time(self.find(&queries)).await {
            Ok(records) => records,
            Err(error) => return missing.into_iter().for_each(|one| one.land(Err(error.clone()))),
        };
        let work = missing.into_iter().zip(records).map(|(landing, record)| async {
            let query = landing.key().clone();
            let outcome = self.in_time(self.answer(&query, record, began, batch)).await;
            if let Err(error) = &outcome {
                tracing::debug!(%error, "a data key could not be loaded");
                self.remember_failure(&query, error);
            }
            landing.land(outcome);
        });
        join_all(work).await;
    }

    /// An answer that needs neither store nor KMS.
    fn at_hand(&self, query: &DekQuery) -> Option<Result<Arc<Slot>, Error>> {
        if let Some(error) = self.remembered_failure(query) {
            return Some(Err(error));
        }
        let now = self.now();
        let slot = match query {
            DekQuery::Active(scope) => self.live_scope(scope)?.current().as_ref().cloned()?,
            DekQuery::Key { scope, key_id } => {
                self.slot(key_id).filter(|slot| slot.scope.id == *scope)?
            }
        };
        let usable = slot.has_keys() && self.is_valid(&slot.kek, now);
        let wanted = match query {
            DekQuery::Active(_) => self.may_seal(&slot, now),
            DekQuery::Key { .. } => true,
        };
        (usable && wanted).then_some(Ok(slot))
    }

    /// Whether the slot's DEK seals and has budget left.
    pub(crate) fn may_seal(&self, slot: &Slot, now: Instant) -> bool {
        slot.seals() && now < slot.seals_until && !slot.budget.is_used_up(&self.policy)
    }

    /// Makes a warm slot of what the store said.
    async fn answer(
        self: &Arc<Self>,
        query: &DekQuery,
        record: Option<DekRecord>,
        began: Instant,
        batch: u64,
    ) -> Result<Arc<Slot>, Error> {
        let slot = match (query, record) {
            (DekQuery::Key { .. }, Some(record)) => self.admit(&record, began).await?,
            (DekQuery::Key { key_id, .. }, None) => return Err(Error::UnknownKey(*key_id)),
            (DekQuery::Active(scope), record) => self.active(scope, record, began).await?,
        };
        // A key that was loaded just now is of no use to a process that has lost sight of
        // the store's changes: look, or say why that is impossible.
        if !self.is_valid(&slot.kek, self.now()) {
            self.look_at_feed().await?;
        }
        // A change that was applied while this key was on its way has missed it.
        if self.feed_batch.load(Ordering::SeqCst) != batch {
            self.recheck(std::slice::from_ref(&slot)).await?;
            if !slot.has_keys() {
                let (key_id, state) = (slot.key_id, slot.state());
                return Err(Error::KeyClosed { key_id, state });
            }
        }
        Ok(slot)
    }

    /// The slot of `record`: the cached one, or a new one after a KMS call.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        record: &DekRecord,
        began: Instant,
    ) -> Result<Arc<Slot>, Error> {
        Self::check_opens(record)?;
        if let Some(slot) = self.slot(&record.key_id)
            && slot.has_keys()
            && self.is_valid(&slot.kek, self.now())
        {
            self.apply(&slot, record);
            return Ok(slot);
        }
        let (keys, wrap) = self.unwrap(record).await?;
        self.counters.loads.add_one();
        self.install(record, keys, &wrap.wrapped, began)
    }

    /// Puts keys that were proven to be those of `record` into the cache.
    pub(crate) fn install(
        &self,
        record: &DekRecord,
        keys: EnvelopeKey,
        wrapped: &WrappedKey,
        began: Instant,
    ) -> Result<Arc<Slot>, Error> {
        let slot = Arc::new(Slot::new(NewSlot {
            scope: self.scope_state(&record.scope),
            record,
            kek: self.kek_of(record.key_id, wrapped)?,
            budget: self.budget(record.key_id),
            keys,
            wrapped_by: wrapped.kek_version.clone(),
            began,
            refresh_after: self.policy.refresh_after,
            age_max: self.policy.dek_age_max,
        }));
        self.keep_slot(&slot);
        Ok(slot)
    }

    /// Unwraps a DEK by the first of its wraps whose KEK is at hand.
    pub(crate) async fn unwrap<'a>(
        &self,
        record: &'a DekRecord,
    ) -> Result<(EnvelopeKey, &'a StoredWrap), Error> {
        let wrap = self.usable_wrap(record)?;
        let dek = Dek { scope: &record.scope, version: record.version, key_id: record.key_id };
        Ok((self.prove(dek, &wrap.wrapped).await?, wrap))
    }

    /// Unwraps `wrapped` and checks that it holds `dek`: the key id that is derived
    /// from what was unwrapped commits to the key, its version and its scope.
    pub(crate) async fn prove(
        &self,
        dek: Dek<'_>,
        wrapped: &WrappedKey,
    ) -> Result<EnvelopeKey, Error> {
        let kek = self.kek_of(dek.key_id, wrapped)?;
        let scope = dek.scope.context();
        let permit = self.kms_permits.acquire().await.map_err(|_| Error::Closed)?;
        let began = self.now();
        let unwrapped = kek.unwrap(wrapped, &scope.kms_context(dek.version)).await?;
        drop(permit);
        let keys = EnvelopeKey::derive(&unwrapped.data_key, dek.version, scope, self.key_options)?;
        if keys.key_id() != dek.key_id {
            let (key_id, kek) = (dek.key_id, kek.id().clone());
            tracing::error!(%key_id, %kek, "a wrap does not hold the data key that it should");
            return Err(Error::WrongKeyUnwrapped { key_id, kek });
        }
        kek.extend_validity(began.after(self.policy.revocation_deadline));
        Ok(keys)
    }

    fn kek_of(&self, key_id: KeyId, wrapped: &WrappedKey) -> Result<Arc<KekHandle>, Error> {
        let kek = self.keks.get(&wrapped.kek).cloned();
        kek.ok_or_else(|| Error::UnknownKek { key_id, kek: wrapped.kek.clone() })
    }

    /// The first wrap whose KEK this manager was given.
    pub(crate) fn usable_wrap<'a>(&self, record: &'a DekRecord) -> Result<&'a StoredWrap, Error> {
        let usable = record.wraps.iter().find(|wrap| self.keks.contains_key(&wrap.wrapped.kek));
        usable.ok_or_else(|| match record.wraps.first() {
            Some(wrap) => {
                Error::UnknownKek { key_id: record.key_id, kek: wrap.wrapped.kek.clone() }
            }
            None => Error::UnknownKey(record.key_id),
        })
    }

    /// Brings slots in line with the store, by one read.
    pub(crate) async fn recheck(&self, slots: &[Arc<Slot>]) -> Result<(), Error> {
        let queries: Vec<_> = slots
            .iter()
            .map(|slot| DekQuery::Key { scope: slot.scope.id.clone(), key_id: slot.key_id })
            .collect();
        for (slot, record) in slots.iter().zip(self.find(&queries).await?) {
            match record {
                Some(record) => self.apply(slot, &record),
                None => self.evict(slot),
            }
        }
        Ok(())
    }
}
