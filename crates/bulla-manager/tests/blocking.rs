//! The facade for code without async.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use bulla_manager::{Error, SystemClock, blocking};
use common::{World, record};

fn manager(world: &World) -> blocking::Manager {
    blocking::Manager::start(world.builder().clock(Arc::new(SystemClock))).unwrap()
}

#[test]
fn it_seals_opens_and_rotates() {
    let world = World::new();
    let manager = manager(&world);
    let scope = manager.scope("t-1", "orders").unwrap();
    let old = scope.seal(b"payload", &record("1")).unwrap();
    assert_eq!(scope.rotate().unwrap().active.get(), 2);
    let opened = scope.open(&old, &record("1")).unwrap();
    assert!(opened.freshness.stale_dek);
    let new = scope.reseal(&old, &record("1")).unwrap().unwrap();
    assert_eq!(scope.open(&new, &record("1")).unwrap().plaintext, b"payload");
    assert!(scope.open(&new, &record("2")).is_err());
    manager.sync().unwrap();
    manager.close().unwrap();
    assert!(matches!(scope.seal(b"x", &record("1")), Err(Error::Closed)));
}

#[test]
fn a_cold_open_loads() {
    let world = World::new();
    let envelope =
        manager(&world).scope("t-1", "orders").unwrap().seal(b"payload", &record("1")).unwrap();
    let cold = manager(&world).scope("t-1", "orders").unwrap();
    assert_eq!(cold.open(&envelope, &record("1")).unwrap().plaintext, b"payload");
    assert!(cold.open(b"no envelope", &record("1")).is_err());
}

/// `block_on` would panic here; the facade only blocks the thread.
#[tokio::test]
async fn it_may_be_called_inside_a_runtime() {
    let world = World::new();
    let scope = manager(&world).scope("t-1", "orders").unwrap();
    let envelope = scope.seal(b"payload", &record("1")).unwrap();
    assert_eq!(scope.open(&envelope, &record("1")).unwrap().plaintext, b"payload");
}

#[test]
fn threads_share_it() {
    let world = World::new();
    let scope = manager(&world).scope("t-1", "orders").unwrap();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for i in 0..200 {
                    let context = record(&i.to_string());
                    let envelope = scope.seal(b"payload", &context).unwrap();
                    assert_eq!(scope.open(&envelope, &context).unwrap().plaintext, b"payload");
                }
            });
        }
    });
    assert_eq!(world.kms.data_calls(), 2, "one key was made and verified");
}
