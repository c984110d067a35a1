//! KEKs by URL, as far as no server is needed.
#![cfg(feature = "local")]
#![allow(clippy::unwrap_used, reason = "tests")]

use bulla::Profile;
use bulla::kek::{KekUrl, OpenKekError};
use bulla::local::{LocalKek, Unlock};

#[tokio::test]
async fn a_local_kek_by_its_url() {
    let directory = tempfile::tempdir().unwrap();
    let (file, key) = (directory.path().join("kek.json"), directory.path().join("unlock"));
    LocalKek::create(&file, "orders", Unlock::new_key_file(&key).unwrap()).await.unwrap();
    let url = |fragment: &str| -> KekUrl {
        let url = format!("local://{}?key_file={}{fragment}", file.display(), key.display());
        url.parse().unwrap()
    };
    for fragment in ["", "#orders"] {
        let opened = url(fragment).open(Profile::Development).await.unwrap();
        assert!(opened.kek.kek().as_str().starts_with("local:orders#"));
        opened.admin.rotate().await.unwrap();
        assert!(opened.schedule.is_none());
    }
    let other = url("#invoices").open(Profile::Development).await.unwrap_err();
    assert!(matches!(other, OpenKekError::OtherName { .. }), "{other}");

    let lost: KekUrl = format!("local:///no/such/file?key_file={}", key.display()).parse().unwrap();
    let lost = lost.open(Profile::Development).await.unwrap_err();
    assert!(matches!(lost, OpenKekError::Kms(_)), "{lost}");
    let locked: KekUrl =
        format!("local://{}?key_env=BULLA_TEST_NO_SUCH_VARIABLE", file.display()).parse().unwrap();
    let locked = locked.open(Profile::Development).await.unwrap_err();
    assert!(matches!(locked, OpenKekError::Unlock(_)), "{locked}");
    assert!(locked.to_string().contains("BULLA_TEST_NO_SUCH_VARIABLE"), "{locked}");
}

/// A server that accepts connections and says nothing must not keep a service from starting
/// for ever.
#[cfg(feature = "vault")]
#[tokio::test(start_paused = true)]
async fn a_kms_that_hangs_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let url = format!("vault://{address}/transit/orders?tls=off&token=s.any");
    let url: KekUrl = url.parse().unwrap();
    let error = url.open(Profile::Development).await.unwrap_err();
    assert!(matches!(error, OpenKekError::NoAnswer(_)), "{error}");
}
