//! What a run was measured with, for its first line.

use std::collections::BTreeMap;
use std::env::{self, consts};
use std::fs;
use std::thread;

use anyhow::Context;
use jiff::Timestamp;

use crate::record::Run;

/// Describes this run, by nothing that names the machine.
pub(crate) fn describe(bench: &str) -> anyhow::Result<Run> {
    Ok(Run {
        bench: bench.to_owned(),
        cpu: cpu(),
        cores: thread::available_parallelism()?.get(),
        features: features(),
        os: os(),
        rustc: env!("BULLA_BENCH_RUSTC").to_owned(),
        versions: BTreeMap::from([
            ("bulla".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("aws-lc-rs".to_owned(), locked_version("aws-lc-rs")?),
        ]),
        date: Timestamp::now().strftime("%Y-%m-%d").to_string(),
        command: ["bulla-bench".to_owned()]
            .into_iter()
            .chain(arguments())
            .collect::<Vec<_>>()
            .join(" "),
    })
}

/// The version of a dependency that was compiled in.
pub(crate) fn locked_version(package: &str) -> anyhow::Result<String> {
    let lock = include_str!("../../Cargo.lock");
    let (_, rest) = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .with_context(|| format!("Cargo.lock has no {package}"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

/// Arguments with a separator in them may be paths, and are left out.
fn arguments() -> impl Iterator<Item = String> {
    env::args().skip(1).map(|argument| match argument.contains(['/', '\\']) {
        true => "...".to_owned(),
        false => argument,
    })
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The system and its version, without what a vendor adds to it.
fn os() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().split(['-', '+']).next().unwrap_or_default();
    [consts::OS, release, consts::ARCH].join(" ").replace("  ", " ")
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let has = [
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("vaes", is_x86_feature_detected!("vaes")),
        ("vpclmulqdq", is_x86_feature_detected!("vpclmulqdq")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("sha", is_x86_feature_detected!("sha")),
    ];
    names(&has)
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<String> {
    use std::arch::is_aarch64_feature_detected;
    names(&[
        ("aes", is_aarch64_feature_detected!("aes")),
        ("pmull", is_aarch64_feature_detected!("pmull")),
        ("sha2", is_aarch64_feature_detected!("sha2")),
        ("sha3", is_aarch64_feature_detected!("sha3")),
    ])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<String> {
    names(&[])
}

fn names(features: &[(&str, bool)]) -> Vec<String> {
    features.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_owned()).collect()
}
