//! What needs the connections themselves.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use bulla_backend::{
    DekQuery, DekState, Insertion, KekId, KekVersion, KeyStore, NewDek, ScopeId, StoreErrorKind,
    WrappedKey,
};
use bulla_core::{DekVersion, KeyId};
use rusqlite::StatementStatus;
use tempfile::TempDir;

use super::*;

fn dek(name: &str) -> NewDek {
    let mut key_id = [0; KeyId::LEN];
    key_id[..name.len()].copy_from_slice(name.as_bytes());
    let wrapped = WrappedKey::new(KekId::new("test:///kek"), KekVersion::Unknown, vec![1; 1024]);
    let scope = ScopeId::new(name, "tests").unwrap();
    let key_id = KeyId::from_bytes(key_id);
    NewDek::new(scope, DekVersion::FIRST, key_id, wrapped, Duration::ZERO)
}

async fn fresh() -> (TempDir, SqliteKeyStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
    (directory, store)
}

/// For the connection that writes.
async fn pragma(store: &SqliteKeyStore, pragma: &'static str) {
    let work = move |connection: &mut Connection| {
        connection.execute_batch(pragma).unwrap();
        Ok(())
    };
    store.writer.run(work).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let (_directory, store) = fresh().await;
    // Counts as a full disk.
    pragma(&store, "PRAGMA max_page_count = 40").await;
    let mut stored = 0;
    let error = loop {
        match store.insert_dek(&dek(&format!("t-{stored}"))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("full"), "{error}");
    let missing = DekQuery::Active(dek(&format!("t-{stored}")).scope);
    assert_eq!(store.find_deks(&[missing]).await.unwrap(), [None]);
    // Room is made.
    pragma(&store, "PRAGMA max_page_count = 4000").await;
    let inserted = store.insert_dek(&dek(&format!("t-{stored}"))).await.unwrap();
    assert_eq!(inserted, Insertion::Stored(DekState::Active));
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_directory, store) = fresh().await;
    let error = store.read(|unit| unit.bump()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn writes_reach_the_disk_before_they_return() {
    let (_directory, store) = fresh().await;
    // After this the connection is opened anew, and promises the same.
    for lose_it in [false, true] {
        if lose_it {
            pragma(&store, "BEGIN").await;
        }
        for (pragma, expected) in [
            ("SELECT journal_mode = 'wal' FROM pragma_journal_mode", 1),
            ("SELECT synchronous FROM pragma_synchronous", 2),
            ("SELECT foreign_keys FROM pragma_foreign_keys", 1),
            ("SELECT secure_delete FROM pragma_secure_delete", 1),
            ("SELECT fullfsync FROM pragma_fullfsync", 1),
            ("SELECT timeout FROM pragma_busy_timeout", 5000),
        ] {
            let value: i64 = store.write(move |unit| unit.scalar(pragma, ())).await.unwrap();
            assert_eq!(value, expected, "{pragma}");
        }
    }
}

#[tokio::test]
async fn statements_are_prepared_once() {
    let (_directory, store) = fresh().await;
    store.insert_dek(&dek("a")).await.unwrap();
    let NewDek { scope, key_id, .. } = dek("a");
    let queries = [DekQuery::Active(scope.clone()), DekQuery::Key { scope, key_id }];
    let again = move |connection: &mut Connection| {
        let mut unit = Unit::begin(connection, TransactionBehavior::Deferred)?;
        for _ in 0..10 {
            let found = read::find_deks(&mut unit, &queries)?;
            assert!(found.iter().all(Option::is_some));
        }
        unit.end()?;
        Ok([read::ACTIVE_DEK, read::DEK_BY_KEY].map(|statement| {
            let statement = connection.prepare_cached(statement).unwrap();
            (
                statement.get_status(StatementStatus::Run),
                statement.get_status(StatementStatus::RePrepare),
            )
        }))
    };
    assert_eq!(store.writer.run(again).await.unwrap(), [(10, 0), (10, 0)]);
}

#[tokio::test]
async fn a_writer_elsewhere_holds_up_writers_and_no_readers() {
    let (directory, store) = fresh().await;
    store.insert_dek(&dek("a")).await.unwrap();
    let elsewhere = Connection::open(directory.path().join("keys.db")).unwrap();
    elsewhere.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.find_deks(&[DekQuery::Active(dek("a").scope)]).await.unwrap();
    store.activate_due().await.unwrap();
    // Rather than five seconds.
    pragma(&store, "PRAGMA busy_timeout = 0").await;
    let error = store.insert_dek(&dek("b")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("locked"), "{error}");
    elsewhere.execute_batch("ROLLBACK").unwrap();
    store.insert_dek(&dek("b")).await.unwrap();
}

/// Keeps the writer busy until the sender is dropped.
fn occupy(store: &SqliteKeyStore) -> (impl Future<Output = ()>, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let store = store.clone();
    let occupied = async move {
        let wait = move |_: &mut Connection| {
            // Fails when the sender is dropped.
            let _ = released.recv();
            Ok(())
        };
        store.writer.run(wait).await.unwrap();
    };
    (occupied, release)
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_caller_that_is_never_polled_again_holds_nobody_up() {
    let (_directory, store) = fresh().await;
    let (occupied, release) = occupy(&store);
    let mut occupied = pin!(occupied);
    assert!(poll(occupied.as_mut()).is_pending());
    let (left, gone) = (dek("left"), dek("gone"));
    let mut left = pin!(store.insert_dek(&left));
    assert!(poll(left.as_mut()).is_pending());
    let mut dropped = Box::pin(store.insert_dek(&gone));
    assert!(poll(dropped.as_mut()).is_pending());
    drop(dropped);
    drop(release);
    // In front of this in the line: what was left, which is done, and what was dropped.
    store.insert_dek(&dek("last")).await.unwrap();
    let query = |name| DekQuery::Active(dek(name).scope);
    let found = store.find_deks(&[query("left"), query("gone"), query("last")]).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    assert!(poll(left).is_ready());
}

#[tokio::test]
async fn who_waits_too_long_is_told() {
    let (directory, mut store) = fresh().await;
    let path = directory.path().join("keys.db");
    let impatient = Connections::start([None], Duration::ZERO, move || {
        Connection::open(&path).map_err(crate::error::from_sqlite)
    });
    store.writer = Arc::new(impatient.unwrap());
    let error = store.insert_dek(&dek("a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("busy"), "{error}");
}

#[tokio::test]
async fn a_panic_costs_one_call() {
    let (_directory, store) = fresh().await;
    let panics = |unit: &mut Unit<'_>| -> Result<(), StoreError> {
        unit.bump()?;
        panic!("on purpose")
    };
    let error = store.write(panics).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    store.insert_dek(&dek("a")).await.unwrap();
    assert_eq!(store.read(|unit| Ok(unit.rev)).await.unwrap(), 1);
}

#[tokio::test]
async fn closing_waits_for_what_is_under_way() {
    let (_directory, store) = fresh().await;
    let (occupied, release) = occupy(&store);
    let mut occupied = pin!(occupied);
    assert!(poll(occupied.as_mut()).is_pending());
    let (early, late) = (dek("early"), dek("late"));
    let mut early = pin!(store.insert_dek(&early));
    assert!(poll(early.as_mut()).is_pending());
    let mut closing = pin!(store.close());
    assert!(poll(closing.as_mut()).is_pending());
    drop(release);
    closing.await;
    assert!(matches!(poll(early), Poll::Ready(Ok(_))));
    assert_eq!(store.insert_dek(&late).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

#[test]
fn futures_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    is_send(SqliteKeyStore::open("keys.db"));
}
