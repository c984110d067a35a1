//! The side that knows the keys, because it has opened the same key file and the same
//! key store, and reads the helper's memory.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bulla::backend::{
    DataKey, DekQuery, DekRecord, DekState, KekVersion, KeyStore as _, KeyWrapper as _,
    StateChange, UnwrapRequest, WrappedKey,
};
use bulla::local::Unlock;
use bulla::{Embedded, Library, ScopeId, Suite};
use bulla_core::{DekVersion, Envelope, RecordContext, ScopeContext};
use bulla_testkit::reference::derive;
use data_encoding::{BASE64, HEXLOWER};

use super::helper::{self, ANSWER, CACHED, DIRECTORY, LIBRARY, SEALED, SUITE, TO_OPEN, UNLOCK_KEY};
use super::keys::{KnownKey, add_mac_key};
use super::search::{Found, Secrets};

/// Scopes whose first DEK the observer makes; the helper makes those of all others.
pub(crate) const MADE_HERE: [&str; 2] = ["here-1", "here-2"];

const SUITES: [u8; 2] = [1, 2];
/// How long what is being worked with may take to go.
const PATIENCE: Duration = Duration::from_secs(4);
/// When it is in the environment, the tests stop wherever they have found nothing.
const PAUSE: &str = "BULLA_MEMORY_TEST_PAUSE";

pub(crate) struct Observer {
    directory: tempfile::TempDir,
    /// The same key file and store; its manager is closed.
    embedded: Embedded,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Observer {
    /// Starts a helper that seals with `library`, in suite 1, and caches `cached` DEKs.
    pub(crate) async fn new(library: Library, cached: u64) -> Self {
        Self::new_in(Suite::Xaes256Gcm, library, cached).await
    }

    /// [`new`](Self::new), in `suite`.
    pub(crate) async fn new_in(suite: Suite, library: Library, cached: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name| directory.path().join(name);
        let unlock = Unlock::new_key_file(at(UNLOCK_KEY)).unwrap();
        let embedded = bulla::open_embedded(directory.path(), unlock).await.unwrap();
        let mut to_open = String::new();
        for tenant in MADE_HERE {
            let scope = embedded.manager.scope(tenant, "memory").unwrap();
            for _ in 0..3 {
                let envelope = scope.seal(b"x", &helper::record()).await.unwrap();
                to_open += &format!("{tenant} {}\n", HEXLOWER.encode(&envelope));
            }
        }
        fs::write(at(TO_OPEN), to_open).unwrap();
        embedded.manager.close().await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .env(LIBRARY, format!("{library:?}"))
            .env(SUITE, format!("{suite:?}"))
            .env(CACHED, cached.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut observer = Self { directory, embedded, child, input, output };
        observer.tell("hello");
        observer
    }

    /// Has the helper obey; returns its answer. Then it waits for the next command.
    pub(crate) fn tell(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "the helper died of {command:?}");
            if let Some(answer) = line.strip_prefix(ANSWER) {
                return answer.trim_end().into();
            }
        }
    }

    pub(crate) fn search(&self, secrets: &Secrets) -> Found {
        secrets.search(self.child.id())
    }

    /// Finds nothing, at the latest after some seconds: what a task still works with goes;
    /// what was left behind stays, since the helper does nothing by itself.
    pub(crate) fn finds_nothing(&self, secrets: &Secrets, when: &str) {
        let start = Instant::now();
        let mut found = self.search(secrets);
        while !found.is_empty() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            found = self.search(secrets);
        }
        self.pause(secrets, when);
        assert!(found.is_empty(), "{when}, there is {found:?}");
    }

    /// Lets somebody look for himself, if the environment says so.
    fn pause(&self, secrets: &Secrets, when: &str) {
        if std::env::var_os(PAUSE).is_some() {
            let file = self.directory.path().join("secrets");
            fs::write(&file, secrets.to_text()).unwrap();
            let (helper, file) = (self.child.id(), file.display().to_string());
            eprintln!("{when}: the helper is {helper}; remove {file} to go on");
            while fs::exists(&file).unwrap() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// The newest DEK of a scope.
    pub(crate) async fn dek(&self, tenant: &str) -> DekRecord {
        let scope = ScopeId::new(tenant, "memory").unwrap();
        let found = self.embedded.store.find_deks(&[DekQuery::Active(scope)]).await.unwrap();
        found.into_iter().next().flatten().unwrap()
    }

    /// Everything of a DEK. Ask before its wraps are deleted.
    pub(crate) async fn secrets_of(&self, name: &str, dek: &DekRecord) -> Secrets {
        let context = dek.scope.context();
        let key = self.unwrap(&dek.wraps[0].wrapped, &context.kms_context(dek.version)).await;
        self.secrets_of_key(name, &key, dek.version, context)
    }

    pub(crate) async fn secrets_of_active(&self, tenant: &str) -> Secrets {
        self.secrets_of(tenant, &self.dek(tenant).await).await
    }

    fn secrets_of_key(
        &self,
        name: &str,
        key: &DataKey,
        version: DekVersion,
        scope: &ScopeContext,
    ) -> Secrets {
        let key_id = key.id(version, scope).unwrap();
        let known = KnownKey::new(name, key.expose_secret(), key_id);
        let mut secrets = known.secrets(&SUITES);
        let record = helper::record();
        for envelope in self.envelopes().iter().filter(|envelope| known.sealed(envelope)) {
            secrets.extend(known.of_envelope(envelope, record.as_bytes()));
        }
        secrets
    }

    /// The single-use DEKs of the self-contained envelopes that the helper has made.
    pub(crate) async fn secrets_of_self_contained(&self, scope: &ScopeContext) -> Secrets {
        let (mut secrets, record) = (Secrets::default(), helper::record());
        for sealed in self.envelopes() {
            let Ok(envelope) = Envelope::parse(&sealed) else { continue };
            let Some(wraps) = envelope.head().wraps() else { continue };
            let wrap = &wraps.entries()[0];
            let kek = self.embedded.kek.kek().clone();
            let wrapped = WrappedKey::new(kek, KekVersion::Unknown, wrap.blob.to_vec());
            let key = self.unwrap(&wrapped, &scope.single_use_kms_context()).await;
            let known = KnownKey::new("single use", key.expose_secret(), envelope.header().key_id);
            secrets.extend(known.secrets(&SUITES));
            secrets.extend(known.of_envelope(&sealed, record.as_bytes()));
        }
        secrets
    }

    /// The unlock key, and the KEK, of which `wraps` are all in use.
    pub(crate) fn secrets_of_kek(&self, wraps: &[(&DekRecord, RecordContext)]) -> Secrets {
        let unlock = fs::read(self.directory.path().join(UNLOCK_KEY)).unwrap();
        let unlock: [u8; 32] = unlock.try_into().unwrap();
        let text = fs::read(self.directory.path().join(helper::KEK)).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let id = file["id"].as_str().unwrap();
        let context =
            |purpose: &str| ScopeContext::new([("purpose", purpose), ("file", id)]).unwrap();

        let unlock_key = DataKey::init_with(|out| *out = unlock);
        let key_id = unlock_key.id(DekVersion::FIRST, &context("bulla-local-key-file")).unwrap();
        let known = KnownKey::new("unlock key", &unlock, key_id);
        let material = file["versions"][0]["material"].as_str().unwrap();
        let material = BASE64.decode(material.as_bytes()).unwrap();
        let mut secrets = known.secrets(&[1]);
        secrets.extend(known.of_envelope(&material, &[]));
        let mac_key = derive::hmac_sha256(&unlock, b"bulla-local.v1/mac\0\x01");
        add_mac_key(&mut secrets, "unlock key: MAC key", &mac_key);

        let options = bulla::KeyOptions::default();
        let record = RecordContext::new([("file", id), ("version", "1")]).unwrap();
        let file_key = bulla_core::EnvelopeKey::derive(
            &unlock_key,
            DekVersion::FIRST,
            &context("bulla-local-key-file"),
            options,
        );
        let kek = file_key.unwrap().open(&material, &record).unwrap();
        let kek: [u8; 32] = kek.try_into().unwrap();
        let kek_key = DataKey::init_with(|out| *out = kek);
        let key_id = kek_key.id(DekVersion::FIRST, &context("bulla-local-kek")).unwrap();
        let known = KnownKey::new("KEK", &kek, key_id);
        secrets.extend(known.secrets(&[1]));
        for (dek, record) in wraps {
            for wrap in &dek.wraps {
                secrets.extend(known.of_envelope(&wrap.wrapped.blob, record.as_bytes()));
            }
        }
        secrets
    }

    /// What the helper has sealed, and what it was given to open.
    fn envelopes(&self) -> Vec<Vec<u8>> {
        let read =
            |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let (sealed, to_open) = (read(SEALED), read(TO_OPEN));
        let to_open = to_open.lines().map(|line| line.split_once(' ').unwrap().1);
        sealed.lines().chain(to_open).map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap()).collect()
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &bulla_core::KmsContext) -> DataKey {
        let request = UnwrapRequest::new(wrapped, context);
        self.embedded.kek.unwrap_key(request).await.unwrap().data_key
    }

    pub(crate) async fn change_state(&self, dek: &DekRecord, from: DekState, to: DekState) {
        let change = StateChange::new(dek.key_id, from, to).unwrap();
        assert!(self.embedded.store.change_state(&change).await.unwrap());
    }

    pub(crate) fn embedded(&self) -> &Embedded {
        &self.embedded
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
