//! What goes on in the background: the change feed, probes, refreshes, housekeeping.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bulla_backend::{
    DekChange, DekQuery, DekState, Instant, KekState, KekStatus, KmsErrorKind, MemberReport,
    StoreRevision,
};
use futures_util::future::join_all;
use tokio::sync::Mutex;

use crate::Error;
use crate::inner::Inner;
use crate::kek::KekHandle;
use crate::load::Dek;
use crate::slot::Slot;

/// Changes taken from the store at once, about.
const CHANGES_PAGE: u32 = 1000;
/// DEKs that a probe unwraps at most until one tells something about the KEK.
const PROBED_MAX: usize = 3;

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
        inner.cache.tidy();
        inner.counters.count_unlocked_keys();
    }
}

impl Inner {
    /// Applies what has changed in the store, says that this process knows it, and
    /// activates what all processes know.
    pub(crate) async fn look_at_feed(self: &Arc<Self>) -> Result<(), Error> {
        let mut position = self.feed_position.0.lock().await;
        loop {
            self.check_running()?;
            let began = self.now();
            let changes = self.store.changes_since(Some(*position), CHANGES_PAGE).await?;
            if changes.identity != self.identity || changes.revision < *position {
                self.store_replaced.store(true, Ordering::SeqCst);
                self.halt();
                tracing::error!(
                    "the key store was replaced or restored: nothing is served any more"
                );
                return Err(Error::StoreReplaced);
            }
            self.apply_changes(&changes.deks);
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

    /// As `look_at_feed`, for those who only open: what could not be written is no
    /// matter to them.
    pub(crate) async fn see_feed(self: &Arc<Self>) -> Result<(), Error> {
        match self.look_at_feed().await {
            Err(Error::Store(error)) if self.feed_is_valid(self.now()) => {
                tracing::warn!(%error, "the key store can be read and not written");
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn apply_changes(self: &Arc<Self>, changes: &[DekChange]) {
        if changes.is_empty() {
            return;
        }
        let mut successors = Vec::new();
        self.apply_batch(|| {
            for change in changes {
                let seals = matches!(change.state, DekState::Pending | DekState::Active);
                if !seals {
                    self.cache.drop_budget(&change.key_id);
                }
                match self.cache.slot(&change.key_id) {
                    Some(slot) => self.apply(&slot, change.state),
                    None if seals => successors.push(change),
                    None => {}
                }
            }
        });
        successors.into_iter().for_each(|change| self.fetch_successor(change));
    }

    /// A scope that is sealing here has a new version: have it at hand before it is
    /// needed.
    fn fetch_successor(self: &Arc<Self>, change: &DekChange) {
        let sealing =
            self.cache.live_scope(&change.scope).is_some_and(|state| state.current().is_some());
        if !sealing {
            return;
        }
        let (scope, key_id) = (change.scope.clone(), change.key_id);
        let (inner, query) = (Arc::clone(self), DekQuery::Key { scope, key_id });
        self.spawn(async move {
            inner.load(&[query]).await;
        });
    }

    /// Wipes what may serve no longer, used or not; and what nobody has used for so
    /// long that its last proof is old.
    fn wipe_expired(&self) {
        let now = self.now();
        let proof_max = self.policy.refresh_after.saturating_mul(2);
        let wiped = self.cache.evict_if(|slot| {
            !self.is_valid(&slot.kek, now) || now.since(slot.proven_at()) > proof_max
        });
        if wiped > 0 {
            tracing::info!(wiped, "data keys reached a deadline");
        }
    }

    /// Probes every KEK that is not being probed, each in a task of its own: one that
    /// hangs delays no other.
    fn probe_all(self: &Arc<Self>) {
        for kek in self.keks.values() {
            if let Some(probing) = kek.try_start_probing() {
                let (inner, kek) = (Arc::clone(self), Arc::clone(kek));
                self.spawn(async move {
                    inner.probe(&kek).await;
                    drop(probing);
                });
            }
        }
    }

    /// Probes every KEK, after any probe that is running, and waits for it. The probes
    /// go on if the future is dropped.
    pub(crate) async fn probe_all_now(self: &Arc<Self>) {
        let probes = self.keks.values().map(|kek| {
            let (inner, kek) = (Arc::clone(self), Arc::clone(kek));
            self.runtime.spawn(async move {
                let _probing = kek.start_probing().await;
                inner.probe(&kek).await;
            })
        });
        // A backend that panicked has said so; the others are not its fault.
        let _ = join_all(probes.collect::<Vec<_>>()).await;
    }

    /// Asks for the state of a KEK, and unwraps the DEK under it that was used last:
    /// only the data path proves that the data path is allowed.
    async fn probe(self: &Arc<Self>, kek: &Arc<KekHandle>) {
        match self.in_time(async { Ok(kek.describe().await?) }).await {
            Ok(state) if state.status != KekStatus::Enabled => {
                return self.revoke(kek, state.status.as_str());
            }
            Ok(state) => self.learn(kek, &state).await,
            Err(Error::Kms(error))
                if matches!(error.kind(), KmsErrorKind::Disabled | KmsErrorKind::NotFound) =>
            {
                return self.revoke(kek, "disabled or gone");
            }
            // A service may well be allowed to unwrap and not to describe.
            Err(error) => tracing::debug!(kek = %kek.id(), %error, "a KEK was not described"),
        }
        let of_this_kek = |slot: &Arc<Slot>| Arc::ptr_eq(&slot.kek, kek) && slot.has_keys();
        let mut slots: Vec<_> = self.cache.slots().filter(of_this_kek).collect();
        slots.sort_by_key(|slot| Reverse(slot.used_at()));
        // What fails for one DEK alone says nothing about the KEK: ask for another.
        for slot in slots.into_iter().take(PROBED_MAX) {
            self.refresh(&slot).await;
            if !slot.in_grace() {
                break;
            }
        }
    }

    /// Draws the consequences of the state of a KEK that is enabled as a whole.
    async fn learn(&self, kek: &Arc<KekHandle>, state: &KekState) {
        let closed = kek.learn(state);
        if !closed.is_empty() {
            self.close_versions(kek, |label| closed.iter().any(|closed| Some(&**closed) == label));
        }
        if let Err(error) = self.in_time(async { Ok(self.store.record_kek(state).await?) }).await {
            tracing::warn!(kek = %kek.id(), %error, "the state of a KEK was not recorded");
        }
    }

    /// Looks after a slot that is being used: refreshes and rewraps what is due.
    #[cold]
    pub(crate) fn attend(self: &Arc<Self>, slot: &Arc<Slot>, now: Instant) {
        slot.attend(now);
        // A read of the cache is what its recency is made of.
        let _ = self.cache.slot(&slot.key_id);
        if self.policy.rewrap_concurrency > 0 && slot.take_rewrap(now, || self.lacks_wraps(slot)) {
            self.rewraps.ask(slot);
        }
        if slot.seals() && now >= slot.stages_at && slot.budget.stage(now) {
            self.stage_successor(slot);
        }
        if slot.take_refresh(now) {
            let (inner, slot) = (Arc::clone(self), Arc::clone(slot));
            self.spawn(async move { inner.refresh(&slot).await });
        }
    }

    /// Reads and unwraps a cached DEK again, and draws the consequences.
    async fn refresh(self: &Arc<Self>, slot: &Arc<Slot>) {
        let _refreshing = slot.start_refresh();
        let began = self.now();
        let mut outcome = self.in_time(self.prove_again(slot)).await;
        if let Err(Error::Kms(error)) = &outcome
            && error.kind() == KmsErrorKind::Denied
        {
            // Permissions that are being changed deny for a moment.
            self.clock.sleep_until(began.after(self.policy.denied_confirmation)).await;
            outcome = self.in_time(self.prove_again(slot)).await;
        }
        match outcome {
            Ok(()) => {}
            Err(Error::Kms(error)) => match error.kind() {
                KmsErrorKind::Disabled => {
                    let version = slot.wrapped_by();
                    self.close_versions(&slot.kek, |label| label == version.label());
                }
                KmsErrorKind::Denied => self.revoke(&slot.kek, "access was denied twice"),
                KmsErrorKind::Tampered | KmsErrorKind::NotFound => self.cache.evict(slot),
                _ => {
                    tracing::warn!(%error, "a data key serves until its deadline");
                    slot.enter_grace();
                }
            },
            Err(error @ (Error::Store(_) | Error::Timeout)) => {
                tracing::warn!(%error, "a data key serves until its deadline");
                slot.enter_grace();
            }
            Err(error) => {
                tracing::warn!(%error, "a cached data key is not good any more");
                self.cache.evict(slot);
            }
        }
    }

    async fn prove_again(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<(), Error> {
        let (scope, key_id) = (slot.scope.id.clone(), slot.key_id);
        let read = self.read_one(DekQuery::Key { scope, key_id }).await?;
        let record = read.found.ok_or(Error::UnknownKey(key_id))?;
        self.apply_unless_changed(read.batch, || self.apply(slot, record.state));
        Self::check_opens(&record)?;
        let Some(wrap) = record.wraps.iter().find(|wrap| wrap.wrapped.kek == *slot.kek.id()) else {
            // It has moved to another KEK: the next use loads it from there.
            self.cache.evict(slot);
            return Ok(());
        };
        slot.set_wraps(&record);
        // The keys that this derives are those of the slot; they prove it and go. Another
        // KEK would prove the same key, and not that this one may still open it.
        let proven = self.prove(Dek::of(&record), &wrap.wrapped).await?;
        let next = proven.began.after(self.policy.refresh_after);
        slot.prove(proven.began, next, proven.wrapped_by);
        Ok(())
    }
}
