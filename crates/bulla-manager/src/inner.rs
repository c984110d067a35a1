//! What the parts of a manager share, and the order in which news is applied.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulla_backend::{
    Clock, DekQuery, DekRecord, DekState, Instant, KekId, KeyStore, MemberId, StoreIdentity,
};
use bulla_core::{KeyId, KeyOptions};
use tokio::runtime::Handle;

use crate::cache::Cache;
use crate::flights::Flights;
use crate::kek::KekHandle;
use crate::rewrap::RewrapQueue;
use crate::slot::Slot;
use crate::stats::Counters;
use crate::upkeep::FeedPosition;
use crate::{Error, Policy};

pub(crate) struct Inner {
    pub(crate) policy: Policy,
    pub(crate) key_options: KeyOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) member: MemberId,
    pub(crate) identity: StoreIdentity,
    pub(crate) counters: Arc<Counters>,
    pub(crate) runtime: Handle,
    /// The KEK that wraps new DEKs.
    pub(crate) kek: Arc<KekHandle>,
    /// The KEKs that wrap new DEKs as well; see `keyring`.
    pub(crate) also_wrapping: Vec<Arc<KekHandle>>,
    /// Every KEK that may unwrap, those included.
    pub(crate) keks: HashMap<KekId, Arc<KekHandle>>,
    pub(crate) cache: Cache,
    pub(crate) flights: Flights<DekQuery, Result<Arc<Slot>, Error>>,
    /// Unwraps under way, by DEK: a key that is asked for as `Active` and by name is
    /// unwrapped once.
    pub(crate) unwraps: Flights<KeyId, Result<Arc<Slot>, Error>>,
    pub(crate) rewraps: RewrapQueue,
    pub(crate) feed_position: FeedPosition,
    /// Bumped with each batch of changes that is applied.
    pub(crate) feed_batch: AtomicU64,
    /// Held while what the store or a KEK says is applied to slots: nothing that was
    /// read before a change may be applied after it.
    pub(crate) applying: Mutex<()>,
    /// Until when the last look at the change feed holds, in nanoseconds.
    pub(crate) feed_valid_until: AtomicU64,
    /// Until when this process may seal, in nanoseconds.
    pub(crate) seals_until: AtomicU64,
    pub(crate) store_replaced: AtomicBool,
    pub(crate) closed: AtomicBool,
}

impl Inner {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Whether keys under `kek` may serve.
    #[inline]
    pub(crate) fn is_valid(&self, kek: &KekHandle, now: Instant) -> bool {
        kek.is_valid(now) && self.feed_is_valid(now)
    }

    /// Whether this process has lately seen what changes in the store.
    pub(crate) fn feed_is_valid(&self, now: Instant) -> bool {
        now.as_nanos() < self.feed_valid_until.load(Ordering::Relaxed)
    }

    /// Why this process may not seal at all, if so.
    pub(crate) fn seal_refusal(&self, now: Instant) -> Option<Error> {
        let lease_ended = now.as_nanos() >= self.seals_until.load(Ordering::Relaxed);
        self.check_running().err().or(lease_ended.then_some(Error::SealLeaseEnded))
    }

    /// Runs `work` on the manager's runtime, which ends with the process.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }

    /// Gives `work` the time that a caller is ready to wait.
    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        in_time(&*self.clock, self.policy.load_timeout, work).await
    }

    /// Reads DEKs from the store.
    pub(crate) async fn find(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, Error> {
        self.counters.store_reads.add_one();
        Ok(self.store.find_deks(queries).await?)
    }

    /// The number of the last batch of changes that was applied.
    pub(crate) fn feed_batch(&self) -> u64 {
        self.feed_batch.load(Ordering::SeqCst)
    }

    /// The right to apply what the store or a KEK says.
    fn lock_news(&self) -> MutexGuard<'_, ()> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `apply`, which applies what was read when `batch` was the last one, unless
    /// another batch has come since: then what was read may be out of date.
    pub(crate) fn apply_unless_changed<T>(
        &self,
        batch: u64,
        apply: impl FnOnce() -> T,
    ) -> Option<T> {
        let _applying = self.lock_news();
        (self.feed_batch() == batch).then(apply)
    }

    /// Runs `apply`, which applies a batch of changes.
    pub(crate) fn apply_batch<T>(&self, apply: impl FnOnce() -> T) -> T {
        let _applying = self.lock_news();
        self.feed_batch.fetch_add(1, Ordering::SeqCst);
        apply()
    }

    /// Puts a slot into the cache; only within `apply_unless_changed`. Its keys were
    /// proven when its KEK had been closed `closures` times.
    pub(crate) fn keep_slot(&self, slot: &Arc<Slot>, closures: u64) -> Result<(), Error> {
        let revoked = slot.kek.closures() != closures;
        let refusal = revoked.then(|| Error::Revoked(slot.kek.id().clone()));
        if let Some(error) = self.check_running().err().or(refusal) {
            slot.wipe();
            return Err(error);
        }
        self.cache.insert(slot);
        slot.scope.remember(slot);
        if slot.seals() {
            slot.scope.seal_with(slot);
        }
        Ok(())
    }

    pub(crate) fn check_opens(record: &DekRecord) -> Result<(), Error> {
        match record.state {
            state if state.opens() => Ok(()),
            state => Err(Error::KeyClosed { key_id: record.key_id, state }),
        }
    }

    /// Brings a slot in line with the state of its DEK in the store; only within
    /// `apply_unless_changed` or `apply_batch`.
    pub(crate) fn apply(&self, slot: &Arc<Slot>, state: DekState) {
        slot.set_state(state);
        match state {
            DekState::Active => slot.scope.seal_with(slot),
            DekState::Pending => {}
            DekState::DecryptOnly => slot.scope.stop_sealing_with(slot),
            _ => self.cache.evict(slot),
        }
    }

    /// A successful unwrap under `kek` began when it had been closed `closures` times.
    /// Returns whether it has not been closed since.
    pub(crate) fn extend_validity(&self, kek: &KekHandle, closures: u64, began: Instant) -> bool {
        let _applying = self.lock_news();
        let holds = kek.closures() == closures;
        if holds {
            kek.extend_validity(began.after(self.policy.revocation_deadline));
        }
        holds
    }

    /// Wipes every DEK under `kek`.
    pub(crate) fn revoke(&self, kek: &Arc<KekHandle>, reason: &str) {
        let applying = self.lock_news();
        kek.close();
        kek.end_validity();
        drop(applying);
        let wiped = self.cache.evict_if(|slot| Arc::ptr_eq(&slot.kek, kek));
        tracing::warn!(kek = %kek.id(), wiped, "a key-encryption key is revoked: {reason}");
    }

    /// Wipes every DEK that a closed version of `kek` has wrapped.
    pub(crate) fn close_versions(
        &self,
        kek: &Arc<KekHandle>,
        closed: impl Fn(Option<&str>) -> bool,
    ) {
        let applying = self.lock_news();
        kek.close();
        drop(applying);
        let wiped = self
            .cache
            .evict_if(|slot| Arc::ptr_eq(&slot.kek, kek) && closed(slot.wrapped_by().label()));
        tracing::warn!(kek = %kek.id(), wiped, "a version of a key-encryption key is closed");
    }

    /// The change feed was read up to its end.
    pub(crate) fn extend_feed(&self, began: Instant) {
        let until = began.after(self.policy.revocation_deadline);
        self.feed_valid_until.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// The store knows that this process is alive; only with the feed locked.
    pub(crate) fn extend_lease(&self, began: Instant) {
        let until = began.after(self.policy.seal_lease);
        self.seals_until.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Nothing is sealed or opened any more.
    pub(crate) fn halt(&self) {
        // A load that does not see why yet has put its slot where the eviction finds it.
        self.apply_batch(|| {
            self.seals_until.store(0, Ordering::SeqCst);
            self.feed_valid_until.store(0, Ordering::SeqCst);
        });
        self.cache.evict_if(|_| true);
    }

    /// Why nothing may be loaded or changed any more, if so.
    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            Err(Error::Closed)
        } else if self.store_replaced.load(Ordering::SeqCst) {
            Err(Error::StoreReplaced)
        } else {
            Ok(())
        }
    }
}

/// Slots and scopes hold each other; this lets both go, and wipes every key. The other
/// processes are told if the runtime still runs; otherwise they find out in time.
impl Drop for Inner {
    fn drop(&mut self) {
        for slot in self.cache.slots() {
            slot.wipe();
        }
        if !self.closed.load(Ordering::SeqCst) {
            let (store, member) = (Arc::clone(&self.store), self.member.clone());
            self.spawn(async move {
                if let Err(error) = store.remove_member(&member).await {
                    tracing::debug!(%error, "the store was not told that this process ended");
                }
            });
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("kek", self.kek.id())
            .field("store", &self.store)
            .field("cached_deks", &self.cache.len())
            .finish_non_exhaustive()
    }
}

/// Gives `work` the time `timeout`.
pub(crate) async fn in_time<T>(
    clock: &dyn Clock,
    timeout: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let deadline = clock.now().after(timeout);
    tokio::select! {
        done = work => done,
        () = clock.sleep_until(deadline) => Err(Error::Timeout),
    }
}
