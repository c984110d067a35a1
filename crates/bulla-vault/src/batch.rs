//! Many wraps in one request: for jobs that move a whole store to a new version.

use bulla_backend::{
    KmsError, KmsOperation, RewrapRequest, UnwrapRequest, UnwrappedKey, WrappedKey,
};
use bulla_core::{DataKey, KmsContext};
use serde::{Deserialize, Serialize};

use crate::VaultKek;
use crate::blob::Blob;
use crate::failure::Failure;
use crate::kek::Inner;
use crate::key::Binding;
use crate::transit::{Input, Output, Plaintext, in_base64};

/// Items in one request. OpenBao takes JSON with 1000 strings, names included, and an item
/// has four; in bytes that is at most 400 KB, where Vault takes 32 MB.
const ITEMS_MAX: usize = 200;

#[derive(Serialize)]
struct Inputs<'a> {
    batch_input: &'a [Input<'a>],
}

#[derive(Deserialize)]
struct Outputs<'a> {
    #[serde(borrow)]
    batch_results: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(flatten, borrow)]
    output: Output<'a>,
    #[serde(default)]
    error: String,
}

impl VaultKek {
    /// Unwraps many keys, 200 in one request. One result for
    /// each, in their order; one that fails does not affect the others.
    ///
    /// Decorators do not see these calls: time-outs and retries are the caller's. When the
    /// future is dropped, nothing has changed.
    pub async fn unwrap_keys(
        &self,
        requests: &[UnwrapRequest<'_>],
    ) -> Vec<Result<UnwrappedKey, KmsError>> {
        let own = requests.iter().map(|request| self.0.checked(request.wrapped, request.context));
        let own: Vec<_> = own.collect();
        let unwrapped = self.0.unwrap_all(&own).await;
        let unwrapped = unwrapped.into_iter().zip(&own).map(|(data_key, own)| match own {
            Ok((blob, _)) => Ok(UnwrappedKey::new(data_key?, blob.version())),
            Err(failure) => Err(failure.clone()),
        });
        let error = |failure| self.0.error(KmsOperation::UnwrapKey, failure);
        unwrapped.map(|result| result.map_err(error)).collect()
    }

    /// Moves many wraps to the current version of the KEK. As
    /// [`unwrap_keys`](Self::unwrap_keys); like all rewraps, they are to be unwrapped and
    /// compared before they are stored.
    ///
    /// A key that does not derive takes two requests where one that does takes one, and the
    /// data keys pass through this process.
    pub async fn rewrap_keys(
        &self,
        requests: &[RewrapRequest<'_>],
    ) -> Vec<Result<WrappedKey, KmsError>> {
        let own = requests.iter().map(|request| self.0.checked(request.wrapped, request.context));
        let own: Vec<_> = own.collect();
        let blobs = match self.0.prove().await {
            Ok(()) => self.0.rewrap_all(&own).await,
            Err(failure) => own.iter().map(|_| Err(failure.clone())).collect(),
        };
        let wrapped = blobs.into_iter().map(|blob| self.0.wrapped(blob?));
        let error = |failure| self.0.error(KmsOperation::RewrapKey, failure);
        wrapped.map(|result| result.map_err(error)).collect()
    }
}

/// A wrap of this KEK, and its context in base64.
type Checked<'a> = Result<(Blob<'a>, String), Failure>;

impl Inner {
    fn checked<'a>(&self, wrapped: &'a WrappedKey, context: &KmsContext) -> Checked<'a> {
        Ok((self.own(wrapped)?, in_base64(context)))
    }

    async fn unwrap_all(&self, own: &[Checked<'_>]) -> Vec<Result<DataKey, Failure>> {
        self.each("decrypt", self.ciphertexts(own), |output| output.data_key()).await
    }

    async fn rewrap_all(&self, own: &[Checked<'_>]) -> Vec<Result<String, Failure>> {
        match self.binding {
            Binding::Derived => {
                self.each("rewrap", self.ciphertexts(own), |output| output.blob(self)).await
            }
            Binding::AssociatedData => {
                let keys = self.unwrap_all(own).await;
                let texts = keys.iter().map(|key| key.as_ref().map(Plaintext::new));
                let texts: Vec<_> = texts.collect();
                let inputs = texts.iter().zip(own).map(|(text, own)| match (text, own) {
                    (Ok(text), Ok((_, context))) => {
                        Ok(Input::new(self.binding, context).with_plaintext(text.as_str()))
                    }
                    (Err(failure), _) => Err(Failure::clone(failure)),
                    (_, Err(failure)) => Err(failure.clone()),
                });
                self.each("encrypt", inputs.collect(), |output| output.blob(self)).await
            }
        }
    }

    fn ciphertexts<'a>(&self, own: &'a [Checked<'_>]) -> Vec<Result<Input<'a>, Failure>> {
        let input = |own: &'a Checked<'_>| match own {
            Ok((blob, context)) => Ok(Input::new(self.binding, context).with_ciphertext(blob.text)),
            Err(failure) => Err(failure.clone()),
        };
        own.iter().map(input).collect()
    }

    /// Sends the inputs that there are, and reads one output for each.
    async fn each<T>(
        &self,
        verb: &str,
        inputs: Vec<Result<Input<'_>, Failure>>,
        read: impl Fn(&Output<'_>) -> Result<T, Failure>,
    ) -> Vec<Result<T, Failure>> {
        let mut results = Vec::with_capacity(inputs.len());
        let mut inputs = inputs.into_iter().peekable();
        while inputs.peek().is_some() {
            let (mut sent, mut failures) = (Vec::new(), Vec::new());
            for input in inputs.by_ref().take(ITEMS_MAX) {
                match input {
                    Ok(input) => {
                        sent.push(input);
                        failures.push(None);
                    }
                    Err(failure) => failures.push(Some(failure)),
                }
            }
            let mut answers = self.chunk(verb, &sent, &read).await.into_iter();
            let missing = || Err(Failure::strange("has too few results"));
            results.extend(failures.into_iter().map(|failure| match failure {
                Some(failure) => Err(failure),
                None => answers.next().unwrap_or_else(missing),
            }));
        }
        results
    }

    /// One request. If it fails as a whole, so does each of its items.
    async fn chunk<T>(
        &self,
        verb: &str,
        inputs: &[Input<'_>],
        read: impl Fn(&Output<'_>) -> Result<T, Failure>,
    ) -> Vec<Result<T, Failure>> {
        if inputs.is_empty() {
            return Vec::new();
        }
        let answered = async {
            let reply = self.ask(verb, &Inputs { batch_input: inputs }).await?;
            let Outputs { batch_results } = reply.data()?;
            if batch_results.len() != inputs.len() {
                return Err(Failure::strange("has another number of results"));
            }
            Ok(batch_results
                .iter()
                .map(|item| match &*item.error {
                    "" => read(&item.output),
                    error => Err(Failure::answered_in_batch(error)),
                })
                .collect())
        };
        answered.await.unwrap_or_else(|failure: Failure| {
            inputs.iter().map(|_| Err(failure.clone())).collect()
        })
    }
}
