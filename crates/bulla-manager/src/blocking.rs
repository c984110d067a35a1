//! The manager for code without async: seal, open, reseal, prepare, rotate.
//!
//! Loading and background work run on a runtime of the manager's own, in a thread of
//! its own; with the key at hand a call is a function call in the caller's thread.
//! Calls may be made from anywhere, a thread that runs async code included, though
//! there they block it.
//!
//! A process that forks starts a manager in each child: the thread stays with the
//! parent. In the child, what the parent's manager has at hand seals and opens until the
//! policy's deadlines; every other call fails with [`Error::ProcessForked`].
//!
//! ```
//! use std::sync::Arc;
//! use bulla_core::RecordContext;
//! use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock, blocking};
//! use bulla_testkit::TestKms;
//!
//! let kek = Arc::new(TestKms::new("example"));
//! let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
//! let builder = Manager::builder(Profile::Development, kek, store);
//! let manager = blocking::Manager::start(builder)?;
//!
//! let orders = manager.scope("t-9f2c", "orders")?;
//! let record = RecordContext::new([("table", "orders"), ("column", "note"), ("row", "42")])?;
//! let envelope = orders.seal(b"leave it at the door", &record)?;
//! assert_eq!(orders.open(&envelope, &record)?.plaintext, b"leave it at the door");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::future::Future;
use std::process;
use std::sync::{Arc, mpsc};
use std::thread;

use bulla_core::{DekVersion, RecordContext};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::{Error, ManagerBuilder, Opened, Rotation, Stats};

/// A [`Manager`](crate::Manager) with a runtime of its own. Cheap to clone; the thread
/// ends when the last clone, scopes included, is dropped.
#[derive(Debug, Clone)]
pub struct Manager {
    manager: crate::Manager,
    worker: Arc<Worker>,
}

/// A [`Scope`](crate::Scope) of a blocking [`Manager`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scope {
    scope: crate::Scope,
    worker: Arc<Worker>,
}

impl Manager {
    /// Starts a thread with a runtime, and on it the manager.
    ///
    /// # Errors
    /// As [`ManagerBuilder::start`]; [`Error::NoRuntime`] if the thread or the runtime
    /// cannot be made.
    pub fn start(builder: ManagerBuilder) -> Result<Self, Error> {
        Self::start_with(async { Ok(builder) })
    }

    /// Starts a thread with a runtime, and on it whatever `make` opens, then the
    /// manager. Backends that keep connections must be opened here: on a runtime of yours
    /// that stands idle they would hang.
    ///
    /// # Errors
    /// The error of `make`; otherwise as [`start`](Self::start).
    pub fn start_with<E: From<Error> + Send + 'static>(
        make: impl Future<Output = Result<ManagerBuilder, E>> + Send + 'static,
    ) -> Result<Self, E> {
        let worker = Arc::new(Worker::start()?);
        let manager = worker.wait(async move { Ok::<_, E>(make.await?.start().await?) })??;
        Ok(Self { manager, worker })
    }

    /// The scope of `tenant` and `purpose`.
    ///
    /// # Errors
    /// As [`Manager::scope`](crate::Manager::scope).
    pub fn scope(&self, tenant: &str, purpose: &str) -> Result<Scope, Error> {
        let scope = self.manager.scope(tenant, purpose)?;
        Ok(Scope { scope, worker: Arc::clone(&self.worker) })
    }

    /// As [`Manager::sync`](crate::Manager::sync).
    ///
    /// # Errors
    /// The same.
    pub fn sync(&self) -> Result<(), Error> {
        let manager = self.manager.clone();
        self.worker.wait(async move { manager.sync().await })?
    }

    /// As [`Manager::stats`](crate::Manager::stats).
    pub fn stats(&self) -> Stats {
        self.manager.stats()
    }

    /// As [`Manager::close`](crate::Manager::close).
    ///
    /// # Errors
    /// The same.
    pub fn close(&self) -> Result<(), Error> {
        let manager = self.manager.clone();
        self.worker.wait(async move { manager.close().await })?
    }
}

impl Scope {
    /// As [`Scope::seal`](crate::Scope::seal).
    ///
    /// # Errors
    /// The same.
    pub fn seal(&self, plaintext: &[u8], context: &RecordContext) -> Result<Vec<u8>, Error> {
        match self.scope.try_seal(plaintext, context) {
            Err(Error::NotWarm) => {}
            outcome => return outcome,
        }
        let (scope, context) = (self.scope.clone(), context.clone());
        let plaintext = Zeroizing::new(plaintext.to_vec());
        self.worker.wait(async move { scope.seal(&plaintext, &context).await })?
    }

    /// As [`Scope::open`](crate::Scope::open).
    ///
    /// # Errors
    /// The same.
    pub fn open(&self, envelope: &[u8], context: &RecordContext) -> Result<Opened, Error> {
        match self.scope.try_open(envelope, context) {
            Err(Error::NotWarm) => {}
            outcome => return outcome,
        }
        let (scope, context, envelope) = (self.scope.clone(), context.clone(), envelope.to_vec());
        self.worker.wait(async move { scope.open(&envelope, &context).await })?
    }

    /// As [`Scope::reseal`](crate::Scope::reseal).
    ///
    /// # Errors
    /// The same.
    pub fn reseal(
        &self,
        envelope: &[u8],
        context: &RecordContext,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (scope, context, envelope) = (self.scope.clone(), context.clone(), envelope.to_vec());
        self.worker.wait(async move { scope.reseal(&envelope, &context).await })?
    }

    /// As [`Scope::prepare`](crate::Scope::prepare).
    ///
    /// # Errors
    /// The same.
    pub fn prepare(&self) -> Result<DekVersion, Error> {
        let scope = self.scope.clone();
        self.worker.wait(async move { scope.prepare().await })?
    }

    /// As [`Scope::prepare_to_open`](crate::Scope::prepare_to_open); call it before
    /// opening many records.
    ///
    /// # Errors
    /// The same.
    pub fn prepare_to_open(&self, envelopes: &[&[u8]]) -> Result<(), Error> {
        let scope = self.scope.clone();
        // Only the headers matter.
        let headers: Vec<_> =
            envelopes.iter().map(|bytes| bytes[..bytes.len().min(HEADER)].to_vec()).collect();
        self.worker
            .wait(async move { scope.prepare_to_open(headers.iter().map(Vec::as_slice)).await })?
    }

    /// As [`Scope::rotate`](crate::Scope::rotate).
    ///
    /// # Errors
    /// The same.
    pub fn rotate(&self) -> Result<Rotation, Error> {
        let scope = self.scope.clone();
        self.worker.wait(async move { scope.rotate().await })?
    }
}

const HEADER: usize = bulla_core::Header::LEN;

/// A thread that runs a runtime until it is dropped.
#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// The process that has the thread.
    process: u32,
    /// Dropped to stop the thread.
    _stop: oneshot::Sender<()>,
}

impl Worker {
    fn start() -> Result<Self, Error> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|_| Error::NoRuntime)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new()
            .name("bulla".into())
            .spawn(move || {
                // An error says that the worker was dropped, which is what this waits for.
                let _ = runtime.block_on(stopped);
            })
            .map_err(|_| Error::NoRuntime)?;
        Ok(Self { handle, process: process::id(), _stop: stop })
    }

    /// Runs `work` on the worker's thread and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        // Nobody would answer: a forked child has none of its parent's threads.
        if process::id() != self.process {
            return Err(Error::ProcessForked);
        }
        let (done, outcome) = mpsc::sync_channel(1);
        drop(self.handle.spawn(async move {
            // Nobody listens if the caller's thread is gone.
            let _ = done.send(work.await);
        }));
        outcome.recv().map_err(|_| Error::Closed)
    }
}
