//! A key store that counts reads and fails on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bulla_backend::{
    Changes, Claim, ClaimRequest, DekQuery, DekRecord, Insertion, KekId, KekState, KekUsage,
    KeyStore, MemberId, MemberReport, NewDek, NewWrap, StateChange, StoreError, StoreErrorKind,
    StoreRevision, WrapSwap,
};
use tokio::sync::watch;

/// Passes every call on to another store, unless it is told to fail.
#[derive(Debug)]
pub struct FaultyStore {
    store: Arc<dyn KeyStore>,
    down: AtomicBool,
    read_only: AtomicBool,
    feed_down: AtomicBool,
    restored: AtomicBool,
    revision_back: AtomicBool,
    reads: AtomicU64,
    /// While true, answers of reads are held back.
    held: watch::Sender<bool>,
}

impl FaultyStore {
    /// In front of `store`.
    pub fn new(store: Arc<dyn KeyStore>) -> Self {
        Self {
            store,
            down: AtomicBool::default(),
            read_only: AtomicBool::default(),
            feed_down: AtomicBool::default(),
            restored: AtomicBool::default(),
            revision_back: AtomicBool::default(),
            reads: AtomicU64::default(),
            held: watch::Sender::new(false),
        }
    }

    /// Makes every call fail as unavailable, or work again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Makes every call that writes fail as unavailable, or work again.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::SeqCst);
    }

    /// Makes the change feed fail as unavailable, or work again.
    pub fn set_feed_down(&self, down: bool) {
        self.feed_down.store(down, Ordering::SeqCst);
    }

    /// Makes the store look like one that was restored from a backup.
    pub fn set_restored(&self, restored: bool) {
        self.restored.store(restored, Ordering::SeqCst);
    }

    /// Makes the store look like an older copy of itself.
    pub fn set_revision_back(&self, back: bool) {
        self.revision_back.store(back, Ordering::SeqCst);
    }

    /// Holds back the answers of reads, which get older meanwhile.
    pub fn hold_reads(&self) {
        self.held.send_replace(true);
    }

    /// Lets the answers of reads go.
    pub fn release_reads(&self) {
        self.held.send_replace(false);
    }

    /// Calls of [`find_deks`](KeyStore::find_deks) so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    fn read(&self) -> Result<&dyn KeyStore, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        Ok(&*self.store)
    }

    fn write(&self) -> Result<&dyn KeyStore, StoreError> {
        if self.read_only.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        self.read()
    }
}

fn unavailable() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "down on command")
}

#[async_trait]
impl KeyStore for FaultyStore {
    async fn find_deks(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.read()?.find_deks(queries).await;
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        found
    }

    async fn claim_next_version(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        self.write()?.claim_next_version(request).await
    }

    async fn insert_dek(&self, dek: &NewDek) -> Result<Insertion, StoreError> {
        self.write()?.insert_dek(dek).await
    }

    async fn activate_due(&self) -> Result<u64, StoreError> {
        self.write()?.activate_due().await
    }

    async fn change_state(&self, change: &StateChange) -> Result<bool, StoreError> {
        self.write()?.change_state(change).await
    }

    async fn replace_wrap(&self, swap: &WrapSwap) -> Result<bool, StoreError> {
        self.write()?.replace_wrap(swap).await
    }

    async fn add_wrap(&self, wrap: &NewWrap) -> Result<bool, StoreError> {
        self.write()?.add_wrap(wrap).await
    }

    async fn record_kek(&self, state: &KekState) -> Result<(), StoreError> {
        self.write()?.record_kek(state).await
    }

    async fn kek_usage(&self, kek: &KekId) -> Result<Vec<KekUsage>, StoreError> {
        self.read()?.kek_usage(kek).await
    }

    async fn changes_since(
        &self,
        seen: Option<StoreRevision>,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        if self.feed_down.load(Ordering::SeqCst) {
            return Err(unavailable());
        }
        let mut changes = self.read()?.changes_since(seen, limit).await?;
        if self.restored.load(Ordering::SeqCst) {
            changes.identity.epoch += 1;
        }
        if self.revision_back.load(Ordering::SeqCst) {
            changes.revision.0 /= 2;
        }
        Ok(changes)
    }

    async fn report_member(&self, report: &MemberReport) -> Result<(), StoreError> {
        self.write()?.report_member(report).await
    }

    async fn remove_member(&self, member: &MemberId) -> Result<(), StoreError> {
        self.write()?.remove_member(member).await
    }
}
