//! Typed values and suites, through the manager.
#![cfg(all(feature = "json", feature = "bincode"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use bulla_core::{Bincode, Codec, Header, Json, KeyOptions, OpenError, Suite};
use bulla_manager::{Error, SystemClock, blocking};
use common::{World, record, scope};

#[tokio::test]
async fn a_value_opens_by_the_codec_that_wrote_it_and_by_no_other() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let value = ("ada@example.org".to_owned(), 36_u8);
    let json = scope.seal_value::<Json, _>(&value, &record("1")).await.unwrap();
    let bincode = scope.seal_value::<Bincode, _>(&value, &record("1")).await.unwrap();
    let opened = scope.open_value::<Json, (String, u8)>(&json, &record("1")).await.unwrap();
    assert_eq!(opened.value, value);
    assert!(!format!("{opened:?}").contains("ada"), "{opened:?}");
    let opened = scope.open_value::<Bincode, (String, u8)>(&bincode, &record("1")).await;
    assert_eq!(opened.unwrap().value, value);
    let crossed = scope.open_value::<Bincode, (String, u8)>(&json, &record("1")).await;
    let expected = OpenError::WrongCodec { found: 2, expected: 1 };
    assert!(matches!(crossed, Err(Error::Open(error)) if error == expected));
    assert!(scope.open(&json, &record("1")).await.is_err(), "it is not raw bytes");
    let retyped = scope.open_value::<Json, u64>(&json, &record("1")).await;
    assert!(matches!(retyped, Err(Error::Value(_))));
}

#[tokio::test]
async fn a_reseal_keeps_the_codec() {
    let world = World::new();
    let manager = world.manager().await;
    let scope = scope(&manager);
    let old = scope.seal_value::<Json, _>(&[1, 2, 3], &record("1")).await.unwrap();
    scope.rotate().await.unwrap();
    let context = record("1");
    let new = scope.reseal(&old, &context).await.unwrap().unwrap();
    let many = scope.reseal_many(&[(&old, &context)]).await.remove(0).unwrap().unwrap();
    for envelope in [new, many] {
        assert_eq!(Header::parse(&envelope).unwrap().codec, Codec::JSON);
        let opened = scope.open_value::<Json, Vec<u8>>(&envelope, &context).await.unwrap();
        assert_eq!(opened.value, [1, 2, 3]);
        assert!(opened.freshness.is_current());
    }
}

#[tokio::test]
async fn a_change_of_suite_makes_records_stale_and_reseal_moves_them() {
    let world = World::new();
    let first = world.manager().await;
    let old = scope(&first).seal(b"payload", &record("1")).await.unwrap();

    let strict = KeyOptions::default().with_suite(Suite::Xaes256GcmSiv);
    let manager = world.builder().key_options(strict).start().await.unwrap();
    let refused = scope(&manager).open(&old, &record("1")).await;
    assert!(matches!(refused, Err(Error::Open(OpenError::SuiteNotAllowed(_)))));

    let moving = strict.accepting(Suite::Xaes256Gcm);
    let manager = world.builder().key_options(moving).start().await.unwrap();
    let scope = scope(&manager);
    let opened = scope.open(&old, &record("1")).await.unwrap();
    assert!(opened.freshness.stale_suite && !opened.freshness.stale_dek);
    let new = scope.reseal(&old, &record("1")).await.unwrap().unwrap();
    assert_eq!(Header::parse(&new).unwrap().suite, Suite::Xaes256GcmSiv);
    assert!(scope.open(&new, &record("1")).await.unwrap().freshness.is_current());
    assert_eq!(scope.reseal(&new, &record("1")).await.unwrap(), None);
}

#[test]
fn the_blocking_facade_prepares_to_open_by_headers() {
    let world = World::new();
    let start = || blocking::Manager::start(world.builder().clock(Arc::new(SystemClock))).unwrap();
    let envelope = start().scope("t-1", "orders").unwrap().seal(b"payload", &record("1")).unwrap();
    let manager = start();
    let cold = manager.scope("t-1", "orders").unwrap();
    cold.prepare_to_open(&[&envelope]).unwrap();
    assert_eq!(manager.stats().loads, 1);
}
