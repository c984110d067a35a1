//! From a path to a key store: the file, its schema, and what connections promise.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bulla_backend::{StoreError, StoreErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::SqliteKeyStore;
use super::connections::{Connections, on_a_thread};
use crate::error::{from_sqlite, misconfigured, unavailable};

/// "BULA", as the first migration sets it.
const APPLICATION_ID: i64 = 0x4255_4c41;

/// In their order; `PRAGMA user_version` counts those that have been run.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/sqlite/0001_key_store.sql")];
const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for a connection: long enough for one call in front of it
/// that runs into the busy time-out.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// Readers at once; each is a thread.
const READERS_MAX: usize = 4;

/// Statements that a connection keeps prepared: more than there are.
const STATEMENTS_MAX: usize = 64;

pub(super) async fn open(path: &Path) -> Result<SqliteKeyStore, StoreError> {
    // A relative path would change its meaning with the working directory; and
    // SQLite gives a meaning of their own to names like `:memory:` and `file:`.
    let path = std::path::absolute(path)
        .map_err(|error| misconfigured("the path is empty or unusable").with_source(error))?;
    on_a_thread(move || open_store(&path)).await
}

fn open_store(path: &Path) -> Result<SqliteKeyStore, StoreError> {
    create_file(path)?;
    // Before anything is written: it may be somebody else's database.
    schema_version(&connect(path)?)?;
    let mut writer = first_writer(path)?;
    migrate(&mut writer)?;
    check_promises(&writer)?;
    let again = path.to_owned();
    let writer = Connections::start([Some(writer)], LINE_TIMEOUT, move || connect_writer(&again))?;
    let again = path.to_owned();
    let none = [const { None }; READERS_MAX];
    let readers = Connections::start(none, LINE_TIMEOUT, move || connect_reader(&again))?;
    Ok(SqliteKeyStore {
        path: path.to_owned(),
        writer: Arc::new(writer),
        readers: Arc::new(readers),
        clock_offset: Arc::new(AtomicI64::new(0)),
    })
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

/// A connection to a file that is there. SQLite would make a missing one readable for
/// all, and a file that has gone should not come back empty.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(from_sqlite)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(from_sqlite)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Plans that do not depend on the values bound. Otherwise SQLite makes a new one
    // whenever a value is bound, for ten times the cost of the look-up itself.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(from_sqlite)?;
    connection.execute_batch("PRAGMA foreign_keys = ON").map_err(from_sqlite)?;
    Ok(connection)
}

fn connect_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    let promises = "
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        -- On macOS only these reach the disk; elsewhere they do nothing.
        PRAGMA fullfsync = ON;
        PRAGMA checkpoint_fullfsync = ON;
        -- Deleted wraps are overwritten, so that fewer copies survive a shredding.
        PRAGMA secure_delete = ON;";
    connection.execute_batch(promises).map_err(from_sqlite)?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(from_sqlite)?;
    Ok(connection)
}

/// Connects for writing, and with it switches a new file to the write-ahead log.
/// That needs the file for itself for a moment, for which SQLite does not always wait.
fn first_writer(path: &Path) -> Result<Connection, StoreError> {
    let start = Instant::now();
    loop {
        match connect_writer(path) {
            Err(error)
                if error.kind() == StoreErrorKind::Unavailable
                    && start.elapsed() < BUSY_TIMEOUT =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Looks whether the promises are kept.
fn check_promises(connection: &Connection) -> Result<(), StoreError> {
    let kept = connection.query_row(
        "SELECT journal_mode = 'wal' AND synchronous = 2 AND foreign_keys = 1
         FROM pragma_journal_mode, pragma_synchronous, pragma_foreign_keys",
        (),
        |row| row.get(0),
    );
    if kept.map_err(from_sqlite)? {
        return Ok(());
    }
    Err(misconfigured("the file system does not support SQLite's write-ahead log: use a local one"))
}

/// Brings the schema up to date, in one transaction, as another process may be about
/// to do the same.
fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(from_sqlite)?;
    let version = schema_version(&transaction)?;
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    for migration in MIGRATIONS.iter().skip(version) {
        transaction.execute_batch(migration).map_err(from_sqlite)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(from_sqlite)?;
    if version == 0 {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| unavailable("the system gives no random bytes").with_source(error))?;
        transaction
            .execute(
                "INSERT INTO store_meta (only_row, store_id, epoch, rev) VALUES (1, ?1, 1, 0)",
                (format!("{:032x}", u128::from_be_bytes(id)),),
            )
            .map_err(from_sqlite)?;
    }
    transaction.commit().map_err(from_sqlite)
}

/// How many migrations have been run: none if the database is new. Fails if it is
/// neither new nor a key store that this library knows.
fn schema_version(connection: &Connection) -> Result<usize, StoreError> {
    let (application_id, objects, version) = connection
        .query_row(
            "SELECT application_id, (SELECT count(*) FROM sqlite_schema), user_version
             FROM pragma_application_id, pragma_user_version",
            (),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .map_err(from_sqlite)?;
    Err(misconfigured(match (application_id, objects, version) {
        (0, 0, 0) => return Ok(0),
        (APPLICATION_ID, 1.., 1..=SCHEMA_VERSION) => return Ok(version as usize),
        (APPLICATION_ID, 1.., 1..) => {
            "the schema is newer than this library knows: upgrade the library"
        }
        (APPLICATION_ID, 1.., _) => {
            "the schema has no version: it was made before the first release, or changed from \
             outside"
        }
        _ => "the file is the database of another application; a key store has its own",
    }))
}
