#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bulla_manager::Profile;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{KekUrl, KekUrlError, LocalUnlock, SecretId, VaultLogin};

fn refused(url: &str) -> KekUrlError {
    url.parse::<KekUrl>().expect_err(url)
}

#[test]
fn aws_by_alias_id_and_arn() {
    for (url, key, region) in [
        ("aws-kms:///alias/orders?region=eu-west-1", "alias/orders", Some("eu-west-1")),
        ("aws-kms:///1234abcd-12ab", "1234abcd-12ab", None),
        (
            "aws-kms:///arn:aws:kms:eu-west-1:1111:key/mrk-12",
            "arn:aws:kms:eu-west-1:1111:key/mrk-12",
            None,
        ),
    ] {
        let KekUrl::Aws(aws) = url.parse().unwrap() else { panic!("{url}") };
        assert_eq!((&*aws.key, aws.region.as_deref()), (key, region));
    }
    let refusals = [
        "aws-kms:",
        "aws-kms:///",
        "aws-kms://alias/orders",
        "aws-kms:///a#b",
        "aws-kms:///a%2Fb",
        "aws-kms:///a b",
        "aws-kms:///alias/../b",
        "aws-kms://:80/a",
    ];
    for url in refusals {
        assert!(matches!(refused(url), KekUrlError::BadKey { .. }), "{url}");
    }
}

#[test]
fn vault_with_each_login() {
    let vault = |query: &str| {
        let url = format!("vault://vault.internal/team/transit/orders{query}");
        let KekUrl::Vault(vault) = url.parse().unwrap() else { panic!("{url}") };
        assert_eq!(vault.address, "https://vault.internal:8200");
        assert_eq!((&*vault.mount, &*vault.key), ("team/transit", "orders"));
        vault
    };
    assert!(matches!(vault("").login, VaultLogin::TokenFromEnv));
    assert!(
        matches!(vault("?token_file=/t").login, VaultLogin::TokenFile(path) if path.ends_with("t"))
    );
    let approle = vault("?auth=approle&role_id=r&secret_id_file=/s&auth_mount=apps");
    assert_eq!(approle.auth_mount.as_deref(), Some("apps"));
    assert!(matches!(approle.login, VaultLogin::AppRole { secret_id: SecretId::File(_), .. }));
    let kubernetes = vault("?auth=kubernetes&role=orders&namespace=a/b");
    assert_eq!(kubernetes.namespace.as_deref(), Some("a/b"));
    assert!(matches!(kubernetes.login, VaultLogin::Kubernetes { jwt_file: None, .. }));
    assert!(matches!(vault("?auth=jwt&role=r&jwt_file=/j").login, VaultLogin::Jwt { .. }));
    let cert = vault("?auth=cert&cert_file=/c&key_file=/k&ca_file=/a");
    assert!(matches!(cert.login, VaultLogin::Cert { role: None }));
    assert!(cert.identity.is_some() && cert.ca_file.is_some());
}

#[test]
fn parameters_that_do_not_fit_are_named() {
    for query in [
        "auth=approle",
        "auth=approle&role_id=r",
        "auth=approle&role_id=r&secret_id=a&secret_id_file=b",
        "auth=kubernetes",
        "auth=jwt&role=r",
        "auth=cert",
        "auth=magic",
        "cert_file=/c",
        "tls=on",
        "token=a&token_file=b",
    ] {
        let error = refused(&format!("vault://h/transit/k?{query}"));
        assert!(matches!(error, KekUrlError::BadParameters { .. }), "{query}: {error}");
    }
    for query in ["auth=kubernetes&role=r&token_file=/t", "role=r"] {
        let error = refused(&format!("vault://h/transit/k?{query}"));
        assert!(matches!(error, KekUrlError::NotOfThisLogin { .. }), "{query}: {error}");
    }
    let error = refused("vault://h/transit/k?namespace=");
    assert!(error.to_string().contains("`namespace` has no value"), "{error}");
    let error = refused("vault://h/transit/k?Token=x");
    assert!(matches!(error, KekUrlError::UnknownParameter { .. }), "{error}");
    let error = refused("vault://h/transit/k?token=x&token=y");
    assert!(matches!(error, KekUrlError::DoubleParameter { .. }), "{error}");
    for url in [
        "vault:h/transit/k",
        "vault://h",
        "vault://h/",
        "vault://h/transit",
        "vault:///transit/k",
        "vault://h/t/",
        "vault://h/transit/../sys/k",
        "vault://h:82000/transit/k",
        "vault://a b/transit/k",
        "vault://h/transit/k#1",
    ] {
        assert!(matches!(refused(url), KekUrlError::BadKey { .. }), "{url}");
    }
}

#[test]
fn local_files() {
    let url = "local:///a/b%20c/kek.json?key_env=K#orders";
    let KekUrl::Local(local) = url.parse().unwrap() else { panic!("{url}") };
    assert_eq!(local.path.to_str(), Some("/a/b c/kek.json"));
    assert_eq!(local.name.as_deref(), Some("orders"));
    assert_eq!(local.unlock, LocalUnlock::KeyEnv("K".into()));
    for (url, path) in [
        ("local:///a b/\u{e9}/kek.json?key_env=K", "/a b/\u{e9}/kek.json"),
        ("LOCAL:/a/../kek.json?key_env=K\n", "/a/../kek.json"),
    ] {
        let KekUrl::Local(local) = url.parse().unwrap() else { panic!("{url}") };
        assert_eq!(local.path.to_str(), Some(path), "{url}");
    }
    for url in ["local:a/kek.json?key_env=K", "local:///?key_env=K", "local:///a%FF?key_env=K"] {
        assert!(matches!(refused(url), KekUrlError::BadKey { .. }), "{url}");
    }
    assert!(matches!(refused("local:///a/kek.json"), KekUrlError::BadParameters { .. }));
    assert!(matches!(refused("local://a/kek.json?key_env=K"), KekUrlError::BadKey { .. }));
}

#[test]
fn production_refuses_secrets_and_plain_text() {
    for url in [
        "vault://h/transit/k?token=hvs.mark",
        "vault://h/transit/k?auth=approle&role_id=r&secret_id=hvs.mark",
        "vault://h/transit/k?tls=off",
        "aws-kms:///alias/a?endpoint=http://localstack:4566",
        "aws-kms:///alias/a?endpoint=http://localhost:4566@localstack",
        "aws-kms:///alias/a?endpoint=http://localhost.localstack",
        "aws-kms:///alias/a?endpoint=http://[2001:db8::1]:4566",
        "aws-kms:///alias/a?endpoint=localhost:4566",
    ] {
        let parsed: KekUrl = url.parse().unwrap();
        assert!(parsed.check(Profile::Development).is_ok(), "{url}");
        let error = parsed.check(Profile::Production).unwrap_err();
        assert!(!format!("{error} {error:?} {parsed:?}").contains("hvs.mark"), "{url}");
    }
    for url in [
        "vault://127.0.0.1:8200/transit/k?tls=off",
        "vault://[::1]:8200/transit/k?tls=off",
        "vault://h/transit/k?name=prod",
        "aws-kms:///alias/a?endpoint=http://localhost:4566",
        "aws-kms:///alias/a?endpoint=HTTP://LocalHost",
        "aws-kms:///alias/a?endpoint=http://127.9.9.9/x",
        "aws-kms:///alias/a?endpoint=https://vpce-1.kms.eu-west-1.vpce.amazonaws.com",
    ] {
        assert!(url.parse::<KekUrl>().unwrap().check(Profile::Production).is_ok(), "{url}");
    }
    let KekUrl::Vault(vault) = "vault://h/transit/k?token=hvs.mark".parse().unwrap() else {
        panic!("not vault")
    };
    let VaultLogin::Token(token) = vault.login else { panic!("no token") };
    assert_eq!(token.expose_secret(), "hvs.mark");
}

#[test]
fn what_is_not_a_kek_url() {
    for url in ["", "orders", "/orders", "aws kms:///a", "aws-kms:///100%", "vault://[h/transit/k"]
    {
        assert!(matches!(refused(url), KekUrlError::NotAUrl(_)), "{url}");
    }
    assert!(matches!(refused("https://example.org/"), KekUrlError::UnknownScheme(_)));
    assert_eq!(refused("vault://root:hvs.mark@h/transit/k"), KekUrlError::UserInfo);
    assert_eq!(refused(&format!("aws-kms:///{}", "a".repeat(5000))), KekUrlError::TooLong);
}

proptest! {
    /// Whatever the text, there is an answer, and an error does not repeat a value.
    #[test]
    fn any_text_is_answered(scheme in "aws-kms|vault|local", rest in ".{0,60}", name in "[a-z_]{1,12}") {
        let url = format!("{scheme}:{rest}?{name}=S3CR3T");
        if let Err(error) = url.parse::<KekUrl>() {
            prop_assert!(!error.to_string().contains("S3CR3T"), "{}", error);
        }
    }
}
