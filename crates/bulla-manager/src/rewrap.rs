//! Lazy rewrap: after a KEK rotation, wraps are renewed as their DEKs are used.
//!
//! The data is not touched. Each new wrap is unwrapped and compared by its
//! self-certifying key id before it replaces the old one by compare-and-swap: a
//! faulty rewrap costs a KMS call, never a key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bulla_backend::{DekQuery, DekRecord, KekVersion, StoredWrap, WrapSwap};
use bulla_core::KeyId;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::Error;
use crate::inner::Inner;
use crate::kek::KekHandle;
use crate::load::Dek;
use crate::slot::Slot;

/// Rewraps that wait at most. What does not fit is asked for again by a later use.
const WAITING_MAX: usize = 10_000;

/// DEKs whose wraps are to be renewed, each once.
#[derive(Debug)]
pub(crate) struct RewrapQueue {
    asked: mpsc::Sender<Arc<Slot>>,
    waiting: Mutex<HashSet<KeyId>>,
    /// How many are waiting or running.
    open: watch::Sender<usize>,
}

impl RewrapQueue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Arc<Slot>>) {
        let (asked, receiver) = mpsc::channel(WAITING_MAX);
        (Self { asked, waiting: Mutex::default(), open: watch::Sender::new(0) }, receiver)
    }

    /// Asks for a new wrap, unless it was asked for already. Never waits.
    pub(crate) fn ask(&self, slot: &Arc<Slot>) {
        let mut waiting = self.waiting();
        if !waiting.insert(slot.key_id) {
            return;
        }
        match self.asked.try_send(Arc::clone(slot)) {
            Ok(()) => self.open.send_modify(|open| *open += 1),
            Err(_) => {
                waiting.remove(&slot.key_id);
            }
        }
    }

    fn done(&self, key_id: &KeyId) {
        self.waiting().remove(key_id);
        self.open.send_modify(|open| *open = open.saturating_sub(1));
    }

    /// Completes when nothing is waiting or running.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rewrap under way, which ends when it is dropped.
struct Rewrapping {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
}

impl Drop for Rewrapping {
    fn drop(&mut self) {
        self.inner.rewraps.done(&self.slot.key_id);
    }
}

/// Renews wraps until the manager is dropped.
pub(crate) async fn run(manager: Weak<Inner>, mut asked: mpsc::Receiver<Arc<Slot>>) {
    let Some(at_once) = manager.upgrade().map(|inner| inner.policy.rewrap_concurrency) else {
        return;
    };
    let permits = Arc::new(Semaphore::new(at_once));
    while let Some(slot) = asked.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Some(inner) = manager.upgrade() else { return };
        let work = Rewrapping { inner: Arc::clone(&inner), slot };
        inner.spawn(async move {
            let Rewrapping { inner, slot } = &work;
            let renew = async {
                let own = if slot.is_behind() { inner.rewrap(slot).await } else { Ok(()) };
                if inner.lacks_wraps(slot) { own.and(inner.mend_wraps(slot).await) } else { own }
            };
            if let Err(error) = inner.in_time(renew).await {
                inner.counters.rewrap_failures.add_one();
                tracing::warn!(key_id = %slot.key_id, %error, "a wrap could not be renewed or added; the old ones stay");
            }
            drop((work, permit));
        });
    }
}

impl Inner {
    /// Renews the wrap that a DEK was loaded by, if it is still behind its KEK.
    async fn rewrap(&self, slot: &Slot) -> Result<(), Error> {
        self.check_running()?;
        let (scope, key_id, kek) = (slot.scope.id.clone(), slot.key_id, &slot.kek);
        let read = self.read_one(DekQuery::Key { scope, key_id }).await?;
        let record = read.found.ok_or(Error::UnknownKey(key_id))?;
        let Some(old) = record.wraps.iter().find(|wrap| wrap.wrapped.kek == *kek.id()) else {
            // It has moved to another KEK, as the next refresh will see.
            return Ok(());
        };
        if old.wrapped.kek_version.label() == kek.current().as_deref() {
            // Another process was faster, or the store says so: the KEK knows.
            slot.set_wrapped_by(self.prove(Dek::of(&record), &old.wrapped).await?.wrapped_by);
            return Ok(());
        }
        if let Some(wrapped_by) = self.renew(&record, old, kek).await? {
            slot.set_wrapped_by(wrapped_by);
        }
        Ok(())
    }

    /// Moves a wrap to the current version of its KEK. Returns which that is, unless
    /// another process was faster.
    pub(crate) async fn renew(
        &self,
        record: &DekRecord,
        old: &StoredWrap,
        kek: &KekHandle,
    ) -> Result<Option<KekVersion>, Error> {
        let (dek, key_id) = (Dek::of(record), record.key_id);
        let context = record.scope.context().kms_context(record.version);
        let new = kek.rewrap(&old.wrapped, &context).await?;
        if new.kek_version.label() == old.wrapped.kek_version.label() {
            return Err(Error::StillOldVersion(kek.id().clone()));
        }
        let wrapped_by = self.prove(dek, &new).await?.wrapped_by;
        let swap = WrapSwap::new(key_id, old.slot, old.rev, new);
        if self.store.replace_wrap(&swap).await? {
            self.counters.rewraps.add_one();
            return Ok(Some(wrapped_by));
        }
        // Somebody else has replaced it; the next attempt will see by what.
        tracing::debug!(%key_id, "another process renewed the wrap");
        Ok(None)
    }
}
