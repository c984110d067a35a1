//! Every login method against OpenBao.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::time::Duration;

use bulla_backend::{GenerateRequest, KeyInspector, KeyWrapper, KmsError, KmsErrorKind};
use bulla_testkit::servers::{self, Server};
use bulla_vault::{VaultAuth, VaultKek, VaultOptions};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use support::jwt::Issuer;
use support::{Bao, context};

/// A key `k` of a new engine, and options to reach it by `auth`.
async fn engine(bao: &Bao, auth: VaultAuth) -> VaultOptions {
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;
    VaultOptions::new(&bao.address, "k", auth).with_mount(mount)
}

/// A login method of this test alone, under the name of the engine.
async fn method(bao: &Bao, name: &str, kind: &str) {
    bao.post(&format!("sys/auth/{name}"), json!({ "type": kind })).await;
}

async fn works(kek: &VaultKek) {
    let context = context("t-1");
    kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
}

fn unauthenticated<T>(result: Result<T, KmsError>) {
    let error = result.err().unwrap();
    assert_eq!(error.kind(), KmsErrorKind::Unauthenticated, "{error}");
}

fn name_of(options: &VaultOptions) -> String {
    // `vault://host/mount/key` in `Debug`.
    let shown = format!("{options:?}");
    shown.split("/k").next().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn by_token() {
    let Some(bao) = Bao::find() else { return };
    let options = engine(&bao, VaultAuth::token("none".to_owned())).await;
    let name = name_of(&options);
    let with = |token: &str| {
        let auth = VaultAuth::token(token.to_owned());
        VaultKek::connect(VaultOptions::new(&bao.address, "k", auth).with_mount(&name))
    };
    unauthenticated(with("none").await);
    unauthenticated(VaultKek::connect(options).await);
    let error = with("two\nlines").await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Misconfigured, "{error}");

    let token = bao.token(json!({ "policies": [name], "ttl": "1h" })).await;
    let kek = with(&token).await.unwrap();
    works(&kek).await;
    bao.revoke(&token).await;
    unauthenticated(kek.describe().await);
    assert_eq!(kek.logins(), 1);
}

#[tokio::test]
async fn by_token_file() {
    let Some(bao) = Bao::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let options = engine(&bao, VaultAuth::token_file(&path)).await;
    unauthenticated(VaultKek::connect(options.clone()).await);
    std::fs::write(&path, " \n").unwrap();
    unauthenticated(VaultKek::connect(options.clone()).await);

    let name = name_of(&options);
    bao.token_into(&path, &name).await;
    let kek = VaultKek::connect(options).await.unwrap();
    bao.revoke_in(&path).await;
    unauthenticated(kek.describe().await);
    bao.token_into(&path, &name).await;
    works(&kek).await;
    assert_eq!(kek.logins(), 2);
}

#[tokio::test]
async fn by_app_role() {
    let Some(bao) = Bao::find() else { return };
    let options = engine(&bao, VaultAuth::token("none".to_owned())).await;
    let name = name_of(&options);
    method(&bao, &name, "approle").await;
    let (role_id, secret_id) = bao.app_role(&name, json!({ "token_policies": [name] })).await;
    let with = |secret_id: SecretString| {
        let auth = VaultAuth::app_role(&role_id, secret_id).at_mount(&name);
        VaultKek::connect(VaultOptions::new(&bao.address, "k", auth).with_mount(&name))
    };
    works(&with(secret_id.as_str().into()).await.unwrap()).await;
    let error = with("wrong".into()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    unauthenticated::<()>(Err(error));
}

#[tokio::test]
async fn by_jwt_which_is_read_anew() {
    let Some(bao) = Bao::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwt");
    let issuer = Issuer::new();
    let jwt = |subject: &str| issuer.sign(&json!({ "sub": subject, "aud": "vault" }));
    std::fs::write(&path, jwt("orders") + "\n").unwrap();

    let mount = bao.engine().await;
    let auth = VaultAuth::jwt("service", path.as_path()).at_mount(&mount);
    method(&bao, &mount, "jwt").await;
    let config = json!({ "jwt_validation_pubkeys": [issuer.public_key_pem()] });
    bao.post(&format!("auth/{mount}/config"), config).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
        "bound_subject": "orders", "token_policies": [mount],
    });
    bao.post(&format!("auth/{mount}/role/service"), role).await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;
    let options = VaultOptions::new(&bao.address, "k", auth).with_mount(&mount);
    let kek = VaultKek::connect(options).await.unwrap();
    works(&kek).await;

    for bad in [jwt("people"), Issuer::new().sign(&json!({ "sub": "orders", "aud": "vault" }))] {
        std::fs::write(&path, bad).unwrap();
        bao.revoke_logins(&mount).await;
        unauthenticated(kek.describe().await);
    }
    std::fs::write(&path, jwt("orders")).unwrap();
    works(&kek).await;
    assert_eq!(kek.logins(), 2);
}

/// OpenBao asks Kubernetes about the token. **The answer here is a fake**, but a strict one.
#[tokio::test]
async fn by_kubernetes_with_a_fake_token_review() {
    let Some(bao) = Bao::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let issuer = Issuer::new();
    let account = |name: &str| {
        issuer.sign(&json!({
            "iss": "kubernetes/serviceaccount",
            "sub": format!("system:serviceaccount:shop:{name}"),
            "kubernetes.io/serviceaccount/namespace": "shop",
            "kubernetes.io/serviceaccount/secret.name": "secret",
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": "uid-1",
        }))
    };
    let reviewer = account("vault");
    let token = account("orders");
    let cluster = support::cluster::start(reviewer.clone(), token.clone()).await;

    let mount = bao.engine().await;
    method(&bao, &mount, "kubernetes").await;
    let ca = rcgen::generate_simple_self_signed(["unused over http".to_owned()]).unwrap();
    let config = json!({
        "kubernetes_host": cluster, "kubernetes_ca_cert": ca.cert.pem(),
        "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": true,
    });
    bao.post(&format!("auth/{mount}/config"), config).await;
    let role = json!({
        "bound_service_account_names": ["orders"],
        "bound_service_account_namespaces": ["shop"],
        "token_policies": [mount],
    });
    bao.post(&format!("auth/{mount}/role/service"), role).await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;

    let auth = VaultAuth::Kubernetes {
        mount: mount.clone(),
        role: "service".into(),
        jwt_path: path.clone(),
    };
    let options = VaultOptions::new(&bao.address, "k", auth).with_mount(&mount);
    std::fs::write(&path, token).unwrap();
    let kek = VaultKek::connect(options.clone()).await.unwrap();
    works(&kek).await;
    std::fs::write(&path, account("people")).unwrap();
    unauthenticated(VaultKek::connect(options).await);
}

#[tokio::test]
async fn by_certificate_over_tls() {
    let (Some(address), Some(ca)) =
        (servers::find(Server::OpenBaoTls), servers::find(Server::OpenBaoCa))
    else {
        return;
    };
    let ca = std::fs::read(Path::new(&ca)).unwrap();
    let certificates = reqwest::Certificate::from_pem_bundle(&ca).unwrap();
    let http = reqwest::Client::builder().tls_certs_only(certificates).no_proxy();
    let bao = Bao::by(&address, http.build().unwrap());
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({ "derived": true })).await;
    bao.allow(&mount, &mount).await;
    let client = rcgen::generate_simple_self_signed(["orders".to_owned()]).unwrap();
    let pem = client.cert.pem();
    method(&bao, &mount, "cert").await;
    let role = json!({ "certificate": pem, "token_policies": [mount] });
    bao.post(&format!("auth/{mount}/certs/orders"), role).await;

    let options = |auth: VaultAuth| {
        VaultOptions::new(&address, "k", auth.at_mount(&mount)).with_mount(&mount)
    };
    let trusting = options(VaultAuth::cert()).with_ca_pem(&*ca);
    let identity = (pem.clone() + &client.signing_key.serialize_pem()).into_bytes();
    works(&VaultKek::connect(trusting.clone().with_identity_pem(identity)).await.unwrap()).await;
    unauthenticated(VaultKek::connect(trusting.clone()).await);
    let stranger = rcgen::generate_simple_self_signed(["orders".to_owned()]).unwrap();
    let identity = (stranger.cert.pem() + &stranger.signing_key.serialize_pem()).into_bytes();
    unauthenticated(VaultKek::connect(trusting.with_identity_pem(identity)).await);

    // Whom we do not trust we tell nothing, and waiting would not help.
    for options in [
        options(VaultAuth::token("root".to_owned())),
        options(VaultAuth::cert()),
        options(VaultAuth::token("root".to_owned())).with_ca_pem(pem),
    ] {
        let error = VaultKek::connect(options).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Misconfigured, "{error}");
    }
}

#[tokio::test]
async fn in_namespaces() {
    let Some(mut bao) = Bao::find() else { return };
    let outer = format!("{}-outer", bao.engine().await);
    bao.post(&format!("sys/namespaces/{outer}"), json!({})).await;
    bao.namespace = Some(outer.clone());
    let options = engine(&bao, VaultAuth::token("root".to_owned())).await;
    let name = name_of(&options);
    let inside = options.with_namespace(&outer);
    let kek = VaultKek::connect(inside).await.unwrap();
    assert!(kek.kek().as_str().ends_with(&format!("/{name}/k?namespace={outer}")));
    works(&kek).await;

    // A login of the root namespace for an engine in another one.
    bao.namespace = None;
    method(&bao, &name, "approle").await;
    bao.allow(&name, &format!("{outer}/{name}")).await;
    let (role_id, secret_id) = bao.app_role(&name, json!({ "token_policies": [name] })).await;
    let auth = VaultAuth::app_role(role_id, SecretString::from(secret_id)).at_mount(&name);
    let options = VaultOptions::new(&bao.address, "k", auth).with_mount(&name);
    let options = options.with_namespace(&outer);
    unauthenticated(VaultKek::connect(options.clone()).await);
    let kek = VaultKek::connect(options.with_auth_namespace("")).await.unwrap();
    works(&kek).await;
    bao.revoke_logins(&name).await;
    works(&kek).await;
    assert_eq!(kek.logins(), 2);
}

#[tokio::test]
async fn by_a_client_of_vaultrs() {
    let Some(bao) = Bao::find() else { return };
    let mount = bao.engine().await;
    bao.post(&format!("{mount}/keys/k"), json!({})).await;
    let settings = vaultrs::client::VaultClientSettingsBuilder::default()
        .address(&bao.address)
        .token("root")
        .timeout(Some(Duration::from_secs(10)))
        .build()
        .unwrap();
    let client = vaultrs::client::VaultClient::new(settings).unwrap();
    let kek = VaultKek::from_client(client, &*mount, "k").await.unwrap();
    works(&kek).await;
    let host = bao.address.strip_prefix("http://").unwrap();
    assert_eq!(kek.kek().as_str(), format!("vault://{host}/{mount}/k"));
    assert!(bao.ask(Method::GET, &format!("{mount}/keys/k"), Value::Null).await.is_object());
}
