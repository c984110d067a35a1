//! A key of AWS KMS: how it is found, named and made.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{self, StalledStreamProtectionConfig};
use aws_sdk_kms::types::{KeyManagerType, KeyMetadata, KeySpec, KeyUsageType, Tag};
use bulla_backend::{KekId, KekVersion, KmsError, KmsErrorKind, KmsOperation};

use crate::admin::rotation_days;
use crate::error::Call;
use crate::options::{AwsOptions, CreateOptions};

/// One symmetric key of AWS KMS. Cheap to clone.
///
/// Its [`KekId`] is `aws-kms:` and the ARN of the key, whether it was found by id, ARN or
/// alias. An alias is looked up once: when it is moved to another key, this object stays
/// with the one that it has. The ARN of a multi-region key, whose id begins with `mrk-`, is
/// without its region (`aws-kms:arn:aws:kms::111122223333:key/mrk-…`): all replicas are one
/// KEK, and each opens what another has wrapped.
///
/// ```no_run
/// use bulla_aws::{AwsKek, AwsOptions};
/// use bulla_backend::{GenerateRequest, KeyWrapper, UnwrapRequest};
/// use bulla_core::{DekVersion, ScopeContext};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kek = AwsKek::connect(AwsOptions::new("alias/orders").with_region("eu-west-1")).await?;
///
/// let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "orders")])?;
/// let context = scope.kms_context(DekVersion::FIRST);
/// let generated = kek.generate_data_key(GenerateRequest::new(&context)).await?;
/// let request = UnwrapRequest::new(&generated.wrapped, &context);
/// assert!(kek.unwrap_key(request).await?.data_key == generated.data_key);
/// # Ok(())
/// # }
/// ```
///
/// # Versions
/// A version of the KEK is a key material of AWS KMS, and its label the id of that. Data
/// keys made here, unwrapped or rewrapped name it. AWS does not say which material
/// [`wrap_key`](bulla_backend::KeyWrapper::wrap_key) used: `Unknown`, until the wrap is
/// unwrapped or rewrapped. Where a server leaves the ids out (emulators do), versions are
/// `Unknown`, and [`Capabilities`](bulla_backend::Capabilities) say so after the first
/// answer.
///
/// # Runtime
/// Calls need a Tokio runtime with I/O and time. Each call of the data path is one request,
/// without retries and time-outs. Dropping a future gives up waiting; what was sent may
/// still be done.
///
/// # Errors
/// As the contract says. A condition of a policy that is not met is `Denied`; a key that is
/// disabled, pending deletion, without its imported material or in a disconnected key
/// store is `Disabled`; a wrong clock is `Unauthenticated`, with a message about it.
#[derive(Clone)]
pub struct AwsKek(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) kek: KekId,
    pub(crate) arn: String,
    /// Whether answers have named the key material so far.
    names_version: AtomicBool,
    /// Whether it is worth asking for the list of versions.
    pub(crate) lists_versions: AtomicBool,
}

impl AwsKek {
    /// Finds a key, with the credentials of the default chain. Asks for its description,
    /// once.
    ///
    /// # Errors
    /// [`KmsError`]: `NotFound` if there is no such key, `Misconfigured` if it is not a
    /// symmetric key for encryption or one that AWS manages, or if no region is known; and
    /// as above.
    pub async fn connect(options: AwsOptions) -> Result<Self, KmsError> {
        let client = client(&options, KmsOperation::Describe).await?;
        Self::from_client(client, &options.key).await
    }

    /// The same with a client of yours, for credentials, HTTP clients and settings that
    /// [`AwsOptions`] does not have. A copy of it is used, with retries and time-outs switched
    /// off: Bulla's layers have them.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(client: Client, key: &str) -> Result<Self, KmsError> {
        let name = unresolved(key);
        let call = Call { operation: KmsOperation::Describe, kek: &name };
        let client = bare(&client, call)?;
        let answer = call.ask(client.describe_key().key_id(key).send()).await?;
        Self::of(client, call, answer.key_metadata)
    }

    /// Makes a key, in the place that `options` say, and gives it the alias that they name
    /// as the key (`alias/…`). Needs `kms:CreateKey`, `kms:CreateAlias`, `kms:DescribeKey`,
    /// and what the options ask for.
    ///
    /// # Errors
    /// [`KmsError`]: `Misconfigured` if the name is not an alias, or one in use; and as
    /// above. If the key was made but could not be set up, the message has its ARN.
    pub async fn create(options: AwsOptions, create: CreateOptions) -> Result<Self, KmsError> {
        let client = client(&options, KmsOperation::Administer).await?;
        Self::create_with_client(client, &options.key, create).await
    }

    /// The same with a client of yours, as in [`from_client`](Self::from_client).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn create_with_client(
        client: Client,
        alias: &str,
        create: CreateOptions,
    ) -> Result<Self, KmsError> {
        let name = unresolved(alias);
        let call = Call { operation: KmsOperation::Administer, kek: &name };
        let client = bare(&client, call)?;
        check_alias(alias).map_err(|message| call.error(KmsErrorKind::Misconfigured, message))?;
        create
            .rotation_period
            .map_or(Ok(0), rotation_days)
            .map_err(|message| call.error(KmsErrorKind::Misconfigured, message))?;
        // Looked for first: a key that is made and then cannot get its name costs money.
        match call.ask(client.describe_key().key_id(alias).send()).await {
            Err(error) if error.kind() == KmsErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let message = "there is a key of this alias already; connect to it";
                return Err(call.error(KmsErrorKind::Misconfigured, message));
            }
        }
        let kek = Self::make(client, call, &create).await?;
        kek.set_up(alias, &create).await.map_err(|error| {
            let message = format!(
                "the key {} was made, but not set up; set its alias, or schedule its deletion",
                kek.arn()
            );
            call.error(error.kind(), message).with_source(error)
        })?;
        Ok(kek)
    }

    /// The ARN of the key in the region of this object.
    pub fn arn(&self) -> &str {
        &self.0.arn
    }

    /// The last part of the ARN.
    pub(crate) fn key_id(&self) -> &str {
        self.0.arn.rsplit('/').next().unwrap_or_default()
    }

    async fn make(
        client: Client,
        call: Call<'_>,
        create: &CreateOptions,
    ) -> Result<Self, KmsError> {
        let mut tags = Vec::with_capacity(create.tags.len());
        for (key, value) in &create.tags {
            let tag = Tag::builder().tag_key(key).tag_value(value).build();
            tags.push(tag.map_err(|error| {
                call.error(KmsErrorKind::Misconfigured, "a tag is malformed").with_source(error)
            })?);
        }
        let request = client
            .create_key()
            .key_spec(KeySpec::SymmetricDefault)
            .key_usage(KeyUsageType::EncryptDecrypt)
            .multi_region(create.multi_region)
            .set_description(create.description.clone())
            .set_tags(Some(tags).filter(|tags| !tags.is_empty()));
        let answer = call.ask(request.send()).await?;
        Self::of(client, call, answer.key_metadata)
    }

    async fn set_up(&self, alias: &str, create: &CreateOptions) -> Result<(), KmsError> {
        let call = self.call(KmsOperation::Administer);
        let request = self.0.client.create_alias().alias_name(alias).target_key_id(self.key_id());
        call.ask(request.send()).await?;
        match create.rotation_period {
            Some(period) => self.enable_rotation(period).await,
            None => Ok(()),
        }
    }

    /// The key that AWS KMS describes, if it will do.
    fn of(client: Client, call: Call<'_>, metadata: Option<KeyMetadata>) -> Result<Self, KmsError> {
        let Some((Some(arn), metadata)) = metadata.map(|key| (key.arn.clone(), key)) else {
            return Err(call.error(KmsErrorKind::Unavailable, "the answer describes no key"));
        };
        let refused = |message: &str| Err(call.error(KmsErrorKind::Misconfigured, message));
        if metadata.key_usage.is_some_and(|usage| usage != KeyUsageType::EncryptDecrypt)
            || metadata.key_spec.is_some_and(|spec| spec != KeySpec::SymmetricDefault)
        {
            return refused(
                "the key must be symmetric and for encryption: key spec SYMMETRIC_DEFAULT, key \
                 usage ENCRYPT_DECRYPT",
            );
        }
        if metadata.key_manager == Some(KeyManagerType::Aws) {
            return refused("AWS services alone can use the keys that AWS manages; create one");
        }
        Ok(Self(Arc::new(Inner {
            client,
            kek: kek_id(&arn),
            arn,
            names_version: AtomicBool::new(metadata.current_key_material_id.is_some()),
            lists_versions: AtomicBool::new(true),
        })))
    }

    pub(crate) fn call(&self, operation: KmsOperation) -> Call<'_> {
        Call { operation, kek: &self.0.kek }
    }

    /// Whether answers name the key material: as the description does, until an answer
    /// does not.
    pub(crate) fn names_version(&self) -> bool {
        self.0.names_version.load(Ordering::Relaxed)
    }

    /// The version of an answer of the data path.
    pub(crate) fn version(&self, key_material_id: Option<String>) -> KekVersion {
        if key_material_id.is_none() {
            self.0.names_version.store(false, Ordering::Relaxed);
        }
        reported(key_material_id)
    }
}

/// Name and place; never credentials.
impl fmt::Debug for AwsKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsKek({} as {})", self.0.kek, self.0.arn)
    }
}

pub(crate) fn reported(key_material_id: Option<String>) -> KekVersion {
    key_material_id.map_or(KekVersion::Unknown, |id| KekVersion::Reported(id.into()))
}

/// An alias that a customer can give.
pub(crate) fn check_alias(alias: &str) -> Result<(), &'static str> {
    match alias.strip_prefix("alias/") {
        Some(name) if !name.is_empty() && !name.starts_with("aws/") => Ok(()),
        _ => Err("an alias is `alias/` and a name that does not begin with `aws/`"),
    }
}

/// The name of a key whose ARN is not known yet, for errors.
fn unresolved(key: &str) -> KekId {
    KekId::new(format!("aws-kms:{key}"))
}

/// One name for all replicas of a multi-region key, one for each other key.
fn kek_id(arn: &str) -> KekId {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    match parts[..] {
        [arn, partition, service, _region, account, key] if key.starts_with("key/mrk-") => {
            KekId::new(format!("aws-kms:{arn}:{partition}:{service}::{account}:{key}"))
        }
        _ => unresolved(arn),
    }
}

async fn client(options: &AwsOptions, operation: KmsOperation) -> Result<Client, KmsError> {
    let name = unresolved(&options.key);
    let call = Call { operation, kek: &name };
    let wrong = |message: &str| call.error(KmsErrorKind::Misconfigured, message);
    options.check_endpoint().map_err(wrong)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = options.region_wanted().map_err(wrong)? {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.load().await;
    // Not on the loader: the endpoint is not that of STS.
    let mut builder = config::Builder::from(&shared);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Ok(Client::from_conf(builder.build()))
}

/// The same client without retries and time-outs, which are the business of Bulla's layers:
/// retries within retries multiply, and the SDK's own are on by default.
fn bare(client: &Client, call: Call<'_>) -> Result<Client, KmsError> {
    let config = client.config();
    if config.region().is_none() {
        let message = "no region is known; give one, or set AWS_REGION";
        return Err(call.error(KmsErrorKind::Misconfigured, message));
    }
    let config = config
        .to_builder()
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    Ok(Client::from_conf(config.build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_arns_and_replicas_share_one() {
        let of = |arn| kek_id(arn).as_str().to_owned();
        let key = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(of(key), format!("aws-kms:{key}"));
        let replicas = [
            "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
            "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
        ];
        let one = "aws-kms:arn:aws:kms::111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab";
        assert_eq!(replicas.map(of), [one, one]);
        let elsewhere = "arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1";
        assert_eq!(of(elsewhere), "aws-kms:arn:aws-cn:kms::111122223333:key/mrk-1");
        assert_eq!(kek_id(key).backend_number(), 2);
    }

    #[test]
    fn aliases_are_what_customers_can_give() {
        assert!(check_alias("alias/orders").is_ok());
        for alias in ["orders", "alias/", "alias/aws/s3", "", "arn:aws:kms:r:1:alias/a"] {
            assert!(check_alias(alias).is_err(), "{alias}");
        }
    }
}
