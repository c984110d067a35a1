//! What names a key, and what describes a new one.

use std::time::Duration;

use url::{Host, Url};

/// Which key of AWS KMS, and the way there. Credentials come from the default chain of
/// the AWS SDK: environment, profile, web identity, container and instance roles.
///
/// ```
/// use bulla_aws::AwsOptions;
///
/// let options = AwsOptions::new("alias/orders").with_region("eu-west-1");
/// assert_eq!(options.key, "alias/orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwsOptions {
    /// A key id, a key ARN, `alias/…` or an alias ARN.
    pub key: String,
    /// The region; without it, that of the ARN, then that of the environment or profile.
    pub region: Option<String>,
    /// Where AWS KMS listens, if not where the region has it: a VPC endpoint, a test
    /// server. `https`, or `http` on this machine.
    pub endpoint: Option<String>,
    /// A profile of the AWS configuration files, if not the one of the environment.
    pub profile: Option<String>,
}

impl AwsOptions {
    /// The key by this name, where environment and profile say.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), region: None, endpoint: None, profile: None }
    }

    /// The same in a region.
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The same at an endpoint.
    pub fn with_endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The same with a profile.
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// The region that was asked for, by itself or in the ARN.
    ///
    /// # Errors
    /// What to correct, if both were and differ.
    pub(crate) fn region_wanted(&self) -> Result<Option<&str>, &'static str> {
        let of_arn = self.key.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2));
        match (self.region.as_deref(), of_arn) {
            (Some(region), Some(of_arn)) if region != of_arn => Err(
                "the ARN of the key names another region than the options; give the ARN of the \
                 replica in this region, or leave the region out",
            ),
            (region, of_arn) => Ok(region.or(of_arn)),
        }
    }

    /// Demands that data keys do not cross a network in the clear.
    ///
    /// # Errors
    /// What to correct.
    pub(crate) fn check_endpoint(&self) -> Result<(), &'static str> {
        let Some(endpoint) = self.endpoint.as_deref() else { return Ok(()) };
        let url = Url::parse(endpoint).map_err(|_| "the endpoint is no URL")?;
        let local = match url.host() {
            Some(Host::Domain(domain)) => domain == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() == "https" || (url.scheme() == "http" && local) {
            return Ok(());
        }
        Err("data keys must not cross a network in the clear: use https. For test servers \
             elsewhere, set AWS_ENDPOINT_URL_KMS instead")
    }
}

/// What a new key is to be. It is always symmetric, for encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// A sentence for people; not secret.
    pub description: Option<String>,
    /// Whether it can have replicas in other regions. Cannot be changed later.
    pub multi_region: bool,
    /// Whether, and how often, AWS KMS rotates it by itself: 90 to 2560 whole days.
    pub rotation_period: Option<Duration>,
    /// Tags; not secret.
    pub tags: Vec<(String, String)>,
}

impl CreateOptions {
    /// A key in one region, which AWS KMS does not rotate by itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a description.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The same, able to have replicas in other regions or not.
    pub fn with_multi_region(mut self, yes: bool) -> Self {
        self.multi_region = yes;
        self
    }

    /// The same, rotated by AWS KMS once in `period`.
    pub fn with_rotation_period(mut self, period: Duration) -> Self {
        self.rotation_period = Some(period);
        self
    }

    /// The same with one more tag.
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_an_arn_is_taken_and_must_not_differ() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1";
        assert_eq!(AwsOptions::new(arn).region_wanted(), Ok(Some("eu-west-1")));
        let same = AwsOptions::new(arn).with_region("eu-west-1");
        assert_eq!(same.region_wanted(), Ok(Some("eu-west-1")));
        assert!(AwsOptions::new(arn).with_region("us-east-1").region_wanted().is_err());
        assert_eq!(AwsOptions::new("alias/a").region_wanted(), Ok(None));
        let alias = AwsOptions::new("alias/a").with_region("us-east-1");
        assert_eq!(alias.region_wanted(), Ok(Some("us-east-1")));
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let check = |url: &str| AwsOptions::new("k").with_endpoint(url).check_endpoint();
        for url in [
            "https://kms.eu-west-1.amazonaws.com",
            "http://127.0.0.1:4566",
            "http://localhost:4566/",
            "http://[::1]:4566",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "http://kms.eu-west-1.amazonaws.com",
            "http://localhost.evil.example:4566",
            "http://127.0.0.1@evil.example",
            "http://127.0.0.1:x@evil.example",
            "HTTP://evil.example",
            "ftp://localhost",
            "http://10.0.0.1",
            "http://",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
