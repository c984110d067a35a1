//! The key store that is gone with the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bulla_backend::{
    Changes, Claim, ClaimRequest, Clock, DekChange, DekQuery, DekRecord, DekState, Insertion,
    Instant, KekId, KekState, KekStatus, KekUsage, KekVersion, KeyStore, MemberId, MemberReport,
    NewDek, NewWrap, ScopeId, StateChange, StoreError, StoreErrorKind, StoreIdentity,
    StoreRevision, StoredWrap, WrapSwap, WrappedKey,
};
use bulla_core::{DekVersion, KeyId};

const KEK_ID_BYTES_MAX: usize = 512;
const KEK_VERSION_BYTES_MAX: usize = 255;
const MEMBER_ID_BYTES_MAX: usize = 64;

/// A [`KeyStore`] in memory, for tests, examples and envelopes that need not
/// outlive the process: **whatever was sealed under its DEKs is lost with it**.
///
/// Clones share the store, as two processes share a database. Ages and deadlines are
/// by the clock that it is given. Calls never wait for anything but a short lock and
/// complete at their first poll, so dropping one cannot interrupt it.
///
/// Of what the contract asks it keeps all but the log of replaced wraps, which serves
/// to find copies in backups: there are none of this store.
#[derive(Clone)]
pub struct MemoryKeyStore {
    clock: Arc<dyn Clock>,
    tables: Arc<Mutex<Tables>>,
}

impl MemoryKeyStore {
    /// An empty store with an identity of its own.
    ///
    /// # Errors
    /// [`Unavailable`](StoreErrorKind::Unavailable) when the system gives no random
    /// bytes to name the store by.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "the system gives no random bytes")
                .with_source(error)
        })?;
        let identity = StoreIdentity::new(format!("{:032x}", u128::from_be_bytes(id)), 1);
        Ok(Self { clock, tables: Arc::new(Mutex::new(Tables::new(identity))) })
    }

    fn tables(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        // A panic between two writes may have left half of a mutation behind.
        self.tables.lock().map_err(|_| {
            StoreError::new(StoreErrorKind::Corrupt, "a panic interrupted a write to memory")
        })
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn find_deks(&self, queries: &[DekQuery]) -> Result<Vec<Option<DekRecord>>, StoreError> {
        let now = self.clock.now();
        let tables = self.tables()?;
        Ok(queries.iter().map(|query| tables.find(query, now)).collect())
    }

    async fn claim_next_version(&self, request: &ClaimRequest) -> Result<Claim, StoreError> {
        check_member(&request.owner)?;
        self.tables()?.claim(request, self.clock.now())
    }

    async fn insert_dek(&self, dek: &NewDek) -> Result<Insertion, StoreError> {
        dek.wraps().try_for_each(check_wrap)?;
        check_slots(dek)?;
        self.tables()?.insert(dek, self.clock.now())
    }

    async fn activate_due(&self) -> Result<u64, StoreError> {
        Ok(self.tables()?.activate_due(self.clock.now()))
    }

    async fn change_state(&self, change: &StateChange) -> Result<bool, StoreError> {
        if !change.from.may_become(change.to) {
            return Err(refused("the state diagram has no such arrow"));
        }
        Ok(self.tables()?.change_state(change))
    }

    async fn replace_wrap(&self, swap: &WrapSwap) -> Result<bool, StoreError> {
        check_wrap(&swap.wrapped)?;
        Ok(self.tables()?.replace_wrap(swap))
    }

    async fn add_wrap(&self, wrap: &NewWrap) -> Result<bool, StoreError> {
        check_wrap(&wrap.wrapped)?;
        check_slot(wrap.slot)?;
        Ok(self.tables()?.add_wrap(wrap))
    }

    async fn record_kek(&self, state: &KekState) -> Result<(), StoreError> {
        check_kek(&state.kek)?;
        state.versions.iter().try_for_each(|version| check_label(&version.label))?;
        state.current.label().map_or(Ok(()), check_label)?;
        self.tables()?.record_kek(state);
        Ok(())
    }

    async fn kek_usage(&self, kek: &KekId) -> Result<Vec<KekUsage>, StoreError> {
        Ok(self.tables()?.kek_usage(kek))
    }

    async fn changes_since(
        &self,
        seen: Option<StoreRevision>,
        limit: u32,
    ) -> Result<Changes, StoreError> {
        Ok(self.tables()?.changes_since(seen, limit))
    }

    async fn report_member(&self, report: &MemberReport) -> Result<(), StoreError> {
        check_member(&report.member)?;
        self.tables()?.report_member(report, self.clock.now())
    }

    async fn remove_member(&self, member: &MemberId) -> Result<(), StoreError> {
        self.tables()?.remove_member(member);
        Ok(())
    }
}

impl fmt::Debug for MemoryKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeyStore").finish_non_exhaustive()
    }
}

/// What a database would hold. A method that can fail does so before it writes.
struct Tables {
    identity: StoreIdentity,
    revision: u64,
    deks: HashMap<KeyId, Dek>,
    lineages: HashMap<ScopeId, Lineage>,
    /// Each DEK at the revision that touched it last.
    feed: BTreeSet<(u64, KeyId)>,
    /// The DEKs that wait for their activation.
    pending: BTreeSet<KeyId>,
    keks: HashMap<KekId, Kek>,
    members: HashMap<MemberId, Member>,
}

struct Dek {
    scope: ScopeId,
    version: DekVersion,
    state: DekState,
    created_at: Instant,
    activate_at: Instant,
    rev: u64,
    wraps: Vec<StoredWrap>,
}

#[derive(Default)]
struct Lineage {
    versions: BTreeMap<DekVersion, KeyId>,
    active: Option<KeyId>,
    claim: Option<(MemberId, Instant)>,
}

impl Lineage {
    fn newest(&self) -> Option<DekVersion> {
        self.versions.last_key_value().map(|(version, _)| *version)
    }
}

#[derive(Clone, PartialEq)]
struct Kek {
    status: KekStatus,
    versions: HashMap<Arc<str>, KekStatus>,
}

#[derive(Clone, Copy)]
struct Member {
    alive_until: Instant,
    acknowledged: u64,
}

impl Tables {
    fn new(identity: StoreIdentity) -> Self {
        Self {
            identity,
            revision: 0,
            deks: HashMap::new(),
            lineages: HashMap::new(),
            feed: BTreeSet::new(),
            pending: BTreeSet::new(),
            keks: HashMap::new(),
            members: HashMap::new(),
        }
    }

    fn find(&self, query: &DekQuery, now: Instant) -> Option<DekRecord> {
        let (scope, key_id) = match query {
            DekQuery::Active(scope) => (scope, self.lineages.get(scope)?.active?),
            DekQuery::Key { scope, key_id } => (scope, *key_id),
        };
        let dek = self.deks.get(&key_id).filter(|dek| dek.scope == *scope)?;
        Some(DekRecord::new(
            dek.scope.clone(),
            dek.version,
            key_id,
            dek.state,
            now.since(dek.created_at),
            dek.wraps.clone(),
        ))
    }

    fn newest_of(&self, scope: &ScopeId) -> Option<(DekVersion, DekState)> {
        let (version, key_id) = self.lineages.get(scope)?.versions.last_key_value()?;
        Some((*version, self.deks.get(key_id)?.state))
    }

    fn claim(&mut self, request: &ClaimRequest, now: Instant) -> Result<Claim, StoreError> {
        let lineage = self.lineages.get(&request.scope);
        let newest = lineage.and_then(Lineage::newest);
        if newest > request.after
            && let Some((newest, state)) = self.newest_of(&request.scope)
        {
            return Ok(Claim::Superseded { newest, state });
        }
        if newest < request.after {
            return Err(refused("the claim is on top of a version that the store does not have"));
        }
        let next = match request.after {
            None => DekVersion::FIRST,
            Some(after) => after.next().ok_or_else(|| refused("the scope is out of versions"))?,
        };
        if let Some((owner, until)) = lineage.and_then(|lineage| lineage.claim.as_ref())
            && *owner != request.owner
            && now < *until
        {
            return Ok(Claim::Busy { remaining: until.since(now) });
        }
        self.bump();
        self.lineages.entry(request.scope.clone()).or_default().claim =
            Some((request.owner.clone(), now.after(request.ttl)));
        Ok(Claim::Granted(next))
    }

    fn insert(&mut self, dek: &NewDek, now: Instant) -> Result<Insertion, StoreError> {
        let newest = self.lineages.get(&dek.scope).and_then(Lineage::newest);
        if newest >= Some(dek.version) {
            return Ok(Insertion::Lost);
        }
        if newest.map_or(Some(DekVersion::FIRST), DekVersion::next) != Some(dek.version) {
            return Err(refused("the version would leave a gap in the lineage of its scope"));
        }
        if self.deks.contains_key(&dek.key_id) {
            return Err(refused("the key id is taken by another version or scope"));
        }
        let state = match newest {
            None => DekState::Active,
            Some(_) => DekState::Pending,
        };
        let rev = self.bump();
        dek.wraps().for_each(|wrap| self.register(wrap));
        let wraps = (0..).zip(dek.wraps());
        let wraps = wraps.map(|(slot, wrap)| StoredWrap::new(slot, 1, wrap.clone())).collect();
        let lineage = self.lineages.entry(dek.scope.clone()).or_default();
        lineage.versions.insert(dek.version, dek.key_id);
        lineage.claim = None;
        self.deks.insert(
            dek.key_id,
            Dek {
                scope: dek.scope.clone(),
                version: dek.version,
                state,
                created_at: now,
                activate_at: now.after(dek.activation_delay),
                rev,
                wraps,
            },
        );
        self.set_state(dek.key_id, state, rev);
        Ok(Insertion::Stored(state))
    }

    fn activate_due(&mut self, now: Instant) -> u64 {
        let live = self.members.values().filter(|member| now < member.alive_until);
        let acknowledged = live.map(|member| member.acknowledged).min().unwrap_or(u64::MAX);
        let mut due: Vec<(DekVersion, KeyId)> = self
            .pending
            .iter()
            .filter_map(|key_id| self.deks.get(key_id).map(|dek| (dek, *key_id)))
            .filter(|(dek, _)| dek.activate_at <= now && dek.rev <= acknowledged)
            .map(|(dek, key_id)| (dek.version, key_id))
            .collect();
        if due.is_empty() {
            return 0;
        }
        due.sort_unstable();
        let rev = self.bump();
        for (version, key_id) in &due {
            let active = self.active_beside(key_id);
            // A lineage never goes back: what was overtaken only opens.
            if active.is_some_and(|(_, active)| active > *version) {
                self.set_state(*key_id, DekState::DecryptOnly, rev);
                continue;
            }
            if let Some((active, _)) = active {
                self.set_state(active, DekState::DecryptOnly, rev);
            }
            self.set_state(*key_id, DekState::Active, rev);
        }
        due.len() as u64
    }

    /// The active DEK of the scope of `key_id`.
    fn active_beside(&self, key_id: &KeyId) -> Option<(KeyId, DekVersion)> {
        let active = self.lineages.get(&self.deks.get(key_id)?.scope)?.active?;
        Some((active, self.deks.get(&active)?.version))
    }

    fn change_state(&mut self, change: &StateChange) -> bool {
        if self.deks.get(&change.key_id).is_none_or(|dek| dek.state != change.from) {
            return false;
        }
        let rev = self.bump();
        self.set_state(change.key_id, change.to, rev);
        true
    }

    fn replace_wrap(&mut self, swap: &WrapSwap) -> bool {
        if !self.may_wrap(&swap.wrapped) {
            return false;
        }
        let rev = self.revision + 1;
        let Some(wrap) = self.deks.get_mut(&swap.key_id).and_then(|dek| {
            dek.wraps.iter_mut().find(|w| w.slot == swap.slot && w.rev == swap.expected_rev)
        }) else {
            return false;
        };
        *wrap = StoredWrap::new(swap.slot, swap.expected_rev + 1, swap.wrapped.clone());
        self.revision = rev;
        self.register(&swap.wrapped);
        self.stamp(swap.key_id, rev);
        true
    }

    fn add_wrap(&mut self, new: &NewWrap) -> bool {
        if !self.may_wrap(&new.wrapped) {
            return false;
        }
        let rev = self.revision + 1;
        let Some(dek) = self.deks.get_mut(&new.key_id).filter(|dek| !dek.wraps.is_empty()) else {
            return false;
        };
        let is_taken = |w: &StoredWrap| w.slot == new.slot || w.wrapped.kek == new.wrapped.kek;
        if dek.wraps.iter().any(is_taken) {
            return false;
        }
        dek.wraps.push(StoredWrap::new(new.slot, 1, new.wrapped.clone()));
        dek.wraps.sort_by_key(|wrap| wrap.slot);
        self.revision = rev;
        self.register(&new.wrapped);
        self.stamp(new.key_id, rev);
        true
    }

    /// Whether neither the KEK of `wrap` nor its version is known to be unusable.
    fn may_wrap(&self, wrap: &WrappedKey) -> bool {
        let Some(kek) = self.keks.get(&wrap.kek) else { return true };
        let version = wrap.kek_version.label().and_then(|label| kek.versions.get(label));
        kek.status == KekStatus::Enabled && version.is_none_or(|it| *it == KekStatus::Enabled)
    }

    /// Makes the KEK of `wrap` and its version known. That they wrapped shows that
    /// they were enabled; what is known already is not overruled.
    fn register(&mut self, wrap: &WrappedKey) {
        let kek = self
            .keks
            .entry(wrap.kek.clone())
            .or_insert_with(|| Kek { status: KekStatus::Enabled, versions: HashMap::new() });
        if let Some(label) = wrap.kek_version.label() {
            kek.versions.entry(label.into()).or_insert(KekStatus::Enabled);
        }
    }

    fn record_kek(&mut self, state: &KekState) {
        let known = self.keks.get(&state.kek);
        let mut versions = known.map(|kek| kek.versions.clone()).unwrap_or_default();
        if let Some(label) = state.current.label() {
            versions.insert(label.into(), state.status);
        }
        versions.extend(state.versions.iter().map(|v| (v.label.clone(), v.status)));
        let kek = Kek { status: state.status, versions };
        if known != Some(&kek) {
            self.bump();
            self.keks.insert(state.kek.clone(), kek);
        }
    }

    fn kek_usage(&self, kek: &KekId) -> Vec<KekUsage> {
        let mut usage: BTreeMap<Option<&str>, (&KekVersion, u64)> = BTreeMap::new();
        for wrap in self.deks.values().flat_map(|dek| &dek.wraps) {
            if wrap.wrapped.kek != *kek {
                continue;
            }
            let version = &wrap.wrapped.kek_version;
            let (told, wraps) = usage.entry(version.label()).or_insert((version, 0));
            // One version may be known both ways; the word of the KMS is the better.
            if matches!(version, KekVersion::Reported(_)) {
                *told = version;
            }
            *wraps += 1;
        }
        usage.into_values().map(|(version, wraps)| KekUsage::new(version.clone(), wraps)).collect()
    }

    fn changes_since(&self, seen: Option<StoreRevision>, limit: u32) -> Changes {
        let mut deks = Vec::new();
        let mut revision = self.revision;
        let mut more = false;
        if let Some(StoreRevision(seen)) = seen {
            let limit = limit.max(1) as usize;
            let first = (seen.saturating_add(1), KeyId::from_bytes([0; KeyId::LEN]));
            for (rev, key_id) in self.feed.range(first..) {
                if deks.len() >= limit && *rev != revision {
                    more = true;
                    break;
                }
                revision = *rev;
                deks.extend(
                    self.deks.get(key_id).map(|dek| {
                        DekChange::new(dek.scope.clone(), *key_id, dek.version, dek.state)
                    }),
                );
            }
        }
        if !more {
            revision = self.revision;
        }
        Changes::new(self.identity.clone(), StoreRevision(revision), more, deks)
    }

    fn report_member(&mut self, report: &MemberReport, now: Instant) -> Result<(), StoreError> {
        let StoreRevision(acknowledged) = report.acknowledged;
        if acknowledged > self.revision {
            return Err(refused("the member acknowledges a revision that is still to come"));
        }
        self.bump();
        let alive_until = now.after(report.alive_for);
        let member = self
            .members
            .entry(report.member.clone())
            .or_insert(Member { alive_until, acknowledged });
        member.alive_until = alive_until;
        // Reports may overtake each other; what was known stays known.
        member.acknowledged = member.acknowledged.max(acknowledged);
        Ok(())
    }

    fn remove_member(&mut self, member: &MemberId) {
        if self.members.remove(member).is_some() {
            self.bump();
        }
    }

    fn bump(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Gives a DEK a state and keeps all that depends on it in step.
    fn set_state(&mut self, key_id: KeyId, state: DekState, rev: u64) {
        let Some(dek) = self.deks.get_mut(&key_id) else { return };
        dek.state = state;
        if state == DekState::Shredded {
            dek.wraps.clear();
        }
        if let Some(lineage) = self.lineages.get_mut(&dek.scope) {
            if state == DekState::Active {
                lineage.active = Some(key_id);
            } else if lineage.active == Some(key_id) {
                lineage.active = None;
            }
        }
        if state == DekState::Pending {
            self.pending.insert(key_id);
        } else {
            self.pending.remove(&key_id);
        }
        self.stamp(key_id, rev);
    }

    fn stamp(&mut self, key_id: KeyId, rev: u64) {
        let Some(dek) = self.deks.get_mut(&key_id) else { return };
        self.feed.remove(&(dek.rev, key_id));
        self.feed.insert((rev, key_id));
        dek.rev = rev;
    }
}

fn check_wrap(wrap: &WrappedKey) -> Result<(), StoreError> {
    if wrap.blob.is_empty() || wrap.blob.len() > WrappedKey::BLOB_BYTES_MAX {
        return Err(refused("a wrapped key is 1 to 1024 bytes"));
    }
    check_kek(&wrap.kek)?;
    wrap.kek_version.label().map_or(Ok(()), check_label)
}

/// How many wraps a new DEK has, and that no two are by one KEK.
fn check_slots(dek: &NewDek) -> Result<(), StoreError> {
    check_slot(u8::try_from(dek.also_wrapped.len()).unwrap_or(u8::MAX))?;
    let mut keks = BTreeSet::new();
    if dek.wraps().all(|wrap| keks.insert(&wrap.kek)) {
        return Ok(());
    }
    Err(refused("two wraps of one DEK are by the same KEK"))
}

fn check_slot(slot: u8) -> Result<(), StoreError> {
    if usize::from(slot) < StoredWrap::PER_DEK_MAX {
        return Ok(());
    }
    Err(refused("a DEK has 16 wraps at most"))
}

fn check_kek(kek: &KekId) -> Result<(), StoreError> {
    check_len(kek.as_str(), KEK_ID_BYTES_MAX, "a KEK id is 1 to 512 bytes")
}

fn check_label(label: &str) -> Result<(), StoreError> {
    check_len(label, KEK_VERSION_BYTES_MAX, "a KEK version is 1 to 255 bytes")
}

fn check_member(member: &MemberId) -> Result<(), StoreError> {
    check_len(member.as_str(), MEMBER_ID_BYTES_MAX, "a member id is 1 to 64 bytes")
}

fn check_len(text: &str, max: usize, message: &'static str) -> Result<(), StoreError> {
    // NUL: what a database could not keep either.
    if text.is_empty() || text.len() > max || text.contains('\0') {
        return Err(refused(message));
    }
    Ok(())
}

fn refused(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Refused, message)
}
