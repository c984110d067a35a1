//! The policies in `policies/` allow what their role needs and nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use bulla_backend::{
    GenerateRequest, KeyAdmin, KeyInspector, KeyWrapper, KmsErrorKind, RewrapRequest,
    RotationSchedule, UnwrapRequest, WrapRequest,
};
use bulla_core::DataKey;
use bulla_vault::{VaultAuth, VaultKek, VaultOptions};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Bao, context};

struct Setting {
    bao: Bao,
    mount: String,
    root: VaultKek,
}

impl Setting {
    /// An engine with the keys `orders` and `people`, both deriving.
    async fn new() -> Option<Self> {
        let bao = Bao::find()?;
        let mount = bao.engine().await;
        for key in ["orders", "people"] {
            bao.post(&format!("{mount}/keys/{key}"), json!({ "derived": true })).await;
        }
        let root = connect(&bao, &mount, "root").await;
        Some(Self { bao, mount, root })
    }

    /// A token with this policy alone, not even `default`.
    async fn token(&self, rules: &str) -> String {
        let name = format!("{}-{}", self.mount, rules.len());
        let rules = rules.replace("\"transit/", &format!("\"{}/", self.mount));
        self.bao.policy(&name, &rules).await;
        let token = json!({ "policies": [name], "no_default_policy": true, "ttl": "1h" });
        self.bao.token(token).await
    }

    /// Demands that everything is forbidden but these.
    async fn forbids_all_but(&self, token: &str, allowed: &[(Method, &str)]) {
        let mount = &self.mount;
        let (key, other) = (format!("{mount}/keys/orders"), format!("{mount}/keys/people"));
        let mut tried = vec![
            (Method::GET, "sys/mounts".to_owned(), Value::Null),
            (Method::GET, format!("{mount}/keys?list=true"), Value::Null),
            (Method::GET, format!("{mount}/backup/orders"), Value::Null),
            (Method::GET, format!("{mount}/export/encryption-key/orders"), Value::Null),
            (Method::DELETE, key.clone(), Value::Null),
            (Method::POST, format!("{mount}/keys/new"), json!({})),
            (Method::POST, format!("{mount}/encrypt/new"), json!({ "plaintext": "AAAA" })),
            (Method::POST, format!("{key}/config"), json!({ "deletion_allowed": true })),
            (Method::POST, format!("{key}/config"), json!({ "exportable": true })),
            (Method::POST, format!("{key}/config"), json!({ "allow_plaintext_backup": true })),
            (Method::POST, "auth/token/create".to_owned(), json!({})),
            (Method::GET, other.clone(), Value::Null),
            (Method::POST, format!("{other}/rotate"), json!({})),
            (Method::DELETE, format!("{other}/soft-delete"), Value::Null),
        ];
        for verb in ["datakey/plaintext", "datakey/wrapped", "encrypt", "decrypt", "rewrap", "hmac"]
        {
            for key in ["orders", "people"] {
                tried.push((Method::POST, format!("{mount}/{verb}/{key}"), json!({})));
            }
        }
        for verb in ["rotate", "trim", "soft-delete-restore"] {
            tried.push((Method::POST, format!("{key}/{verb}"), json!({})));
        }
        tried.push((Method::DELETE, format!("{key}/soft-delete"), Value::Null));
        for (method, path, body) in tried {
            let is = |(allowed, suffix): &(Method, &str)| {
                *allowed == method && path.strip_prefix(&**mount) == Some(suffix)
            };
            if !allowed.iter().any(is) {
                let (status, answer) = self.bao.ask_as(token, method, &path, &body).await;
                assert_eq!(status, 403, "{path}: {answer}");
            }
        }
    }
}

async fn connect(bao: &Bao, mount: &str, token: &str) -> VaultKek {
    let auth = VaultAuth::token(token.to_owned());
    VaultKek::connect(VaultOptions::new(&bao.address, "orders", auth).with_mount(mount))
        .await
        .unwrap()
}

fn denied<T>(result: Result<T, bulla_backend::KmsError>) {
    assert_eq!(result.err().map(|error| error.kind()), Some(KmsErrorKind::Denied));
}

#[tokio::test]
async fn services_use_one_key() {
    let Some(setting) = Setting::new().await else { return };
    let token = setting.token(include_str!("../policies/service.hcl")).await;
    let kek = connect(&setting.bao, &setting.mount, &token).await;
    let context = context("t-1");

    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await.unwrap();
    setting.root.rotate().await.unwrap();
    let rewrapped = kek.rewrap_key(RewrapRequest::new(&generated.wrapped, &context)).await.unwrap();
    let unwrapped = kek.unwrap_key(UnwrapRequest::new(&rewrapped, &context)).await.unwrap();
    assert!(unwrapped.data_key == generated.data_key);
    assert_eq!(kek.describe().await.unwrap().current.label(), Some("2"));

    denied(kek.rotate().await);
    denied(kek.disable().await);
    denied(kek.disable_version("1").await);
    denied(kek.set_rotation_period(None).await);
    denied(kek.delete().await);
    denied(kek.another(&setting.mount, "people").await);
    let allowed = [
        (Method::POST, "/datakey/plaintext/orders"),
        (Method::POST, "/encrypt/orders"),
        (Method::POST, "/decrypt/orders"),
        (Method::POST, "/rewrap/orders"),
    ];
    setting.forbids_all_but(&token, &allowed).await;
    assert_eq!(kek.logins(), 1, "a policy that forbids is no reason to log in again");
}

#[tokio::test]
async fn openers_unwrap_and_no_more() {
    let Some(setting) = Setting::new().await else { return };
    let token = setting.token(include_str!("../policies/opener.hcl")).await;
    let kek = connect(&setting.bao, &setting.mount, &token).await;
    let context = context("t-1");
    let generated = setting.root.generate_data_key(GenerateRequest::new(&context)).await.unwrap();

    let request = UnwrapRequest::new(&generated.wrapped, &context);
    assert!(kek.unwrap_key(request).await.unwrap().data_key == generated.data_key);
    assert_eq!(kek.describe().await.unwrap().versions.len(), 1);

    denied(kek.generate_data_key(GenerateRequest::new(&context)).await);
    denied(kek.wrap_key(WrapRequest::new(&generated.data_key, &context)).await);
    denied(kek.rewrap_key(RewrapRequest::new(&generated.wrapped, &context)).await);
    denied(kek.rotate().await);
    setting.forbids_all_but(&token, &[(Method::POST, "/decrypt/orders")]).await;
}

#[tokio::test]
async fn operators_look_after_a_key_and_see_no_data_key() {
    let Some(setting) = Setting::new().await else { return };
    let token = setting.token(include_str!("../policies/operator.hcl")).await;
    let kek = connect(&setting.bao, &setting.mount, &token).await;
    let context = context("t-1");
    let generated = setting.root.generate_data_key(GenerateRequest::new(&context)).await.unwrap();

    kek.rotate().await.unwrap();
    kek.disable_version("1").await.unwrap();
    kek.enable_version("1").await.unwrap();
    kek.disable_version("1").await.unwrap();
    kek.destroy_version("1").await.unwrap();
    kek.disable().await.unwrap();
    kek.enable().await.unwrap();
    let day = std::time::Duration::from_secs(86_400);
    kek.set_rotation_period(Some(day)).await.unwrap();
    assert_eq!(kek.rotation_period().await.unwrap(), Some(day));

    let data_key = DataKey::generate().unwrap();
    denied(kek.generate_data_key(GenerateRequest::new(&context)).await);
    denied(kek.wrap_key(WrapRequest::new(&data_key, &context)).await);
    denied(kek.unwrap_key(UnwrapRequest::new(&generated.wrapped, &context)).await);
    denied(kek.delete().await);
    let allowed = [
        (Method::POST, "/keys/orders/rotate"),
        (Method::POST, "/keys/orders/trim"),
        (Method::DELETE, "/keys/orders/soft-delete"),
        (Method::POST, "/keys/orders/soft-delete-restore"),
    ];
    setting.forbids_all_but(&token, &allowed).await;
}
