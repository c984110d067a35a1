//! The AWS Encryption SDK for Rust.

use std::collections::HashMap;
use std::hint::black_box;

use anyhow::Context as _;
use aws_esdk::client::Client;
use aws_esdk::material_providers::client::Client as Materials;
use aws_esdk::material_providers::types::EsdkAlgorithmSuiteId;
use aws_esdk::material_providers::types::keyring::KeyringRef;
use aws_esdk::material_providers::types::{
    AesWrappingAlg, material_providers_config::MaterialProvidersConfig,
};
use aws_esdk::types::aws_encryption_sdk_config::AwsEncryptionSdkConfig;
use tokio::runtime::{Builder, Runtime};

use super::{CONTEXT, Peer};
use crate::host::Versions;

/// How records are sealed. Both suites commit to the key.
#[derive(Clone, Copy)]
pub(crate) enum Suite {
    /// Without a signature: for writers and readers that trust each other alike.
    Committing,
    /// The default.
    CommittingAndSigned,
}

/// Client and raw AES keyring, made once, as in the example `raw_aes_keyring_example` of its
/// repository, and `set_encryption_algorithm_suite_example` for the suite without signature.
///
/// Raw AES is the keyring that costs least: no KMS, no cache. Its futures are awaited on a
/// current-thread runtime; with this keyring none of them waits or hands work to threads.
pub(crate) struct AwsEsdk {
    runtime: Runtime,
    client: Client,
    keyring: KeyringRef,
    suite: Suite,
    context: HashMap<String, String>,
}

impl AwsEsdk {
    pub(crate) fn new(suite: Suite) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = Client::from_conf(AwsEncryptionSdkConfig::builder().build()?)?;
        let materials = Materials::from_conf(MaterialProvidersConfig::builder().build()?)?;
        let keyring = materials
            .create_raw_aes_keyring()
            .key_name("bench")
            .key_namespace("bulla")
            .wrapping_key(vec![7; 32])
            .wrapping_alg(AesWrappingAlg::AlgAes256GcmIv12Tag16);
        let keyring = runtime.block_on(keyring.send())?;
        let context = CONTEXT.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Ok(Self { runtime, client, keyring, suite, context })
    }

    async fn encrypt(&self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        let call = self.client.encrypt().plaintext(plaintext).keyring(self.keyring.clone());
        let call = call.encryption_context(self.context.clone());
        let call = match self.suite {
            Suite::Committing => {
                call.algorithm_suite_id(EsdkAlgorithmSuiteId::AlgAes256GcmHkdfSha512CommitKey)
            }
            Suite::CommittingAndSigned => call,
        };
        Ok(call.send().await?.ciphertext.context("no ciphertext")?.into_inner())
    }

    async fn decrypt(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let call = self.client.decrypt().ciphertext(message).keyring(self.keyring.clone());
        let opened = call.encryption_context(self.context.clone()).send().await?;
        Ok(opened.plaintext.context("no plaintext")?.into_inner())
    }
}

impl Peer for AwsEsdk {
    fn name(&self, versions: &Versions) -> anyhow::Result<String> {
        let label = versions.label("aws-esdk")?;
        Ok(match self.suite {
            Suite::Committing => format!("{label} unsigned"),
            Suite::CommittingAndSigned => format!("{label} signed"),
        })
    }

    fn settings(&self) -> &'static str {
        match self.suite {
            Suite::Committing => {
                "raw AES keyring, AlgAes256GcmHkdfSha512CommitKey (commitment, no signature), \
                 encryption context of three pairs, default frames; awaited one by one on a \
                 current-thread runtime, a batch in one block_on"
            }
            Suite::CommittingAndSigned => {
                "raw AES keyring, default suite AlgAes256GcmHkdfSha512CommitKeyEcdsaP384 \
                 (commitment and signature), encryption context of three pairs, default frames; \
                 awaited one by one on a current-thread runtime, a batch in one block_on"
            }
        }
    }

    fn seal(&mut self, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.runtime.block_on(self.encrypt(plaintext))
    }

    fn open(&mut self, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.runtime.block_on(self.decrypt(envelope))
    }

    fn seal_times(&mut self, plaintext: &[u8], calls: u64) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            for _ in 0..calls {
                black_box(self.encrypt(black_box(plaintext)).await?);
            }
            Ok(())
        })
    }

    fn open_times(&mut self, envelope: &[u8], calls: u64) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            for _ in 0..calls {
                black_box(self.decrypt(black_box(envelope)).await?);
            }
            Ok(())
        })
    }
}
