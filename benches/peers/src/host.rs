//! What the figures were measured with: processor, system, compiler, versions.

use std::collections::BTreeMap;
use std::{env, fs, thread};

use anyhow::Context as _;
use cargo_lock::{Lockfile, Version};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::record::Run;

/// Processor features on which the speed of AES, GHASH and ChaCha20 depends, as Linux calls
/// them.
const FEATURES: &[&str] =
    &["aes", "avx2", "avx512f", "pclmulqdq", "pmull", "sha2", "sha3", "vaes", "vpclmulqdq"];

/// The versions of what is compared, as Cargo.lock had them when this was built.
pub(crate) struct Versions(BTreeMap<String, Version>);

impl Versions {
    pub(crate) fn of_this_build() -> anyhow::Result<Self> {
        let lockfile: Lockfile = include_str!("../Cargo.lock").parse()?;
        let this = lockfile.packages.iter().find(|p| p.name.as_str() == env!("CARGO_PKG_NAME"));
        let dependencies = this.context("this package is not in Cargo.lock")?.dependencies.iter();
        Ok(Self(dependencies.map(|d| (d.name.to_string(), d.version.clone())).collect()))
    }

    /// The name of `package` with its version, without the last part: `asherah 1.0`.
    pub(crate) fn label(&self, package: &str) -> anyhow::Result<String> {
        let Version { major, minor, .. } = self.get(package)?;
        Ok(format!("{package} {major}.{minor}"))
    }

    fn get(&self, package: &str) -> anyhow::Result<&Version> {
        self.0.get(package).with_context(|| format!("{package} is not in Cargo.lock"))
    }
}

/// The first line of a run.
pub(crate) fn run(versions: &Versions) -> anyhow::Result<Run> {
    let mut compared = BTreeMap::new();
    compared.insert(String::from("bulla"), versions.get("bulla-core")?.to_string());
    for &package in crate::peers::PACKAGES {
        compared.insert(package.to_owned(), versions.get(package)?.to_string());
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = field(&cpuinfo, &["flags", "Features"]).unwrap_or_default();
    Ok(Run {
        bench: String::from("peers"),
        cpu: field(&cpuinfo, &["model name"]).unwrap_or(env::consts::ARCH).to_owned(),
        cores: thread::available_parallelism()?.get(),
        features: flags.split(' ').filter(|f| FEATURES.contains(f)).map(String::from).collect(),
        os: os(),
        rustc: env!("RUSTC_VERSION").to_owned(),
        versions: compared,
        date: Timestamp::now().to_zoned(TimeZone::UTC).date().to_string(),
        command: ["bulla-peers".to_owned()]
            .into_iter()
            .chain(env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
    })
}

/// The value of the first line of /proc/cpuinfo with one of these names.
fn field<'a>(cpuinfo: &'a str, names: &[&str]) -> Option<&'a str> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim())
}

/// `linux 6.1.0 x86_64`, without what a vendor adds to the release.
fn os() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let number = release.trim().split(['-', '+']).next().filter(|number| !number.is_empty());
    let parts = [Some(env::consts::OS), number, Some(env::consts::ARCH)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
