//! A running workload, and a real KMS that is frozen, killed, sealed, throttled and robbed
//! of its tokens: warm keys serve until their deadline, cold ones fail in time with the
//! right class, and everything recovers by itself without a stampede.
//!
//! The intervals of the policy are shortened; time is real, as the server's is.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulla::kek::{KekUrl, OpenedKek};
use bulla::layers::LayerOptions;
use bulla::{
    DekVersion, Error, Header, KmsErrorKind, KmsOperation, Manager, MemoryKeyStore, Policy,
    Profile, RecordContext, ScopeId, SystemClock,
};
use bulla_backend::{
    AuditSink, DekQuery, GenerateRequest, Kek, KeyStore, KmsCall, KmsOutcome, WrapSwap,
};
use bulla_testkit::servers::{OwnServer, own_openbao_on_disk};
use reqwest::Method;
use serde_json::{Value, json};
use support::Bao;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(4);
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine may add to any of them.
const SLACK: Duration = Duration::from_secs(3);

/// Counts calls by operation and outcome.
#[derive(Debug, Default)]
struct Calls(Mutex<HashMap<(KmsOperation, KmsOutcome), u64>>);

impl AuditSink for Calls {
    fn record(&self, call: &KmsCall<'_>) {
        *self.0.lock().unwrap().entry((call.operation, call.outcome)).or_default() += 1;
    }
}

impl Calls {
    fn of(&self, operation: KmsOperation) -> u64 {
        let calls = self.0.lock().unwrap();
        calls.iter().filter(|((made, _), _)| *made == operation).map(|(_, count)| count).sum()
    }
}

/// A server on disk, a manager that is warm for one scope, and what it takes to make more.
struct World {
    server: OwnServer,
    bao: Bao,
    directory: tempfile::TempDir,
    store: Arc<MemoryKeyStore>,
    calls: Arc<Calls>,
    warm: Manager,
    warm_record: Vec<u8>,
}

impl World {
    async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (server, address) = own_openbao_on_disk(directory.path()).unwrap()?;
        let bao = Bao::at(&address);
        set_up(&bao, directory.path()).await;
        let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock)).unwrap());
        let calls = Arc::new(Calls::default());
        let warm = manager(&bao, directory.path(), &store, &calls).await;
        let warm_record = seal(&warm, "t-warm").await;
        Some(Self { server, bao, directory, store, calls, warm, warm_record })
    }

    /// Another process: nothing cached.
    async fn cold(&self) -> Manager {
        manager(&self.bao, self.directory.path(), &self.store, &self.calls).await
    }

    async fn open_warm(&self) -> Result<(), Error> {
        open(&self.warm, "t-warm", &self.warm_record).await
    }

    /// Opens without pause for `time`, each of which must succeed.
    async fn warm_serves_for(&self, time: Duration) {
        let (begun, mut opened) = (Instant::now(), 0);
        while begun.elapsed() < time {
            self.open_warm().await.unwrap_or_else(|error| {
                panic!("a warm key failed {:?} into the fault: {error}", begun.elapsed())
            });
            opened += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(opened > 10, "{opened} opened");
    }

    /// Waits until both processes open again, by themselves.
    async fn recovers(&self, cold: &Manager, tenant: &str, record: &[u8]) {
        let begun = Instant::now();
        for (manager, tenant, record) in
            [(cold, tenant, record), (&self.warm, "t-warm", &self.warm_record[..])]
        {
            while let Err(error) = open(manager, tenant, record).await {
                assert!(begun.elapsed() < Duration::from_secs(15), "no recovery: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn set_up(bao: &Bao, directory: &Path) {
    let shares = json!({ "recovery_shares": 1, "recovery_threshold": 1 });
    let (status, answer) = bao.ask_as("", Method::PUT, "sys/init", &shares).await;
    assert_eq!(status, 200, "{answer}");
    let root = answer["root_token"].as_str().unwrap().to_owned();
    let named = json!({ "id": "root", "policies": ["root"] });
    // The server needs a moment to become the leader of one.
    for attempt in 0.. {
        let token = "auth/token/create-orphan";
        let (status, answer) = bao.ask_as(&root, Method::POST, token, &named).await;
        if status < 300 {
            break;
        }
        assert!(attempt < 100, "{status} {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bao.post("sys/mounts/transit", json!({ "type": "transit" })).await;
    bao.post("transit/keys/orders", json!({ "derived": true })).await;
    bao.allow("orders", "transit").await;
    bao.token_into(&directory.join("token"), "orders").await;
}

async fn manager(
    bao: &Bao,
    directory: &Path,
    store: &Arc<MemoryKeyStore>,
    calls: &Arc<Calls>,
) -> Manager {
    let mut layers = LayerOptions::default();
    layers.attempt_timeout = Duration::from_millis(500);
    layers.deadline = LOAD_TIMEOUT / 2;
    layers.open_for = Duration::from_millis(500);
    layers.audit = Some(calls.clone());
    let opened = opened(bao, directory, "orders", layers).await;
    let mut policy = Policy::default();
    policy.refresh_after = Duration::from_secs(60);
    policy.probe_interval = Duration::from_millis(500);
    policy.denied_confirmation = Duration::from_millis(300);
    policy.feed_interval = Duration::from_millis(200);
    policy.negative_for = Duration::from_millis(100);
    policy.load_timeout = LOAD_TIMEOUT;
    policy.revocation_deadline = DEADLINE;
    Manager::builder(Profile::Development, opened.kek, store.clone())
        .policy(policy)
        .start()
        .await
        .unwrap()
}

async fn opened(bao: &Bao, directory: &Path, key: &str, layers: LayerOptions) -> OpenedKek {
    let (addr, token) = (bao.addr(), directory.join("token"));
    let url = format!("vault://{addr}/transit/{key}?tls=off&token_file={}", token.display());
    let url: KekUrl = url.parse().unwrap();
    url.open_with(Profile::Development, layers).await.unwrap()
}

async fn seal(manager: &Manager, tenant: &str) -> Vec<u8> {
    let scope = manager.scope(tenant, "orders").unwrap();
    scope.seal(b"plaintext", &RecordContext::empty()).await.unwrap()
}

async fn open(manager: &Manager, tenant: &str, record: &[u8]) -> Result<(), Error> {
    let scope = manager.scope(tenant, "orders").unwrap();
    let opened = scope.open(record, &RecordContext::empty()).await?;
    assert_eq!(opened.plaintext, b"plaintext");
    Ok(())
}

/// A cold open must fail within its time, as this class.
async fn cold_fails_as(cold: &Manager, tenant: &str, record: &[u8], expected: KmsErrorKind) {
    let begun = Instant::now();
    let error = open(cold, tenant, record).await.unwrap_err();
    assert!(begun.elapsed() < LOAD_TIMEOUT + SLACK, "a cold open took {:?}", begun.elapsed());
    match error {
        Error::Kms(error) => assert_eq!(error.kind(), expected, "{error}"),
        error => panic!("a cold open failed as {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server() {
    let Some(world) = World::start().await else { return };
    let (cold, record) = (world.cold().await, seal(&world.warm, "t-other").await);
    world.server.freeze().unwrap();
    let frozen = Instant::now();
    world.warm_serves_for(DEADLINE / 2).await;
    cold_fails_as(&cold, "t-other", &record, KmsErrorKind::Unavailable).await;

    // Past the deadline nothing serves, although nobody could tell this process so.
    tokio::time::sleep((DEADLINE + SLACK).saturating_sub(frozen.elapsed())).await;
    let error = world.open_warm().await.unwrap_err();
    assert!(matches!(error, Error::Kms(_) | Error::Timeout), "{error}");

    world.server.thaw().unwrap();
    world.recovers(&cold, "t-other", &record).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back() {
    let Some(mut world) = World::start().await else { return };
    let (cold, record) = (world.cold().await, seal(&world.warm, "t-other").await);
    world.server.kill().unwrap();
    world.warm_serves_for(DEADLINE / 2).await;
    cold_fails_as(&cold, "t-other", &record, KmsErrorKind::Unavailable).await;
    world.server.restart().unwrap();
    world.recovers(&cold, "t-other", &record).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_server() {
    let Some(mut world) = World::start().await else { return };
    let (cold, record) = (world.cold().await, seal(&world.warm, "t-other").await);
    world.bao.ask(Method::PUT, "sys/seal", Value::Null).await;
    world.warm_serves_for(DEADLINE / 2).await;
    cold_fails_as(&cold, "t-other", &record, KmsErrorKind::Unavailable).await;
    // It unseals itself when it starts.
    world.server.restart().unwrap();
    world.recovers(&cold, "t-other", &record).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota() {
    let Some(world) = World::start().await else { return };
    let (cold, record) = (world.cold().await, seal(&world.warm, "t-other").await);
    world.bao.throttle("transit").await;
    world.warm_serves_for(DEADLINE / 2).await;
    cold_fails_as(&cold, "t-other", &record, KmsErrorKind::Throttled).await;
    world.bao.unthrottle("transit").await;
    world.recovers(&cold, "t-other", &record).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_ended() {
    let Some(world) = World::start().await else { return };
    let (cold, record) = (world.cold().await, seal(&world.warm, "t-other").await);
    let token = world.directory.path().join("token");
    world.bao.revoke_in(&token).await;
    world.warm_serves_for(DEADLINE / 2).await;
    cold_fails_as(&cold, "t-other", &record, KmsErrorKind::Unauthenticated).await;
    // Somebody puts a new one where the old one was.
    world.bao.token_into(&token, "orders").await;
    world.recovers(&cold, "t-other", &record).await;
}

/// Withdrawn permissions are no outage: the warm key goes too, and soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withdrawn_permissions() {
    let Some(world) = World::start().await else { return };
    let (cold, record) = (world.cold().await, seal(&world.warm, "t-other").await);
    world.bao.forbid("orders").await;
    cold_fails_as(&cold, "t-other", &record, KmsErrorKind::Denied).await;
    let begun = Instant::now();
    while world.open_warm().await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(2) + SLACK, "a denied key still serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.bao.allow("orders", "transit").await;
    world.recovers(&cold, "t-other", &record).await;
}

/// Whoever can write the key store puts another scope's wrap, another KEK's, and another key
/// of the very scope in the place of a wrap: each is refused before anything is opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_wraps() {
    let Some(world) = World::start().await else { return };
    let victim = seal(&world.warm, "t-victim").await;
    let other = seal(&world.warm, "t-other").await;
    let scope = ScopeId::new("t-victim", "orders").unwrap();
    let context = scope.context().kms_context(DekVersion::FIRST);
    let query = |scope: &ScopeId, record: &[u8]| DekQuery::Key {
        scope: scope.clone(),
        key_id: Header::parse(record).unwrap().key_id,
    };
    let find = async |query| world.store.find_deks(&[query]).await.unwrap().remove(0).unwrap();

    let of_other_scope =
        find(query(&ScopeId::new("t-other", "orders").unwrap(), &other)).await.wraps[0]
            .wrapped
            .clone();
    let kek =
        opened(&world.bao, world.directory.path(), "orders", LayerOptions::default()).await.kek;
    let generate = async |kek: &dyn Kek| {
        kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap().wrapped
    };
    let another_key = generate(&*kek).await;
    world.bao.post("transit/keys/invoices", json!({ "derived": true })).await;
    let invoices = opened(&world.bao, world.directory.path(), "invoices", LayerOptions::default());
    let mut of_other_kek = generate(&*invoices.await.kek).await;
    of_other_kek.kek = kek.kek().clone();

    for (what, planted) in [
        ("of another scope", of_other_scope),
        ("of another KEK", of_other_kek),
        ("of another key of this scope", another_key),
    ] {
        let stored = find(query(&scope, &victim)).await;
        let (honest, rev) = (stored.wraps[0].wrapped.clone(), stored.wraps[0].rev);
        let slot = stored.wraps[0].slot;
        let swap = WrapSwap::new(stored.key_id, slot, rev, planted.clone());
        assert!(world.store.replace_wrap(&swap).await.unwrap());
        let error = open(&world.cold().await, "t-victim", &victim).await.unwrap_err();
        match (&error, what) {
            (Error::WrongKeyUnwrapped { .. }, "of another key of this scope") => {}
            (Error::Kms(error), _) if error.kind() == KmsErrorKind::Tampered => {}
            _ => panic!("a wrap {what}: {error:?}"),
        }
        let rev = find(query(&scope, &victim)).await.wraps[0].rev;
        let swap = WrapSwap::new(stored.key_id, slot, rev, honest);
        assert!(world.store.replace_wrap(&swap).await.unwrap());
    }
    open(&world.cold().await, "t-victim", &victim).await.unwrap();
}

/// A thousand callers who all wait for fifty cold keys, before and after an outage: each
/// key takes one unwrap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_without_a_stampede() {
    const KEYS: usize = 50;
    const CALLERS: usize = 1000;
    let Some(world) = World::start().await else { return };
    let mut records = Vec::new();
    for at in 0..KEYS {
        records.push(seal(&world.warm, &format!("t-{at}")).await);
    }
    let (cold, records) = (world.cold().await, Arc::new(records));
    world.server.freeze().unwrap();
    let recovered = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (cold, records) = (cold.clone(), Arc::clone(&records));
        let recovered = Arc::clone(&recovered);
        callers.spawn(async move {
            let at = caller % KEYS;
            while open(&cold, &format!("t-{at}"), &records[at]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            recovered.fetch_add(1, Ordering::Relaxed);
        });
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let during = world.calls.of(KmsOperation::UnwrapKey);
    assert_eq!(recovered.load(Ordering::Relaxed), 0, "nothing can have been opened");
    // A thousand callers tried for three seconds; the breaker let through what it must.
    assert!(during < 200, "{during} unwraps were tried during the outage");
    world.server.thaw().unwrap();
    while callers.join_next().await.is_some() {}
    let after = world.calls.of(KmsOperation::UnwrapKey) - during;
    // One for each key, those that the outage left under way, and probes of both managers.
    assert!(after < 2 * KEYS as u64 + 30, "{after} unwraps after the outage");
}
