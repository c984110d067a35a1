//! The data path: one request of AWS KMS for each call.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    DataKeySpec, ImportState, IncludeKeyMaterial, KeyMaterialState, KeyMetadata, KeyState,
    RotationsListEntry,
};
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, KekId, KekState, KekStatus, KekVersion,
    KekVersionState, KeyInspector, KeyWrapper, KmsError, KmsErrorKind, KmsOperation, RewrapRequest,
    UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};
use bulla_core::{DataKey, KmsContext};
use zeroize::Zeroizing;

use crate::AwsKek;
use crate::error::Call;
use crate::kek::reported;

/// Pages of the list of versions that are read; AWS KMS puts up to 1000 on one.
const VERSION_PAGES_MAX: usize = 16;

#[async_trait]
impl KeyWrapper for AwsKek {
    fn kek(&self) -> &KekId {
        &self.0.kek
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
            .with_authenticated_wrap(true)
            .with_remote(true)
            .with_names_version(self.names_version())
    }

    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        let call = self.call(KmsOperation::GenerateDataKey);
        let sent = self.0.client.generate_data_key().key_id(self.arn());
        let sent =
            sent.key_spec(DataKeySpec::Aes256).set_encryption_context(Some(pairs(request.context)));
        let answer = call.ask(sent.send()).await?;
        let data_key = data_key(call, answer.plaintext)?;
        let version = self.version(answer.key_material_id);
        Ok(GeneratedKey::new(data_key, self.wrapped(call, version, answer.ciphertext_blob)?))
    }

    /// The version is [`Unknown`](KekVersion::Unknown): AWS KMS does not tell it.
    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let call = self.call(KmsOperation::WrapKey);
        let sent = self.0.client.encrypt().key_id(self.arn());
        let sent = sent
            .plaintext(Blob::new(&request.data_key.expose_secret()[..]))
            .set_encryption_context(Some(pairs(request.context)));
        let answer = call.ask(sent.send()).await?;
        self.wrapped(call, KekVersion::Unknown, answer.ciphertext_blob)
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let call = self.call(KmsOperation::UnwrapKey);
        let blob = self.recognise(call, request.wrapped)?;
        let sent = self.0.client.decrypt().key_id(self.arn()).ciphertext_blob(blob);
        let sent = sent.set_encryption_context(Some(pairs(request.context)));
        let answer = call.ask(sent.send()).await?;
        let data_key = data_key(call, answer.plaintext)?;
        Ok(UnwrappedKey::new(data_key, self.version(answer.key_material_id)))
    }

    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let call = self.call(KmsOperation::RewrapKey);
        let blob = self.recognise(call, request.wrapped)?;
        let context = pairs(request.context);
        let sent = self.0.client.re_encrypt().ciphertext_blob(blob);
        let sent = sent
            .source_key_id(self.arn())
            .set_source_encryption_context(Some(context.clone()))
            .destination_key_id(self.arn())
            .set_destination_encryption_context(Some(context));
        let answer = call.ask(sent.send()).await?;
        let version = self.version(answer.destination_key_material_id);
        self.wrapped(call, version, answer.ciphertext_blob)
    }
}

/// The versions are listed where the caller may list them (`kms:ListKeyRotations`) and the
/// key is of the caller's account. A refusal is remembered until the key is connected to
/// again, so that AWS does not log one for each probe.
#[async_trait]
impl KeyInspector for AwsKek {
    async fn describe(&self) -> Result<KekState, KmsError> {
        let call = self.call(KmsOperation::Describe);
        let metadata = self.metadata(call).await?;
        let versions = self.versions(call, &metadata).await?;
        let state = KekState::new(
            self.0.kek.clone(),
            status(&metadata),
            reported(metadata.current_key_material_id),
        );
        Ok(state.with_versions(versions))
    }
}

impl AwsKek {
    pub(crate) async fn metadata(&self, call: Call<'_>) -> Result<KeyMetadata, KmsError> {
        let answer = call.ask(self.0.client.describe_key().key_id(self.arn()).send()).await?;
        answer
            .key_metadata
            .ok_or_else(|| call.error(KmsErrorKind::Unavailable, "the answer describes no key"))
    }

    /// Every key material up to the current one, oldest first, if AWS KMS lists them.
    async fn versions(
        &self,
        call: Call<'_>,
        metadata: &KeyMetadata,
    ) -> Result<Vec<KekVersionState>, KmsError> {
        let Some(current) = &metadata.current_key_material_id else { return Ok(Vec::new()) };
        if !self.0.lists_versions.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let mut materials = match self.materials(call).await {
            // The list is an extra: no refusal of it says anything about the key.
            Err(error)
                if !error.kind().is_retryable()
                    && error.kind() != KmsErrorKind::Unauthenticated =>
            {
                self.0.lists_versions.store(false, Ordering::Relaxed);
                return Ok(Vec::new());
            }
            materials => materials?,
        };
        // The first one has no date: the key was made with it.
        materials.sort_by_key(|material| material.rotation_date);
        let mut versions: Vec<_> =
            materials.iter().filter_map(|of| version(of, metadata)).collect();
        // A rotation may have ended between the description and the list, or not be in it yet.
        match versions.iter().position(|version| *version.label == **current) {
            Some(at) => versions.truncate(at + 1),
            None if versions.is_empty() => {}
            None => versions.push(KekVersionState::new(&**current, KekStatus::Enabled)),
        }
        Ok(versions)
    }

    async fn materials(&self, call: Call<'_>) -> Result<Vec<RotationsListEntry>, KmsError> {
        let (mut materials, mut marker) = (Vec::new(), None);
        for _ in 0..VERSION_PAGES_MAX {
            let sent = self.0.client.list_key_rotations().key_id(self.arn());
            let sent = sent
                .include_key_material(IncludeKeyMaterial::AllKeyMaterial)
                .limit(1000)
                .set_marker(marker);
            let page = call.ask(sent.send()).await?;
            materials.extend(page.rotations.unwrap_or_default());
            marker = page.next_marker;
            if !page.truncated || marker.is_none() {
                break;
            }
        }
        Ok(materials)
    }

    /// The blob, if it can be a wrap of this KEK by its looks.
    fn recognise(&self, call: Call<'_>, wrapped: &WrappedKey) -> Result<Blob, KmsError> {
        let refused = |message: &str| Err(call.error(KmsErrorKind::Tampered, message));
        if wrapped.kek != self.0.kek {
            return refused("the wrap names another KEK");
        }
        if !(1..=WrappedKey::BLOB_BYTES_MAX).contains(&wrapped.blob.len()) {
            return refused("a wrap is 1 to 1024 bytes long");
        }
        Ok(Blob::new(&wrapped.blob[..]))
    }

    fn wrapped(
        &self,
        call: Call<'_>,
        version: KekVersion,
        blob: Option<Blob>,
    ) -> Result<WrappedKey, KmsError> {
        let blob = blob.map(Blob::into_inner).unwrap_or_default();
        if !(1..=WrappedKey::BLOB_BYTES_MAX).contains(&blob.len()) {
            let message = "the answer holds no wrap of 1 to 1024 bytes";
            return Err(call.error(KmsErrorKind::Unavailable, message));
        }
        Ok(WrappedKey::new(self.0.kek.clone(), version, blob))
    }
}

/// The encryption context: every pair.
fn pairs(context: &KmsContext) -> HashMap<String, String> {
    context.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Moves a key from the answer to where it stays, and wipes the answer's.
fn data_key(call: Call<'_>, plaintext: Option<Blob>) -> Result<DataKey, KmsError> {
    let plaintext = Zeroizing::new(plaintext.map(Blob::into_inner).unwrap_or_default());
    DataKey::try_init_with(|out| {
        if plaintext.len() != out.len() {
            return Err(());
        }
        out.copy_from_slice(&plaintext);
        Ok(())
    })
    .map_err(|()| match call.operation {
        KmsOperation::UnwrapKey => {
            call.error(KmsErrorKind::Tampered, "what was wrapped is not 32 bytes long")
        }
        _ => call.error(KmsErrorKind::Unavailable, "the answer holds no key of 32 bytes"),
    })
}

fn status(metadata: &KeyMetadata) -> KekStatus {
    match metadata.key_state {
        // While it is being updated, a key can be used; AWS sets `Enabled` for neither this
        // state nor those that are to come.
        Some(KeyState::Enabled | KeyState::Updating) => KekStatus::Enabled,
        Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
            KekStatus::PendingDestruction
        }
        Some(
            KeyState::Disabled
            | KeyState::PendingImport
            | KeyState::Unavailable
            | KeyState::Creating,
        ) => KekStatus::Disabled,
        _ if metadata.enabled => KekStatus::Enabled,
        _ => KekStatus::Disabled,
    }
}

/// A key material that wraps or has wrapped.
fn version(material: &RotationsListEntry, key: &KeyMetadata) -> Option<KekVersionState> {
    use KeyMaterialState::{PendingMultiRegionImportAndRotation, PendingRotation};
    let label = material.key_material_id.as_deref()?;
    if let Some(PendingRotation | PendingMultiRegionImportAndRotation) = material.key_material_state
    {
        return None;
    }
    let status = match material.import_state {
        Some(ImportState::PendingImport) => KekStatus::Disabled,
        _ => KekStatus::Enabled,
    };
    let version = KekVersionState::new(label, status);
    let date = material.rotation_date.or(key.creation_date);
    Some(match date.and_then(|date| SystemTime::try_from(date).ok()) {
        Some(date) => version.with_created_at(date),
        None => version,
    })
}
