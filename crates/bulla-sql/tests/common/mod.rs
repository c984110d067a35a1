//! What the tests on files share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;
use std::time::Duration;

use bulla_backend::{KekId, KekVersion, KeyStore, NewDek, ScopeId, StoreError, WrappedKey};
use bulla_core::{DekVersion, KeyId};
use bulla_sql::SqliteKeyStore;
use rusqlite::Connection;

pub(crate) fn scope(name: &str) -> ScopeId {
    ScopeId::new(name, "files").unwrap()
}

pub(crate) fn dek(scope: &ScopeId, version: u32) -> NewDek {
    let mut key_id = [0; KeyId::LEN];
    key_id[..4].copy_from_slice(&version.to_be_bytes());
    let tenant = scope.tenant().as_bytes();
    key_id[4..4 + tenant.len()].copy_from_slice(tenant);
    let kek = KekId::new("test:///kek");
    let wrapped = WrappedKey::new(kek, KekVersion::Reported("1".into()), vec![7; 100]);
    let version = DekVersion::new(version.max(1)).unwrap();
    NewDek::new(scope.clone(), version, KeyId::from_bytes(key_id), wrapped, Duration::ZERO)
}

/// Everything that the contract lets one see of the store.
pub(crate) async fn contents(store: &SqliteKeyStore) -> String {
    let changes =
        store.changes_since(Some(bulla_backend::StoreRevision(0)), u32::MAX).await.unwrap();
    let queries: Vec<_> = changes
        .deks
        .iter()
        .map(|dek| bulla_backend::DekQuery::Key { scope: dek.scope.clone(), key_id: dek.key_id })
        .collect();
    let mut deks = store.find_deks(&queries).await.unwrap();
    for dek in deks.iter_mut().flatten() {
        dek.age = Duration::ZERO;
    }
    let usage = store.kek_usage(&KekId::new("test:///kek")).await.unwrap();
    format!("{changes:?} {deks:?} {usage:?}")
}

/// The database beneath, as an administrator would open it.
pub(crate) fn raw(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

/// The message and what is beneath.
pub(crate) fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
