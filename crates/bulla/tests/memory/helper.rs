//! The process whose memory is read: does what it is told, line by line, and otherwise
//! waits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulla::backend::{DekQuery, KeyStore as _, KeyWrapper as _, UnwrapRequest, WrapRequest};
use bulla::local::{LocalKek, Unlock};
use bulla::sqlite::SqliteKeyStore;
use bulla::{
    KeyOptions, Library, Manager, NonceMode, Policy, Profile, RecordContext, ScopeId, Suite,
};
use bulla_core::{
    ChunkOpener, ChunkSealer, Codec, Envelope, EnvelopeKey, ScopeContext, SealWriter, SingleUseKey,
    StreamOptions, UnwrappedKey, Wrap, Wraps,
};
use data_encoding::HEXLOWER;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the environment tells a helper.
pub(crate) const DIRECTORY: &str = "BULLA_MEMORY_TEST_DIRECTORY";
pub(crate) const LIBRARY: &str = "BULLA_MEMORY_TEST_LIBRARY";
pub(crate) const SUITE: &str = "BULLA_MEMORY_TEST_SUITE";
pub(crate) const CACHED: &str = "BULLA_MEMORY_TEST_CACHED";

/// Files in the directory.
pub(crate) const UNLOCK_KEY: &str = "unlock.key";
pub(crate) const KEK: &str = "kek.json";
pub(crate) const STORE: &str = "keys.db";
/// Envelopes that the helper has sealed, in hexadecimal, one per line.
pub(crate) const SEALED: &str = "sealed";
/// Envelopes that the observer has sealed, for the helper to open.
pub(crate) const TO_OPEN: &str = "to-open";

/// Answers begin so: the test harness prints as well.
pub(crate) const ANSWER: &str = "@ ";
/// What planted bytes are masked with on their way.
pub(crate) const MASK: u8 = 0xa5;

const TASKS: usize = 3;

pub(crate) fn record() -> RecordContext {
    RecordContext::new([("row", "42")]).unwrap()
}

/// Runs until its input ends.
pub(crate) fn run() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut helper = runtime.block_on(Helper::start());
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let answer = runtime.block_on(helper.obey(&words));
        println!("\n{ANSWER}{answer}");
    }
}

struct Helper {
    directory: PathBuf,
    options: KeyOptions,
    kek: Option<Arc<LocalKek>>,
    store: Option<Arc<SqliteKeyStore>>,
    manager: Option<Manager>,
    held: Vec<Held>,
    planted: Vec<u8>,
}

/// What is kept between two commands.
#[expect(dead_code, reason = "for as long as they exist")]
enum Held {
    Key(Box<EnvelopeKey>),
    Sealer(ChunkSealer),
    Writer(SealWriter<io::Sink>),
    Opener(ChunkOpener),
    Unwrapped(UnwrappedKey),
}

impl Helper {
    async fn start() -> Self {
        let variable = |name| std::env::var(name).unwrap();
        let directory = PathBuf::from(variable(DIRECTORY));
        let library = variable(LIBRARY);
        let library = Library::ALL.iter().find(|known| format!("{known:?}") == library).unwrap();
        let suite = variable(SUITE);
        let suite = Suite::ALL.iter().find(|known| format!("{known:?}") == suite).unwrap();
        let options = KeyOptions::default()
            .with_library(*library)
            .with_suite(*suite)
            .with_nonces(NonceMode::Epoch);
        // The other suite is opened as well, so it has keys too.
        let options = Suite::ALL.iter().fold(options, |options, suite| options.accepting(*suite));
        let unlock = Unlock::from_file(directory.join(UNLOCK_KEY)).unwrap();
        let kek = Arc::new(LocalKek::open(directory.join(KEK), unlock).await.unwrap());
        let store = Arc::new(SqliteKeyStore::open(directory.join(STORE)).await.unwrap());
        let mut policy = Policy::default();
        policy.cached_deks_max = variable(CACHED).parse().unwrap();
        // Nothing happens by itself: it might overwrite by chance what was left behind.
        policy.feed_interval = Duration::from_secs(3600);
        policy.member_alive_for = Duration::from_secs(7200);
        policy.probe_interval = Duration::from_secs(3600);
        policy.revocation_deadline = Duration::from_secs(7200);
        let manager = Manager::builder(Profile::Development, kek.clone(), store.clone())
            .policy(policy)
            .key_options(options)
            .start()
            .await
            .unwrap();
        let (kek, store, manager) = (Some(kek), Some(store), Some(manager));
        Self { directory, options, kek, store, manager, held: Vec::new(), planted: Vec::new() }
    }

    async fn obey(&mut self, words: &[&str]) -> String {
        match words {
            ["hello"] => String::new(),
            ["use", tenant] => self.use_scope(tenant).await,
            ["rotate", tenant] => {
                let scope = self.manager().scope(tenant, "memory").unwrap();
                scope.rotate().await.unwrap().active.to_string()
            }
            ["sync"] => format!("{:?}", self.manager().sync().await),
            ["hold", tenant] => self.hold(tenant).await,
            ["let-go"] => {
                self.held.clear();
                String::new()
            }
            ["close"] => format!("{:?}", self.manager().close().await),
            ["drop"] => {
                self.manager = None;
                String::new()
            }
            ["drop-all"] => {
                (self.manager, self.kek) = (None, None);
                String::new()
            }
            ["plant", masked] => {
                self.planted = HEXLOWER.decode(masked.as_bytes()).unwrap();
                self.planted.iter_mut().for_each(|byte| *byte ^= MASK);
                String::new()
            }
            ["unplant"] => {
                zeroize::Zeroize::zeroize(&mut self.planted);
                String::new()
            }
            _ => format!("not a command: {words:?}"),
        }
    }

    fn manager(&self) -> &Manager {
        self.manager.as_ref().unwrap()
    }

    /// Seals and opens on this thread and on those of the runtime; then opens what the
    /// observer has sealed.
    async fn use_scope(&self, tenant: &str) -> String {
        let scope = self.manager().scope(tenant, "memory").unwrap();
        let work = || {
            let scope = scope.clone();
            async move {
                let mut sealed = Vec::new();
                for len in [0, 1, 20, 300, 5000] {
                    let plaintext = vec![b'x'; len];
                    let envelope = scope.seal(&plaintext, &record()).await.unwrap();
                    let opened = scope.open(&envelope, &record()).await.unwrap();
                    assert_eq!(opened.plaintext, plaintext);
                    sealed.push(envelope);
                }
                let options = StreamOptions::default().with_chunk_log2(12);
                let (context, plaintext) = (record(), vec![b'x'; 10_000]);
                let mut stream = scope.seal_stream(Vec::new(), &context, options).await.unwrap();
                stream.write_all(&plaintext).await.unwrap();
                stream.shutdown().await.unwrap();
                let envelope = stream.into_inner();
                let mut opened = Vec::new();
                let stream = scope.open_stream(&envelope[..], &context, Codec::RAW).await;
                stream.unwrap().read_to_end(&mut opened).await.unwrap();
                assert_eq!(opened, plaintext);
                sealed.push(envelope);
                sealed
            }
        };
        let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(work())).collect();
        let mut sealed = work().await;
        for task in tasks {
            sealed.extend(task.await.unwrap());
        }
        let plaintext = vec![b'x'; 700];
        let batch = scope.seal_many(&[(&plaintext[..], &record()); 3]).await.unwrap();
        sealed.extend(batch.iter().map(<[u8]>::to_vec));
        for (to_open, envelope) in self.to_open() {
            if to_open == tenant {
                scope.open(&envelope, &record()).await.unwrap();
            }
        }
        self.note(&sealed)
    }

    fn to_open(&self) -> Vec<(String, Vec<u8>)> {
        let text = fs::read_to_string(self.directory.join(TO_OPEN)).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines
            .map(|(tenant, hex)| (tenant.into(), HEXLOWER.decode(hex.as_bytes()).unwrap()))
            .collect()
    }

    fn note(&self, sealed: &[Vec<u8>]) -> String {
        let path = self.directory.join(SEALED);
        let mut file: File = OpenOptions::new().create(true).append(true).open(path).unwrap();
        for envelope in sealed {
            writeln!(file, "{}", HEXLOWER.encode(envelope)).unwrap();
        }
        sealed.len().to_string()
    }

    /// Without the manager: everything that the core has for one DEK, in both suites,
    /// and self-contained envelopes.
    async fn hold(&mut self, tenant: &str) -> String {
        let (kek, store) = (self.kek.clone().unwrap(), self.store.clone().unwrap());
        let scope = ScopeId::new(tenant, "memory").unwrap();
        let found = store.find_deks(&[DekQuery::Active(scope.clone())]).await.unwrap();
        let dek = found.into_iter().next().flatten().unwrap();
        let mut sealed = Vec::new();
        for suite in Suite::ALL {
            let options = KeyOptions::default()
                .with_library(self.options.library)
                .with_nonces(NonceMode::Epoch)
                .with_suite(*suite);
            let context = scope.context().kms_context(dek.version);
            let request = UnwrapRequest::new(&dek.wraps[0].wrapped, &context);
            let unwrapped = kek.unwrap_key(request).await.unwrap();
            let key =
                EnvelopeKey::derive(&unwrapped.data_key, dek.version, scope.context(), options)
                    .unwrap();
            drop(unwrapped);
            self.hold_key(key, &mut sealed);
            self.hold_self_contained(&kek, scope.context(), options, &mut sealed).await;
        }
        self.note(&sealed)
    }

    fn hold_key(&mut self, key: EnvelopeKey, sealed: &mut Vec<Vec<u8>>) {
        for len in [0, 1, 20, 300, 5000] {
            let envelope = key.seal(&vec![b'x'; len], &record()).unwrap();
            key.open(&envelope, &record()).unwrap();
            sealed.push(envelope);
        }
        let (context, plaintext) = (record(), vec![b'x'; 700]);
        let items = || [(&plaintext[..], &context); 3].into_iter();
        sealed.extend(key.seal_many(items()).unwrap().iter().map(<[u8]>::to_vec));
        // What the caller's iterator does must not keep the stack from being wiped. (Without
        // a hook, which would overwrite some of it.)
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let ends = items().chain(std::iter::once_with(|| panic!("an iterator of the caller's")));
        let panicked = std::panic::AssertUnwindSafe(|| key.seal_many(ends).is_ok());
        assert!(std::panic::catch_unwind(panicked).is_err());
        std::panic::set_hook(hook);
        let chunks = StreamOptions::default().with_chunk_log2(12);
        let mut stream = Vec::new();
        let mut writer = key.seal_writer(&mut stream, &record(), chunks).unwrap();
        writer.write_all(&[b'x'; 3 * 4096 + 1]).unwrap();
        writer.finish().unwrap();
        let mut opened = Vec::new();
        let mut reader = key.open_reader(&stream[..], &record(), Codec::RAW).unwrap();
        io::Read::read_to_end(&mut reader, &mut opened).unwrap();
        let opener = key.chunk_opener(&stream, &record(), Codec::RAW).unwrap();
        let mut sealer = key.chunk_sealer(&record(), chunks).unwrap();
        let mut out = vec![0; 5000];
        sealer.seal_next(&[b'x'; 4096], &mut out).unwrap();
        // The head is all of it that anybody needs here.
        sealed.extend([stream, sealer.head().to_vec()]);
        let mut writer = key.seal_writer(io::sink(), &record(), chunks).unwrap();
        writer.write_all(&[b'x'; 6000]).unwrap();
        self.held.extend([
            Held::Sealer(sealer),
            Held::Opener(opener),
            Held::Key(Box::new(key)),
            Held::Writer(writer),
        ]);
    }

    async fn hold_self_contained(
        &mut self,
        kek: &LocalKek,
        scope: &ScopeContext,
        options: KeyOptions,
        sealed: &mut Vec<Vec<u8>>,
    ) {
        let context = scope.single_use_kms_context();
        for chunked in [false, true] {
            let key = SingleUseKey::generate(scope, options).unwrap();
            let request = WrapRequest::new(key.data_key(), &context);
            let wrap = kek.wrap_key(request).await.unwrap();
            let id = wrap.kek.as_str().as_bytes();
            let wraps = Wraps::new([Wrap::new(1, id, *b"1", &wrap.blob[..])]).unwrap();
            let envelope = if chunked {
                let mut envelope = Vec::new();
                let sealer = key.chunk_sealer(&wraps, &record(), StreamOptions::default()).unwrap();
                sealer.into_writer(&mut envelope).finish().unwrap();
                envelope
            } else {
                key.seal(&wraps, Codec::RAW, b"plaintext", &record()).unwrap()
            };
            let parsed = Envelope::parse(&envelope).unwrap();
            let request = UnwrapRequest::new(&wrap, &context);
            let dek = kek.unwrap_key(request).await.unwrap().data_key;
            let unwrapped =
                UnwrappedKey::check(dek, parsed.head(), bulla::Codec::RAW, scope, options).unwrap();
            if chunked {
                let commitment = &parsed.payload()[..ChunkOpener::COMMITMENT_LEN];
                let opener = unwrapped.chunk_opener(commitment, &record()).unwrap();
                self.held.push(Held::Opener(opener));
            } else {
                unwrapped.open(parsed.payload(), &record()).unwrap();
            }
            self.held.push(Held::Unwrapped(unwrapped));
            sealed.push(envelope);
        }
    }
}
