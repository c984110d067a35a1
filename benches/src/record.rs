//! The lines that every measurement prints with `--json`, and that the report reads.
//!
//! The first line of a run says what was run and where; each line after it is one figure.
//! What does not apply to a figure is left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// The first line of a run.
    Run {
        /// What the figures after it were measured with.
        run: Run,
    },
    /// A figure of that run.
    Record(Box<Record>),
}

/// What a run was: nothing that names a machine, an account or a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Which measurement, as in [`Record::bench`].
    pub(crate) bench: String,
    /// The processor as it calls itself.
    pub(crate) cpu: String,
    /// How many of its cores the program may use.
    pub(crate) cores: usize,
    /// What the processor has of that on which the speed of AES-GCM depends.
    pub(crate) features: Vec<String>,
    /// The operating system and its version.
    pub(crate) os: String,
    /// The compiler.
    pub(crate) rustc: String,
    /// What was compared, by name: `bulla`, `aws-lc-rs`, every peer.
    pub(crate) versions: BTreeMap<String, String>,
    /// The day of the run, as `2026-01-31`.
    pub(crate) date: String,
    /// The arguments, without the path of the program.
    pub(crate) command: String,
}

/// One figure. Times are nanoseconds for one call, allocations and bytes are per call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// `ratios`, `scaling`, `calls`, `growth`, `cold`, `inserts` or `peers`.
    pub(crate) bench: String,
    /// Whose operation: `bulla-core`, `bulla-manager`, `raw aws-lc-rs`.
    pub(crate) subject: String,
    /// Which operation: `seal_into`, `open`.
    pub(crate) op: String,
    /// Bytes of plaintext of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// The quantity that grows from figure to figure, where one does: `scopes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) axis: Option<String>,
    /// Where on that axis the figure lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<f64>,
    /// The median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ns: Option<f64>,
    /// The median of the reference, measured in turn with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw_ns: Option<f64>,
    /// The one by the other; which by which is said where it is not `ns / raw_ns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// Allocations, of Rust code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allocs: Option<f64>,
    /// Bytes allocated, by Rust code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alloc_bytes: Option<f64>,
    /// Bytes that come out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_bytes: Option<u64>,
    /// How a subject was set up, where that is a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settings: Option<String>,
    /// What was counted, in whole numbers or not: `kms_calls`, `store_reads`,
    /// `bytes_per_dek`.
    #[serde(flatten)]
    pub(crate) counts: BTreeMap<String, f64>,
}

impl Record {
    /// The same at a place on an axis.
    pub(crate) fn at(mut self, axis: &str, x: usize) -> Self {
        self.axis = Some(axis.to_owned());
        self.x = Some(x as f64);
        self
    }

    /// The same with the length of what comes out.
    pub(crate) fn giving(mut self, output_bytes: usize) -> Self {
        self.output_bytes = Some(output_bytes as u64);
        self
    }

    /// The same with one more count.
    pub(crate) fn counting(mut self, name: &str, count: f64) -> Self {
        self.counts.insert(name.to_owned(), count);
        self
    }

    /// The same, saying how the subject was set up.
    pub(crate) fn under(mut self, settings: &str) -> Self {
        self.settings = Some(settings.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_as_it_was_printed_and_says_only_what_applies() {
        let figure = Record { op: "open".to_owned(), ns: Some(1.5), ..Record::default() };
        let figure = figure.at("deks", 100).counting("kms_calls", 3.0);
        let printed = serde_json::to_string(&Line::Record(Box::new(figure.clone()))).unwrap();
        assert_eq!(
            printed,
            r#"{"bench":"","subject":"","op":"open","axis":"deks","x":100.0,"ns":1.5,"kms_calls":3.0}"#
        );
        let read: Line = serde_json::from_str(&printed).unwrap();
        assert_eq!(read, Line::Record(Box::new(figure)));
    }
}
