//! A KMS in memory that is strict about what it receives and fails on command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bulla_backend::{
    Capabilities, Clock, GenerateRequest, GeneratedKey, KekId, KekState, KekStatus, KekVersion,
    KekVersionState, KeyAdmin, KeyInspector, KeyWrapper, KmsError, KmsErrorKind, KmsOperation,
    RewrapRequest, UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};
use bulla_core::{
    DataKey, DekVersion, EnvelopeKey, Header, KeyOptions, KmsContext, OpenError, RecordContext,
    ScopeContext,
};
use tokio::sync::watch;

/// One KEK in memory, for tests: real AEAD, every call counted, every failure of a
/// cloud KMS on command. Nothing survives the process.
///
/// It authenticates the context that it receives, and refuses one without the pairs
/// that the format puts into each: a context that is dropped on the way cannot pass.
#[derive(Debug)]
pub struct TestKms {
    kek: KekId,
    capabilities: Capabilities,
    state: Mutex<State>,
    /// While true, calls wait before they do anything.
    held: watch::Sender<bool>,
    /// While true, unwraps wait with their answer.
    answers_held: watch::Sender<bool>,
    lists_versions: bool,
    tells_version_of_wraps: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Of the KEK as a whole; `None` for enabled.
    closed: Option<KekStatus>,
    versions: Vec<Version>,
    calls: HashMap<KmsOperation, u64>,
    faults: HashMap<KmsOperation, KmsErrorKind>,
    fault: Option<KmsErrorKind>,
    lie: Option<Lie>,
    latency: Option<(Arc<dyn Clock>, Duration)>,
}

#[derive(Debug)]
struct Version {
    status: KekStatus,
    key: Option<EnvelopeKey>,
}

/// A way in which a broken KMS can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// The wrap that comes with a new data key holds another key.
    Generate,
    /// A wrap holds another key than it was asked to.
    Wrap,
    /// A rewrap holds another key than before.
    Rewrap,
}

impl TestKms {
    /// A KEK with one version. `name` makes its id: `test:<name>`.
    pub fn new(name: &str) -> Self {
        let kms = Self {
            kek: KekId::new(format!("test:{name}")),
            capabilities: Capabilities::NONE
                .with_authenticated_wrap(true)
                .with_remote(true)
                .with_names_version(true),
            state: Mutex::default(),
            held: watch::Sender::new(false),
            answers_held: watch::Sender::new(false),
            lists_versions: true,
            tells_version_of_wraps: true,
        };
        kms.add_version();
        kms
    }

    /// The same with other capabilities; how it works does not change.
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The same, telling only the current version of the KEK, as some services do.
    pub fn without_version_list(mut self) -> Self {
        self.lists_versions = false;
        self
    }

    /// The same, not telling which version a `wrap_key` was made by, as AWS KMS.
    pub fn without_version_of_wraps(mut self) -> Self {
        self.tells_version_of_wraps = false;
        self
    }

    /// Makes every call fail, or none.
    pub fn fail_all(&self, kind: Option<KmsErrorKind>) {
        self.state().fault = kind;
    }

    /// Makes the calls of one operation fail, or succeed again.
    pub fn fail(&self, operation: KmsOperation, kind: Option<KmsErrorKind>) {
        match kind {
            Some(kind) => self.state().faults.insert(operation, kind),
            None => self.state().faults.remove(&operation),
        };
    }

    /// Makes the KMS lie, or be honest again.
    pub fn lie(&self, lie: Option<Lie>) {
        self.state().lie = lie;
    }

    /// Makes every call take `latency` by `clock`.
    pub fn set_latency(&self, clock: Arc<dyn Clock>, latency: Duration) {
        self.state().latency = Some((clock, latency));
    }

    /// Puts the KEK where it waits for its destruction; enabling it ends that.
    pub fn schedule_destruction(&self) {
        self.state().closed = Some(KekStatus::PendingDestruction);
    }

    /// Makes calls wait until [`release`](Self::release).
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets waiting calls go on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Holds back the answers of unwraps, which then tell what was true before.
    pub fn hold_answers(&self) {
        self.answers_held.send_replace(true);
    }

    /// Lets the answers of unwraps go.
    pub fn release_answers(&self) {
        self.answers_held.send_replace(false);
    }

    /// Calls of one operation so far, failed and waiting ones included.
    pub fn calls(&self, operation: KmsOperation) -> u64 {
        self.state().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Calls of the data path so far: generate, wrap, unwrap, rewrap.
    pub fn data_calls(&self) -> u64 {
        use KmsOperation::{GenerateDataKey, RewrapKey, UnwrapKey, WrapKey};
        [GenerateDataKey, WrapKey, UnwrapKey, RewrapKey].map(|op| self.calls(op)).iter().sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: KmsErrorKind, operation: KmsOperation) -> KmsError {
        KmsError::new(kind, operation, self.kek.clone())
    }

    /// Counts the call, waits while held, and fails if it is to fail.
    async fn enter(&self, operation: KmsOperation) -> Result<(), KmsError> {
        *self.state().calls.entry(operation).or_default() += 1;
        let latency = self.state().latency.clone();
        if let Some((clock, latency)) = latency {
            clock.sleep_until(clock.now().after(latency)).await;
        }
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        let state = self.state();
        match state.fault.or_else(|| state.faults.get(&operation).copied()) {
            Some(kind) => Err(self.error(kind, operation)),
            None => Ok(()),
        }
    }

    /// A blob of another KEK is refused before anything is sent.
    fn pin(&self, wrapped: &WrappedKey, operation: KmsOperation) -> Result<(), KmsError> {
        if wrapped.kek == self.kek {
            return Ok(());
        }
        Err(self
            .error(KmsErrorKind::Tampered, operation)
            .with_message("the blob names another key"))
    }

    /// As a KMS must: the context is there, whole, and bound by the wrap.
    fn record_context(
        &self,
        context: &KmsContext,
        operation: KmsOperation,
    ) -> Result<RecordContext, KmsError> {
        let has = |wanted: &str| context.pairs().any(|(key, _)| key == wanted);
        if !has("bulla-format") || !has("bulla-dek-version") || context.pairs().count() < 3 {
            return Err(self
                .error(KmsErrorKind::Misconfigured, operation)
                .with_message("the context lacks the pairs of the format or of the scope"));
        }
        Ok(RecordContext::from(context))
    }

    fn add_version(&self) -> KekVersion {
        let mut state = self.state();
        let version = state.versions.len() as u32 + 1;
        // A failing generator leaves a version without a key, which unwraps nothing.
        let key = DataKey::generate().ok().and_then(|key| {
            let scope = ScopeContext::new([("kek", self.kek.as_str())]).ok()?;
            EnvelopeKey::derive(&key, DekVersion::new(version)?, &scope, KeyOptions::default()).ok()
        });
        state.versions.push(Version { status: KekStatus::Enabled, key });
        KekVersion::Parsed(version.to_string().into())
    }

    fn wrap(
        &self,
        key: &DataKey,
        context: &KmsContext,
        operation: KmsOperation,
    ) -> Result<WrappedKey, KmsError> {
        let context = self.record_context(context, operation)?;
        let state = self.state();
        if state.closed.is_some() {
            return Err(self.error(KmsErrorKind::Disabled, operation));
        }
        let version = state.versions.len();
        let blob = state
            .versions
            .last()
            .and_then(|version| version.key.as_ref())
            .and_then(|kek| kek.seal(key.expose_secret(), &context).ok())
            .ok_or_else(|| self.error(KmsErrorKind::Unavailable, operation))?;
        Ok(WrappedKey::new(self.kek.clone(), KekVersion::Parsed(version.to_string().into()), blob))
    }

    fn unwrap(
        &self,
        wrapped: &WrappedKey,
        context: &KmsContext,
        operation: KmsOperation,
    ) -> Result<UnwrappedKey, KmsError> {
        let context = self.record_context(context, operation)?;
        let state = self.state();
        if state.closed.is_some() {
            return Err(self.error(KmsErrorKind::Disabled, operation));
        }
        let tampered = || self.error(KmsErrorKind::Tampered, operation);
        let header = Header::parse(&wrapped.blob).map_err(|_| tampered())?;
        let number = header.dek_version.ok_or_else(tampered)?;
        let version = state
            .versions
            .get(number.get() as usize - 1)
            .ok_or_else(|| self.error(KmsErrorKind::NotFound, operation))?;
        let kek = match (version.status, &version.key) {
            (KekStatus::Enabled, Some(key)) => key,
            _ => return Err(self.error(KmsErrorKind::Disabled, operation)),
        };
        let data_key =
            DataKey::try_init_with(|bytes| match kek.open_into(&wrapped.blob, &context, bytes) {
                Ok(DataKey::LEN) => Ok(()),
                Ok(_) => Err(OpenError::Authentication),
                Err(error) => Err(error),
            })
            .map_err(|_| tampered())?;
        Ok(UnwrappedKey::new(data_key, KekVersion::Parsed(number.to_string().into())))
    }

    /// What the KMS wraps when it lies: some other key.
    fn wrap_or_lie(
        &self,
        key: &DataKey,
        context: &KmsContext,
        operation: KmsOperation,
        lie: Lie,
    ) -> Result<WrappedKey, KmsError> {
        if self.state().lie == Some(lie) {
            let other = DataKey::init_with(|bytes| bytes.fill(0xee));
            return self.wrap(&other, context, operation);
        }
        self.wrap(key, context, operation)
    }

    fn set_version_status(&self, label: &str, to: KekStatus) -> Result<(), KmsError> {
        let operation = KmsOperation::Administer;
        let mut state = self.state();
        let current = state.versions.len();
        let not_found = self.error(KmsErrorKind::NotFound, operation);
        let (number, version) = (1..)
            .zip(&mut state.versions)
            .find(|(number, _): &(usize, _)| number.to_string() == label)
            .ok_or(not_found)?;
        let refused = match (version.status, to) {
            (_, KekStatus::Disabled | KekStatus::Destroyed) if number == current => true,
            (KekStatus::Enabled, KekStatus::Destroyed) => true,
            (KekStatus::Destroyed, to) => to != KekStatus::Destroyed,
            _ => false,
        };
        if refused {
            return Err(self.error(KmsErrorKind::Misconfigured, operation));
        }
        version.status = to;
        if to == KekStatus::Destroyed {
            version.key = None;
        }
        Ok(())
    }
}

#[async_trait]
impl KeyWrapper for TestKms {
    fn kek(&self) -> &KekId {
        &self.kek
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        let operation = KmsOperation::GenerateDataKey;
        self.enter(operation).await?;
        let key = DataKey::generate()
            .map_err(|error| self.error(KmsErrorKind::Unavailable, operation).with_source(error))?;
        let wrapped = self.wrap_or_lie(&key, request.context, operation, Lie::Generate)?;
        Ok(GeneratedKey::new(key, wrapped))
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let operation = KmsOperation::WrapKey;
        self.enter(operation).await?;
        let mut wrapped =
            self.wrap_or_lie(request.data_key, request.context, operation, Lie::Wrap)?;
        if !self.tells_version_of_wraps {
            wrapped.kek_version = KekVersion::Unknown;
        }
        Ok(wrapped)
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        self.pin(request.wrapped, KmsOperation::UnwrapKey)?;
        self.enter(KmsOperation::UnwrapKey).await?;
        let answer = self.unwrap(request.wrapped, request.context, KmsOperation::UnwrapKey);
        let _ = self.answers_held.subscribe().wait_for(|held| !held).await;
        answer
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let operation = KmsOperation::RewrapKey;
        self.pin(request.wrapped, operation)?;
        self.enter(operation).await?;
        let key = self.unwrap(request.wrapped, request.context, operation)?.data_key;
        self.wrap_or_lie(&key, request.context, operation, Lie::Rewrap)
    }
}

#[async_trait]
impl KeyInspector for TestKms {
    async fn describe(&self) -> Result<KekState, KmsError> {
        self.enter(KmsOperation::Describe).await?;
        let state = self.state();
        let status = state.closed.unwrap_or(KekStatus::Enabled);
        let current = KekVersion::Reported(state.versions.len().to_string().into());
        let listed = if self.lists_versions { &state.versions[..] } else { &[] };
        let versions = (1..)
            .zip(listed)
            .map(|(number, version)| KekVersionState::new(number.to_string(), version.status))
            .collect();
        Ok(KekState::new(self.kek.clone(), status, current).with_versions(versions))
    }
}

#[async_trait]
impl KeyAdmin for TestKms {
    async fn rotate(&self) -> Result<KekVersion, KmsError> {
        self.enter(KmsOperation::Administer).await?;
        Ok(self.add_version())
    }

    async fn disable(&self) -> Result<(), KmsError> {
        self.enter(KmsOperation::Administer).await?;
        self.state().closed = Some(KekStatus::Disabled);
        Ok(())
    }

    async fn enable(&self) -> Result<(), KmsError> {
        self.enter(KmsOperation::Administer).await?;
        self.state().closed = None;
        Ok(())
    }

    async fn disable_version(&self, label: &str) -> Result<(), KmsError> {
        self.enter(KmsOperation::Administer).await?;
        self.set_version_status(label, KekStatus::Disabled)
    }

    async fn enable_version(&self, label: &str) -> Result<(), KmsError> {
        self.enter(KmsOperation::Administer).await?;
        self.set_version_status(label, KekStatus::Enabled)
    }

    async fn destroy_version(&self, label: &str) -> Result<(), KmsError> {
        self.enter(KmsOperation::Administer).await?;
        self.set_version_status(label, KekStatus::Destroyed)
    }
}
