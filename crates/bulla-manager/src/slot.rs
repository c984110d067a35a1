//! Slots: the one owner of a cached DEK's secrets.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use bulla_backend::{DekRecord, DekState, Instant, KekId, KekVersion, ScopeId};
use bulla_core::{DekVersion, EnvelopeKey, KeyId};

use crate::budget::Budget;
use crate::freshness::Freshness;
use crate::kek::KekHandle;
use crate::load::Proven;

/// The state of one scope that its handles and its slots share. It is reached from
/// both, and lives as long as any of them.
pub(crate) struct ScopeState {
    pub(crate) id: ScopeId,
    /// Held while this process makes a version: two would waste a KMS call.
    pub(crate) making: tokio::sync::Mutex<()>,
    /// The slot that seals.
    current: ArcSwapOption<Warm>,
    /// Slots seen last, newest first: found by comparing, without hashing.
    recent: ArcSwap<Vec<Warm>>,
    /// Looks for slots that were not among the recent ones.
    missed: AtomicU32,
    changing: Mutex<()>,
}

/// A slot and its keys, so that one look finds both. A scope lets go of it when the slot is
/// wiped.
#[derive(Clone)]
pub(crate) struct Warm {
    pub(crate) slot: Arc<Slot>,
    pub(crate) keys: Arc<EnvelopeKey>,
}

impl Warm {
    /// `None` if the slot is wiped.
    pub(crate) fn of(slot: &Arc<Slot>) -> Option<Self> {
        Some(Self { slot: Arc::clone(slot), keys: slot.keys()? })
    }
}

/// Slots that a scope finds without asking the cache.
const RECENT_MAX: usize = 16;

impl ScopeState {
    pub(crate) fn new(id: ScopeId) -> Self {
        let recent = ArcSwap::from_pointee(Vec::new());
        Self {
            id,
            making: tokio::sync::Mutex::default(),
            current: ArcSwapOption::empty(),
            recent,
            missed: AtomicU32::new(0),
            changing: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn current(&self) -> Guard<Option<Arc<Warm>>> {
        self.current.load()
    }

    #[inline]
    pub(crate) fn recent(&self) -> Guard<Arc<Vec<Warm>>> {
        self.recent.load()
    }

    /// The right to change `current` and `recent`.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`remember`](Self::remember), while there is room and every 16th time after that:
    /// who opens under more DEKs in turn than there are places would do nothing else.
    pub(crate) fn remember_at_times(&self, slot: &Arc<Slot>) {
        let missed = self.missed.fetch_add(1, Ordering::Relaxed);
        if missed.is_multiple_of(RECENT_MAX as u32) || self.recent.load().len() < RECENT_MAX {
            self.remember(slot);
        }
    }

    /// Puts `slot` in front of the recent ones, unless it is wiped.
    pub(crate) fn remember(&self, slot: &Arc<Slot>) {
        let _changing = self.lock();
        // Asked for under the lock: a slot that is wiped later is forgotten later.
        let Some(warm) = Warm::of(slot) else { return };
        let recent = self.recent.load();
        let others = recent.iter().filter(|other| other.slot.key_id != slot.key_id).cloned();
        let updated = [warm].into_iter().chain(others).take(RECENT_MAX).collect();
        self.recent.store(Arc::new(updated));
    }

    /// Makes `slot` the one that seals, unless it is wiped or a newer version does already.
    pub(crate) fn seal_with(&self, slot: &Arc<Slot>) {
        let _changing = self.lock();
        let Some(warm) = Warm::of(slot) else { return };
        let newer = self.current.load().as_ref().is_some_and(|current| {
            let current = &current.slot;
            current.version > slot.version && current.seals() && current.has_keys()
        });
        if !newer {
            self.current.store(Some(Arc::new(warm)));
        }
    }

    /// Stops sealing with `slot`.
    pub(crate) fn stop_sealing_with(&self, slot: &Slot) {
        let _changing = self.lock();
        if self.current.load().as_ref().is_some_and(|current| std::ptr::eq(&*current.slot, slot)) {
            self.current.store(None);
        }
    }

    /// Lets go of `slot` and its keys.
    fn forget(&self, slot: &Slot) {
        self.stop_sealing_with(slot);
        let _changing = self.lock();
        let recent = self.recent.load();
        if recent.iter().any(|other| std::ptr::eq(&*other.slot, slot)) {
            let others = recent.iter().filter(|other| !std::ptr::eq(&*other.slot, slot));
            self.recent.store(Arc::new(others.cloned().collect()));
        }
    }
}

/// One cached DEK. Everything but `keys`, which its scope has too, is public knowledge.
pub(crate) struct Slot {
    pub(crate) scope: Arc<ScopeState>,
    pub(crate) key_id: KeyId,
    pub(crate) version: DekVersion,
    pub(crate) kek: Arc<KekHandle>,
    pub(crate) budget: Arc<Budget>,
    /// Wiped when the last operation that uses them ends.
    keys: ArcSwapOption<EnvelopeKey>,
    /// A [`DekState`] by its place in [`DekState::ALL`].
    state: AtomicU8,
    /// Whether a refresh failed for a reason that may pass.
    grace: AtomicBool,
    refreshing: AtomicBool,
    /// When it is too old to seal.
    pub(crate) seals_until: Instant,
    /// When its successor is to be made: at half of its age.
    pub(crate) stages_at: Instant,
    /// When the last unwrap that proved it began, in nanoseconds.
    proven_at: AtomicU64,
    /// When it is to be refreshed, in nanoseconds.
    refresh_at: AtomicU64,
    /// When an operation should look after more than itself, in nanoseconds.
    attention_at: AtomicU64,
    /// When it was last used, to about the second, in nanoseconds.
    used_at: AtomicU64,
    /// When a rewrap may be tried, in nanoseconds.
    rewrap_at: AtomicU64,
    wrapped_by: ArcSwap<KekVersion>,
    /// The wraps by other KEKs, as the store last said.
    other_wraps: ArcSwap<Vec<(KekId, KekVersion)>>,
    /// Generation of the KEK for which `stale_kek` was last worked out.
    kek_generation: AtomicU64,
    stale_kek: AtomicBool,
}

/// Operations look after more than themselves about this often.
const ATTENTION_EVERY: Duration = Duration::from_secs(1);
/// What failed in the background is not tried again before.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a new [`Slot`] is made of.
pub(crate) struct NewSlot<'a> {
    pub(crate) scope: Arc<ScopeState>,
    pub(crate) record: &'a DekRecord,
    pub(crate) budget: Arc<Budget>,
    pub(crate) proven: Proven,
    pub(crate) refresh_after: Duration,
    pub(crate) age_max: Duration,
}

impl Slot {
    pub(crate) fn new(new: NewSlot<'_>) -> Self {
        let Proven { keys, kek, wrapped_by, began, closures: _ } = new.proven;
        let slot = Self {
            scope: new.scope,
            key_id: new.record.key_id,
            version: new.record.version,
            kek,
            budget: new.budget,
            keys: ArcSwapOption::new(Some(keys)),
            state: AtomicU8::new(0),
            grace: AtomicBool::new(false),
            refreshing: AtomicBool::new(false),
            seals_until: began.after(new.age_max.saturating_sub(new.record.age)),
            stages_at: began.after((new.age_max / 2).saturating_sub(new.record.age)),
            proven_at: AtomicU64::new(began.as_nanos()),
            refresh_at: AtomicU64::new(began.after(new.refresh_after).as_nanos()),
            attention_at: AtomicU64::new(0),
            used_at: AtomicU64::new(began.as_nanos()),
            rewrap_at: AtomicU64::new(0),
            wrapped_by: ArcSwap::from_pointee(wrapped_by),
            other_wraps: ArcSwap::default(),
            kek_generation: AtomicU64::new(0),
            stale_kek: AtomicBool::new(false),
        };
        slot.set_state(new.record.state);
        slot.set_wraps(new.record);
        slot.compare_kek();
        slot
    }

    /// The keys, unless the slot is wiped.
    fn keys(&self) -> Option<Arc<EnvelopeKey>> {
        self.keys.load_full()
    }

    pub(crate) fn has_keys(&self) -> bool {
        self.keys.load().is_some()
    }

    /// Lets go of the keys and of the scope. Returns whether there were keys.
    pub(crate) fn wipe(&self) -> bool {
        let had = self.keys.swap(None).is_some();
        self.scope.forget(self);
        had
    }

    pub(crate) fn state(&self) -> DekState {
        DekState::ALL[usize::from(self.state.load(Ordering::Relaxed)) % DekState::ALL.len()]
    }

    pub(crate) fn set_state(&self, state: DekState) {
        let known = DekState::ALL.iter().position(|known| *known == state);
        // A state that is not known here is closed, like the last one.
        let place = known.unwrap_or(DekState::ALL.len() - 1);
        self.state.store(place as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn seals(&self) -> bool {
        self.state() == DekState::Active
    }

    #[inline]
    pub(crate) fn freshness(&self) -> Freshness {
        Freshness {
            stale_dek: self.state() == DekState::DecryptOnly,
            stale_kek: self.stale_kek.load(Ordering::Relaxed),
            stale_suite: false,
        }
    }

    /// True about once a second, for one caller; and whenever the KEK has changed.
    #[inline]
    pub(crate) fn wants_attention(&self, now: Instant) -> bool {
        now.as_nanos() >= self.attention_at.load(Ordering::Relaxed)
            || self.kek.generation() != self.kek_generation.load(Ordering::Relaxed)
    }

    pub(crate) fn attend(&self, now: Instant) {
        self.attention_at.store(now.after(ATTENTION_EVERY).as_nanos(), Ordering::Relaxed);
        self.used_at.store(now.as_nanos(), Ordering::Relaxed);
        self.compare_kek();
    }

    pub(crate) fn used_at(&self) -> Instant {
        Instant::from_nanos(self.used_at.load(Ordering::Relaxed))
    }

    /// True for one caller once a refresh is due; it is then not due again before a
    /// while, whatever becomes of it.
    pub(crate) fn take_refresh(&self, now: Instant) -> bool {
        take_if_due(&self.refresh_at, now)
    }

    /// True for one caller once a rewrap is due: of the wrap that it was loaded by, or of
    /// others if `others_are_due`.
    pub(crate) fn take_rewrap(&self, now: Instant, others_are_due: impl FnOnce() -> bool) -> bool {
        (self.is_behind() || others_are_due()) && take_if_due(&self.rewrap_at, now)
    }

    /// Whether the wrap that it was loaded by is behind its KEK.
    pub(crate) fn is_behind(&self) -> bool {
        self.stale_kek.load(Ordering::Relaxed)
    }

    /// The wraps by other KEKs than its own.
    pub(crate) fn other_wraps(&self) -> Guard<Arc<Vec<(KekId, KekVersion)>>> {
        self.other_wraps.load()
    }

    /// Learns the wraps that the store has.
    pub(crate) fn set_wraps(&self, record: &DekRecord) {
        let others = record.wraps.iter().map(|wrap| &wrap.wrapped);
        let others = others.filter(|wrap| wrap.kek != *self.kek.id());
        let others = others.map(|wrap| (wrap.kek.clone(), wrap.kek_version.clone())).collect();
        self.other_wraps.store(Arc::new(others));
    }

    pub(crate) fn proven_at(&self) -> Instant {
        Instant::from_nanos(self.proven_at.load(Ordering::Relaxed))
    }

    /// Starts a refresh, which ends when what this returns is dropped.
    pub(crate) fn start_refresh(self: &Arc<Self>) -> Refreshing {
        self.refreshing.store(true, Ordering::Relaxed);
        Refreshing(Arc::clone(self))
    }

    /// An unwrap that began at `began` proved the keys once more.
    pub(crate) fn prove(&self, began: Instant, next: Instant, wrapped_by: KekVersion) {
        self.proven_at.fetch_max(began.as_nanos(), Ordering::Relaxed);
        self.refresh_at.store(next.as_nanos(), Ordering::Relaxed);
        self.grace.store(false, Ordering::Relaxed);
        self.set_wrapped_by(wrapped_by);
    }

    /// A refresh failed for a reason that may pass.
    pub(crate) fn enter_grace(&self) {
        self.grace.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_refreshing(&self) -> bool {
        self.refreshing.load(Ordering::Relaxed)
    }

    pub(crate) fn in_grace(&self) -> bool {
        self.grace.load(Ordering::Relaxed)
    }

    pub(crate) fn set_wrapped_by(&self, version: KekVersion) {
        self.wrapped_by.store(Arc::new(version));
        self.compare_kek();
    }

    pub(crate) fn wrapped_by(&self) -> KekVersion {
        (**self.wrapped_by.load()).clone()
    }

    /// Works out whether the wrap is behind its KEK. An unknown version on either
    /// side is no ground to say so.
    fn compare_kek(&self) {
        let generation = self.kek.generation();
        let stale = self.wrapped_by.load().label().is_some_and(|label| self.kek.is_behind(label));
        if !self.stale_kek.swap(stale, Ordering::Relaxed) && stale {
            // The next use asks for a rewrap.
            self.attention_at.store(0, Ordering::Relaxed);
        }
        self.kek_generation.store(generation, Ordering::Relaxed);
    }
}

/// A refresh under way.
pub(crate) struct Refreshing(Arc<Slot>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("scope", &self.scope.id)
            .field("version", &self.version)
            .field("state", &self.state())
            .field("warm", &self.has_keys())
            .finish_non_exhaustive()
    }
}

/// True for one caller once `due` has come; it is then not due again before a while.
pub(crate) fn take_if_due(due: &AtomicU64, now: Instant) -> bool {
    let at = due.load(Ordering::Relaxed);
    let again = now.after(RETRY_AFTER).as_nanos();
    now.as_nanos() >= at
        && due.compare_exchange(at, again, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
