//! The key store in an SQLite file.

mod claims;
mod connections;
mod members;
mod open;
mod read;
mod rows;
mod states;
#[cfg(test)]
mod tests;
mod unit;
mod wraps;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    Changes, Claim, ClaimRequest, DekQuery, DekRecord, Insertion, KekId, KekState, KekUsage,
    KeyStore, MemberId, MemberReport, NewDek, NewWrap, StateChange, StoreError, StoreRevision,
    WrapSwap,
};
use rusqlite::{Connection, TransactionBehavior};

use crate::limits;
use connections::Connections;
use unit::Unit;

/// A [`KeyStore`] in an SQLite file of its own.
///
/// Any number of processes of one machine may have the file open; do not put it on
/// a network file system. Ages and deadlines are by the machine's wall clock, in
/// milliseconds. Clones share their connections: one that writes, so that writers
/// of one process wait in a fair queue, and a few that read and wait for nobody.
///
/// A write returns once it is in the write-ahead log and that is synced to disk. A
/// call that is dropped before it returned has written all or nothing. A call that
/// finds the file locked by another process waits for 5 s, then fails as
/// [`Unavailable`](bulla_backend::StoreErrorKind::Unavailable); it may be repeated.
///
/// To restore a backup, end every process that has the file open first.
///
/// Each connection has a thread, so nothing here needs an async runtime or minds which
/// one it is used on.
///
/// ```
/// use bulla_backend::{
///     Claim, ClaimRequest, DekQuery, DekState, Insertion, KekId, KekVersion, KeyStore, MemberId,
///     NewDek, ScopeId, WrappedKey,
/// };
/// use bulla_core::{DataKey, DekVersion};
/// use bulla_sql::SqliteKeyStore;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("keys.db");
/// let store = SqliteKeyStore::open(&path).await?;
///
/// let scope = ScopeId::new("t-9f2c", "orders")?;
/// let me = MemberId::new("orders-7d4b");
/// let claim = ClaimRequest::new(scope.clone(), None, me, Duration::from_secs(30));
/// assert_eq!(store.claim_next_version(&claim).await?, Claim::Granted(DekVersion::FIRST));
///
/// let key_id = DataKey::generate()?.id(DekVersion::FIRST, scope.context())?;
/// let wrapped = WrappedKey::new(
///     KekId::new("local:///keys/orders"),
///     KekVersion::Reported("1".into()),
///     b"what the KMS returned".to_vec(),
/// );
/// let dek = NewDek::new(scope.clone(), DekVersion::FIRST, key_id, wrapped, Duration::ZERO);
/// assert_eq!(store.insert_dek(&dek).await?, Insertion::Stored(DekState::Active));
///
/// let found = store.find_deks(&[DekQuery::Active(scope)]).await?;
/// assert_eq!(found[0].as_ref().map(|dek| dek.key_id), Some(key_id));
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteKeyStore {
    path: PathBuf,
    /// The one connection that writes.
    writer: Arc<Connections>,
    /// Connections that cannot write.
    readers: Arc<Connections>,
    /// Added to the clock, in milliseconds; zero but in tests.
    clock_offset: Arc<AtomicI64>,
}

impl SqliteKeyStore {
    /// Opens the key store in the file `path`; makes it, readable and writable for
    /// its owner alone, if there is none. Brings an older schema up to date.
    ///
    /// # Errors
    /// - [`Misconfigured`](bulla_backend::StoreErrorKind::Misconfigured) when there is
    ///   something else under `path`, which is left as it is; when the schema is newer
    ///   than this library; when the file system cannot keep what it is given.
    /// - [`Unavailable`](bulla_backend::StoreErrorKind::Unavailable) when the file is
    ///   locked, or the disk is full or broken.
    /// - [`Corrupt`](bulla_backend::StoreErrorKind::Corrupt) when the file is damaged.
    ///
    /// Dropping the future leaves a usable file or none.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        open::open(path.as_ref()).await
    }

    /// Waits for the calls that are under way, then closes the file. Later calls, by
    /// any clone, fail as [`Unavailable`](bulla_backend::StoreErrorKind::Unavailable).
    ///
    /// A store that is dropped without it loses nothing; its connections are closed
    /// some time later.
    pub async fn close(&self) {
        self.readers.close().await;
        // The last one cleans up the write-ahead log, which only a writer can.
        self.writer.close().await;
    }

    /// Moves the clock of this handle and its clones, for tests of what takes time.
    #[doc(hidden)]
    pub fn advance_clock(&self, duration: Duration) {
        self.clock_offset.fetch_add(limits::after(0, duration), Ordering::SeqCst);
    }

    /// Does `work` in a transaction that sees one state of the store.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Unit<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.transact(&self.readers, TransactionBehavior::Deferred, work).await
    }

    /// Does `work` in a transaction that may write, and keeps every other one out from
    /// its beginning on: what it reads stays true until it ends.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Unit<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.transact(&self.writer, TransactionBehavior::Immediate, work).await
    }

    async fn transact<T: Send + 'static>(
        &self,
        connections: &Connections,
        behavior: TransactionBehavior,
        work: impl FnOnce(&mut Unit<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let clock_offset = Arc::clone(&self.clock_offset);
        let transaction = move |connection: &mut Connection| {
            let mut unit = Unit::begin(connection, behavior)?;
            unit.now = unit.now.saturating_add(clock_offset.load(Ordering::SeqCst));
            let result = work(&mut unit)?;
            unit.end()?;
            Ok(result)
        };
        connections.run(transaction).await
    }
}

impl fmt::Debug for SqliteKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteKeyStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyStore for SqliteKeyStore {
    async fn find_deks(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, StoreError> {
        let queries = queries.to_vec();
        self.read(move |unit| read::find_deks(unit, &queries)).await
    }

    async fn claim_next_version(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        limits::check_member(&request.owner)?;
        let request = request.clone();
        self.write(move |unit| claims::claim_next_version(unit, &request)).await
    }

    async fn insert_dek(&self, dek: &NewDek) -> Result<Insertion, StoreError> {
        limits::check_dek(dek)?;
        let dek = dek.clone();
        self.write(move |unit| claims::insert_dek(unit, &dek)).await
    }

    async fn activate_due(&self) -> Result<u64, StoreError> {
        // Most calls find nothing: they should not queue up behind the writers.
        if self.read(states::is_idle).await? {
            return Ok(0);
        }
        self.write(states::activate_due).await
    }

    async fn change_state(&self, change: &StateChange) -> Result<bool, StoreError> {
        let change = change.clone();
        self.write(move |unit| states::change_state(unit, &change)).await
    }

    async fn replace_wrap(&self, swap: &WrapSwap) -> Result<bool, StoreError> {
        limits::check_wrap(&swap.wrapped)?;
        let swap = swap.clone();
        self.write(move |unit| wraps::replace_wrap(unit, &swap)).await
    }

    async fn add_wrap(&self, wrap: &NewWrap) -> Result<bool, StoreError> {
        limits::check_wrap(&wrap.wrapped)?;
        limits::check_slot(wrap.slot)?;
        let wrap = wrap.clone();
        self.write(move |unit| wraps::add_wrap(unit, &wrap)).await
    }

    async fn record_kek(&self, state: &KekState) -> Result<(), StoreError> {
        limits::check_kek_state(state)?;
        let state = state.clone();
        self.write(move |unit| wraps::record_kek(unit, &state)).await
    }

    async fn kek_usage(&self, kek: &KekId) -> Result<Vec<KekUsage>, StoreError> {
        let kek = kek.clone();
        self.read(move |unit| read::kek_usage(unit, &kek)).await
    }

    async fn changes_since(
        &self,
        seen: Option<StoreRevision>,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        self.read(move |unit| read::changes_since(unit, seen, limit)).await
    }

    async fn report_member(&self, report: &MemberReport) -> Result<(), StoreError> {
        limits::check_member(&report.member)?;
        let report = report.clone();
        self.write(move |unit| members::report_member(unit, &report)).await
    }

    async fn remove_member(&self, member: &MemberId) -> Result<(), StoreError> {
        let member = member.clone();
        self.write(move |unit| members::remove_member(unit, &member)).await
    }
}
