//! From a path to a key store: the file, its schema, and what connections promise.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulla_backend::{StoreError, StoreErrorKind};
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::SqliteKeyStore;
use crate::error::{from_migration, from_sqlx, misconfigured};

/// "BULA", as the first migration sets it.
const APPLICATION_ID: i64 = 0x4255_4c41;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for a connection: long enough for one call in front of it
/// that runs into the busy time-out.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Readers at once; each is a thread.
const READERS_MAX: u32 = 4;

pub(super) async fn open(path: &Path) -> Result<SqliteKeyStore, StoreError> {
    // A relative path would change its meaning with the working directory; and
    // SQLite gives a meaning of their own to names like `:memory:` and `file:`.
    let path = std::path::absolute(path)
        .map_err(|error| misconfigured("the path is empty or unusable").with_source(error))?;
    create_file(&path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    // Before anything is written: it may be somebody else's database.
    let mut probe = options.connect().await.map_err(from_sqlx)?;
    check_owner(&mut probe).await?;
    probe.close().await.map_err(from_sqlx)?;

    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // On macOS only this reaches the disk; elsewhere it does nothing.
        .pragma("fullfsync", "ON")
        .pragma("checkpoint_fullfsync", "ON")
        // Deleted wraps are overwritten, so that fewer copies survive a shredding.
        .pragma("secure_delete", "ON");
    let writer = open_writer(&options).await?;
    let readers = pool(READERS_MAX).connect_lazy_with(options.pragma("query_only", "ON"));
    let store = SqliteKeyStore { path, writer, readers, clock_offset: Arc::new(AtomicI64::new(0)) };
    if let Err(error) = prepare(&store).await {
        store.close().await;
        return Err(error);
    }
    Ok(store)
}

/// Makes the file if there is none, before SQLite would make it readable for all.
fn create_file(path: &Path) -> Result<(), StoreError> {
    // Closing a file drops every lock that this process holds on it, those of SQLite
    // included. So it is only opened when it is new, and no other thread gets to see
    // the new file before it is closed.
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match path.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(()),
            Ok(_) => Err(misconfigured(format!("{} is not a file", path.display()))),
            Err(error) => Err(unusable(path, error)),
        },
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, error: std::io::Error) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Misconfigured,
    };
    StoreError::new(kind, format!("{} cannot be made or opened", path.display())).with_source(error)
}

/// Whether the database is new; fails if it is neither new nor a key store.
async fn check_owner(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let (application_id, objects): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT application_id FROM pragma_application_id),
                (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(connection)
    .await
    .map_err(from_sqlx)?;
    match (application_id, objects) {
        (APPLICATION_ID, 1..) => Ok(false),
        (0, 0) => Ok(true),
        _ => Err(misconfigured(
            "the file is the database of another application; a key store has its own",
        )),
    }
}

/// Connects for writing, and with it switches a new file to the write-ahead log.
/// That needs the file for itself for a moment, for which SQLite does not always wait.
async fn open_writer(options: &SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    let start = Instant::now();
    loop {
        match pool(1).connect_with(options.clone()).await.map_err(from_sqlx) {
            Err(error)
                if error.kind() == StoreErrorKind::Unavailable
                    && start.elapsed() < BUSY_TIMEOUT =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            result => return result,
        }
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A connection to a file does not go stale. Opened anew after the file was
        // replaced, it would see another one than its sisters.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| {
            Box::pin(async move {
                // SQLite ends the transaction itself when the disk is full, and the
                // rollback that follows fails; the pool would go on believing in an
                // open one and refuse to begin another. The ping lets it run first.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
}

/// Brings the schema up to date and looks whether the promises are kept.
async fn prepare(store: &SqliteKeyStore) -> Result<(), StoreError> {
    migrate(store).await?;
    let mut connection = store.writer.acquire().await.map_err(from_sqlx)?;
    let (journal_mode, synchronous, foreign_keys): (String, i64, i64) = sqlx::query_as(
        "SELECT (SELECT journal_mode FROM pragma_journal_mode),
                (SELECT synchronous FROM pragma_synchronous),
                (SELECT foreign_keys FROM pragma_foreign_keys)",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(from_sqlx)?;
    if (journal_mode.as_str(), synchronous, foreign_keys) != ("wal", 2, 1) {
        return Err(misconfigured(
            "the file system does not support SQLite's write-ahead log: use a local one",
        ));
    }
    Ok(())
}

/// Runs what migrations are new, in one transaction, as another process may be
/// about to do the same.
async fn migrate(store: &SqliteKeyStore) -> Result<(), StoreError> {
    let mut transaction = store.writer.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
    let new = check_owner(&mut transaction).await?;
    run(&mut transaction).await.map_err(from_migration)?;
    if new {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "the system gives no random bytes")
                .with_source(error)
        })?;
        sqlx::query("INSERT INTO store_meta (only_row, store_id, epoch, rev) VALUES (1, ?1, 1, 0)")
            .bind(format!("{:032x}", u128::from_be_bytes(id)))
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
    }
    transaction.commit().await.map_err(from_sqlx)
}

/// [`Migrator::run`] within a transaction; its future is not `Send` there.
async fn run(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let table = "_sqlx_migrations";
    connection.ensure_migrations_table(table).await?;
    if let Some(version) = connection.dirty_version(table).await? {
        return Err(MigrateError::Dirty(version));
    }
    let applied = connection.list_applied_migrations(table).await?;
    for done in &applied {
        match MIGRATIONS.iter().find(|known| known.version == done.version) {
            None => return Err(MigrateError::VersionMissing(done.version)),
            Some(known) if known.checksum != done.checksum => {
                return Err(MigrateError::VersionMismatch(done.version));
            }
            Some(_) => {}
        }
    }
    for migration in MIGRATIONS.iter() {
        if !applied.iter().any(|done| done.version == migration.version) {
            connection.apply(table, migration).await?;
        }
    }
    Ok(())
}
