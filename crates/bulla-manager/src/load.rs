//! The cold path: from a question to a warm slot.
//!
//! One read of the store answers all the questions of a call, one KMS call unwraps
//! each DEK, and everybody else who asks the same meanwhile waits for the answer.

use std::sync::Arc;

use bulla_backend::{DekQuery, DekRecord, DekState, Instant, KekVersion, ScopeId, WrappedKey};
use bulla_core::{DekVersion, EnvelopeKey, KeyId};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use crate::Error;
use crate::flights::Landing;
use crate::inner::Inner;
use crate::kek::KekHandle;
use crate::slot::{NewSlot, Slot};

type SlotLanding = Landing<DekQuery, Result<Arc<Slot>, Error>>;

/// What the store said, and the last batch of changes that was applied before it was
/// asked.
pub(crate) struct Read<T> {
    pub(crate) found: T,
    pub(crate) batch: u64,
}

/// Which DEK a wrap should hold.
#[derive(Clone, Copy)]
pub(crate) struct Dek<'a> {
    pub(crate) scope: &'a ScopeId,
    pub(crate) version: DekVersion,
    pub(crate) key_id: KeyId,
}

impl<'a> Dek<'a> {
    pub(crate) fn of(record: &'a DekRecord) -> Self {
        Self { scope: &record.scope, version: record.version, key_id: record.key_id }
    }
}

/// Keys that were proven to be those of a DEK.
pub(crate) struct Proven {
    pub(crate) keys: Arc<EnvelopeKey>,
    pub(crate) kek: Arc<KekHandle>,
    /// The version of the KEK that had wrapped them, by its own word if it has one.
    pub(crate) wrapped_by: KekVersion,
    /// When the unwrap began.
    pub(crate) began: Instant,
    /// How often the KEK, or a version of it, had been closed when it began.
    pub(crate) closures: u64,
}

impl Inner {
    /// Warm slots for all `queries`, in their order.
    ///
    /// Dropping the future stops the waiting, not the loading.
    pub(crate) async fn load(
        self: &Arc<Self>,
        queries: &[DekQuery],
    ) -> Vec<Result<Arc<Slot>, Error>> {
        let (waiters, landings) = self.flights.join(queries);
        if !landings.is_empty() {
            let inner = Arc::clone(self);
            self.spawn(async move { inner.fetch(landings).await });
        }
        let outcomes = waiters
            .into_iter()
            .map(|waiter| async { waiter.outcome().await.unwrap_or(Err(Error::LoadDied)) });
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
        let queries: Vec<_> = missing.iter().map(|landing| landing.key().clone()).collect();
        let read = match self.in_time(self.read_for_load(&queries)).await {
            Ok(read) => read,
            Err(error) => {
                return missing.into_iter().for_each(|landing| landing.land(Err(error.clone())));
            }
        };
        let batch = read.batch;
        // Each has its time from when it starts: a large batch may take longer than one.
        let questions = stream::iter(missing.into_iter().zip(read.found));
        questions
            .for_each_concurrent(self.policy.kms_concurrency, |(landing, found)| {
                let (inner, query) = (&self, landing.key().clone());
                async move {
                    let answer = inner.answer(&query, Read { found, batch });
                    let outcome = inner.in_time(answer).await;
                    if let Err(error) = &outcome {
                        tracing::debug!(%error, "a data key could not be loaded");
                        let until = inner.now().after(inner.policy.negative_for);
                        inner.cache.remember_failure(&query, error, until);
                    }
                    landing.land(outcome);
                }
            })
            .await;
    }

    /// An answer that needs neither store nor KMS.
    fn at_hand(&self, query: &DekQuery) -> Option<Result<Arc<Slot>, Error>> {
        if let Err(error) = self.check_running() {
            return Some(Err(error));
        }
        if let Some(error) = self.cache.remembered_failure(query, self.now()) {
            return Some(Err(error));
        }
        let now = self.now();
        let slot = match query {
            DekQuery::Active(scope) => {
                Arc::clone(&self.cache.live_scope(scope)?.current().as_ref()?.slot)
            }
            DekQuery::Key { scope, key_id } => {
                self.cache.slot(key_id).filter(|slot| slot.scope.id == *scope)?
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

    /// Reads DEKs. A process that has lost sight of the store's changes looks at them
    /// first: without, nothing that it loads may serve.
    async fn read_for_load(
        self: &Arc<Self>,
        queries: &[DekQuery],
    ) -> Result<Read<Vec<Option<DekRecord>>>, Error> {
        if !self.feed_is_valid(self.now()) {
            self.see_feed().await?;
        }
        let batch = self.feed_batch();
        Ok(Read { found: self.find(queries).await?, batch })
    }

    /// Reads one DEK.
    pub(crate) async fn read_one(&self, query: DekQuery) -> Result<Read<Option<DekRecord>>, Error> {
        let batch = self.feed_batch();
        let found = self.find(&[query]).await?.pop().flatten();
        Ok(Read { found, batch })
    }

    /// Makes a warm slot of what the store said.
    async fn answer(
        self: &Arc<Self>,
        query: &DekQuery,
        read: Read<Option<DekRecord>>,
    ) -> Result<Arc<Slot>, Error> {
        let Read { found, batch } = read;
        match (query, found) {
            (DekQuery::Key { .. }, Some(found)) => self.admit(Read { found, batch }).await,
            (DekQuery::Key { key_id, .. }, None) => Err(Error::UnknownKey(*key_id)),
            (DekQuery::Active(scope), found) => self.active(scope, Read { found, batch }).await,
        }
    }

    /// The warm slot of a DEK: the cached one, or a new one after a KMS call. Whoever
    /// else wants the same DEK, by whichever question, waits for that call.
    pub(crate) async fn admit(self: &Arc<Self>, read: Read<DekRecord>) -> Result<Arc<Slot>, Error> {
        loop {
            let (mut waiters, mut landings) = self.unwraps.join(&[read.found.key_id]);
            if let Some(landing) = landings.pop() {
                let outcome = self.admit_alone(&read).await;
                landing.land(outcome.clone());
                return outcome;
            }
            let Some(waiter) = waiters.pop() else { return Err(Error::LoadDied) };
            // Whoever was unwrapping may have run out of time; then it is our turn.
            if let Some(outcome) = waiter.outcome().await {
                return outcome;
            }
        }
    }

    async fn admit_alone(&self, read: &Read<DekRecord>) -> Result<Arc<Slot>, Error> {
        let Read { found: record, batch } = read;
        Self::check_opens(record)?;
        let cached = self.cache.slot(&record.key_id).filter(|slot| {
            slot.scope.id == record.scope && slot.has_keys() && self.is_valid(&slot.kek, self.now())
        });
        if let Some(slot) = cached {
            self.apply_unless_changed(*batch, || self.apply(&slot, record.state));
            return Ok(slot);
        }
        let mut revoked_once = false;
        loop {
            let proven = self.unwrap(record).await;
            let installed = match proven {
                Ok(proven) => {
                    self.counters.loads.add_one();
                    self.install(Read { found: record.clone(), batch: *batch }, proven).await
                }
                Err(error) => Err(error),
            };
            match installed {
                // Another scope's denial may have revoked the KEK: ask for this one.
                Err(Error::Revoked(_)) if !revoked_once => revoked_once = true,
                outcome => return outcome,
            }
        }
    }

    /// Puts proven keys into the cache, in the state that the store says. What was
    /// read before a batch of changes was applied is read again: the change may have
    /// closed this very DEK, and would not be told a second time.
    async fn install(&self, mut read: Read<DekRecord>, proven: Proven) -> Result<Arc<Slot>, Error> {
        let closures = proven.closures;
        let slot = self.new_slot(&read.found, proven);
        loop {
            slot.set_state(read.found.state);
            let keep = || self.keep_slot(&slot, closures);
            if let Some(kept) = self.apply_unless_changed(read.batch, keep) {
                return kept.map(|()| slot);
            }
            let (scope, key_id) = (read.found.scope.clone(), slot.key_id);
            let again = self.read_one(DekQuery::Key { scope, key_id }).await?;
            let found = again.found.ok_or(Error::UnknownKey(key_id))?;
            Self::check_opens(&found)?;
            read = Read { found, batch: again.batch };
        }
    }

    pub(crate) fn new_slot(&self, record: &DekRecord, proven: Proven) -> Arc<Slot> {
        Arc::new(Slot::new(NewSlot {
            scope: self.cache.scope_state(&record.scope),
            record,
            budget: match record.state {
                DekState::Pending | DekState::Active => self.cache.budget(record.key_id),
                // It never seals again.
                _ => self.cache.shared_budget(),
            },
            proven,
            refresh_after: self.policy.refresh_after,
            age_max: self.policy.dek_age_max,
        }))
    }

    /// Unwraps `wrapped` and checks that it holds `dek`: the key id that is derived
    /// from what was unwrapped commits to the key, its version and its scope.
    pub(crate) async fn prove(&self, dek: Dek<'_>, wrapped: &WrappedKey) -> Result<Proven, Error> {
        let (key_id, scope) = (dek.key_id, dek.scope.context());
        let kek = self.keks.get(&wrapped.kek).cloned();
        let kek = kek.ok_or_else(|| Error::UnknownKek { key_id, kek: wrapped.kek.clone() })?;
        let (began, closures) = (self.now(), kek.closures());
        let unwrapped = kek.unwrap(wrapped, &scope.kms_context(dek.version)).await?;
        // Behind a pointer at once: it is large, and futures keep room for what they move.
        let keys = EnvelopeKey::derive(&unwrapped.data_key, dek.version, scope, self.key_options)?;
        let keys = Arc::new(keys);
        if keys.key_id() != key_id {
            let kek = kek.id().clone();
            tracing::error!(%key_id, %kek, "a wrap does not hold the data key that it should");
            return Err(Error::WrongKeyUnwrapped { key_id, kek });
        }
        if !self.extend_validity(&kek, closures, began) {
            return Err(Error::Revoked(kek.id().clone()));
        }
        // The store's word counts only where the KEK has none.
        let wrapped_by = match unwrapped.kek_version {
            KekVersion::Unknown => wrapped.kek_version.clone(),
            known => known,
        };
        Ok(Proven { keys, kek, wrapped_by, began, closures })
    }
}
