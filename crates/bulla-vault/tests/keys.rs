//! Keys that will do and keys that will not, their versions, and many wraps at once.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, SystemTime};

use bulla_backend::{
    GenerateRequest, KekStatus, KekVersion, KeyAdmin, KeyInspector, KeyWrapper, KmsClock, KmsError,
    KmsErrorKind, RewrapRequest, RotationSchedule, UnwrapRequest, WrapRequest, WrappedKey,
};
use bulla_core::{DataKey, KmsContext};
use bulla_vault::{CreateOptions, VaultAuth, VaultKek, VaultKeyType, VaultOptions};
use serde_json::json;
use support::relay::Relay;
use support::{Bao, context};

fn options(bao: &Bao, mount: &str, key: &str) -> VaultOptions {
    let auth = VaultAuth::token("root".to_owned());
    VaultOptions::new(&bao.address, key, auth).with_mount(mount)
}

fn kind<T>(result: Result<T, KmsError>) -> KmsErrorKind {
    result.err().unwrap().kind()
}

/// A wrap and a way back, under this key.
async fn works(kek: &VaultKek) {
    let context = context("t-1");
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    let rewrapped = kek.rewrap_key(RewrapRequest::new(&generated.wrapped, &context)).await.unwrap();
    let unwrapped = kek.unwrap_key(UnwrapRequest::new(&rewrapped, &context)).await.unwrap();
    assert!(unwrapped.data_key == generated.data_key);
}

#[tokio::test]
async fn vault_tells_the_time() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    let auth = VaultAuth::token("root".to_owned());
    let kek = VaultKek::connect(VaultOptions::new(&bao.address, "k", auth).with_mount(&mount));
    let told = kek.await.unwrap().now().await.unwrap();
    let now = std::time::SystemTime::now();
    let apart = now.duration_since(told).unwrap_or_else(|error| error.duration());
    assert!(apart < std::time::Duration::from_secs(5), "{apart:?}");
}

#[tokio::test]
async fn every_type_of_key_that_we_make_works() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    let types = [
        VaultKeyType::Aes256Gcm96,
        VaultKeyType::ChaCha20Poly1305,
        VaultKeyType::XChaCha20Poly1305,
    ];
    for (at, kind) in types.into_iter().enumerate() {
        for derived in [true, false] {
            let create = CreateOptions::default().with_type(kind).with_derived(derived);
            let name = format!("k{at}-{derived}");
            let kek = VaultKek::create(options(&bao, &mount, &name), create).await.unwrap();
            works(&kek).await;
        }
    }
}

#[tokio::test]
async fn keys_that_will_not_do_are_refused() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    let keys = [
        ("rsa", json!({ "type": "rsa-2048" })),
        ("signing", json!({ "type": "ed25519" })),
        ("short", json!({ "type": "aes128-gcm96" })),
        ("convergent", json!({ "derived": true, "convergent_encryption": true })),
    ];
    for (name, properties) in keys {
        bao.post(&format!("{mount}/keys/{name}"), properties).await;
        let refused = VaultKek::connect(options(&bao, &mount, name)).await;
        assert_eq!(kind(refused), KmsErrorKind::Misconfigured, "{name}");
    }
    let missing = VaultKek::connect(options(&bao, &mount, "missing")).await;
    assert_eq!(kind(missing), KmsErrorKind::NotFound);
    let no_engine = VaultKek::connect(options(&bao, "no/engine", "k")).await;
    assert_eq!(kind(no_engine), KmsErrorKind::Misconfigured);
    for (mount, key) in [("a//b", "k"), ("transit", "../k")] {
        let refused = VaultKek::connect(options(&bao, mount, key)).await;
        assert_eq!(kind(refused), KmsErrorKind::Misconfigured);
    }
}

/// Stands in for servers that do not know `associated_data`: the relay renames it, so that
/// OpenBao ignores it, as it does with every parameter that it does not know.
#[tokio::test]
async fn servers_that_ignore_the_context_are_found_out() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({})).await;
    let relay = Relay::start(bao.addr(), ("\"associated_data\"", "\"asocciated_data\"")).await;
    let auth = VaultAuth::token("root".to_owned());
    let options = VaultOptions::new(&relay.address, "k", auth).with_mount(&mount);
    let error = VaultKek::connect(options).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Misconfigured);
    assert!(error.to_string().contains("does not bind"), "{error}");
    assert!(relay.seen() >= 3);
}

#[tokio::test]
async fn keys_are_made_once_and_deleted_for_good() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    let create = CreateOptions::default().with_rotation_period(Duration::from_secs(7200));
    let kek = VaultKek::create(options(&bao, &mount, "k"), create).await.unwrap();
    works(&kek).await;
    assert_eq!(kek.rotation_period().await.unwrap(), Some(Duration::from_secs(7200)));
    let again = VaultKek::create(options(&bao, &mount, "k"), create).await;
    assert_eq!(kind(again), KmsErrorKind::Misconfigured);

    let context = context("t-1");
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    kek.delete().await.unwrap();
    assert_eq!(kind(kek.describe().await), KmsErrorKind::NotFound);
    let request = UnwrapRequest::new(&generated.wrapped, &context);
    assert_eq!(kind(kek.unwrap_key(request).await), KmsErrorKind::NotFound);
    assert_eq!(kind(kek.rotate().await), KmsErrorKind::NotFound);
    assert_eq!(kind(kek.disable().await), KmsErrorKind::NotFound);
    assert_eq!(kind(kek.delete().await), KmsErrorKind::NotFound);
}

#[tokio::test]
async fn rotation_periods_are_whole_hours_or_more() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    let kek = VaultKek::create(options(&bao, &mount, "k"), CreateOptions::default()).await.unwrap();
    assert_eq!(kek.rotation_period().await.unwrap(), None);
    for period in [Duration::ZERO, Duration::from_secs(3599), Duration::from_millis(3_600_500)] {
        let set = kek.set_rotation_period(Some(period)).await;
        assert_eq!(kind(set), KmsErrorKind::Misconfigured);
    }
    for period in [Some(Duration::from_secs(3600)), Some(Duration::from_secs(90 * 86_400)), None] {
        kek.set_rotation_period(period).await.unwrap();
        assert_eq!(kek.rotation_period().await.unwrap(), period);
    }
}

#[tokio::test]
async fn versions_go_in_their_order() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    let kek = VaultKek::create(options(&bao, &mount, "k"), CreateOptions::default()).await.unwrap();
    for _ in 0..3 {
        kek.rotate().await.unwrap();
    }
    let statuses = async || {
        let state = kek.describe().await.unwrap();
        assert_eq!(state.current, KekVersion::Reported("4".into()));
        let statuses =
            state.versions.iter().map(|version| (version.label.to_string(), version.status));
        statuses.collect::<Vec<_>>()
    };
    let expect = |statuses: &[(&str, KekStatus)]| -> Vec<_> {
        statuses.iter().map(|(label, status)| ((*label).to_owned(), *status)).collect()
    };
    let (on, off) = (KekStatus::Enabled, KekStatus::Disabled);

    assert_eq!(kind(kek.disable_version("2").await), KmsErrorKind::Misconfigured);
    kek.disable_version("1").await.unwrap();
    kek.disable_version("2").await.unwrap();
    assert_eq!(statuses().await, expect(&[("1", off), ("2", off), ("3", on), ("4", on)]));
    assert_eq!(kind(kek.enable_version("1").await), KmsErrorKind::Misconfigured);
    assert_eq!(kind(kek.destroy_version("2").await), KmsErrorKind::Misconfigured);
    kek.enable_version("2").await.unwrap();
    kek.destroy_version("1").await.unwrap();
    kek.destroy_version("1").await.unwrap();
    assert_eq!(statuses().await, expect(&[("2", on), ("3", on), ("4", on)]));
    for gone in [kek.enable_version("1").await, kek.disable_version("1").await] {
        assert_eq!(kind(gone), KmsErrorKind::NotFound);
    }
    // Trimming has set `min_encryption_version`, which must not stand in the way now.
    kek.disable_version("2").await.unwrap();
    kek.disable_version("3").await.unwrap();
    kek.destroy_version("2").await.unwrap();
    assert_eq!(statuses().await, expect(&[("3", off), ("4", on)]));
    works(&kek).await;

    let versions = kek.describe().await.unwrap().versions;
    let made = versions.last().unwrap().created_at.unwrap();
    assert!(made.elapsed().unwrap() < Duration::from_secs(600), "{made:?}");
    assert!(made > SystemTime::UNIX_EPOCH);
}

/// Wraps of `count` keys, each under a context of its own.
async fn many(kek: &VaultKek, count: usize) -> Vec<(DataKey, KmsContext, WrappedKey)> {
    let wraps = (0..count).map(async |at| {
        let context = context(&format!("t-{at}"));
        let data_key = DataKey::generate().unwrap();
        let wrapped = kek.wrap_key(WrapRequest::new(&data_key, &context)).await.unwrap();
        (data_key, context, wrapped)
    });
    let mut done = Vec::new();
    for wrap in wraps {
        done.push(wrap.await);
    }
    done
}

async fn batches(derived: bool) {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    let create = CreateOptions::default().with_derived(derived);
    let kek = VaultKek::create(options(&bao, &mount, "k"), create).await.unwrap();
    // More than one request holds: the same few wraps, again and again.
    let wraps = many(&kek, 7).await;
    kek.rotate().await.unwrap();
    let repeated: Vec<_> = wraps.iter().cycle().take(2503).collect();
    let wrong = context("nobody");
    let mut foreign = wraps[0].2.clone();
    foreign.kek = bulla_backend::KekId::new("vault://elsewhere/transit/k");
    let mut changed = wraps[0].2.clone();
    let last = changed.blob.len() - 1;
    changed.blob[last] ^= 1;
    // Good ones, with a bad one in between now and then.
    let request = |at: usize| match at % 1000 {
        3 => (&repeated[at].2, &wrong),
        500 => (&foreign, &repeated[at].1),
        999 => (&changed, &wraps[0].1),
        _ => (&repeated[at].2, &repeated[at].1),
    };
    let is_good = |at: usize| !matches!(at % 1000, 3 | 500 | 999);

    let requests: Vec<_> = (0..repeated.len()).map(request).collect();
    let unwraps: Vec<_> =
        requests.iter().map(|(wrapped, context)| UnwrapRequest::new(wrapped, context)).collect();
    let results = kek.unwrap_keys(&unwraps).await;
    assert_eq!(results.len(), requests.len());
    for (at, result) in results.into_iter().enumerate() {
        match result {
            Ok(unwrapped) => {
                assert!(is_good(at) && unwrapped.data_key == repeated[at].0, "item {at}");
                assert_eq!(unwrapped.kek_version.label(), Some("1"));
            }
            Err(error) => {
                assert!(!is_good(at), "item {at}: {error}");
                assert_eq!(error.kind(), KmsErrorKind::Tampered);
            }
        }
    }

    let rewraps: Vec<_> =
        requests.iter().map(|(wrapped, context)| RewrapRequest::new(wrapped, context)).collect();
    let results = kek.rewrap_keys(&rewraps).await;
    assert_eq!(results.len(), requests.len());
    let mut rewrapped = Vec::new();
    for (at, result) in results.into_iter().enumerate() {
        match result {
            Ok(wrapped) => {
                assert!(is_good(at), "item {at}");
                assert_eq!(wrapped.kek_version.label(), Some("2"));
                rewrapped.push((at, wrapped));
            }
            Err(error) => {
                assert!(!is_good(at), "item {at}: {error}");
                assert_eq!(error.kind(), KmsErrorKind::Tampered);
            }
        }
    }
    let unwraps: Vec<_> = rewrapped
        .iter()
        .map(|(at, wrapped)| UnwrapRequest::new(wrapped, &repeated[*at].1))
        .collect();
    for ((at, _), result) in rewrapped.iter().zip(kek.unwrap_keys(&unwraps).await) {
        assert!(result.unwrap().data_key == repeated[*at].0, "item {at} became another key");
    }

    // What fails as a whole fails for each.
    kek.disable().await.unwrap();
    let results = kek.rewrap_keys(&rewraps[..3]).await;
    assert_eq!(results.len(), 3);
    for result in results {
        assert_eq!(kind(result), KmsErrorKind::Disabled);
    }
    assert!(kek.unwrap_keys(&[]).await.is_empty());
}

#[tokio::test]
async fn batches_of_keys_that_derive() {
    batches(true).await;
}

#[tokio::test]
async fn batches_of_keys_with_associated_data() {
    batches(false).await;
}
