//! What a manager keeps at hand: slots, failures, scopes and budgets, each bounded.

use std::sync::{Arc, Weak};

use bulla_backend::{DekQuery, Instant, KmsErrorKind, ScopeId};
use bulla_core::KeyId;
use dashmap::DashMap;
use moka::policy::EvictionPolicy;

use crate::Error;
use crate::budget::Budget;
use crate::slot::{ScopeState, Slot};
use crate::stats::Counters;

/// Definite failures remembered at most.
const FAILURES_MAX: u64 = 10_000;

pub(crate) struct Cache {
    /// Slots own the keys; this bounds the slots.
    slots: moka::sync::Cache<KeyId, Arc<Slot>>,
    /// Definite failures, and until when they are remembered.
    failures: moka::sync::Cache<DekQuery, (Instant, Error)>,
    /// Of every scope that has a handle or a slot.
    scopes: DashMap<ScopeId, Weak<ScopeState>>,
    /// Of every DEK that this process has sealed under and may seal under again.
    budgets: DashMap<KeyId, Arc<Budget>>,
    /// Of the DEKs that seal no more, which are most of them.
    shared_budget: Arc<Budget>,
    counters: Arc<Counters>,
}

impl Cache {
    pub(crate) fn new(slots_max: u64, counters: &Arc<Counters>) -> Self {
        let evictions = Arc::clone(counters);
        // LRU: TinyLFU would turn away every scope that is seldom used.
        let slots = moka::sync::Cache::builder()
            .max_capacity(slots_max)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, slot: Arc<Slot>, _| {
                if slot.wipe() {
                    evictions.evictions.add_one();
                }
            })
            .build();
        Self {
            slots,
            failures: moka::sync::Cache::new(FAILURES_MAX),
            scopes: DashMap::new(),
            budgets: DashMap::new(),
            shared_budget: Arc::default(),
            counters: Arc::clone(counters),
        }
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

    /// Puts a slot in the place of any other of the same DEK. Those that there is no more
    /// room for are wiped now, not when somebody looks after the cache.
    pub(crate) fn insert(&self, slot: &Arc<Slot>) {
        self.slots.insert(slot.key_id, Arc::clone(slot));
        self.slots.run_pending_tasks();
    }

    /// How many slots there are, about.
    pub(crate) fn len(&self) -> u64 {
        self.slots.entry_count()
    }

    /// The cached slots.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Arc<Slot>> {
        self.slots.iter().map(|(_, slot)| slot)
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

    /// The budget of a DEK that does not seal, from which nothing is taken.
    pub(crate) fn shared_budget(&self) -> Arc<Budget> {
        Arc::clone(&self.shared_budget)
    }

    /// The DEK seals no more, ever.
    pub(crate) fn drop_budget(&self, key_id: &KeyId) {
        self.budgets.remove(key_id);
    }

    /// A definite failure of `query` that is still remembered at `now`.
    pub(crate) fn remembered_failure(&self, query: &DekQuery, now: Instant) -> Option<Error> {
        let (until, error) = self.failures.get(query)?;
        (now < until).then_some(error)
    }

    /// Remembers a failure that asking again at once would only repeat.
    pub(crate) fn remember_failure(&self, query: &DekQuery, error: &Error, until: Instant) {
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
            self.failures.insert(query.clone(), (until, error.clone()));
        }
    }

    pub(crate) fn forget_failures(&self) {
        self.failures.invalidate_all();
    }

    /// Housekeeping: what is due in the caches, names of scopes that nobody uses, and
    /// budgets that nothing was taken from.
    pub(crate) fn tidy(&self) {
        self.slots.run_pending_tasks();
        self.failures.run_pending_tasks();
        self.scopes.retain(|_, state| state.strong_count() > 0);
        self.budgets.retain(|_, budget| budget.is_touched() || Arc::strong_count(budget) > 1);
    }
}
