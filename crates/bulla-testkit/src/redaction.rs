//! Proof that secrets stay out of logs, errors and `Debug`.
//!
//! A [`Redaction`] catches everything that the process logs, at level TRACE, its
//! dependencies included. Secrets are announced to it as they come up: tokens by
//! [`forbid`](Redaction::forbid), data keys by the [`spy`](Redaction::spy) through which a
//! KEK is used. At the end, none may be found in what was caught.

#![allow(clippy::panic, reason = "assertions are what this is for")]

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aho_corasick::AhoCorasick;
use async_trait::async_trait;
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, Kek, KekId, KekState, KeyInspector, KeyWrapper,
    KmsError, RewrapRequest, UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};
use bulla_core::DataKey;
use tracing::level_filters::LevelFilter;

use crate::spellings::spellings;

/// What this module logs itself, to see that it is listening.
const SELF_CHECK: &str = "redaction-self-check";

/// What a process has logged and shown, and what must not be in it. One per process.
#[derive(Clone, Default)]
pub struct Redaction(Arc<Mutex<Caught>>);

#[derive(Default)]
struct Caught {
    text: Vec<u8>,
    forbidden: HashSet<String>,
    keys: usize,
}

impl Redaction {
    /// Starts to listen.
    ///
    /// # Panics
    /// If somebody else is listening in this process already.
    pub fn start() -> Self {
        let this = Self::default();
        let log = this.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || Writer(log.clone()));
        if let Err(error) = subscriber.try_init() {
            panic!("somebody else is listening: {error}");
        }
        tracing::trace!("{SELF_CHECK}");
        this
    }

    /// A secret that must not be found: at least 8 bytes, so that it is found by itself.
    ///
    /// # Panics
    /// If it is shorter.
    pub fn forbid(&self, secret: &str) {
        assert!(secret.len() >= 8, "a mark of {} bytes is found by chance", secret.len());
        self.caught().forbidden.insert(secret.to_owned());
    }

    /// A data key that must not be found, however it is spelled.
    pub fn forbid_key(&self, key: &DataKey) {
        let mut caught = self.caught();
        caught.keys += 1;
        caught.forbidden.extend(spellings(key));
    }

    /// Adds something that users could print.
    pub fn show(&self, shown: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = writeln!(text, "{shown:?}");
        self.caught().text.extend_from_slice(text.as_bytes());
    }

    /// Adds everything that an error says.
    pub fn show_error(&self, error: &dyn std::error::Error) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.show(&format!("{error}"));
            self.show(&error);
            next = error.source();
        }
    }

    /// `kek`, with every data key that passes forbidden, and every answer and error shown.
    pub fn spy(&self, kek: Arc<dyn Kek>) -> Arc<dyn Kek> {
        Arc::new(Spy { kek, watch: self.clone() })
    }

    /// How much was caught so far: bytes of text, and data keys.
    pub fn caught_so_far(&self) -> (usize, usize) {
        let caught = self.caught();
        (caught.text.len(), caught.keys)
    }

    /// Demands that no secret is in what was caught.
    ///
    /// # Panics
    /// If one is, with the text around it; or if nothing was caught at all.
    pub fn assert_clean(&self) {
        let caught = self.caught();
        let text = String::from_utf8_lossy(&caught.text);
        assert!(text.contains(SELF_CHECK), "nothing was logged: the proof proves nothing");
        assert!(!caught.forbidden.is_empty(), "nothing was forbidden: the proof proves nothing");
        let forbidden: Vec<_> = caught.forbidden.iter().collect();
        let search = match AhoCorasick::new(&forbidden) {
            Ok(search) => search,
            Err(error) => panic!("too much to look for: {error}"),
        };
        if let Some(found) = search.find(&*text) {
            let line_start = text[..found.start()].rfind('\n').map_or(0, |at| at + 1);
            let line: String = text[line_start..].chars().take(2000).collect();
            panic!("the secret {} is shown in: {line}", forbidden[found.pattern().as_usize()]);
        }
    }

    fn caught(&self) -> MutexGuard<'_, Caught> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction")
    }
}

/// Where log lines go.
struct Writer(Redaction);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.caught().text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Spy {
    kek: Arc<dyn Kek>,
    watch: Redaction,
}

impl Spy {
    fn see<T: fmt::Debug>(&self, answer: Result<T, KmsError>) -> Result<T, KmsError> {
        match &answer {
            Ok(answer) => self.watch.show(answer),
            Err(error) => self.watch.show_error(error),
        }
        answer
    }
}

#[async_trait]
impl KeyWrapper for Spy {
    fn kek(&self) -> &KekId {
        self.kek.kek()
    }

    fn capabilities(&self) -> Capabilities {
        self.kek.capabilities()
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        self.watch.show(&self.kek);
        let answer = self.see(self.kek.generate_data_key(request).await)?;
        self.watch.forbid_key(&answer.data_key);
        Ok(answer)
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        // Not keys of one byte repeated, whose spelling is found anywhere.
        let bytes = request.data_key.expose_secret();
        if bytes.iter().any(|byte| *byte != bytes[0]) {
            self.watch.forbid_key(request.data_key);
        }
        self.see(self.kek.wrap_key(request).await)
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        self.see(self.kek.unwrap_key(request).await)
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        self.see(self.kek.rewrap_key(request).await)
    }
}

#[async_trait]
impl KeyInspector for Spy {
    async fn describe(&self) -> Result<KekState, KmsError> {
        self.see(self.kek.describe().await)
    }
}
