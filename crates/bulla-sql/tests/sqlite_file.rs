//! The file beneath: what is made, kept, refused and found damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use bulla_backend::{
    DekQuery, DekState, KekId, KekState, KekStatus, KekVersion, KekVersionState, KeyStore,
    StateChange, StoreErrorKind, StoreRevision, WrapSwap, WrappedKey,
};
use bulla_sql::SqliteKeyStore;
use common::{chain, contents, dek, raw, scope};
use rusqlite::Row;
use tempfile::tempdir;

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    for number in 1..=20 {
        store.insert_dek(&dek(&scope("a"), number)).await.unwrap();
        store.activate_due().await.unwrap();
    }
    let key_id = dek(&scope("a"), 1).key_id;
    let shred = StateChange::new(key_id, DekState::DecryptOnly, DekState::Shredded).unwrap();
    assert!(store.change_state(&shred).await.unwrap());
    let before = contents(&store).await;
    store.close().await;
    let store = SqliteKeyStore::open(&path).await.unwrap();
    assert_eq!(contents(&store).await, before, "after closing");
    drop(store);
    let store = SqliteKeyStore::open(&path).await.unwrap();
    assert_eq!(contents(&store).await, before, "after dropping");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let directory = tempdir().unwrap();
    let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
    let clone = store.clone();
    store.close().await;
    let error = clone.find_deks(&[]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("closed"), "{error}");
    let error = clone.insert_dek(&dek(&scope("a"), 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log and the index of that");
}

#[tokio::test]
async fn names_that_sqlite_gives_a_meaning_are_files() {
    let directory = tempdir().unwrap();
    for name in [":memory:", "file:x?mode=memory", "a b%20c#d'\".db", "\u{e9}"] {
        let path = directory.path().join(name);
        let store = SqliteKeyStore::open(&path).await.unwrap();
        store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
        store.close().await;
        assert!(path.metadata().unwrap().len() > 0, "{name}");
    }
}

#[tokio::test]
async fn what_is_no_file_or_no_database_is_refused() {
    let directory = tempdir().unwrap();
    refuses(directory.path(), "is not a file").await;
    refuses(&directory.path().join("missing/keys.db"), "cannot be made or opened").await;
    refuses(Path::new(""), "empty").await;
    let text = directory.path().join("notes.txt");
    let contents = "Dear diary, ".repeat(1000);
    std::fs::write(&text, &contents).unwrap();
    refuses(&text, "not an SQLite database").await;
    assert_eq!(std::fs::read_to_string(&text).unwrap(), contents, "left as it was");
}

async fn refuses(path: &Path, message: &str) {
    let error = SqliteKeyStore::open(path).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{}", chain(&error));
    assert!(error.to_string().contains(message), "{}", chain(&error));
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    std::fs::write(&path, []).unwrap();
    let store = SqliteKeyStore::open(&path).await.unwrap();
    store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
}

#[tokio::test]
async fn the_database_of_another_application_is_refused_and_left_alone() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let shop = raw(&path);
    shop.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    drop(shop);
    let before = std::fs::read(&path).unwrap();
    refuses(&path, "another application").await;
    assert!(std::fs::read(&path).unwrap() == before, "not one byte differs");
}

#[tokio::test]
async fn another_schema_is_refused() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    SqliteKeyStore::open(&path).await.unwrap().close().await;
    let database = raw(&path);
    let set_version = |version: i64| {
        database.pragma_update(None, "user_version", version).unwrap();
    };
    set_version(9999);
    refuses(&path, "newer than this library").await;
    for none in [0, -1] {
        set_version(none);
        refuses(&path, "has no version").await;
    }
    set_version(1);
    SqliteKeyStore::open(&path).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_file_at_once() {
    for _ in 0..10 {
        let directory = tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let path = path.clone();
            tasks.spawn(async move { SqliteKeyStore::open(path).await.unwrap() });
        }
        let mut ids = std::collections::HashSet::new();
        for store in tasks.join_all().await {
            ids.insert(store.changes_since(None, 1).await.unwrap().identity);
        }
        assert_eq!(ids.len(), 1, "they opened one store");
    }
}

const WITHOUT_CHECKS: &str = "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF";

#[tokio::test]
async fn rows_that_this_library_cannot_have_written_are_corrupt() {
    let cases = [
        ("UPDATE deks SET state = 'activ'", "deks.state"),
        ("UPDATE deks SET version = 4294967296", "deks.version"),
        ("UPDATE deks SET version = 0", "deks.version"),
        ("UPDATE deks SET rev = 1000", "deks.rev"),
        ("UPDATE wraps SET slot = 256", "wraps.slot"),
        ("UPDATE wraps SET wrap_rev = -1", "wraps.wrap_rev"),
        ("UPDATE wraps SET version_source = 'guessed'", "wraps.version_source"),
        ("UPDATE wraps SET version_source = NULL", "wraps.version_source"),
        ("UPDATE wraps SET blob = zeroblob(1025)", "wraps.blob"),
        ("UPDATE wraps SET blob = x''", "wraps.blob"),
        ("DELETE FROM wraps", "wraps.key_id"),
        ("UPDATE deks SET state = 'shredded'", "wraps.key_id"),
        ("UPDATE scopes SET tenant = 'a' || char(7)", "scopes.tenant"),
        ("UPDATE store_meta SET epoch = -1", "store_meta.epoch"),
        ("DELETE FROM store_meta", "store_meta.only_row"),
    ];
    for (damage, place) in cases {
        let directory = tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let store = SqliteKeyStore::open(&path).await.unwrap();
        store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
        let damage_all = format!("{WITHOUT_CHECKS}; {damage}");
        raw(&path).execute_batch(&damage_all).unwrap();
        let query = DekQuery::Key { scope: scope("a"), key_id: dek(&scope("a"), 1).key_id };
        let found = store.find_deks(&[query]).await.map(drop);
        let told = store.changes_since(Some(StoreRevision(0)), 10).await.map(drop);
        let error = found.and(told).expect_err(damage);
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damage}: {}", chain(&error));
        assert!(error.to_string().contains(place), "{damage}: {}", chain(&error));
    }
}

#[tokio::test]
async fn a_key_id_of_another_length_is_corrupt() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
    let damage = "UPDATE deks SET key_id = x'0102'; UPDATE wraps SET key_id = x'0102'";
    raw(&path).execute_batch(&format!("{WITHOUT_CHECKS}; {damage}")).unwrap();
    let error = store.find_deks(&[DekQuery::Active(scope("a"))]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("deks.key_id"), "{}", chain(&error));
}

#[tokio::test]
async fn a_damaged_file_is_corrupt() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    for number in 1..=100 {
        store.insert_dek(&dek(&scope("a"), number)).await.unwrap();
    }
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    // All but the page with the header and the schema.
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let error = match SqliteKeyStore::open(&path).await {
        Ok(store) => store.insert_dek(&dek(&scope("b"), 1)).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{}", chain(&error));
}

#[tokio::test]
async fn replaced_wraps_are_logged_without_their_blobs() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    let new = dek(&scope("a"), 1);
    store.insert_dek(&new).await.unwrap();
    let secret = b"the wrap that must not be found anywhere".to_vec();
    let version = |label: &str| KekVersion::Parsed(label.into());
    let wrapped = WrappedKey::new(KekId::new("test:///two"), version("7"), secret.clone());
    assert!(store.replace_wrap(&WrapSwap::new(new.key_id, 0, 1, wrapped)).await.unwrap());
    let wrapped = WrappedKey::new(KekId::new("test:///kek"), KekVersion::Unknown, vec![1]);
    assert!(store.replace_wrap(&WrapSwap::new(new.key_id, 0, 2, wrapped)).await.unwrap());
    let shred = StateChange::new(new.key_id, DekState::Active, DekState::Shredded).unwrap();
    assert!(store.change_state(&shred).await.unwrap());
    store.close().await;

    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    let log = rows::<(Vec<u8>, i64, String, Option<String>)>(
        &path,
        "SELECT l.key_id, l.slot, k.uri, l.kek_version FROM wrap_log l JOIN keks k USING (kek_pk)
         WHERE l.from_at <= l.until_at ORDER BY l.log_pk",
    );
    let row = |uri: &str, label: Option<&str>| {
        (new.key_id.as_bytes().to_vec(), 0, uri.to_owned(), label.map(str::to_owned))
    };
    let expected =
        [row("test:///kek", Some("1")), row("test:///two", Some("7")), row("test:///kek", None)];
    assert_eq!(log, expected);
}

/// Every row of a query.
fn rows<T>(path: &Path, query: &str) -> Vec<T>
where
    T: for<'r> TryFrom<&'r Row<'r>, Error = rusqlite::Error>,
{
    let database = raw(path);
    let mut statement = database.prepare(query).unwrap();
    let rows = statement.query_map((), |row| row.try_into()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn what_a_kms_says_is_recorded() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteKeyStore::open(&path).await.unwrap();
    store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
    let made = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123);
    let versions = vec![
        KekVersionState::new("1", KekStatus::PendingDestruction).with_created_at(made),
        KekVersionState::new("2", KekStatus::Enabled),
    ];
    let state = KekState::new(
        KekId::new("test:///kek"),
        KekStatus::Enabled,
        KekVersion::Reported("3".into()),
    );
    store.record_kek(&state.clone().with_versions(versions)).await.unwrap();
    // Silence about a version, or about its age, is no news.
    let versions = vec![KekVersionState::new("1", KekStatus::Destroyed)];
    store.record_kek(&state.with_versions(versions)).await.unwrap();
    let recorded = rows::<(String, String, String, Option<i64>)>(
        &path,
        "SELECT k.state, v.label, v.state, v.created_at
         FROM keks k JOIN kek_versions v USING (kek_pk) ORDER BY v.label",
    );
    let row = |label: &str, state: &str, made| {
        ("enabled".to_owned(), label.to_owned(), state.to_owned(), made)
    };
    let expected = [
        row("1", "destroyed", Some(1_700_000_000_123)),
        row("2", "enabled", None),
        row("3", "enabled", None),
    ];
    assert_eq!(recorded, expected);
}

#[tokio::test]
async fn ten_thousand_queries_are_one_read() {
    let directory = tempdir().unwrap();
    let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
    for number in 1..=10 {
        store.insert_dek(&dek(&scope("a"), number)).await.unwrap();
    }
    let queries: Vec<_> = (0..10_000)
        .map(|n| DekQuery::Key { scope: scope("a"), key_id: dek(&scope("a"), n % 11).key_id })
        .collect();
    let found = store.find_deks(&queries).await.unwrap();
    for (n, dek) in found.iter().enumerate() {
        assert_eq!(dek.as_ref().map_or(0, |dek| dek.version.get()), (n % 11) as u32);
    }
}
