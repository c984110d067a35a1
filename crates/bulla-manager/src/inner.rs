//! What the parts of a manager share, and the cache of slots.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bulla_backend::{
    Clock, DekQuery, DekRecord, DekState, Instant, KekId, KeyStore, KmsErrorKind, MemberId,
    ScopeId, StoreIdentity,
};
use bulla_core::{KeyId, KeyOptions};
use dashmap::DashMap;
use moka::policy::EvictionPolicy;
use tokio::runtime::Handle;

use crate::budget::Budget;
use crate::flights::Flights;
use crate::kek::KekHandle;
use crate::rewrap::RewrapQueue;
use crate::slot::{ScopeState, Slot};
use crate::stats::Counters;
use crate::upkeep::FeedPosition;
use crate::{Error, Policy};

/// Definite failures remembered at most.
const NEGATIVE_MAX: u64 = 10_000;

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
    /// Every KEK that may unwrap, that one included.
    pub(crate) keks: HashMap<KekId, Arc<KekHandle>>,
    pub(crate) flights: Flights<DekQuery, Result<Arc<Slot>, Error>>,
    /// Unwraps under way, by DEK: a key that is asked for as `Active` and by name is
    /// unwrapped once.
    pub(crate) unwraps: Flights<KeyId, Result<Arc<Slot>, Error>>,
    pub(crate) rewraps: RewrapQueue,
    pub(crate) feed_position: FeedPosition,
    /// Bumped with each batch of changes that is applied.
    feed_batch: AtomicU64,
    /// Held while what the store or a KEK says is applied to slots: nothing that was
    /// read before a change may be applied after it.
    applying: Mutex<()>,
    /// Until when the last look at the change feed holds, in nanoseconds.
    pub(crate) feed_valid_until: AtomicU64,
    /// Until when this process may seal, in nanoseconds.
    pub(crate) seals_until: AtomicU64,
    pub(crate) store_replaced: AtomicBool,
    pub(crate) closed: AtomicBool,
    slots: moka::sync::Cache<KeyId, Arc<Slot>>,
    negative: moka::sync::Cache<DekQuery, (Instant, Error)>,
    scopes: DashMap<ScopeId, Weak<ScopeState>>,
    /// Of every DEK that this process has sealed under and may seal under again.
    budgets: DashMap<KeyId, Arc<Budget>>,
}

/// What [`Inner::new`] puts together.
pub(crate) struct Parts {
    pub(crate) policy: Policy,
    pub(crate) key_options: KeyOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) member: MemberId,
    pub(crate) identity: StoreIdentity,
    pub(crate) counters: Arc<Counters>,
    pub(crate) runtime: Handle,
    pub(crate) kek: Arc<KekHandle>,
    pub(crate) keks: HashMap<KekId, Arc<KekHandle>>,
    pub(crate) rewraps: RewrapQueue,
    pub(crate) feed_position: FeedPosition,
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Self {
        let counters = Arc::clone(&parts.counters);
        // LRU: TinyLFU would turn away every scope that is seldom used.
        let slots = moka::sync::Cache::builder()
            .max_capacity(parts.policy.cached_deks_max)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, slot: Arc<Slot>, _| {
                if slot.wipe() {
                    counters.evictions.add_one();
                }
            })
            .build();
        Self {
            policy: parts.policy,
            key_options: parts.key_options,
            clock: parts.clock,
            store: parts.store,
            member: parts.member,
            identity: parts.identity,
            counters: parts.counters,
            runtime: parts.runtime,
            kek: parts.kek,
            keks: parts.keks,
            rewraps: parts.rewraps,
            feed_position: parts.feed_position,
            flights: Flights::default(),
            unwraps: Flights::default(),
            applying: Mutex::default(),
            feed_batch: AtomicU64::new(0),
            feed_valid_until: AtomicU64::new(0),
            seals_until: AtomicU64::new(0),
            store_replaced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            slots,
            negative: moka::sync::Cache::new(NEGATIVE_MAX),
            scopes: DashMap::new(),
            budgets: DashMap::new(),
        }
    }

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

    pub(crate) fn scope_state(&self, id: &ScopeId) -> Arc<ScopeState> {
        let mut entry = self.scopes.entry(id.clone()).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let state = Arc::new(ScopeState::new(id.clone()));
            *entry = Arc::downgrade(&state);
            state
        })
    }

    /// The scope's state if anybody has use for it.
    pub(crate) fn live_scope(&self, id: &ScopeId) -> Option<Arc<ScopeState>> {
        self.scopes.get(id).and_then(|state| state.upgrade())
    }

    /// The cached slot of `key_id`, which counts as a use of it.
    pub(crate) fn slot(&self, key_id: &KeyId) -> Option<Arc<Slot>> {
        self.slots.get(key_id)
    }

    /// The cached slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Arc<Slot>> {
        self.slots.iter().map(|(_, slot)| slot)
    }

    /// The number of the last batch of changes that was applied.
    pub(crate) fn feed_batch(&self) -> u64 {
        self.feed_batch.load(Ordering::SeqCst)
    }

    /// Runs `apply`, which applies what was read when `batch` was the last one, unless
    /// another batch has come since: then what was read may be out of date.
    pub(crate) fn apply_unless_changed<T>(
        &self,
        batch: u64,
        apply: impl FnOnce() -> T,
    ) -> Option<T> {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        (self.feed_batch() == batch).then(apply)
    }

    /// Runs `apply`, which applies a batch of changes.
    pub(crate) fn apply_batch<T>(&self, apply: impl FnOnce() -> T) -> T {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.slots.insert(slot.key_id, Arc::clone(slot));
        slot.scope.remember(slot);
        if slot.seals() {
            slot.scope.seal_with(slot);
        }
        Ok(())
    }

    /// Wipes one slot.
    pub(crate) fn evict(&self, slot: &Slot) {
        if slot.wipe() {
            self.counters.evictions.add_one();
        }
        // Another slot may have taken its place.
        if self.slots.get(&slot.key_id).is_some_and(|cached| std::ptr::eq(&*cached, slot)) {
            self.slots.invalidate(&slot.key_id);
        }
    }

    /// Wipes every slot that `condemned` picks; returns how many there were.
    pub(crate) fn evict_if(&self, condemned: impl Fn(&Slot) -> bool) -> usize {
        let picked: Vec<_> = self.slots().filter(|slot| condemned(slot)).collect();
        picked.iter().for_each(|slot| self.evict(slot));
        picked.len()
    }

    pub(crate) fn budget(&self, key_id: KeyId) -> Arc<Budget> {
        Arc::clone(&self.budgets.entry(key_id).or_default())
    }

    /// The DEK seals no more, ever.
    pub(crate) fn drop_budget(&self, key_id: &KeyId) {
        self.budgets.remove(key_id);
    }

    /// A definite failure of `query` that is still remembered.
    pub(crate) fn remembered_failure(&self, query: &DekQuery) -> Option<Error> {
        let (until, error) = self.negative.get(query)?;
        (self.now() < until).then_some(error)
    }

    /// Remembers the failures that asking again at once would only repeat.
    pub(crate) fn remember_failure(&self, query: &DekQuery, error: &Error) {
        let definite = match error {
            Error::Kms(error) => matches!(
                error.kind(),
                KmsErrorKind::Denied
                    | KmsErrorKind::Disabled
                    | KmsErrorKind::NotFound
                    | KmsErrorKind::Tampered
            ),
            Error::UnknownKey(_)
            | Error::UnknownKek { .. }
            | Error::KeyClosed { .. }
            | Error::WrongKeyUnwrapped { .. } => true,
            _ => false,
        };
        if definite {
            let until = self.now().after(self.policy.negative_for);
            self.negative.insert(query.clone(), (until, error.clone()));
        }
    }

    pub(crate) fn forget_failures(&self) {
        self.negative.invalidate_all();
    }

    /// Housekeeping: what is due in the caches, names of scopes that nobody uses, and
    /// budgets that nothing was taken from.
    pub(crate) fn tidy(&self) {
        self.slots.run_pending_tasks();
        self.negative.run_pending_tasks();
        self.scopes.retain(|_, state| state.strong_count() > 0);
        self.budgets.retain(|_, budget| budget.is_touched() || Arc::strong_count(budget) > 1);
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
            _ => self.evict(slot),
        }
    }

    /// A successful unwrap under `kek` began when it had been closed `closures` times.
    /// Returns whether it has not been closed since.
    pub(crate) fn extend_validity(&self, kek: &KekHandle, closures: u64, began: Instant) -> bool {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = kek.closures() == closures;
        if holds {
            kek.extend_validity(began.after(self.policy.revocation_deadline));
        }
        holds
    }

    /// Wipes every DEK under `kek`.
    pub(crate) fn revoke(&self, kek: &Arc<KekHandle>, reason: &str) {
        let applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        kek.close();
        kek.end_validity();
        drop(applying);
        let wiped = self.evict_if(|slot| Arc::ptr_eq(&slot.kek, kek));
        tracing::warn!(kek = %kek.id(), wiped, "a key-encryption key is revoked: {reason}");
    }

    /// Wipes every DEK that a closed version of `kek` has wrapped.
    pub(crate) fn close_versions(
        &self,
        kek: &Arc<KekHandle>,
        closed: impl Fn(Option<&str>) -> bool,
    ) {
        let applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        kek.close();
        drop(applying);
        let wiped =
            self.evict_if(|slot| Arc::ptr_eq(&slot.kek, kek) && closed(slot.wrapped_by().label()));
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
        self.evict_if(|_| true);
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
        for slot in self.slots() {
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
            .field("cached_deks", &self.slots.entry_count())
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
