//! Target `key_file`: the file of a local KEK, changed.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use arbitrary::{Result, Unstructured};
use bulla_backend::{
    KekStatus, KekVersion, KeyInspector, KeyWrapper, KmsError, KmsErrorKind, UnwrapRequest,
    WrappedKey,
};
use bulla_core::{DataKey, DekVersion, ScopeContext};
use data_encoding::HEXLOWER;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A file of the first release and a wrap made with it, as in `bulla-local/tests/data`.
const GENUINE: &[u8] = include_bytes!("key_file/genuine.key");
const WRAP: &str = include_str!("key_file/genuine.wrap");

/// Opens a key file of any bytes, or a genuine one whose fields were changed, with `open`,
/// which is given the path and the raw key and returns the KEK and its generation. Nothing
/// opens but the genuine file, in whatever notation, and then it works and says what it said.
pub fn key_file<K, F>(data: &[u8], open: impl Fn(PathBuf, DataKey) -> F)
where
    K: KeyWrapper + KeyInspector,
    F: Future<Output = std::result::Result<(K, u64), KmsError>>,
{
    let text = edited(data).unwrap_or_else(|| data.to_vec());
    let path = place();
    std::fs::write(&path, &text).unwrap();
    runtime().block_on(async {
        match open(path.clone(), raw_key()).await {
            Ok((kek, generation)) => opened(&kek, generation).await,
            Err(error) => refused(&text, &error),
        }
    });
    let _ = std::fs::remove_file(path);
}

async fn opened<K: KeyWrapper + KeyInspector>(kek: &K, generation: u64) {
    assert_eq!(generation, 5);
    assert_eq!(kek.kek().as_str(), "local:raw#027ade13d4fdfc8f");
    let state = kek.describe().await.unwrap();
    assert_eq!(state.status, KekStatus::Enabled);
    assert_eq!(state.current.label(), Some("3"));
    let statuses = [KekStatus::Destroyed, KekStatus::Enabled, KekStatus::Enabled];
    assert_eq!(state.versions.len(), statuses.len());
    for ((version, status), label) in state.versions.iter().zip(statuses).zip(["1", "2", "3"]) {
        assert_eq!((&*version.label, version.status), (label, status));
        assert_eq!(version.created_at, Some(UNIX_EPOCH + Duration::from_secs(1_795_313_810)));
    }

    let scope = ScopeContext::new([("tenant", "t-1"), ("purpose", "orders")]).unwrap();
    let context = scope.kms_context(DekVersion::FIRST);
    let blob = HEXLOWER.decode(WRAP.trim().as_bytes()).unwrap();
    let wrapped = WrappedKey::new(kek.kek().clone(), KekVersion::Unknown, blob);
    let unwrapped = kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.unwrap();
    assert_eq!(unwrapped.data_key.expose_secret(), &[0x5a; 32]);
}

/// Argon2id does not run, whatever the file asks for; nothing is quoted.
fn refused(text: &[u8], error: &KmsError) {
    let kind = error.kind();
    assert!(
        [KmsErrorKind::Misconfigured, KmsErrorKind::Unauthenticated].contains(&kind),
        "{error}"
    );
    assert_ne!(text, GENUINE);
    assert!(!format!("{error} {error:?}").is_empty());
}

/// The genuine file with up to four fields changed, if `data` asks for that by its first byte.
fn edited(data: &[u8]) -> Option<Vec<u8>> {
    let (0xff, edits) = data.split_first()? else { return None };
    let mut file: Value = serde_json::from_slice(GENUINE).unwrap();
    let u = &mut Unstructured::new(edits);
    while !u.is_empty() && edit(&mut file, u).is_ok() {}
    Some(serde_json::to_vec(&file).unwrap())
}

/// Changes some value in `at`, or `at` as a whole.
fn edit(at: &mut Value, u: &mut Unstructured<'_>) -> Result<()> {
    let inside = match at {
        Value::Object(map) if u.ratio(3, 4)? => {
            let which = u.choose_index(map.len().max(1))?;
            map.values_mut().nth(which)
        }
        Value::Array(list) if u.ratio(3, 4)? => {
            let which = u.choose_index(list.len().max(1))?;
            list.get_mut(which)
        }
        _ => None,
    };
    match inside {
        Some(inside) => edit(inside, u),
        None => change(at, u),
    }
}

fn change(at: &mut Value, u: &mut Unstructured<'_>) -> Result<()> {
    match at {
        Value::String(text) => {
            let mut bytes = text.clone().into_bytes();
            let which = u.choose_index(bytes.len().max(1))?;
            if let Some(byte) = bytes.get_mut(which) {
                *byte = u.int_in_range(b' '..=b'~')?;
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::Number(number) => {
            *number = match u.int_in_range(0..=2_u8)? {
                0 => u.arbitrary::<u64>()?,
                1 => number.as_u64().unwrap_or_default().wrapping_add(1),
                _ => u.int_in_range(0..=40)?,
            }
            .into();
        }
        Value::Array(list) => match u.int_in_range(0..=2_u8)? {
            0 => list.reverse(),
            1 => drop(list.pop()),
            _ => list.extend(list.first().cloned()),
        },
        Value::Object(map) => match u.choose(&["unlock", "status", "material", "extra"])? {
            &"unlock" => drop(map.insert("unlock".into(), passphrase(u)?)),
            &"status" => {
                let word = *u.choose(&["enabled", "disabled", "destroyed"])?;
                drop(map.insert("status".into(), word.into()));
            }
            &"material" => drop(map.insert("material".into(), Value::Null)),
            key => drop(map.insert((*key).into(), Value::Bool(true))),
        },
        other => *other = Value::String(String::new()),
    }
    Ok(())
}

/// A method that could take hours and all memory.
fn passphrase(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(serde_json::json!({
        "kind": "passphrase",
        "m_cost_kib": u.arbitrary::<u32>()?,
        "t_cost": u.arbitrary::<u32>()?,
        "p_cost": u.arbitrary::<u8>()?,
        "salt": "AAAAAAAAAAAAAAAAAAAAAA==",
    }))
}

fn raw_key() -> DataKey {
    DataKey::init_with(|bytes| *bytes = std::array::from_fn(|at| at as u8))
}

/// A file of this thread alone, in memory where there is such a place.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    directory.join(format!("bulla-fuzz-{}-{thread}.key", std::process::id()))
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().build().unwrap())
}
