//! The data path: generate, wrap, unwrap and rewrap, in terms of transit.

use async_trait::async_trait;
use base64ct::{Base64, Encoding};
use bulla_backend::{
    Capabilities, GenerateRequest, GeneratedKey, KekId, KeyWrapper, KmsError, KmsOperation,
    RewrapRequest, UnwrapRequest, UnwrappedKey, WrapRequest, WrappedKey,
};
use bulla_core::{DataKey, KmsContext};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::VaultKek;
use crate::blob::{self, Blob};
use crate::failure::Failure;
use crate::kek::Inner;
use crate::key::Binding;

/// What transit is given to work on, all in base64 but the wrap.
#[derive(Serialize, Default)]
pub(crate) struct Input<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    associated_data: Option<&'a str>,
}

/// What transit answers.
#[derive(Deserialize)]
pub(crate) struct Output<'a> {
    pub(crate) plaintext: Option<&'a str>,
    pub(crate) ciphertext: Option<&'a str>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(binding: Binding, context: &'a str) -> Self {
        let (derived, associated) = match binding {
            Binding::Derived => (Some(context), None),
            Binding::AssociatedData => (None, Some(context)),
        };
        Self { context: derived, associated_data: associated, ..Self::default() }
    }

    pub(crate) fn with_plaintext(self, plaintext: &'a str) -> Self {
        Self { plaintext: Some(plaintext), ..self }
    }

    pub(crate) fn with_ciphertext(self, ciphertext: &'a str) -> Self {
        Self { ciphertext: Some(ciphertext), ..self }
    }
}

impl Output<'_> {
    /// The data key in the answer, decoded where it stays.
    pub(crate) fn data_key(&self) -> Result<DataKey, Failure> {
        let text = self.plaintext.unwrap_or_default();
        DataKey::try_init_with(|bytes| match Base64::decode(text, bytes) {
            Ok(decoded) if decoded.len() == DataKey::LEN => Ok(()),
            _ => Err(Failure::tampered("what was wrapped is no data key")),
        })
    }

    /// The wrap in the answer.
    pub(crate) fn blob(&self, kek: &Inner) -> Result<String, Failure> {
        let blob = self.ciphertext.and_then(|text| Blob::parse(text.as_bytes(), kek.nonce_bytes));
        let blob = blob.ok_or_else(|| Failure::strange("has no wrap of a data key"))?;
        Ok(blob.text.to_owned())
    }
}

/// A context as transit takes it.
pub(crate) fn in_base64(context: &KmsContext) -> String {
    Base64::encode_string(context.as_bytes())
}

/// A data key as transit takes it.
pub(crate) struct Plaintext(Zeroizing<[u8; 44]>);

impl Plaintext {
    pub(crate) fn new(data_key: &DataKey) -> Self {
        let mut text = Zeroizing::new([0; 44]);
        // 32 bytes are 44 characters.
        let _ = Base64::encode(data_key.expose_secret(), &mut *text);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&*self.0).unwrap_or_default()
    }
}

/// Contexts are in base64, wraps as Vault writes them.
impl Inner {
    /// A data key made by Vault.
    pub(crate) async fn generate_there(&self, context: &str) -> Result<(DataKey, String), Failure> {
        let reply = self.ask("datakey/plaintext", &Input::new(self.binding, context)).await?;
        let output: Output<'_> = reply.data()?;
        Ok((output.data_key()?, output.blob(self)?))
    }

    pub(crate) async fn encrypt(&self, key: &DataKey, context: &str) -> Result<String, Failure> {
        let plaintext = Plaintext::new(key);
        let input = Input::new(self.binding, context).with_plaintext(plaintext.as_str());
        self.ask("encrypt", &input).await?.data::<Output<'_>>()?.blob(self)
    }

    pub(crate) async fn decrypt(&self, blob: &str, context: &str) -> Result<DataKey, Failure> {
        let input = Input::new(self.binding, context).with_ciphertext(blob);
        self.ask("decrypt", &input).await?.data::<Output<'_>>()?.data_key()
    }

    async fn rewrap(&self, blob: &str, context: &str) -> Result<String, Failure> {
        match self.binding {
            Binding::Derived => {
                let input = Input::new(self.binding, context).with_ciphertext(blob);
                self.ask("rewrap", &input).await?.data::<Output<'_>>()?.blob(self)
            }
            // Transit refuses to rewrap what has associated data, even if it is given.
            Binding::AssociatedData => {
                let data_key = self.decrypt(blob, context).await?;
                self.encrypt(&data_key, context).await
            }
        }
    }

    /// The blob of a wrap of this KEK. Nothing is sent for any other.
    pub(crate) fn own<'a>(&self, wrapped: &'a WrappedKey) -> Result<Blob<'a>, Failure> {
        if wrapped.kek != self.kek {
            return Err(Failure::tampered(format!(
                "this wrap is of another KEK, {:?}",
                wrapped.kek
            )));
        }
        blob::of_wrapped(wrapped, self.nonce_bytes)
    }

    /// A blob that Vault has made, with the version that it names.
    pub(crate) fn wrapped(&self, blob: String) -> Result<WrappedKey, Failure> {
        let version = Blob::parse(blob.as_bytes(), self.nonce_bytes).map(|blob| blob.version());
        let version = version.ok_or_else(|| Failure::strange("has no wrap of a data key"))?;
        Ok(WrappedKey::new(self.kek.clone(), version, blob.into_bytes()))
    }
}

#[async_trait]
impl KeyWrapper for VaultKek {
    fn kek(&self) -> &KekId {
        &self.0.kek
    }

    fn capabilities(&self) -> Capabilities {
        let remote = Capabilities::NONE.with_authenticated_wrap(true).with_remote(true);
        remote.with_names_version(true)
    }

    /// By `datakey/plaintext` for keys that derive; else from the system's generator, by
    /// `encrypt`.
    async fn generate_data_key(
        &self,
        request: GenerateRequest<'_>,
    ) -> Result<GeneratedKey, KmsError> {
        let generated = async {
            self.0.prove().await?;
            let (data_key, blob) = self.0.generate(&in_base64(request.context)).await?;
            Ok(GeneratedKey::new(data_key, self.0.wrapped(blob)?))
        };
        generated.await.map_err(|failure| self.0.error(KmsOperation::GenerateDataKey, failure))
    }

    async fn wrap_key(&self, request: WrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let wrapped = async {
            self.0.prove().await?;
            let blob = self.0.encrypt(request.data_key, &in_base64(request.context)).await?;
            self.0.wrapped(blob)
        };
        wrapped.await.map_err(|failure| self.0.error(KmsOperation::WrapKey, failure))
    }

    async fn unwrap_key(&self, request: UnwrapRequest<'_>) -> Result<UnwrappedKey, KmsError> {
        let unwrapped = async {
            let blob = self.0.own(request.wrapped)?;
            let data_key = self.0.decrypt(blob.text, &in_base64(request.context)).await?;
            Ok(UnwrappedKey::new(data_key, blob.version()))
        };
        unwrapped.await.map_err(|failure| self.0.error(KmsOperation::UnwrapKey, failure))
    }

    /// By `rewrap` for keys that derive; else by `decrypt` and `encrypt`, so that the data key
    /// passes through this process.
    async fn rewrap_key(&self, request: RewrapRequest<'_>) -> Result<WrappedKey, KmsError> {
        let rewrapped = async {
            let blob = self.0.own(request.wrapped)?;
            self.0.prove().await?;
            let blob = self.0.rewrap(blob.text, &in_base64(request.context)).await?;
            self.0.wrapped(blob)
        };
        rewrapped.await.map_err(|failure| self.0.error(KmsOperation::RewrapKey, failure))
    }
}
