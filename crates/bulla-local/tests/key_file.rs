//! The key file: how it is made and found, what it refuses, and what it says.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use bulla_backend::{
    GenerateRequest, KekStatus, KeyAdmin, KeyInspector, KeyWrapper, KmsError, KmsErrorKind,
    UnwrapRequest, WrappedKey,
};
use bulla_core::{DataKey, DekVersion, Header, KmsContext, ScopeContext};
use bulla_local::{Argon2Cost, LocalKek, Unlock, UnlockError};
use tempfile::TempDir;

fn raw(byte: u8) -> Unlock {
    Unlock::raw_key(DataKey::init_with(|bytes| bytes.fill(byte)))
}

fn passphrase(text: &str) -> Unlock {
    Unlock::passphrase(text.into()).with_argon2(Argon2Cost::new(64, 1, 1).unwrap())
}

fn context() -> KmsContext {
    let scope = ScopeContext::new([("tenant", "t-1"), ("purpose", "orders")]).unwrap();
    scope.kms_context(DekVersion::FIRST)
}

struct Home {
    directory: TempDir,
    path: PathBuf,
}

fn home() -> Home {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dev.key");
    Home { directory, path }
}

async fn generate(kek: &LocalKek) -> (DataKey, WrappedKey) {
    let context = context();
    let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
    (generated.data_key, generated.wrapped)
}

async fn unwrap(kek: &LocalKek, wrapped: &WrappedKey) -> Result<DataKey, KmsError> {
    let context = context();
    Ok(kek.unwrap_key(UnwrapRequest::new(wrapped, &context)).await?.data_key)
}

fn kind<T: std::fmt::Debug>(result: Result<T, KmsError>) -> KmsErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn a_wrap_is_an_envelope_of_116_bytes() {
    let home = home();
    let kek = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    kek.rotate().await.unwrap();
    let (_, wrapped) = generate(&kek).await;
    assert_eq!(wrapped.blob.len(), 116);
    let header = Header::parse(&wrapped.blob).unwrap();
    assert_eq!(header.dek_version, DekVersion::new(2));
    assert_eq!(wrapped.kek_version.label(), Some("2"));
}

#[tokio::test]
async fn the_file_opens_again_and_nothing_but_itself_unlocks_it() {
    let home = home();
    let made = LocalKek::create(&home.path, "dev", passphrase("right")).await.unwrap();
    let (key, wrapped) = generate(&made).await;
    let opened = LocalKek::open(&home.path, passphrase("right")).await.unwrap();
    assert_eq!(opened.kek(), made.kek());
    assert!(unwrap(&opened, &wrapped).await.unwrap() == key);

    for wrong in [passphrase("wrong"), passphrase(""), passphrase("right "), raw(1)] {
        let error = LocalKek::open(&home.path, wrong).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Unauthenticated, "{error}");
    }
    let other = home.directory.path().join("raw.key");
    LocalKek::create(&other, "dev", raw(1)).await.unwrap();
    for wrong in [raw(2), passphrase("right")] {
        let error = LocalKek::open(&other, wrong).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Unauthenticated, "{error}");
    }
}

#[tokio::test]
async fn creating_never_overwrites() {
    let home = home();
    let empty = passphrase("");
    assert_eq!(
        kind(LocalKek::create(&home.path, "dev", empty).await),
        KmsErrorKind::Unauthenticated
    );
    for name in ["", "a b", "a/b", "ü", &"n".repeat(65)] {
        let error = LocalKek::create(&home.path, name, raw(1)).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Misconfigured, "{name:?}");
    }
    assert!(!home.path.exists());
    LocalKek::create(&home.path, &"n".repeat(64), raw(1)).await.unwrap();
    let before = fs::read(&home.path).unwrap();
    let error = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Misconfigured);
    assert!(error.to_string().contains("not overwritten"), "{error}");
    assert_eq!(fs::read(&home.path).unwrap(), before);
}

#[tokio::test]
async fn many_that_open_or_create_at_once_get_one_key() {
    let home = home();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let path = home.path.clone();
        calls.spawn(async move { LocalKek::open_or_create(path, "dev", raw(1)).await.unwrap() });
    }
    let keks = calls.join_all().await;
    assert!(keks.iter().all(|kek| kek.kek() == keks[0].kek()));
    let error = LocalKek::open_or_create(&home.path, "prod", raw(1)).await.unwrap_err();
    assert!(error.to_string().contains("`dev`, not `prod`"), "{error}");
}

#[tokio::test]
async fn another_process_is_seen_at_once() {
    let home = home();
    let (ours, theirs) = (
        LocalKek::create(&home.path, "dev", raw(1)).await.unwrap(),
        LocalKek::open(&home.path, raw(1)).await.unwrap(),
    );
    let (key, wrapped) = generate(&ours).await;
    theirs.rotate().await.unwrap();
    assert_eq!(generate(&ours).await.1.kek_version.label(), Some("2"));
    theirs.disable_version("1").await.unwrap();
    assert_eq!(kind(unwrap(&ours, &wrapped).await), KmsErrorKind::Disabled);
    theirs.enable_version("1").await.unwrap();
    assert!(unwrap(&ours, &wrapped).await.unwrap() == key);
    theirs.disable().await.unwrap();
    assert_eq!(kind(unwrap(&ours, &wrapped).await), KmsErrorKind::Disabled);
    assert_eq!(kind(ours.rotate().await), KmsErrorKind::Disabled);
    assert_eq!(ours.describe().await.unwrap().status, KekStatus::Disabled);
}

#[tokio::test]
async fn destroyed_material_leaves_the_file_for_good() {
    let home = home();
    let kek = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    let material = |at: usize| {
        let file: serde_json::Value = read_json(&home.path);
        file["versions"][at]["material"].clone()
    };
    let sealed = material(0).as_str().unwrap().to_owned();
    let (_, wrapped) = generate(&kek).await;
    kek.rotate().await.unwrap();
    kek.disable_version("1").await.unwrap();
    kek.destroy_version("1").await.unwrap();
    assert!(material(0).is_null());
    for entry in fs::read_dir(home.directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&sealed));
    }
    let generation = kek.generation();
    kek.destroy_version("1").await.unwrap();
    assert_eq!(kek.generation(), generation, "nothing changed, nothing is written");
    assert_eq!(kind(unwrap(&kek, &wrapped).await), KmsErrorKind::NotFound);
    assert_eq!(kind(kek.enable_version("1").await), KmsErrorKind::NotFound);
    assert_eq!(kind(kek.disable_version("1").await), KmsErrorKind::NotFound);
}

#[tokio::test]
async fn an_older_file_is_refused_while_open() {
    let home = home();
    let kek = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    let old = fs::read(&home.path).unwrap();
    kek.rotate().await.unwrap();
    assert_eq!(kek.generation(), 2);
    fs::write(&home.path, old).unwrap();
    let error = kek.describe().await.unwrap_err();
    assert_eq!(error.kind(), KmsErrorKind::Misconfigured);
    assert!(error.to_string().contains("went back from generation 2 to 1"), "{error}");
    assert_eq!(kind(kek.rotate().await), KmsErrorKind::Misconfigured);
    LocalKek::open(&home.path, raw(1)).await.unwrap().describe().await.unwrap();
}

#[tokio::test]
async fn another_key_file_in_the_same_place_is_refused() {
    let home = home();
    let kek = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    let (_, wrapped) = generate(&kek).await;
    fs::remove_file(&home.path).unwrap();
    assert_eq!(kind(unwrap(&kek, &wrapped).await), KmsErrorKind::NotFound);
    assert_eq!(kind(kek.rotate().await), KmsErrorKind::NotFound);
    let new = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    assert_ne!(new.kek(), kek.kek());
    assert_eq!(kind(unwrap(&kek, &wrapped).await), KmsErrorKind::Misconfigured);
    assert_eq!(kind(unwrap(&new, &wrapped).await), KmsErrorKind::Tampered);
}

#[tokio::test]
async fn a_changed_passphrase_keeps_the_wraps() {
    let home = home();
    let kek = LocalKek::create(&home.path, "dev", passphrase("old")).await.unwrap();
    let (key, wrapped) = generate(&kek).await;
    for _ in 0..2 {
        kek.rotate().await.unwrap();
    }
    kek.disable_version("2").await.unwrap();
    kek.destroy_version("2").await.unwrap();
    let wrong = LocalKek::change_unlock(&home.path, passphrase("no"), raw(1)).await;
    assert_eq!(kind(wrong), KmsErrorKind::Unauthenticated);
    let changed = LocalKek::change_unlock(&home.path, passphrase("old"), raw(1)).await.unwrap();
    assert!(unwrap(&changed, &wrapped).await.unwrap() == key);
    assert_eq!(kind(unwrap(&kek, &wrapped).await), KmsErrorKind::Unauthenticated);
    let old = LocalKek::open(&home.path, passphrase("old")).await;
    assert_eq!(kind(old), KmsErrorKind::Unauthenticated);
    let opened = LocalKek::open(&home.path, raw(1)).await.unwrap();
    assert!(unwrap(&opened, &wrapped).await.unwrap() == key);
    assert_eq!(opened.describe().await.unwrap(), changed.describe().await.unwrap());
}

#[tokio::test]
async fn what_is_no_key_file_is_refused_without_quoting_it() {
    let home = home();
    let opening = async || LocalKek::open(&home.path, raw(1)).await.unwrap_err();
    assert_eq!(opening().await.kind(), KmsErrorKind::NotFound);
    let secret = "1234567890".repeat(6) + "abcd";
    for text in ["", "{}", "[]", &secret, &format!("\"{secret}\""), "{\"format\":\"x\"}"] {
        fs::write(&home.path, text).unwrap();
        let error = opening().await;
        assert_eq!(error.kind(), KmsErrorKind::Misconfigured, "{error}");
        assert!(!format!("{error} {error:?}").contains("12345"), "{error:?}");
        assert!(error.to_string().contains("dev.key"), "{error}");
    }
    fs::write(&home.path, "{\"format\":\"bulla-key-file/2\",\"new\":1}").unwrap();
    assert!(opening().await.to_string().contains("use a newer one"));
    fs::write(&home.path, vec![b' '; (4 << 20) + 1]).unwrap();
    assert_eq!(opening().await.kind(), KmsErrorKind::Misconfigured);
    fs::remove_file(&home.path).unwrap();
    fs::create_dir(&home.path).unwrap();
    assert_eq!(opening().await.kind(), KmsErrorKind::Misconfigured);
    let nowhere = home.directory.path().join("none/dev.key");
    assert_eq!(kind(LocalKek::create(nowhere, "dev", raw(1)).await), KmsErrorKind::NotFound);
}

/// Memory for Argon2id is taken only after the file's wish was found modest.
#[tokio::test]
async fn hostile_argon2_parameters_are_refused_at_once() {
    let home = home();
    LocalKek::create(&home.path, "dev", passphrase("right")).await.unwrap();
    let good = read_json(&home.path);
    let hostile = [
        ("m_cost_kib", 4_294_967_295_u32),
        ("m_cost_kib", 7),
        ("t_cost", 1_000_000),
        ("t_cost", 0),
        ("p_cost", 16_777_215),
        ("p_cost", 0),
    ];
    for (field, value) in hostile {
        let mut file = good.clone();
        file["unlock"][field] = value.into();
        fs::write(&home.path, file.to_string()).unwrap();
        let error = LocalKek::open(&home.path, passphrase("right")).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Misconfigured, "{field} = {value}: {error}");
    }
    for (field, value) in [("m_cost_kib", 65), ("t_cost", 2)] {
        let mut file = good.clone();
        file["unlock"][field] = value.into();
        fs::write(&home.path, file.to_string()).unwrap();
        let error = LocalKek::open(&home.path, passphrase("right")).await.unwrap_err();
        assert_eq!(error.kind(), KmsErrorKind::Unauthenticated, "{field} = {value}: {error}");
    }
}

#[tokio::test]
async fn the_recommended_cost_is_the_default() {
    let home = home();
    LocalKek::create(&home.path, "dev", Unlock::passphrase("correct horse".into())).await.unwrap();
    let file = read_json(&home.path);
    assert_eq!(file["unlock"]["m_cost_kib"], 65536);
    assert_eq!(file["unlock"]["t_cost"], 3);
    assert_eq!(file["unlock"]["p_cost"], 4);
}

/// Anybody's editor may reformat the file: what it says is what counts.
#[tokio::test]
async fn white_space_does_not_matter() {
    let home = home();
    LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    let compact = read_json(&home.path).to_string();
    fs::write(&home.path, compact).unwrap();
    LocalKek::open(&home.path, raw(1)).await.unwrap().rotate().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private_and_keep_the_access_that_they_are_given() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let home = home();
    let kek = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    assert_eq!(mode(&home.path), 0o600);
    assert_eq!(mode(&home.path.with_extension("key.lock")), 0o600);
    fs::set_permissions(&home.path, fs::Permissions::from_mode(0o640)).unwrap();
    kek.rotate().await.unwrap();
    assert_eq!(mode(&home.path), 0o640);
    assert!(!home.path.with_extension("key.new").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed_and_stay() {
    let home = home();
    let link = home.directory.path().join("link.key");
    let kek = LocalKek::create(&home.path, "dev", raw(1)).await.unwrap();
    std::os::unix::fs::symlink(&home.path, &link).unwrap();
    let linked = LocalKek::open(&link, raw(1)).await.unwrap();
    linked.rotate().await.unwrap();
    assert!(link.is_symlink());
    assert_eq!(kek.describe().await.unwrap().current.label(), Some("2"));
}

#[cfg(unix)]
#[test]
fn a_raw_key_that_everybody_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let home = home();
    let key_path = home.directory.path().join("secret");
    fs::write(&key_path, format!("{}\n", "ab".repeat(32))).unwrap();
    for open in [0o604, 0o602, 0o644, 0o666] {
        fs::set_permissions(&key_path, fs::Permissions::from_mode(open)).unwrap();
        let error = Unlock::from_file(&key_path).unwrap_err();
        assert!(matches!(error, UnlockError::TooOpen { .. }), "{open:o}: {error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    for private in [0o600, 0o400, 0o640] {
        fs::set_permissions(&key_path, fs::Permissions::from_mode(private)).unwrap();
        Unlock::from_file(&key_path).unwrap();
    }
    for not_a_key in ["", "short", &"ab".repeat(2000)] {
        fs::write(&key_path, not_a_key).err();
        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key_path, not_a_key).unwrap();
        let error = Unlock::from_file(&key_path).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("abab"), "{text}");
    }
}

fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
