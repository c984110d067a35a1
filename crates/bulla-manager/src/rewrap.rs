//! Lazy rewrap: after a KEK rotation, wraps are renewed as their DEKs are used.
//!
//! The data is not touched. Each new wrap is unwrapped and compared by its
//! self-certifying key id before it replaces the old one by compare-and-swap: a
//! faulty rewrap costs a KMS call, never a key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bulla_backend::{DekQuery, WrapSwap};
use bulla_core::KeyId;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::Error;
use crate::inner::Inner;
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

/// Renews wraps until the manager is dropped.
pub(crate) async fn run(manager: Weak<Inner>, mut asked: mpsc::Receiver<Arc<Slot>>) {
    let Some(at_once) = manager.upgrade().map(|inner| inner.policy.rewrap_concurrency) else {
        return;
    };
    let permits = Arc::new(Semaphore::new(at_once));
    while let Some(slot) = asked.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Some(inner) = manager.upgrade() else { return };
        let work = Arc::clone(&inner);
        inner.spawn(async move {
            match work.in_time(work.rewrap(&slot)).await {
                Ok(()) => {}
                Err(error) => {
                    work.counters.rewrap_failures.add_one();
                    tracing::warn!(key_id = %slot.key_id, %error, "a wrap could not be renewed; the old one stays");
                }
            }
            work.rewraps.done(&slot.key_id);
            drop(permit);
        });
    }
}

impl Inner {
    /// Renews the wrap of one DEK, if it is still behind its KEK.
    async fn rewrap(&self, slot: &Slot) -> Result<(), Error> {
        let query = DekQuery::Key { scope: slot.scope.id.clone(), key_id: slot.key_id };
        let record = self.find(&[query]).await?.pop().flatten();
        let record = record.ok_or(Error::UnknownKey(slot.key_id))?;
        let old = self.usable_wrap(&record)?;
        let kek = &slot.kek;
        if old.wrapped.kek != *kek.id()
            || old.wrapped.kek_version.label() == kek.current().as_deref()
        {
            // Another process was faster.
            slot.set_wrapped_by(old.wrapped.kek_version.clone());
            return Ok(());
        }
        let context = record.scope.context().kms_context(record.version);
        let new = kek.rewrap(&old.wrapped, &context).await?;
        let dek = Dek { scope: &record.scope, version: record.version, key_id: record.key_id };
        drop(self.prove(dek, &new).await?);
        let version = new.kek_version.clone();
        let swap = WrapSwap::new(record.key_id, old.slot, old.rev, new);
        if self.store.replace_wrap(&swap).await? {
            self.counters.rewraps.add_one();
            slot.set_wrapped_by(version);
        } else {
            // Somebody else has replaced it: the feed will tell by what.
            tracing::debug!(key_id = %record.key_id, "another process renewed the wrap");
        }
        Ok(())
    }
}
