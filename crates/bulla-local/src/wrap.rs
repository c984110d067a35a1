//! The data path: a wrap is an envelope under one version of the KEK.

use std::sync::Arc;

use async_trait::async_trait;
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, KekId, KekState, KekStatus, KekVersion,
    KekVersionState, KeyInspector, KeyWrapper, KmsError, KmsErrorKind, KmsOperation, RewrapRequest,
    UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};
use bulla_core::{DataKey, DekVersion, EnvelopeKey, Header, KmsContext, OpenError, RecordContext};

use crate::LocalKek;
use crate::failure::Failure;
use crate::file::{KeyFile, KeyStatus, SEALED_KEY_LEN, Version, VersionStatus};
use crate::kek::Inner;

/// [`KekVersion`] is parsed from the wrap.
#[async_trait]
impl KeyWrapper for LocalKek {
    fn kek(&self) -> &KekId {
        &self.0.kek
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_authenticated_wrap(true).with_names_version(true)
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        let operation = KmsOperation::GenerateDataKey;
        let current = self.blocking(operation, |kek| kek.current_key(&kek.load()?)).await?;
        let data_key = DataKey::generate().map_err(|error| {
            let failure = Failure::new(KmsErrorKind::Unavailable, "no random bytes");
            self.error(operation, failure.because(error))
        })?;
        let wrapped = self.make_wrap(operation, &current, &data_key, request.context)?;
        Ok(GeneratedKey::new(data_key, wrapped))
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let operation = KmsOperation::WrapKey;
        let current = self.blocking(operation, |kek| kek.current_key(&kek.load()?)).await?;
        self.make_wrap(operation, &current, request.data_key, request.context)
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let operation = KmsOperation::UnwrapKey;
        let version = self.recognise(operation, request.wrapped)?;
        let key = self.blocking(operation, move |kek| kek.key_of(&kek.load()?, version)).await?;
        let data_key = self.open_wrap(operation, &key, request.wrapped, request.context)?;
        Ok(UnwrappedKey::new(data_key, KekVersion::Parsed(label(version))))
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let operation = KmsOperation::RewrapKey;
        let version = self.recognise(operation, request.wrapped)?;
        let both = move |kek: &Inner| {
            let file = kek.load()?;
            Ok((kek.key_of(&file, version)?, kek.current_key(&file)?))
        };
        let (old, current) = self.blocking(operation, both).await?;
        let data_key = self.open_wrap(operation, &old, request.wrapped, request.context)?;
        self.make_wrap(operation, &current, &data_key, request.context)
    }
}

/// The current version is reported by the file.
#[async_trait]
impl KeyInspector for LocalKek {
    async fn describe(&self) -> Result<KekState, KmsError> {
        self.blocking(KmsOperation::Describe, |kek| {
            let file = kek.load()?;
            let status = match file.status {
                KeyStatus::Enabled => KekStatus::Enabled,
                KeyStatus::Disabled => KekStatus::Disabled,
            };
            let current = KekVersion::Reported(label(file.current()?.version));
            Ok(KekState::new(kek.kek.clone(), status, current)
                .with_versions(file.versions.iter().map(state).collect()))
        })
        .await
    }
}

impl LocalKek {
    /// The version that a wrap names. Refuses what cannot be a wrap of this KEK by its
    /// looks, before the file is read.
    fn recognise(
        &self,
        operation: KmsOperation,
        wrapped: &WrappedKey,
    ) -> Result<DekVersion, KmsError> {
        let foreign = |message: &str| self.error(operation, tampered(message));
        if wrapped.kek != self.0.kek {
            return Err(foreign("the wrap names another KEK"));
        }
        if wrapped.blob.len() != SEALED_KEY_LEN {
            return Err(foreign("a wrap of this KEK is 116 bytes long"));
        }
        let header = Header::parse(&wrapped.blob).ok();
        header
            .and_then(|header| header.dek_version)
            .ok_or_else(|| foreign("the wrap is not an envelope of this KEK"))
    }

    fn make_wrap(
        &self,
        operation: KmsOperation,
        key: &EnvelopeKey,
        data_key: &DataKey,
        context: &KmsContext,
    ) -> Result<WrappedKey, KmsError> {
        let blob = key.seal(data_key.expose_secret(), &RecordContext::from(context));
        let blob = blob.map_err(|error| {
            let failure = Failure::new(KmsErrorKind::Unavailable, "the key could not be sealed");
            self.error(operation, failure.because(error))
        })?;
        Ok(WrappedKey::new(self.0.kek.clone(), KekVersion::Parsed(label(key.version())), blob))
    }

    /// Opens a wrap straight into the box where the DEK stays.
    fn open_wrap(
        &self,
        operation: KmsOperation,
        key: &EnvelopeKey,
        wrapped: &WrappedKey,
        context: &KmsContext,
    ) -> Result<DataKey, KmsError> {
        let context = RecordContext::from(context);
        DataKey::try_init_with(|out| key.open_into(&wrapped.blob, &context, out).map(drop)).map_err(
            |error| {
                let failure = match error {
                    OpenError::Key(_) => {
                        Failure::new(KmsErrorKind::Unavailable, "a key could not be made")
                    }
                    _ => tampered("the wrap does not open under this context"),
                };
                self.error(operation, failure.because(error))
            },
        )
    }
}

impl Inner {
    /// The key that wraps now.
    fn current_key(&self, file: &KeyFile) -> Result<EnvelopeKey, Failure> {
        self.key_of(file, file.current()?.version)
    }

    /// The key that wrapped as `version`.
    fn key_of(&self, file: &KeyFile, version: DekVersion) -> Result<EnvelopeKey, Failure> {
        if file.status == KeyStatus::Disabled {
            return Err(Failure::new(KmsErrorKind::Disabled, "the whole key is disabled"));
        }
        let version = file.version(version).ok_or_else(|| {
            let message = format!("the key file has no version {version}; is it an old copy?");
            Failure::new(KmsErrorKind::NotFound, message)
        })?;
        self.key.wrapping_key(file, version)
    }
}

fn state(version: &Version) -> KekVersionState {
    let status = match version.status {
        VersionStatus::Enabled => KekStatus::Enabled,
        VersionStatus::Disabled => KekStatus::Disabled,
        VersionStatus::Destroyed => KekStatus::Destroyed,
    };
    KekVersionState::new(label(version.version), status).with_created_at(version.created_at.into())
}

pub(crate) fn label(version: DekVersion) -> Arc<str> {
    version.to_string().into()
}

fn tampered(message: &str) -> Failure {
    Failure::new(KmsErrorKind::Tampered, message)
}
