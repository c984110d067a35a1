//! A store minds no runtime: neither the one that it was opened on, nor whether there
//! is one at all.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bulla_backend::{DekQuery, DekState, Insertion, KeyStore};
use bulla_sql::SqliteKeyStore;
use common::{dek, scope};
use tempfile::tempdir;
use tokio::runtime::{Builder, Runtime};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Writes and reads, several calls at a time.
async fn use_it(store: &SqliteKeyStore, name: &str) {
    let inserted = store.insert_dek(&dek(&scope(name), 1)).await.unwrap();
    assert_eq!(inserted, Insertion::Stored(DekState::Active));
    let query = [DekQuery::Active(scope(name))];
    let mut reads: Vec<_> = (0..10).map(|_| store.find_deks(&query)).collect();
    for read in &mut reads {
        assert!(read.await.unwrap()[0].is_some());
    }
}

#[test]
fn opened_on_a_runtime_that_stands_idle() {
    let directory = tempdir().unwrap();
    let idle = current_thread();
    let store = idle.block_on(SqliteKeyStore::open(directory.path().join("keys.db"))).unwrap();
    idle.block_on(use_it(&store, "there"));
    // Nothing drives `idle` from here on.
    let (answer, answered) = std::sync::mpsc::channel();
    thread::spawn(move || {
        current_thread().block_on(async {
            use_it(&store, "here").await;
            store.close().await;
        });
        answer.send(()).unwrap();
    });
    answered.recv_timeout(Duration::from_secs(30)).unwrap();
    drop(idle);
}

#[test]
fn used_after_its_runtime_is_gone() {
    let directory = tempdir().unwrap();
    let first = Runtime::new().unwrap();
    let store = first.block_on(SqliteKeyStore::open(directory.path().join("keys.db"))).unwrap();
    first.block_on(use_it(&store, "first"));
    drop(first);
    current_thread().block_on(use_it(&store, "second"));
}

#[test]
fn used_without_a_runtime() {
    let directory = tempdir().unwrap();
    block_on(async {
        let store = SqliteKeyStore::open(directory.path().join("keys.db")).await.unwrap();
        use_it(&store, "a").await;
        store.close().await;
    });
}

/// The least that can drive a future.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
