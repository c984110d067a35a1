//! The manager and its builder.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bulla_backend::{
    Clock, Kek, KekId, KekStatus, KeyStore, KmsErrorKind, MemberId, ScopeId, StoredWrap,
};
use bulla_core::{KeyError, KeyOptions};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::cache::Cache;
use crate::flights::Flights;
use crate::inner::{Inner, in_time};
use crate::kek::KekHandle;
use crate::rewrap::RewrapQueue;
use crate::stats::{Counters, Stats};
use crate::upkeep::FeedPosition;
use crate::{Error, Policy, Profile, Scope, SystemClock, rewrap, upkeep};

/// The DEK manager of a process: caches unwrapped DEKs, makes and rotates them, and
/// keeps them in step with the key store and the KMS. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use bulla_core::RecordContext;
/// use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock};
/// use bulla_testkit::TestKms;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kek = Arc::new(TestKms::new("example"));
/// let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
/// let manager = Manager::builder(Profile::Development, kek, store).start().await?;
///
/// let orders = manager.scope("t-9f2c", "orders")?;
/// let record = RecordContext::new([("table", "orders"), ("column", "note"), ("row", "42")])?;
/// let envelope = orders.seal(b"leave it at the door", &record).await?;
/// let opened = orders.open(&envelope, &record).await?;
/// assert_eq!(opened.plaintext, b"leave it at the door");
/// assert!(opened.freshness.is_current());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Manager {
    inner: Arc<Inner>,
}

impl Manager {
    /// A manager that makes new DEKs under `kek` and keeps them in `store`.
    pub fn builder(
        profile: Profile,
        kek: Arc<dyn Kek>,
        store: Arc<dyn KeyStore>,
    ) -> ManagerBuilder {
        ManagerBuilder {
            profile,
            kek,
            also_wrapping: Vec::new(),
            others: Vec::new(),
            store,
            policy: Policy::default(),
            key_options: KeyOptions::default(),
            clock: Arc::new(SystemClock),
            allow_local_kek: false,
        }
    }

    /// The scope of `tenant` and `purpose`: opaque identifiers, see [`ScopeId`].
    /// Touches neither store nor KMS.
    ///
    /// # Errors
    /// [`Error::Scope`] if they cannot name one.
    pub fn scope(&self, tenant: &str, purpose: &str) -> Result<Scope, Error> {
        Ok(self.scope_of(&ScopeId::new(tenant, purpose)?))
    }

    /// The scope `id`.
    pub fn scope_of(&self, id: &ScopeId) -> Scope {
        Scope::new(Arc::clone(&self.inner), id)
    }

    /// Learns now what the background would learn within `feed_interval` and
    /// `probe_interval`: changed DEKs, the state and version of each KEK. Remembered
    /// failures are forgotten. For tools and tests that have just rotated a KEK;
    /// services need not call it.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read. A KEK that cannot be probed is
    /// no error: its keys serve until their deadline.
    pub async fn sync(&self) -> Result<(), Error> {
        self.inner.check_running()?;
        self.inner.cache.forget_failures();
        self.inner.in_time(self.inner.look_at_feed()).await?;
        self.inner.probe_all_now().await;
        Ok(())
    }

    /// Completes when no rewrap is waiting or running.
    pub async fn rewraps_settled(&self) {
        self.inner.rewraps.settled().await;
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.inner.counters.count_unlocked_keys();
        self.inner.counters.snapshot()
    }

    /// Wipes every cached key and tells the other processes that this one has ended.
    /// Every later call fails with [`Error::Closed`]. Keys are wiped at once even if
    /// the future is dropped.
    ///
    /// # Errors
    /// [`Error::Store`] if the store could not be told; the others then wait for the
    /// policy's `member_alive_for`.
    pub async fn close(&self) -> Result<(), Error> {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.halt();
        self.inner
            .in_time(async {
                // A look at the feed that is under way would report this process again.
                let _feed = self.inner.feed_position.0.lock().await;
                self.inner.halt();
                Ok(self.inner.store.remove_member(&self.inner.member).await?)
            })
            .await
    }
}

/// Builds a [`Manager`].
#[derive(Debug)]
pub struct ManagerBuilder {
    profile: Profile,
    kek: Arc<dyn Kek>,
    also_wrapping: Vec<Arc<dyn Kek>>,
    others: Vec<Arc<dyn Kek>>,
    store: Arc<dyn KeyStore>,
    policy: Policy,
    key_options: KeyOptions,
    clock: Arc<dyn Clock>,
    allow_local_kek: bool,
}

impl ManagerBuilder {
    /// Lets the manager unwrap DEKs of another KEK as well.
    pub fn also_unwrap_with(mut self, kek: Arc<dyn Kek>) -> Self {
        self.others.push(kek);
        self
    }

    /// Wraps each DEK under another KEK as well: in another region, at another KMS, in a
    /// safe. Any one of them then opens it, so the loss of a KMS is not the loss of the
    /// data. 15 at most, each with an id of its own: replicas of *one* KEK go into
    /// [`Failover`](crate::layers::Failover).
    ///
    /// - A new DEK is made when *every* KEK has wrapped it and has proven, by unwrapping,
    ///   that it can open it. While one of them is down, no DEKs are made or rotated.
    /// - A DEK is loaded by the first KEK that can. It serves by that KEK's leave: if that
    ///   is revoked or not heard of for too long, the key is wiped, and the next use loads
    ///   it by another KEK. To take a key away from a service, revoke *all* of its KEKs.
    /// - DEKs that lack a wrap, because they are older than this setting, get it in the
    ///   background when they are used, unless the policy's `rewrap_concurrency` is 0.
    /// - A KEK that is disabled does not keep the manager from starting if another of them
    ///   is not.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use bulla_core::RecordContext;
    /// # use bulla_manager::{Manager, MemoryKeyStore, Profile, SystemClock};
    /// # use bulla_testkit::TestKms;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryKeyStore::new(Arc::new(SystemClock))?);
    /// # let record = RecordContext::new([("table", "orders"), ("row", "42")])?;
    /// let (here, elsewhere) = (Arc::new(TestKms::new("here")), Arc::new(TestKms::new("elsewhere")));
    /// let manager = Manager::builder(Profile::Development, here, store.clone())
    ///     .also_wrap_with(elsewhere.clone())
    ///     .start()
    ///     .await?;
    /// let envelope = manager.scope("t-9f2c", "orders")?.seal(b"mind the dog", &record).await?;
    ///
    /// // Another process, long after the first KMS burnt down.
    /// let manager = Manager::builder(Profile::Development, elsewhere, store).start().await?;
    /// let opened = manager.scope("t-9f2c", "orders")?.open(&envelope, &record).await?;
    /// assert_eq!(opened.plaintext, b"mind the dog");
    /// # Ok(())
    /// # }
    /// ```
    pub fn also_wrap_with(mut self, kek: Arc<dyn Kek>) -> Self {
        self.also_wrapping.push(kek);
        self
    }

    /// Limits and intervals other than the default ones.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Suites, AEAD library and nonce mode other than the default ones.
    pub fn key_options(mut self, options: KeyOptions) -> Self {
        self.key_options = options;
        // What a key seals it opens, and so do those who have to load it first.
        self.key_options.accepted = options.opens();
        self
    }

    /// A clock other than the system's, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Accepts, in profile production, a KEK whose key material is in this process.
    pub fn allow_local_kek(mut self) -> Self {
        self.allow_local_kek = true;
        self
    }

    /// Checks the set-up against the store and the KMS, and starts the background
    /// work on the current tokio runtime.
    ///
    /// A KMS that is down is no obstacle: what it must unwrap will wait for it.
    ///
    /// # Errors
    /// [`Error::Policy`] and [`Error::Profile`] for contradictions, [`Error::Store`]
    /// if the store cannot be read, [`Error::Kms`] if a KEK is disabled, does not
    /// exist, or this process cannot authenticate, [`Error::NoRuntime`] outside
    /// tokio.
    pub async fn start(self) -> Result<Manager, Error> {
        self.policy.check()?;
        self.check_profile()?;
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let counters = Arc::new(Counters::default());
        let at_once = self.policy.kms_concurrency;
        let handle = |kek| Arc::new(KekHandle::new(kek, Arc::clone(&counters), at_once));
        let kek = handle(self.kek);
        let mut keks: HashMap<KekId, _> = HashMap::from([(kek.id().clone(), Arc::clone(&kek))]);
        let mut also_wrapping = Vec::new();
        for other in self.also_wrapping {
            match keks.get(other.kek()) {
                Some(known) => known.check_same(&other)?,
                None => {
                    let other = handle(other);
                    keks.insert(other.id().clone(), Arc::clone(&other));
                    also_wrapping.push(other);
                }
            }
        }
        if also_wrapping.len() >= StoredWrap::PER_DEK_MAX {
            return Err(Error::Policy("also_wrap_with takes 15 KEKs at most"));
        }
        for other in self.others {
            match keks.get(other.kek()) {
                Some(known) => known.check_same(&other)?,
                None => {
                    keks.insert(other.kek().clone(), handle(other));
                }
            }
        }
        let now = in_time(&*self.clock, self.policy.load_timeout, async {
            Ok(self.store.changes_since(None, 0).await?)
        })
        .await?;
        let (rewraps, asked) = RewrapQueue::new();
        let inner = Arc::new(Inner {
            cache: Cache::new(self.policy.cached_deks_max, &counters),
            policy: self.policy,
            key_options: self.key_options,
            clock: self.clock,
            store: self.store,
            member: new_member()?,
            identity: now.identity,
            counters,
            runtime,
            kek,
            also_wrapping,
            keks,
            rewraps,
            feed_position: FeedPosition(Mutex::new(now.revision)),
            flights: Flights::default(),
            unwraps: Flights::default(),
            feed_batch: AtomicU64::default(),
            applying: std::sync::Mutex::default(),
            feed_valid_until: AtomicU64::default(),
            seals_until: AtomicU64::default(),
            store_replaced: AtomicBool::default(),
            closed: AtomicBool::default(),
        });
        check_keks(&inner).await?;
        inner.in_time(inner.see_feed()).await?;
        inner.spawn(upkeep::run(Arc::downgrade(&inner)));
        inner.spawn(rewrap::run(Arc::downgrade(&inner), asked));
        Ok(Manager { inner })
    }

    fn check_profile(&self) -> Result<(), Error> {
        if self.profile == Profile::Development {
            return Ok(());
        }
        for kek in self.others.iter().chain(&self.also_wrapping).chain([&self.kek]) {
            let can = kek.capabilities();
            let reason = if !can.remote && !self.allow_local_kek {
                "its key material is in this process; use a KMS, or say allow_local_kek()"
            } else if !can.authenticated_wrap {
                "anyone who can write the key store could plant keys under it"
            } else {
                continue;
            };
            return Err(Error::Profile { kek: kek.kek().clone(), reason });
        }
        Ok(())
    }
}

/// Learns the state of each KEK, and refuses those that cannot be used. Of those that wrap
/// new DEKs, one that can be used is enough: it opens what they all wrapped.
async fn check_keks(inner: &Inner) -> Result<(), Error> {
    let mut closed = None;
    let mut wrapping = inner.keyring().count();
    for kek in inner.keks.values() {
        let wraps = inner.keyring().any(|other| Arc::ptr_eq(other, kek));
        match check_kek(inner, kek).await {
            Err(error @ Error::KekClosed { .. }) if wraps => {
                tracing::warn!(%error, "no data keys are made until it is enabled");
                wrapping -= 1;
                closed = Some(error);
            }
            outcome => outcome?,
        }
    }
    closed.filter(|_| wrapping == 0).map_or(Ok(()), Err)
}

/// Learns the state of a KEK at the start, and refuses one that cannot be used.
async fn check_kek(inner: &Inner, kek: &KekHandle) -> Result<(), Error> {
    let described = inner.in_time(async { Ok(kek.describe().await?) }).await;
    match described {
        Ok(state) if state.status != KekStatus::Enabled => {
            Err(Error::KekClosed { kek: kek.id().clone(), status: state.status })
        }
        Ok(state) => {
            kek.learn(&state);
            let recorded = async { Ok(inner.store.record_kek(&state).await?) };
            if let Err(error) = inner.in_time(recorded).await {
                tracing::warn!(kek = %kek.id(), %error, "the state of a KEK was not recorded");
            }
            Ok(())
        }
        Err(Error::Kms(error)) => match error.kind() {
            KmsErrorKind::Unavailable
            | KmsErrorKind::Throttled
            // A service may well be allowed to unwrap and not to describe.
            | KmsErrorKind::Denied
            | KmsErrorKind::Unsupported => {
                tracing::warn!(kek = %kek.id(), %error, "starting without knowing the state of a KEK");
                Ok(())
            }
            _ => Err(Error::Kms(error)),
        },
        Err(Error::Timeout) => {
            tracing::warn!(kek = %kek.id(), "starting although a key service does not answer");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn new_member() -> Result<MemberId, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| KeyError::Random)?;
    Ok(MemberId::new(data_encoding::HEXLOWER.encode(&random)))
}
