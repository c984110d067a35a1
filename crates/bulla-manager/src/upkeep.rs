//! What goes on in the background: the change feed, probes, refreshes, housekeeping.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bulla_backend::{
    DekQuery, DekState, Instant, KekStatus, KmsErrorKind, MemberReport, ScopeId, StoreRevision,
};
use bulla_core::KeyId;
use tokio::sync::Mutex;

use crate::Error;
use crate::inner::Inner;
use crate::kek::KekHandle;
use crate::slot::Slot;

/// Changes taken from the store at once, about.
const CHANGES_PAGE: u32 = 1000;

/// How far this process has followed the change feed.
#[derive(Debug)]
pub(crate) struct FeedPosition(pub(crate) Mutex<StoreRevision>);

/// Runs until the manager is dropped or closed.
pub(crate) async fn run(manager: Weak<Inner>) {
    let mut probe_at = Instant::default();
    loop {
        // Nothing here may keep the manager alive while it sleeps.
        let (clock, wake) = match manager.upgrade() {
            Some(inner) => {
                let interval = inner.policy.feed_interval.min(inner.policy.probe_interval);
                (Arc::clone(&inner.clock), inner.now().after(interval))
            }
            None => return,
        };
        clock.sleep_until(wake).await;
        let Some(inner) = manager.upgrade() else { return };
        if inner.closed.load(Ordering::Relaxed) {
            return;
        }
        if inner.now() >= probe_at {
            probe_at = inner.now().after(inner.policy.probe_interval);
            inner.probe_all();
        }
        if let Err(error) = inner.in_time(inner.look_at_feed()).await {
            tracing::warn!(%error, "the key store's changes could not be read");
        }
        inner.wipe_expired();
        inner.tidy();
    }
}

impl Inner {
    /// Applies what has changed in the store, says that this process knows it, and
    /// activates what all processes know.
    pub(crate) async fn look_at_feed(self: &Arc<Self>) -> Result<(), Error> {
        let mut position = self.feed_position.0.lock().await;
        loop {
            let began = self.now();
            let changes = self.store.changes_since(Some(*position), CHANGES_PAGE).await?;
            if changes.identity != self.identity {
                self.store_replaced.store(true, Ordering::Relaxed);
                self.seals_until.store(0, Ordering::Relaxed);
                self.evict_if(|_| true);
                tracing::error!("the key store was replaced or restored: no more sealing");
                return Err(Error::StoreReplaced);
            }
            if !changes.deks.is_empty() {
                self.feed_batch.fetch_add(1, Ordering::SeqCst);
            }
            let mut cached = Vec::new();
            for change in &changes.deks {
                if !matches!(change.state, DekState::Pending | DekState::Active) {
                    self.drop_budget(&change.key_id);
                }
                if let Some(slot) = self.slot(&change.key_id) {
                    // Not even the next read may come between a closed DEK and its end.
                    if !change.state.opens() {
                        slot.set_state(change.state);
                        self.evict(&slot);
                    } else {
                        cached.push(slot);
                    }
                } else if matches!(change.state, DekState::Pending | DekState::Active) {
                    self.fetch_successor(&change.scope, change.key_id);
                }
            }
            if !cached.is_empty() {
                self.recheck(&cached).await?;
            }
            *position = changes.revision;
            if changes.more {
                continue;
            }
            // Opening needs the store to be readable, sealing needs it to be writable.
            self.extend_feed(began);
            let report = MemberReport::new(
                self.member.clone(),
                changes.revision,
                self.policy.member_alive_for,
                self.policy.seal_lease,
            );
            self.store.report_member(&report).await?;
            self.extend_lease(began);
            if self.store.activate_due().await? == 0 {
                return Ok(());
            }
        }
    }

    /// A scope that is sealing here has a new version: have it at hand before it is
    /// needed.
    fn fetch_successor(self: &Arc<Self>, scope: &ScopeId, key_id: KeyId) {
        let Some(state) = self.live_scope(scope) else { return };
        if state.current().is_none() {
            return;
        }
        let (inner, query) = (Arc::clone(self), DekQuery::Key { scope: scope.clone(), key_id });
        self.spawn(async move {
            inner.load(&[query]).await;
        });
    }

    /// Wipes what may serve no longer, used or not.
    fn wipe_expired(&self) {
        let now = self.now();
        let wiped = self.evict_if(|slot| !self.is_valid(&slot.kek, now));
        if wiped > 0 {
            tracing::warn!(wiped, "data keys reached the revocation deadline");
        }
    }

    /// Probes every KEK, each in a task of its own: one that hangs delays no other.
    pub(crate) fn probe_all(self: &Arc<Self>) {
        for kek in self.keks.values() {
            if kek.probing.swap(true, Ordering::Relaxed) {
                continue;
            }
            let (inner, kek) = (Arc::clone(self), Arc::clone(kek));
            self.spawn(async move {
                inner.probe(&kek).await;
                kek.probing.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Asks for the state of a KEK, and unwraps a DEK under it unless one was
    /// unwrapped lately: only the data path proves that the data path is allowed.
    pub(crate) async fn probe(self: &Arc<Self>, kek: &Arc<KekHandle>) {
        match self.in_time(async { Ok(kek.describe().await?) }).await {
            Ok(state) if state.status != KekStatus::Enabled => {
                return self.revoke(kek, state.status.as_str());
            }
            Ok(state) => {
                kek.learn(state.current.label());
                let recorded = async { Ok(self.store.record_kek(&state).await?) };
                if let Err(error) = self.in_time(recorded).await {
                    tracing::warn!(kek = %kek.id(), %error, "the state of a KEK was not recorded");
                }
            }
            Err(Error::Kms(error))
                if matches!(error.kind(), KmsErrorKind::Disabled | KmsErrorKind::NotFound) =>
            {
                return self.revoke(kek, "disabled or gone");
            }
            // A service may well be allowed to unwrap and not to describe.
            Err(error) => tracing::debug!(kek = %kek.id(), %error, "a KEK was not described"),
        }
        let of_this_kek = |slot: &Arc<Slot>| Arc::ptr_eq(&slot.kek, kek) && slot.has_keys();
        let used_last = self.slots().filter(of_this_kek).max_by_key(|slot| slot.used_at());
        if let Some(slot) = used_last
            && !self.probe_is_fresh(kek, self.now())
        {
            slot.refresh_started();
            self.refresh(&slot).await;
        }
    }

    /// Wipes every DEK under `kek`.
    fn revoke(&self, kek: &Arc<KekHandle>, reason: &str) {
        kek.end_validity();
        let wiped = self.evict_if(|slot| Arc::ptr_eq(&slot.kek, kek));
        tracing::warn!(kek = %kek.id(), wiped, "a key-encryption key is revoked: {reason}");
    }

    /// Looks after a slot that is being used: refreshes and rewraps what is due.
    #[cold]
    pub(crate) fn attend(self: &Arc<Self>, slot: &Arc<Slot>, now: Instant) {
        slot.attend(now);
        // A read of the cache is what its recency is made of.
        let _ = self.slot(&slot.key_id);
        if self.policy.rewrap_concurrency > 0 && slot.take_rewrap(now) {
            self.rewraps.ask(slot);
        }
        if slot.seals() && now >= slot.stages_at && slot.budget.stage() {
            self.stage_successor(slot);
        }
        if slot.take_refresh(now) {
            slot.refresh_started();
            let (inner, slot) = (Arc::clone(self), Arc::clone(slot));
            self.spawn(async move { inner.refresh(&slot).await });
        }
    }

    /// Reads and unwraps a cached DEK again, and draws the consequences.
    async fn refresh(self: &Arc<Self>, slot: &Arc<Slot>) {
        let began = self.now();
        let mut outcome = self.reread(slot).await;
        if let Err(Error::Kms(error)) = &outcome
            && error.kind() == KmsErrorKind::Denied
        {
            // Permissions that are being changed deny for a moment.
            self.clock.sleep_until(began.after(self.policy.denied_confirmation)).await;
            outcome = self.reread(slot).await;
        }
        match outcome {
            Ok(()) => slot.refresh_succeeded(began.after(self.policy.refresh_after)),
            Err(Error::Kms(error)) => match error.kind() {
                KmsErrorKind::Disabled => {
                    let label = slot.wrapped_by();
                    self.evict_if(|other| {
                        Arc::ptr_eq(&other.kek, &slot.kek) && other.wrapped_by() == label
                    });
                }
                KmsErrorKind::Denied => self.revoke(&slot.kek, "access was denied twice"),
                KmsErrorKind::Tampered | KmsErrorKind::NotFound => self.evict(slot),
                _ => {
                    tracing::warn!(%error, "a data key could not be refreshed; it serves until its deadline");
                    slot.refresh_failed();
                }
            },
            Err(Error::Store(error)) => {
                tracing::warn!(%error, "a data key could not be refreshed; it serves until its deadline");
                slot.refresh_failed();
            }
            Err(Error::Timeout) => slot.refresh_failed(),
            Err(error) => {
                tracing::warn!(%error, "a cached data key is not good any more");
                self.evict(slot);
            }
        }
    }

    async fn reread(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<(), Error> {
        self.in_time(async {
            let query = DekQuery::Key { scope: slot.scope.id.clone(), key_id: slot.key_id };
            let record = self.find(&[query]).await?.pop().flatten();
            let record = record.ok_or(Error::UnknownKey(slot.key_id))?;
            self.apply(slot, &record);
            Self::check_opens(&record)?;
            // The keys that this derives are those of the slot; they prove it and go.
            self.unwrap(&record).await.map(drop)
        })
        .await
    }
}
