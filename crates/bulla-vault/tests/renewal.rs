//! Tokens that end: renewed in time, replaced under load by one login, given up where there
//! is no other.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use bulla_backend::{
    GenerateRequest, KeyInspector, KeyWrapper, KmsErrorKind, UnwrapRequest, collect_request_ids,
};
use bulla_vault::{VaultAuth, VaultKek, VaultOptions};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::relay::{Relay, Rule};
use support::{Bao, context};

const LOGINS: Rule = ("/login HTTP", "/login HTTP");
const RENEWALS: Rule = ("/renew-self HTTP", "/renew-self HTTP");
const LOOKUPS: Rule = ("/lookup-self HTTP", "/lookup-self HTTP");

/// An engine with a key, and a login method whose tokens have these properties. What the
/// KEK sends passes the relay.
async fn by_app_role(bao: &Bao, tokens: Value, counted: Rule) -> (VaultKek, Relay, String) {
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;
    bao.post(&format!("sys/auth/{mount}"), json!({ "type": "approle" })).await;
    let mut role = json!({ "token_policies": [mount] });
    role.as_object_mut().unwrap().extend(tokens.as_object().unwrap().clone());
    let (role_id, secret_id) = bao.app_role(&mount, role).await;
    let relay = Relay::start(bao.addr(), counted).await;
    let auth = VaultAuth::app_role(role_id, SecretString::from(secret_id)).at_mount(&mount);
    let options = VaultOptions::new(&relay.address, "k", auth).with_mount(&mount);
    (VaultKek::connect(options).await.unwrap(), relay, mount)
}

/// Eight tasks that unwrap without a pause. How many calls they made; none may fail.
async fn load(kek: &VaultKek, time: Duration) -> usize {
    let context = context("t-1");
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    let end = Instant::now() + time;
    let worker = || async {
        let mut calls = 0;
        while Instant::now() < end {
            let request = UnwrapRequest::new(&generated.wrapped, &context);
            let unwrapped = kek.unwrap_key(request).await.unwrap();
            assert!(unwrapped.data_key == generated.data_key);
            calls += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        calls
    };
    futures_util::future::join_all((0..8).map(|_| worker())).await.into_iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_renewed_before_they_end() {
    let Some(bao) = Bao::find() else { return };
    let tokens = json!({ "token_ttl": "2s", "token_max_ttl": "1h" });
    let (kek, relay, _) = by_app_role(&bao, tokens, RENEWALS).await;
    let calls = load(&kek, Duration::from_secs(7)).await;
    assert!(calls > 100, "only {calls} calls");
    assert_eq!(kek.logins(), 1, "a renewed token needs no second login");
    let renewals = relay.seen();
    assert!((3..=8).contains(&renewals), "{renewals} renewals in 7 s of a lease of 2 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_at_the_end_of_their_life_are_replaced_before_it() {
    let Some(bao) = Bao::find() else { return };
    // Not shorter: on a busy machine, a renewal may come a second late.
    let tokens = json!({ "token_ttl": "8s", "token_max_ttl": "18s" });
    let (kek, relay, _) = by_app_role(&bao, tokens, LOOKUPS).await;
    load(&kek, Duration::from_secs(24)).await;
    let logins = kek.logins();
    assert!((2..=4).contains(&logins), "{logins} logins in 24 s of tokens that live 18 s");
    assert_eq!(relay.seen(), 0, "no call found out by itself that its token had ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_cannot_be_renewed_are_replaced_before_they_end() {
    let Some(bao) = Bao::find() else { return };
    let tokens = json!({ "token_ttl": "6s", "token_type": "batch" });
    let (kek, relay, _) = by_app_role(&bao, tokens, RENEWALS).await;
    load(&kek, Duration::from_secs(15)).await;
    let logins = kek.logins();
    assert!((3..=6).contains(&logins), "{logins} logins in 15 s of a lease of 6 s");
    assert_eq!(relay.seen(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_make_one_login() {
    let Some(bao) = Bao::find() else { return };
    let (kek, relay, mount) = by_app_role(&bao, json!({ "token_ttl": "1h" }), LOGINS).await;
    let context = context("t-1");
    for round in 1..=3 {
        bao.revoke_logins(&mount).await;
        let calls = (0..300).map(|_| kek.generate_data_key(GenerateRequest::new(&context)));
        for answer in futures_util::future::join_all(calls).await {
            answer.unwrap();
        }
        assert_eq!((kek.logins(), relay.seen()), (1 + round, 1 + round as usize));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_a_login_that_fails() {
    let Some(bao) = Bao::find() else { return };
    let (kek, relay, mount) = by_app_role(&bao, json!({ "token_ttl": "1h" }), LOGINS).await;
    bao.ask(reqwest::Method::DELETE, &format!("auth/{mount}/role/service"), Value::Null).await;
    bao.revoke_logins(&mount).await;
    let calls = futures_util::future::join_all((0..300).map(|_| kek.describe()));
    for answer in calls.await {
        assert_eq!(answer.unwrap_err().kind(), KmsErrorKind::Unauthenticated);
    }
    let tried = relay.seen() - 1;
    assert!((1..=30).contains(&tried), "{tried} logins for 300 calls at once");
}

/// Whoever waits for a login may go away, even the one that makes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_given_up_stops_nobody() {
    let Some(bao) = Bao::find() else { return };
    let (kek, _relay, mount) = by_app_role(&bao, json!({ "token_ttl": "1h" }), LOGINS).await;
    for micros in (0..20).map(|step| 200 * step) {
        bao.revoke_logins(&mount).await;
        let patience = Duration::from_micros(micros);
        let _ = tokio::time::timeout(patience, kek.describe()).await;
        let _ = futures_util::future::join(
            tokio::time::timeout(patience, kek.describe()),
            tokio::time::timeout(Duration::from_secs(10), kek.describe()),
        )
        .await
        .1
        .unwrap()
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_ones_own_is_renewed_too() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;
    let token = bao.token(json!({ "policies": [mount], "ttl": "3s" })).await;
    let options = VaultOptions::new(&bao.address, "k", VaultAuth::token(token)).with_mount(&mount);
    let kek = VaultKek::connect(options).await.unwrap();
    load(&kek, Duration::from_secs(7)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_ends_with_the_last_kek() {
    let Some(bao) = Bao::find() else { return };
    let tokens = json!({ "token_ttl": "1s", "token_max_ttl": "1h" });
    let (kek, relay, mount) = by_app_role(&bao, tokens, RENEWALS).await;
    let another = kek.another(&mount, "k").await.unwrap();
    drop(kek);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(relay.seen() > 0, "one is left");
    assert_eq!(another.logins(), 1);
    drop(another);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = relay.seen();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(relay.seen(), before, "nobody needs this token any more");
}

#[tokio::test]
async fn requests_have_ids_also_those_for_a_login() {
    let Some(bao) = Bao::find() else { return };
    let (kek, _relay, mount) = by_app_role(&bao, json!({ "token_ttl": "1h" }), LOGINS).await;
    let mut ids = Vec::new();
    collect_request_ids(&mut ids, kek.describe()).await.unwrap();
    assert_eq!(ids.len(), 1);
    assert_eq!(ids[0].len(), 36, "a UUID: {}", ids[0]);

    bao.revoke_logins(&mount).await;
    let mut ids = Vec::new();
    collect_request_ids(&mut ids, kek.describe()).await.unwrap();
    assert_eq!(ids.len(), 2, "a refusal has none; the login and the call have one each");
}
