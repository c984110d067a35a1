//! Several processes on one file, and one that is killed.
//!
//! The test binary runs itself again: with `CHILD` in the environment, the test
//! `child` does what that says; without, it does nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Lines, Write, stdout};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bulla_backend::{
    Claim, ClaimRequest, DekQuery, DekState, Insertion, KeyStore, MemberId, StoreRevision,
};
use bulla_core::DekVersion;
use bulla_sql::SqliteKeyStore;
use common::{dek, raw, scope};
use std::time::Duration;
use tempfile::tempdir;

const CHILD: &str = "BULLA_SQL_TEST_CHILD";
const STORE: &str = "BULLA_SQL_TEST_STORE";

#[tokio::test]
async fn child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let store = SqliteKeyStore::open(std::env::var(STORE).unwrap()).await.unwrap();
    match task.as_str() {
        "insert" => insert_for_ever(&store).await,
        name => rotate_once(&store, name).await,
    }
}

/// Runs the test `child` in a process of its own.
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(task: &str, store: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, task)
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines }
    }

    /// What the process says next; `None` once it has ended.
    fn hear(&mut self) -> Option<String> {
        loop {
            // Between the lines of the test harness, and on the same.
            if let Some((_, said)) = self.lines.next()?.unwrap().split_once("child says ") {
                return Some(said.to_owned());
            }
        }
    }
}

fn say(what: &str) {
    let mut stdout = stdout().lock();
    writeln!(stdout, "child says {what}").unwrap();
    stdout.flush().unwrap();
}

async fn insert_for_ever(store: &SqliteKeyStore) {
    for number in 1.. {
        store.insert_dek(&dek(&scope("a"), number)).await.unwrap();
        say(&number.to_string());
        store.activate_due().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_loses_no_acknowledged_insert() {
    for patience in [3, 20, 60] {
        let directory = tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let mut process = Process::start("insert", &path);
        let mut acknowledged: u32 = 0;
        while acknowledged < patience {
            acknowledged = process.hear().unwrap().parse().unwrap();
        }
        // SIGKILL on Unix, wherever it is just now.
        process.child.kill().unwrap();
        while let Some(said) = process.hear() {
            acknowledged = said.parse().unwrap();
        }
        process.child.wait().unwrap();

        let store = SqliteKeyStore::open(&path).await.unwrap();
        let versions = 1..=acknowledged + 2;
        let queries: Vec<_> = versions
            .map(|number| DekQuery::Key {
                scope: scope("a"),
                key_id: dek(&scope("a"), number).key_id,
            })
            .collect();
        let found = store.find_deks(&queries).await.unwrap();
        let count = found.iter().flatten().count() as u32;
        assert!((acknowledged..=acknowledged + 1).contains(&count), "{count} of {acknowledged}");
        assert!(found[..count as usize].iter().all(Option::is_some), "without a gap");
        assert!(found.iter().flatten().all(|dek| dek.wraps[0].wrapped.blob == [7; 100]));
        let active = found.iter().flatten().filter(|dek| dek.state == DekState::Active).count();
        assert_eq!(active, 1);
        let told = store.changes_since(Some(StoreRevision(0)), u32::MAX).await.unwrap();
        assert_eq!(told.deks.len(), count as usize);
        assert_eq!(integrity(&path), "ok");
        // The store goes on where the process was stopped.
        store.insert_dek(&dek(&scope("a"), count + 1)).await.unwrap();
    }
}

fn integrity(path: &Path) -> String {
    let database = raw(path);
    let mut broken = database.prepare("PRAGMA foreign_key_check").unwrap();
    assert!(!broken.exists(()).unwrap(), "a reference points nowhere");
    database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap()
}

/// Rotates the scope once everybody is ready, as a manager does.
async fn rotate_once(store: &SqliteKeyStore, name: &str) {
    say("ready");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let after = Some(DekVersion::FIRST);
    let owner = MemberId::new(name);
    let request = ClaimRequest::new(scope("a"), after, owner, Duration::from_secs(30));
    let claim = store.claim_next_version(&request).await.unwrap();
    // Those that should wait try all the same: the insertion decides.
    let mut new = dek(&scope("a"), 2);
    new.key_id = dek(&scope(name), 2).key_id;
    let inserted = store.insert_dek(&new).await.unwrap();
    let claimed = matches!(claim, Claim::Granted(_));
    say(match inserted {
        Insertion::Stored(_) => "stored",
        Insertion::Lost if claimed => "claimed, and lost",
        Insertion::Lost => "lost",
    });
    store.close().await;
}

#[tokio::test]
async fn processes_that_rotate_one_scope_end_with_one_new_version() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let names = ["p-1", "p-2", "p-3", "p-4"];
    // They open a new file at once, too.
    let mut processes: Vec<_> = names.iter().map(|name| Process::start(name, &path)).collect();
    for process in &mut processes {
        assert_eq!(process.hear().as_deref(), Some("ready"));
    }
    let store = SqliteKeyStore::open(&path).await.unwrap();
    store.insert_dek(&dek(&scope("a"), 1)).await.unwrap();
    for process in &mut processes {
        process.stdin.write_all(b"go\n").unwrap();
    }
    let mut stored = Vec::new();
    for (process, name) in processes.iter_mut().zip(names) {
        if process.hear().unwrap() == "stored" {
            stored.push(name);
        }
        assert!(process.child.wait().unwrap().success());
    }
    assert_eq!(stored.len(), 1, "{stored:?}");
    let told = store.changes_since(Some(StoreRevision(0)), u32::MAX).await.unwrap().deks;
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].key_id, dek(&scope(stored[0]), 2).key_id);
    assert_eq!(integrity(&path), "ok");
}
