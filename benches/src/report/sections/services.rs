//! What a service sees of it: threads, KMS calls, cold starts, a database.

use super::super::chart::{Bars, Group, Look, looks};
use super::super::notation::{bytes, count, time};
use super::super::page::Page;
use super::super::runs::{Bench, Runs};
use super::{plain_table, ratio, setting, settings};
use crate::record::Record;

pub(super) fn scaling(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("More threads", runs, "scaling", |page, bench| {
        page.paragraph(
            "Threads that use one scope, and what they do together by what one of them does \
             alone. The raw cipher has a key for each thread. A core may be worth less than a \
             core in a given minute, so the ratio is that of the two gains in the same rounds; \
             1 is as good as the cipher itself.",
        );
        let most = bench.records.iter().filter_map(|record| record.x).fold(0.0, f64::max);
        let widest = bench.records.iter().filter(|record| record.x == Some(most));
        let groups = widest.map(|record| Group {
            name: format!("{} {}", record.op, bytes(record.size.unwrap_or_default())),
            values: ["gain", "raw_gain"]
                .map(|name| record.counts.get(name).map(|gain| (*gain, format!("{gain:.2}"))))
                .into(),
            look: None,
        });
        page.chart(
            "scaling",
            &format!("What {} threads gain over one, Bulla and the raw cipher", count(most)),
            Bars {
                title: format!("What {} threads gain over one", count(most)),
                name: "calls per second by those of one thread".to_owned(),
                parts: ours_and("raw AES-256-GCM"),
                groups: groups.collect(),
                logarithmic: false,
            }
            .svg()?,
        );
        plain_table(&all(bench), page);
        Ok(())
    })
}

pub(super) fn calls(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("Calls to KMS and store", runs, "calls", |page, bench| {
        page.paragraph(
            "Every DEK is opened once with a cache that holds none, then used again and again. \
             KMS and store do the counting. `bytes per dek` is resident memory, allocations of C \
             code among them.",
        );
        let names = [
            ("DEKs", Look::RAW),
            ("KMS calls", looks(["others"])[0]),
            ("store reads", looks(["bulla-core"])[0]),
        ];
        let groups = bench.records.iter().map(|record| {
            let operations = record.counts.get("operations").copied().unwrap_or_default();
            let of = |name: &str| record.counts.get(name).copied();
            let deks = record.x.filter(|_| record.axis.as_deref() == Some("deks"));
            Group {
                name: format!("{}, {} times", record.op, count(operations)),
                values: [deks, of("kms_calls"), of("store_reads")]
                    .map(|value| value.map(|value| (value, count(value))))
                    .into(),
                look: None,
            }
        });
        page.chart(
            "calls",
            "DEKs, KMS calls and store reads of cold and warm operations",
            Bars {
                title: "Calls to KMS and store".to_owned(),
                name: "how many, in all".to_owned(),
                parts: names.map(|(name, look)| (name.to_owned(), look)).into(),
                groups: groups.collect(),
                logarithmic: false,
            }
            .svg()?,
        );
        plain_table(&all(bench), page);
        Ok(())
    })
}

pub(super) fn cold(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("The first use of a key", runs, "cold", |page, bench| {
        page.paragraph(
            "Nothing is at hand: a read of the store and a call to the KMS, both some \
             milliseconds away. The reference makes the same calls without Bulla.",
        );
        let groups = bench.records.iter().map(|record| {
            let opens = record.counts.get("opens").copied().unwrap_or(1.0);
            let keys = record.x.unwrap_or(1.0);
            Group {
                name: format!("{}: {} under {} keys", record.op, count(opens), count(keys)),
                values: times(record),
                look: None,
            }
        });
        page.chart(
            "cold",
            "Time until all are open, Bulla and the calls alone",
            Bars {
                title: "Time until all are open".to_owned(),
                name: "time, and its ratio to that of the calls alone".to_owned(),
                parts: ours_and("the calls alone"),
                groups: groups.collect(),
                logarithmic: false,
            }
            .svg()?,
        );
        plain_table(&all(bench), page);
        Ok(())
    })
}

pub(super) fn inserts(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("Beside a database", runs, "inserts", |page, bench| {
        page.paragraph(
            "A transaction of many rows with sealed columns, beside one that writes as many \
             bytes without sealing them. For comparison, also beside it: the plaintexts as they \
             are, and what the raw cipher needs for as many bytes, which nothing can go below.",
        );
        let settings = settings(bench.records.iter());
        let groups = bench.records.iter().map(|record| Group {
            name: match settings.len() {
                0 | 1 => record.op.clone(),
                _ => format!("{}, setting {}", record.op, setting(record, &settings)),
            },
            values: times(record),
            look: None,
        });
        page.chart(
            "inserts",
            "Time of a transaction with and without sealing",
            Bars {
                title: "Time of a transaction".to_owned(),
                name: "time, and its ratio to that without sealing".to_owned(),
                parts: ours_and("without sealing"),
                groups: groups.collect(),
                logarithmic: false,
            }
            .svg()?,
        );
        plain_table(&all(bench), page);
        Ok(())
    })
}

fn all(bench: &Bench) -> Vec<&Record> {
    bench.records.iter().collect()
}

fn ours_and(reference: &str) -> Vec<(String, Look)> {
    vec![("Bulla".to_owned(), looks(["bulla-manager"])[0]), (reference.to_owned(), Look::RAW)]
}

/// Times of ours and of the reference, with the ratio beside ours.
fn times(record: &Record) -> Vec<Option<(f64, String)>> {
    let beside = record.ratio.map_or_else(String::new, |value| format!(" ({})", ratio(value)));
    let ours = record.ns.map(|ns| (ns, time(ns) + &beside));
    vec![ours, record.raw_ns.map(|ns| (ns, time(ns)))]
}
