//! The paved path, as its user walks it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bulla::backend::{KeyAdmin, KeyStore, KeyWrapper};
use bulla::local::{Argon2Cost, LocalKek, Unlock};
use bulla::sqlite::SqliteKeyStore;
use bulla::{Error, Manager, Profile, RecordContext};

fn unlock(passphrase: &str) -> Unlock {
    let cheap = Argon2Cost::new(64, 1, 1).unwrap();
    Unlock::passphrase(passphrase.into()).with_argon2(cheap)
}

fn record(row: &str) -> RecordContext {
    RecordContext::new([("table", "people"), ("column", "email"), ("row", row)]).unwrap()
}

#[tokio::test]
async fn what_was_sealed_opens_after_a_restart_and_two_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("deep/keys");
    let sealed = {
        let bulla = bulla::open_embedded(&keys, unlock("secret")).await.unwrap();
        let people = bulla.manager.scope("t-1", "people").unwrap();
        let sealed = people.seal(b"ada@example.org", &record("42")).await.unwrap();
        bulla.manager.close().await.unwrap();
        sealed
    };
    let bulla = bulla::open_embedded(&keys, unlock("secret")).await.unwrap();
    let people = bulla.manager.scope("t-1", "people").unwrap();
    assert_eq!(people.open(&sealed, &record("42")).await.unwrap().plaintext, b"ada@example.org");

    bulla.kek.rotate().await.unwrap();
    people.rotate().await.unwrap();
    bulla.manager.sync().await.unwrap();
    let opened = people.open(&sealed, &record("42")).await.unwrap();
    assert!(opened.freshness.stale_dek && opened.freshness.stale_kek, "{opened:?}");
    bulla.manager.rewraps_settled().await;
    let usage = bulla.store.kek_usage(bulla.kek.kek()).await.unwrap();
    assert_eq!(usage.len(), 1, "no wrap depends on the old version: {usage:?}");
    assert!(people.open(&sealed, &record("43")).await.is_err());
    bulla.manager.close().await.unwrap();
}

#[test]
fn the_blocking_manager_survives_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = {
        let manager = bulla::open_embedded_blocking(dir.path(), unlock("secret")).unwrap();
        let people = manager.scope("t-1", "people").unwrap();
        let sealed = people.seal(b"ada@example.org", &record("42")).unwrap();
        manager.close().unwrap();
        sealed
    };
    let manager = bulla::open_embedded_blocking(dir.path(), unlock("secret")).unwrap();
    let people = manager.scope("t-1", "people").unwrap();
    assert_eq!(people.open(&sealed, &record("42")).unwrap().plaintext, b"ada@example.org");
    assert_eq!(people.rotate().unwrap().active.get(), 2);
    assert!(bulla::open_embedded_blocking(dir.path(), unlock("guess")).is_err());
}

#[tokio::test]
async fn a_wrong_passphrase_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    bulla::open_embedded(dir.path(), unlock("secret")).await.unwrap();
    assert!(bulla::open_embedded(dir.path(), unlock("guess")).await.is_err());
}

#[tokio::test]
async fn production_refuses_a_local_kek_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let kek = LocalKek::create(dir.path().join("kek.json"), "k", unlock("secret")).await.unwrap();
    let kek = Arc::new(kek);
    let store = Arc::new(SqliteKeyStore::open(dir.path().join("keys.db")).await.unwrap());
    let builder = || Manager::builder(Profile::Production, kek.clone(), store.clone());
    let refused = builder().start().await.unwrap_err();
    assert!(matches!(refused, Error::Profile { .. }));
    assert!(refused.to_string().contains("allow_local_kek"), "{refused}");
    assert!(builder().allow_local_kek().start().await.is_ok());
}
