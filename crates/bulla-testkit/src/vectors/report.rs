//! What ran, and what failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Expect, Implementation, Vector, check};

/// The results of many vectors through several implementations.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Vectors that must open, by kind and suite.
    pub good: BTreeMap<String, usize>,
    /// Vectors that must be refused, by kind and suite.
    pub bad: BTreeMap<String, usize>,
    /// How the implementations are called, with the number of vectors that passed, of
    /// intermediate values compared and of envelopes that sealing made again.
    pub implementations: Vec<(String, [usize; 3])>,
    /// What disagrees: implementation, vector, and how.
    pub failures: Vec<String>,
}

/// Runs all `vectors` through all `implementations`.
pub fn run(vectors: &[Vector], implementations: &[&dyn Implementation]) -> Report {
    let mut report = Report::default();
    for vector in vectors {
        let counted = match vector.expect {
            Expect::Success => &mut report.good,
            Expect::Refusal(_) => &mut report.bad,
        };
        *counted.entry(kind_and_suite(vector)).or_default() += 1;
    }
    for implementation in implementations {
        let name = implementation.name();
        let [mut passed, mut values, mut resealed] = [0; 3];
        let mut texts = BTreeSet::new();
        for vector in vectors {
            let checked = check(vector, *implementation);
            passed += usize::from(checked.mismatches.is_empty());
            values += checked.values;
            resealed += usize::from(checked.resealed);
            texts.extend(checked.authentication_text);
            let failure = |how| format!("{name}: {}: {how}", vector.name);
            report.failures.extend(checked.mismatches.into_iter().map(failure));
        }
        if texts.len() > 1 {
            report.failures.push(format!("{name}: authentication errors read as {texts:?}"));
        }
        report.implementations.push((name, [passed, values, resealed]));
    }
    report
}

impl Report {
    /// The number of vectors.
    pub fn vectors(&self) -> usize {
        self.good.values().chain(self.bad.values()).sum()
    }
}

/// As the header claims.
fn kind_and_suite(vector: &Vector) -> String {
    match (vector.envelope.byte(4), vector.envelope.byte(5)) {
        (Some(kind @ (1 | 2 | 0x11 | 0x12)), Some(suite @ 1..=2)) => {
            format!("kind {kind:02x}, suite {suite}")
        }
        _ => "no kind or suite of the format".into(),
    }
}

/// The closing summary.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (good, bad): (usize, usize) = (self.good.values().sum(), self.bad.values().sum());
        writeln!(f, "vectors: {good} good, {bad} bad")?;
        let groups: BTreeSet<_> = self.good.keys().chain(self.bad.keys()).collect();
        for group in groups {
            let count = |of: &BTreeMap<String, usize>| of.get(group).copied().unwrap_or(0);
            writeln!(f, "  {group:<32} {:>4} good {:>4} bad", count(&self.good), count(&self.bad))?;
        }
        for (name, [passed, values, resealed]) in &self.implementations {
            writeln!(
                f,
                "  {name:<32} {passed:>4} passed, {values} intermediate values compared, \
                 {resealed} envelopes sealed again"
            )?;
        }
        self.failures.iter().try_for_each(|failure| writeln!(f, "FAILED: {failure}"))
    }
}
