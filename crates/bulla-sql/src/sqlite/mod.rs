//! The key store in an SQLite file.

mod claims;
mod members;
mod open;
mod read;
mod rows;
mod states;
#[cfg(test)]
mod tests;
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
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::error::{corrupt, from_sqlx};
use crate::limits;

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
/// Must be used within a Tokio runtime.
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
    writer: SqlitePool,
    /// Connections that cannot write.
    readers: SqlitePool,
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

    /// Begins a transaction that sees one state of the store.
    async fn read(&self) -> Result<Unit, StoreError> {
        self.unit(self.readers.begin_with("BEGIN").await).await
    }

    /// Begins a transaction that may write, and keeps every other one out from now
    /// on: what it reads stays true until it ends.
    async fn write(&self) -> Result<Unit, StoreError> {
        self.unit(self.writer.begin_with("BEGIN IMMEDIATE").await).await
    }

    async fn unit(
        &self,
        transaction: Result<Transaction<'static, Sqlite>, sqlx::Error>,
    ) -> Result<Unit, StoreError> {
        let mut transaction = transaction.map_err(from_sqlx)?;
        let (rev, now): (i64, i64) = sqlx::query_as(
            "SELECT rev, CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER)
             FROM store_meta",
        )
        .fetch_optional(&mut *transaction)
        .await
        .map_err(from_sqlx)?
        .ok_or_else(|| corrupt("store_meta", "only_row"))?;
        let now = now.saturating_add(self.clock_offset.load(Ordering::SeqCst));
        Ok(Unit { transaction, rev, now })
    }
}

impl fmt::Debug for SqliteKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteKeyStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A transaction, with the time and the revision at which it began. Dropping it
/// rolls it back.
struct Unit {
    transaction: Transaction<'static, Sqlite>,
    /// Milliseconds since 1970.
    now: i64,
    /// Revision of the store; that of the mutation after [`bump`](Self::bump).
    rev: i64,
}

impl Unit {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Gives the mutation that this transaction is a revision of its own. Those of
    /// committed transactions are in the order of the commits, as there is one
    /// writer at a time.
    async fn bump(&mut self) -> Result<(), StoreError> {
        self.rev += 1;
        sqlx::query("UPDATE store_meta SET rev = ?1")
            .bind(self.rev)
            .execute(&mut *self.transaction)
            .await
            .map_err(from_sqlx)?;
        Ok(())
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(from_sqlx)
    }

    /// Ends a transaction that wrote nothing worth keeping.
    async fn roll_back(self) -> Result<(), StoreError> {
        self.transaction.rollback().await.map_err(from_sqlx)
    }
}

#[async_trait]
impl KeyStore for SqliteKeyStore {
    async fn find_deks(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, StoreError> {
        read::find_deks(self, queries).await
    }

    async fn claim_next_version(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        limits::check_member(&request.owner)?;
        claims::claim_next_version(self, request).await
    }

    async fn insert_dek(&self, dek: &NewDek) -> Result<Insertion, StoreError> {
        limits::check_dek(dek)?;
        claims::insert_dek(self, dek).await
    }

    async fn activate_due(&self) -> Result<u64, StoreError> {
        states::activate_due(self).await
    }

    async fn change_state(&self, change: &StateChange) -> Result<bool, StoreError> {
        states::change_state(self, change).await
    }

    async fn replace_wrap(&self, swap: &WrapSwap) -> Result<bool, StoreError> {
        limits::check_wrap(&swap.wrapped)?;
        wraps::replace_wrap(self, swap).await
    }

    async fn add_wrap(&self, wrap: &NewWrap) -> Result<bool, StoreError> {
        limits::check_wrap(&wrap.wrapped)?;
        limits::check_slot(wrap.slot)?;
        wraps::add_wrap(self, wrap).await
    }

    async fn record_kek(&self, state: &KekState) -> Result<(), StoreError> {
        limits::check_kek_state(state)?;
        wraps::record_kek(self, state).await
    }

    async fn kek_usage(&self, kek: &KekId) -> Result<Vec<KekUsage>, StoreError> {
        read::kek_usage(self, kek).await
    }

    async fn changes_since(
        &self,
        seen: Option<StoreRevision>,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        read::changes_since(self, seen, limit).await
    }

    async fn report_member(&self, report: &MemberReport) -> Result<(), StoreError> {
        limits::check_member(&report.member)?;
        members::report_member(self, report).await
    }

    async fn remove_member(&self, member: &MemberId) -> Result<(), StoreError> {
        members::remove_member(self, member).await
    }
}
