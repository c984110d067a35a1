//! Key files of format 1 and wraps made under them open for ever.
//!
//! `tests/data/*.key` was made by the first release: version 1 is destroyed, 2 made
//! the wrap beside it, 3 is current. Neither is ever to be made again.
#![allow(clippy::unwrap_used, reason = "tests")]

use bulla_backend::{KekStatus, KekVersion, KeyInspector, KeyWrapper, UnwrapRequest, WrappedKey};
use bulla_core::{DataKey, DekVersion, ScopeContext};
use bulla_local::{LocalKek, Unlock};
use data_encoding::HEXLOWER;

async fn check(unlock: Unlock, name: &str, file: &str, wrap: &str) {
    // A copy, as repositories may be checked out read-only.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("golden.key");
    std::fs::write(&path, file).unwrap();
    let kek = LocalKek::open(&path, unlock).await.unwrap();
    assert_eq!(kek.name(), name);
    assert_eq!(kek.generation(), 5);
    let statuses = kek.describe().await.unwrap().versions.into_iter().map(|version| version.status);
    let expected = [KekStatus::Destroyed, KekStatus::Enabled, KekStatus::Enabled];
    assert_eq!(statuses.collect::<Vec<_>>(), expected);

    let scope = ScopeContext::new([("tenant", "t-1"), ("purpose", "orders")]).unwrap();
    let context = scope.kms_context(DekVersion::FIRST);
    let blob = HEXLOWER.decode(wrap.trim().as_bytes()).unwrap();
    let wrapped = WrappedKey::new(kek.kek().clone(), KekVersion::Unknown, blob);
    let unwrapped = kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.unwrap();
    assert_eq!(unwrapped.data_key.expose_secret(), &[0x5a; 32]);
    assert_eq!(unwrapped.kek_version.label(), Some("2"));
}

#[tokio::test]
async fn a_raw_key_opens_a_file_of_the_first_release() {
    let key = DataKey::init_with(|bytes| *bytes = std::array::from_fn(|at| at as u8));
    let (file, wrap) = (include_str!("data/raw-v1.key"), include_str!("data/raw-v1.wrap"));
    check(Unlock::raw_key(key), "raw", file, wrap).await;
}

#[tokio::test]
async fn a_passphrase_opens_a_file_of_the_first_release() {
    let unlock = Unlock::passphrase("correct horse battery staple".into());
    let file = include_str!("data/passphrase-v1.key");
    check(unlock, "passphrase", file, include_str!("data/passphrase-v1.wrap")).await;
}
