//! Several processes on one key file, and processes that are killed while they write.
//!
//! The tests start this very binary again as the writers: `writer` does nothing
//! unless the environment says what to do.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulla_backend::{
    GenerateRequest, KekVersion, KeyAdmin, KeyInspector, KeyWrapper, UnwrapRequest, WrappedKey,
};
use bulla_core::{DekVersion, KmsContext, ScopeContext};
use bulla_local::{LocalKek, Unlock};
use data_encoding::HEXLOWER;

const KEY_VARIABLE: &str = "BULLA_LOCAL_TEST_KEY";
const FILE_VARIABLE: &str = "BULLA_LOCAL_TEST_FILE";
const LOG_VARIABLE: &str = "BULLA_LOCAL_TEST_LOG";
const ROTATIONS_VARIABLE: &str = "BULLA_LOCAL_TEST_ROTATIONS";
const KEY: &str = "5f0c2d7e9ab14c3386d5e0f1a2b3c4d55f0c2d7e9ab14c3386d5e0f1a2b3c4d5";

/// Rotates, and after each rotation wraps a key; notes in its log what was
/// acknowledged to it, one line each, in one write.
#[tokio::test]
async fn writer() {
    let Ok(path) = std::env::var(FILE_VARIABLE) else { return };
    let mut log =
        OpenOptions::new().append(true).open(std::env::var(LOG_VARIABLE).unwrap()).unwrap();
    let rotations: u32 = std::env::var(ROTATIONS_VARIABLE).unwrap().parse().unwrap();
    let kek = LocalKek::open(path, Unlock::from_env(KEY_VARIABLE).unwrap()).await.unwrap();
    let context = context();
    for _ in 0..rotations {
        let version = kek.rotate().await.unwrap();
        log.write_all(format!("rotated {version}\n").as_bytes()).unwrap();
        let generated = kek.generate_data_key(GenerateRequest::new(&context)).await.unwrap();
        let blob = HEXLOWER.encode(&generated.wrapped.blob);
        let key = HEXLOWER.encode(generated.data_key.expose_secret());
        log.write_all(format!("wrapped {blob} {key}\n").as_bytes()).unwrap();
    }
}

/// Four processes rotate at once; every rotation gets a version of its own.
#[tokio::test]
async fn writers_exclude_each_other() {
    const WRITERS: usize = 4;
    const ROTATIONS: u32 = 20;
    let home = Home::new().await;
    let writers: Vec<_> = (0..WRITERS).map(|_| home.start_writer(ROTATIONS)).collect();
    assert!(writers.into_iter().all(Writer::succeeds));
    let (rotated, wrapped) = home.acknowledged();
    let expected: BTreeSet<u32> = (2..=1 + WRITERS as u32 * ROTATIONS).collect();
    assert_eq!(rotated.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(rotated.len(), expected.len(), "two rotations were told the same version");
    assert_eq!(wrapped.len(), expected.len());
    assert_eq!(home.check(&wrapped).await, 1 + expected.len());
}

/// Two writers at work, one of them killed again and again at a random moment.
#[tokio::test]
async fn a_killed_writer_loses_nothing() {
    const KILLS: usize = 25;
    let home = Home::new().await;
    let steady = home.start_writer(150);
    for _ in 0..KILLS {
        let before = home.log_len();
        let victim = home.start_writer(u32::MAX);
        home.wait_for_log_beyond(before);
        std::thread::sleep(Duration::from_micros(u64::from(random_u16())));
        drop(victim);
    }
    assert!(steady.succeeds());

    let (rotated, wrapped) = home.acknowledged();
    let distinct: BTreeSet<_> = rotated.iter().collect();
    assert_eq!(distinct.len(), rotated.len(), "two rotations were told the same version");
    let versions = home.check(&wrapped).await;
    let acknowledged = 1 + rotated.len();
    // A victim may have died between the rename and the note in its log.
    assert!((acknowledged..=acknowledged + KILLS).contains(&versions), "{versions} versions");
    // What the victims left behind goes with the next write.
    home.open().await.rotate().await.unwrap();
    let left: Vec<_> = fs::read_dir(home.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("shared.key"))
        .collect();
    assert_eq!(left.iter().collect::<BTreeSet<_>>().len(), 2, "{left:?}");
}

/// The environment is the one place that tests in this process cannot set safely.
#[tokio::test]
async fn secrets_come_from_the_environment() {
    let home = Home::new().await;
    for (key, works) in [(KEY, true), (&KEY.to_uppercase(), true), (&KEY[1..], false), ("", false)]
    {
        let mut writer = home.command(1);
        let status = writer.env(KEY_VARIABLE, key).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.success(), works, "{key:?}");
    }
}

/// A child that does not outlive a test that fails.
struct Writer(Child);

impl Writer {
    fn succeeds(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Writer {
    /// SIGKILL, where there are signals.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A blob, and the key in it.
type Wrapped = (Vec<u8>, Vec<u8>);

struct Home {
    directory: tempfile::TempDir,
    file: PathBuf,
    log: PathBuf,
}

impl Home {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shared.key");
        let log = directory.path().join("log");
        File::create(&log).unwrap();
        LocalKek::create(&file, "shared", unlock()).await.unwrap();
        Self { directory, file, log }
    }

    fn command(&self, rotations: u32) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "writer", "--nocapture"])
            .env(KEY_VARIABLE, KEY)
            .env(FILE_VARIABLE, &self.file)
            .env(LOG_VARIABLE, &self.log)
            .env(ROTATIONS_VARIABLE, rotations.to_string())
            .stdout(Stdio::null());
        command
    }

    fn start_writer(&self, rotations: u32) -> Writer {
        Writer(self.command(rotations).spawn().unwrap())
    }

    fn log_len(&self) -> u64 {
        fs::metadata(&self.log).unwrap().len()
    }

    fn wait_for_log_beyond(&self, len: u64) {
        let start = Instant::now();
        while self.log_len() <= len + 200 {
            assert!(start.elapsed() < Duration::from_secs(30), "no writer makes progress");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    async fn open(&self) -> LocalKek {
        LocalKek::open(&self.file, unlock()).await.unwrap()
    }

    /// What the writers were told, in the order of the log: versions, and wraps with
    /// their keys. A line that was cut off was not acknowledged.
    fn acknowledged(&self) -> (Vec<u32>, Vec<Wrapped>) {
        let (mut rotated, mut wrapped) = (Vec::new(), Vec::new());
        for line in fs::read_to_string(&self.log).unwrap().lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["rotated", version] => rotated.push(version.parse().unwrap()),
                ["wrapped", blob, key] => {
                    let decode = |text: &str| HEXLOWER.decode(text.as_bytes()).unwrap();
                    wrapped.push((decode(blob), decode(key)));
                }
                _ => panic!("torn line {line:?}"),
            }
        }
        (rotated, wrapped)
    }

    /// Unwraps everything; returns the number of versions.
    async fn check(&self, wrapped: &[Wrapped]) -> usize {
        let (kek, context) = (self.open().await, context());
        for (blob, key) in wrapped {
            let wrapped = WrappedKey::new(kek.kek().clone(), KekVersion::Unknown, blob.clone());
            let unwrapped = kek.unwrap_key(UnwrapRequest::new(&wrapped, &context)).await.unwrap();
            assert_eq!(&unwrapped.data_key.expose_secret()[..], key);
        }
        let state = kek.describe().await.unwrap();
        assert_eq!(state.current.label(), Some(&*state.versions.len().to_string()));
        assert_eq!(kek.generation(), state.versions.len() as u64);
        state.versions.len()
    }
}

fn unlock() -> Unlock {
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), KEY).unwrap();
    Unlock::from_file(path.path() as &Path).unwrap()
}

fn context() -> KmsContext {
    let scope = ScopeContext::new([("tenant", "t-1")]).unwrap();
    scope.kms_context(DekVersion::FIRST)
}

fn random_u16() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).unwrap();
    u16::from_be_bytes(bytes)
}
