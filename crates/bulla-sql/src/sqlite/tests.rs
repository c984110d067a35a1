//! What needs the connections themselves.

use bulla_backend::{
    DekQuery, DekState, Insertion, KekId, KekVersion, KeyStore, NewDek, ScopeId, StoreErrorKind,
    WrappedKey,
};
use bulla_core::{DekVersion, KeyId};
use sqlx::Executor;

use super::*;

fn dek(name: &str) -> NewDek {
    let mut key_id = [0; KeyId::LEN];
    key_id[..name.len()].copy_from_slice(name.as_bytes());
    let wrapped = WrappedKey::new(KekId::new("test:///kek"), KekVersion::Unknown, vec![1; 1024]);
    let scope = ScopeId::new(name, "tests").unwrap();
    let key_id = KeyId::from_bytes(key_id);
    NewDek::new(scope, DekVersion::FIRST, key_id, wrapped, Duration::ZERO)
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
    // Counts as a full disk, for the connection that writes.
    let mut writer = store.writer.acquire().await.unwrap();
    writer.execute("PRAGMA max_page_count = 40").await.unwrap();
    drop(writer);
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
    // Room was made: the connection that failed was replaced by one without the limit.
    let inserted = store.insert_dek(&dek(&format!("t-{stored}"))).await.unwrap();
    assert_eq!(inserted, Insertion::Stored(DekState::Active));
}

#[tokio::test]
async fn readers_cannot_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
    let mut unit = store.read().await.unwrap();
    let error = unit.bump().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn writes_reach_the_disk_before_they_return() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
    let mut writer = store.writer.acquire().await.unwrap();
    for (pragma, expected) in [
        ("SELECT synchronous FROM pragma_synchronous", 2),
        ("SELECT foreign_keys FROM pragma_foreign_keys", 1),
        ("SELECT secure_delete FROM pragma_secure_delete", 1),
        ("SELECT fullfsync FROM pragma_fullfsync", 1),
        ("SELECT timeout FROM pragma_busy_timeout", 5000),
    ] {
        let value: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *writer).await.unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
}

#[tokio::test]
async fn a_writer_elsewhere_holds_up_writers_and_no_readers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    let other = SqliteKeyStore::open(&path).await.unwrap();
    store.insert_dek(&dek("a")).await.unwrap();
    let unit = other.write().await.unwrap();
    store.find_deks(&[DekQuery::Active(dek("a").scope)]).await.unwrap();
    store.activate_due().await.unwrap();
    let mut writer = store.writer.acquire().await.unwrap();
    // Rather than five seconds.
    writer.execute("PRAGMA busy_timeout = 0").await.unwrap();
    drop(writer);
    let error = store.insert_dek(&dek("b")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("locked"), "{error}");
    drop(unit);
    // The rollback of a dropped transaction runs before the next call on that handle.
    other.insert_dek(&dek("c")).await.unwrap();
    store.insert_dek(&dek("b")).await.unwrap();
}

#[test]
fn futures_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    is_send(SqliteKeyStore::open("keys.db"));
}
