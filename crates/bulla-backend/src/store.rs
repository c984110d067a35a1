//! Where wrapped DEKs live.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bulla_core::{DekVersion, KeyId};

use crate::{KekId, KekState, KekVersion, ScopeId, StoreError, WrappedKey};

/// The key store: wrapped DEKs, their lineages and states.
///
/// The store is trusted for state and freshness, never for the identity of a key:
/// whatever it returns is checked against the key id that is derived from the
/// unwrapped DEK.
///
/// # Contract
/// - What a call wrote is durable when it returns, in a transaction of its own; a
///   failed or dropped call wrote all of it or nothing.
/// - Reads see every write that completed before they began (a store with replicas
///   reads its primary).
/// - Every mutation bumps the revision of the store and stamps the rows it touches
///   with it, in commit order, so that [`changes_since`](Self::changes_since) misses
///   none.
/// - Times and ages are by the store's clock.
/// - A row that this library cannot have written is
///   [`Corrupt`](crate::StoreErrorKind::Corrupt), never skipped.
/// - What exceeds a limit is [`Refused`](crate::StoreErrorKind::Refused) before
///   anything is written: 16 wraps of a DEK, blobs of 1 to 1024 bytes, KEK ids of 1 to 512, names of KEK
///   versions of 1 to 255, member ids of 1 to 64, none of the texts with a NUL.
/// - A call that changed nothing has no revision.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Looks up any number of DEKs in one read; the answers are in the order of the
    /// queries, `None` for what does not exist or is in another scope.
    async fn find_deks(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, StoreError>;

    /// Asks for the right to make the version after `request.after`. Only a hint,
    /// which spares other processes their KMS calls: the unique (scope, version)
    /// decides in [`insert_dek`](Self::insert_dek). An `after` that the store does not
    /// have is [`Refused`](crate::StoreErrorKind::Refused).
    async fn claim_next_version(&self, request: &ClaimRequest) -> Result<Claim, StoreError>;

    /// Stores a new version and ends the claim on it. The first version of a scope is
    /// active at once; a later one is pending until
    /// [`activate_due`](Self::activate_due). A version that would leave a gap, or a key
    /// id that another DEK has, is [`Refused`](crate::StoreErrorKind::Refused); so are
    /// two wraps by one KEK.
    async fn insert_dek(&self, dek: &NewDek) -> Result<Insertion, StoreError>;

    /// Makes every pending version active whose delay has passed and whose revision
    /// every live member has acknowledged; the version that was active becomes
    /// decrypt-only in the same transaction. So does, at once, a pending one that is
    /// older than the active one: a lineage never goes back. Returns how many there
    /// were.
    async fn activate_due(&self) -> Result<u64, StoreError>;

    /// Moves a DEK from one state to another if it is in `change.from`; returns
    /// whether it was.
    async fn change_state(&self, change: &StateChange) -> Result<bool, StoreError>;

    /// Replaces a wrap if it is still at revision `swap.expected_rev` and neither the
    /// new one's KEK nor its version is known to be unusable; returns whether it was.
    /// Logs the old KEK version, without the blob.
    async fn replace_wrap(&self, swap: &WrapSwap) -> Result<bool, StoreError>;

    /// Adds a wrap if the DEK still has wraps, its slot is free, no other wrap of the DEK
    /// is by the same KEK, and neither that KEK nor its version is known to be unusable;
    /// returns whether it did.
    async fn add_wrap(&self, wrap: &NewWrap) -> Result<bool, StoreError>;

    /// Records what a KMS says about a KEK and its versions. Versions that it does not
    /// tell about stay as they are known.
    async fn record_kek(&self, state: &KekState) -> Result<(), StoreError>;

    /// How many wraps depend on each version of `kek` that has any. Exact.
    async fn kek_usage(&self, kek: &KekId) -> Result<Vec<KekUsage>, StoreError>;

    /// What changed after `seen`, oldest first, at most about `limit` DEKs, never a
    /// part of one revision. With `None`: no changes, the present revision; so too
    /// with a revision that is still to come, as after the store was put back.
    async fn changes_since(
        &self,
        seen: Option<StoreRevision>,
        limit: u32,
    ) -> Result<Changes, StoreError>;

    /// Says that a process is alive and which revision it has seen. That is never
    /// taken back; one still to come is [`Refused`](crate::StoreErrorKind::Refused).
    async fn report_member(&self, report: &MemberReport) -> Result<(), StoreError>;

    /// Says that a process has ended; nothing to do for one that is not known.
    async fn remove_member(&self, member: &MemberId) -> Result<(), StoreError>;
}

/// One look-up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DekQuery {
    /// The active DEK of a scope.
    Active(ScopeId),
    /// The DEK `key_id`, if it belongs to `scope`.
    Key {
        /// The scope that it must belong to.
        scope: ScopeId,
        /// Its name.
        key_id: KeyId,
    },
}

/// A DEK as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DekRecord {
    /// The scope of its lineage.
    pub scope: ScopeId,
    /// Its version there.
    pub version: DekVersion,
    /// Its name.
    pub key_id: KeyId,
    /// Its state.
    pub state: DekState,
    /// How long ago it was made, by the store's clock.
    pub age: Duration,
    /// Its wraps by slot; empty once it is shredded.
    pub wraps: Vec<StoredWrap>,
}

impl DekRecord {
    /// Puts a record together.
    pub fn new(
        scope: ScopeId,
        version: DekVersion,
        key_id: KeyId,
        state: DekState,
        age: Duration,
        wraps: Vec<StoredWrap>,
    ) -> Self {
        Self { scope, version, key_id, state, age, wraps }
    }
}

/// A wrap in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredWrap {
    /// Which of the DEK's wraps it is: 0 is the first.
    pub slot: u8,
    /// Revision of this wrap, for compare-and-swap.
    pub rev: u64,
    /// The wrap.
    pub wrapped: WrappedKey,
}

impl StoredWrap {
    /// Wraps that one DEK has at most, in the slots 0 to 15.
    pub const PER_DEK_MAX: usize = 16;

    /// Puts a wrap together.
    pub fn new(slot: u8, rev: u64, wrapped: WrappedKey) -> Self {
        Self { slot, rev, wrapped }
    }
}

/// State of a DEK: `pending -> active -> decrypt-only <-> disabled`, and from any of
/// these `shredded -> final`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DekState {
    /// Made, and not used for sealing until every live process knows it.
    Pending,
    /// Seals and opens; one per scope.
    Active,
    /// Opens what it has sealed.
    DecryptOnly,
    /// Neither, until it is enabled again.
    Disabled,
    /// Its wraps are deleted here; copies may survive in backups.
    Shredded,
    /// No copy of its wraps can come back.
    Final,
}

impl DekState {
    /// Every state, in the order of the diagram.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Active,
        Self::DecryptOnly,
        Self::Disabled,
        Self::Shredded,
        Self::Final,
    ];

    /// The word that stores and reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
            Self::Shredded => "shredded",
            Self::Final => "final",
        }
    }

    /// The state of a word that [`as_str`](Self::as_str) gives.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether a DEK in this state opens records.
    pub const fn opens(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::DecryptOnly)
    }

    /// Whether the state may be changed to `to` by
    /// [`change_state`](KeyStore::change_state).
    pub const fn may_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Active, Self::DecryptOnly)
                | (Self::DecryptOnly, Self::Disabled)
                | (Self::Disabled, Self::DecryptOnly)
                | (
                    Self::Pending | Self::Active | Self::DecryptOnly | Self::Disabled,
                    Self::Shredded
                )
                | (Self::Shredded, Self::Final)
        )
    }
}

impl fmt::Display for DekState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks for the right to make a scope's next version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimRequest {
    /// The scope.
    pub scope: ScopeId,
    /// The newest version that the caller knows; `None` for a scope without one.
    pub after: Option<DekVersion>,
    /// Who asks.
    pub owner: MemberId,
    /// How long the claim holds unless it is used. Claiming again extends it.
    pub ttl: Duration,
}

impl ClaimRequest {
    /// Puts a request together.
    pub fn new(scope: ScopeId, after: Option<DekVersion>, owner: MemberId, ttl: Duration) -> Self {
        Self { scope, after, owner, ttl }
    }
}

/// Answer to a [`ClaimRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Make this version.
    Granted(DekVersion),
    /// Another process is making it; look again later.
    Busy {
        /// When its claim ends.
        remaining: Duration,
    },
    /// There is a newer version than the caller knows: adopt it if it is pending or
    /// active, claim after it otherwise.
    Superseded {
        /// The newest version of the scope.
        newest: DekVersion,
        /// Its state.
        state: DekState,
    },
}

/// A new version of a scope's DEK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewDek {
    /// The scope.
    pub scope: ScopeId,
    /// The version, as granted.
    pub version: DekVersion,
    /// Its name.
    pub key_id: KeyId,
    /// Its wrap, which becomes slot 0.
    pub wrapped: WrappedKey,
    /// Wraps by other KEKs, which become slots 1 and up.
    pub also_wrapped: Vec<WrappedKey>,
    /// How long it stays pending at least, if it is not the scope's first.
    pub activation_delay: Duration,
}

impl NewDek {
    /// Puts a new DEK with a single wrap together.
    pub fn new(
        scope: ScopeId,
        version: DekVersion,
        key_id: KeyId,
        wrapped: WrappedKey,
        activation_delay: Duration,
    ) -> Self {
        let also_wrapped = Vec::new();
        Self { scope, version, key_id, wrapped, also_wrapped, activation_delay }
    }

    /// The same with wraps by other KEKs.
    pub fn also_wrapped(mut self, wraps: Vec<WrappedKey>) -> Self {
        self.also_wrapped = wraps;
        self
    }

    /// All its wraps, in the order of their slots.
    pub fn wraps(&self) -> impl Iterator<Item = &WrappedKey> {
        [&self.wrapped].into_iter().chain(&self.also_wrapped)
    }
}

/// Answer to [`insert_dek`](KeyStore::insert_dek).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// It is stored, in this state.
    Stored(DekState),
    /// Another process has stored this version, or a newer one: adopt that.
    Lost,
}

/// Moves a DEK from one state to another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChange {
    /// The DEK.
    pub key_id: KeyId,
    /// The state that it must be in.
    pub from: DekState,
    /// The state that it gets. Shredding deletes its wraps.
    pub to: DekState,
}

impl StateChange {
    /// Puts a change together; `None` if the state diagram has no such arrow.
    pub fn new(key_id: KeyId, from: DekState, to: DekState) -> Option<Self> {
        from.may_become(to).then_some(Self { key_id, from, to })
    }
}

/// Replaces a wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrapSwap {
    /// The DEK.
    pub key_id: KeyId,
    /// Which of its wraps.
    pub slot: u8,
    /// The revision that the wrap must still have.
    pub expected_rev: u64,
    /// The new wrap, verified by unwrapping.
    pub wrapped: WrappedKey,
}

impl WrapSwap {
    /// Puts a swap together.
    pub fn new(key_id: KeyId, slot: u8, expected_rev: u64, wrapped: WrappedKey) -> Self {
        Self { key_id, slot, expected_rev, wrapped }
    }
}

/// Adds a wrap by another KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewWrap {
    /// The DEK.
    pub key_id: KeyId,
    /// Which of its wraps it becomes.
    pub slot: u8,
    /// The wrap, verified by unwrapping.
    pub wrapped: WrappedKey,
}

impl NewWrap {
    /// Puts a new wrap together.
    pub fn new(key_id: KeyId, slot: u8, wrapped: WrappedKey) -> Self {
        Self { key_id, slot, wrapped }
    }
}

/// How many wraps depend on one version of a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KekUsage {
    /// The version.
    pub kek_version: KekVersion,
    /// Wraps made by it.
    pub wraps: u64,
}

impl KekUsage {
    /// Puts a count together.
    pub fn new(kek_version: KekVersion, wraps: u64) -> Self {
        Self { kek_version, wraps }
    }
}

/// Revision of a whole store; grows with every mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreRevision(pub u64);

/// Which store this is. It changes when a store is restored from a backup: then
/// nothing that was cached may be believed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StoreIdentity {
    /// Made when the store was created.
    pub store_id: Arc<str>,
    /// Bumped by every restore.
    pub epoch: u64,
}

impl StoreIdentity {
    /// Puts an identity together.
    pub fn new(store_id: impl Into<Arc<str>>, epoch: u64) -> Self {
        Self { store_id: store_id.into(), epoch }
    }
}

/// Part of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Which store answered.
    pub identity: StoreIdentity,
    /// The revision up to which this part tells everything.
    pub revision: StoreRevision,
    /// Whether there is more after it.
    pub more: bool,
    /// Each DEK that changed, once, as it is now.
    pub deks: Vec<DekChange>,
}

impl Changes {
    /// Puts a part together.
    pub fn new(
        identity: StoreIdentity,
        revision: StoreRevision,
        more: bool,
        deks: Vec<DekChange>,
    ) -> Self {
        Self { identity, revision, more, deks }
    }
}

/// A DEK that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DekChange {
    /// Its scope.
    pub scope: ScopeId,
    /// Its name.
    pub key_id: KeyId,
    /// Its version.
    pub version: DekVersion,
    /// Its state now.
    pub state: DekState,
}

impl DekChange {
    /// Puts a change together.
    pub fn new(scope: ScopeId, key_id: KeyId, version: DekVersion, state: DekState) -> Self {
        Self { scope, key_id, version, state }
    }
}

/// Names one run of one process: unique, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberId(Arc<str>);

impl MemberId {
    /// Names a run.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A process says that it is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberReport {
    /// Which process.
    pub member: MemberId,
    /// The revision up to which it knows every change.
    pub acknowledged: StoreRevision,
    /// How long it counts as alive from now on.
    pub alive_for: Duration,
    /// How long it may go on sealing without reaching the store.
    pub seal_lease: Duration,
}

impl MemberReport {
    /// Puts a report together.
    pub fn new(
        member: MemberId,
        acknowledged: StoreRevision,
        alive_for: Duration,
        seal_lease: Duration,
    ) -> Self {
        Self { member, acknowledged, alive_for, seal_lease }
    }
}
