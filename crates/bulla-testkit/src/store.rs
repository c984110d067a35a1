//! A key store that counts reads and fails on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bulla_backend::{
    Changes, Claim, ClaimRequest, DekQuery, DekRecord, Insertion, KekId, KekState, KekUsage,
    KeyStore, MemberId, MemberReport, NewDek, StateChange, StoreError, StoreErrorKind,
    StoreRevision, WrapSwap,
};

/// Passes every call on to another store, unless it is told to fail.
#[derive(Debug)]
pub struct FaultyStore {
    store: Arc<dyn KeyStore>,
    down: AtomicBool,
    reads: AtomicU64,
}

impl FaultyStore {
    /// In front of `store`.
    pub fn new(store: Arc<dyn KeyStore>) -> Self {
        Self { store, down: AtomicBool::new(false), reads: AtomicU64::new(0) }
    }

    /// Makes every call fail as unavailable, or work again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Calls of [`find_deks`](KeyStore::find_deks) so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    fn enter(&self) -> Result<&dyn KeyStore, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "down on command"));
        }
        Ok(&*self.store)
    }
}

#[async_trait]
impl KeyStore for FaultyStore {
    async fn find_deks(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.enter()?.find_deks(queries).await
    }

    async fn claim_next_version(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        self.enter()?.claim_next_version(request).await
    }

    async fn insert_dek(&self, dek: &NewDek) -> Result<Insertion, StoreError> {
        self.enter()?.insert_dek(dek).await
    }

    async fn activate_due(&self) -> Result<u64, StoreError> {
        self.enter()?.activate_due().await
    }

    async fn change_state(&self, change: &StateChange) -> Result<bool, StoreError> {
        self.enter()?.change_state(change).await
    }

    async fn replace_wrap(&self, swap: &WrapSwap) -> Result<bool, StoreError> {
        self.enter()?.replace_wrap(swap).await
    }

    async fn record_kek(&self, state: &KekState) -> Result<(), StoreError> {
        self.enter()?.record_kek(state).await
    }

    async fn kek_usage(&self, kek: &KekId) -> Result<Vec<KekUsage>, StoreError> {
        self.enter()?.kek_usage(kek).await
    }

    async fn changes_since(
        &self,
        seen: Option<StoreRevision>,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        self.enter()?.changes_since(seen, limit).await
    }

    async fn report_member(&self, report: &MemberReport) -> Result<(), StoreError> {
        self.enter()?.report_member(report).await
    }

    async fn remove_member(&self, member: &MemberId) -> Result<(), StoreError> {
        self.enter()?.remove_member(member).await
    }
}
