//! Cost as work grows.

use super::super::chart::{Axis, Lines, Look, Series, looks};
use super::super::notation::{bytes, count, time_tick};
use super::super::page::Page;
use super::super::runs::Runs;
use super::plain_table;
use crate::record::Record;

pub(super) fn section(runs: &Runs, page: &mut Page) -> anyhow::Result<()> {
    page.section("As work grows", runs, "growth", |page, bench| {
        page.paragraph(
            "What a call costs as there is more of something: whether it stays flat, or grows no \
             faster than the work does. The dashed line is the raw cipher on the same records.",
        );
        let on_an_axis = |record: &Record| record.axis.is_some() && record.x.is_some();
        for (axis, records) in bench.grouped(on_an_axis, |record| &record.axis) {
            let axis = axis.as_deref().unwrap_or_default();
            page.heading(3, &format!("More {axis}"));
            let file = format!("growth-{}", axis.replace(' ', "-"));
            page.chart(&file, &format!("Time of one call as {axis} grow"), chart(axis, &records)?);
            plain_table(&records, page);
        }
        Ok(())
    })
}

fn chart(axis: &str, records: &[&Record]) -> anyhow::Result<Option<String>> {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for record in records {
        let key = (&*record.subject, &*record.op);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let points = |key: &(&str, &str), value: fn(&Record) -> Option<f64>| {
        let mut points: Vec<(f64, f64)> = records
            .iter()
            .filter(|record| (&*record.subject, &*record.op) == *key)
            .filter_map(|record| Some((record.x?, value(record)?)))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    };
    let looks = looks(keys.iter().map(|(subject, _)| *subject));
    let mut series: Vec<Series> = Vec::new();
    for (key, look) in keys.iter().zip(looks) {
        let name = format!("{} {}", key.0, key.1);
        series.push(Series { name, look, points: points(key, |record| record.ns) });
    }
    // The raw cipher has the same work at the same place; the first figure there will do.
    let mut raw: Vec<(f64, f64)> =
        keys.iter().flat_map(|key| points(key, |record| record.raw_ns)).collect();
    raw.sort_by(|one, other| one.0.total_cmp(&other.0));
    raw.dedup_by(|one, other| one.0 == other.0);
    series.push(Series { name: "raw AES-256-GCM".to_owned(), look: Look::RAW, points: raw });
    series.retain(|series| !series.points.is_empty());
    let of = |value: fn(&(f64, f64)) -> f64| {
        series.iter().flat_map(|series| series.points.iter().map(value)).collect::<Vec<f64>>()
    };
    let format = |x| if axis.starts_with("bytes") { bytes(x as u64) } else { count(x) };
    Lines {
        title: format!("Time of one call as {axis} grow"),
        x: Axis::at(axis, &of(|point| point.0), format),
        y: Axis::log("time", &of(|point| point.1), time_tick),
        series,
    }
    .svg()
}
