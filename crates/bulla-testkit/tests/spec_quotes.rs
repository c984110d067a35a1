//! Every MUST of the specification is quoted beside the code that keeps it, and every
//! quote is what the specification says:
//!
//! ```text
//! //= spec 7.2
//! //# An opener that has failed MUST keep failing.
//! ```
//!
//! When this fails, somebody has changed a rule or its wording: read the code under the
//! quote again, then quote anew.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

const SPEC: &str = include_str!("../../../docs/spec/envelope-v1.md");

/// What no code of ours can keep: the start of the sentence, and whom it addresses.
const ADDRESSED_TO_OTHERS: [(&str, &str); 4] = [
    ("The words MUST, MUST NOT,", "the reader"),
    ("A deployment that must hide the order of writes MUST NOT", "a deployment"),
    ("one that must hide which process wrote a record MUST NOT", "a deployment"),
    ("A system in which holders of a DEK are adversaries to each other MUST NOT", "a system"),
];

struct Quote {
    place: String,
    section: String,
    text: String,
}

#[test]
fn every_quote_is_in_the_section_that_it_names() {
    let quotes = quotes();
    assert!(quotes.len() > 40, "only {} quotes were found", quotes.len());
    let wrong: Vec<_> = quotes
        .iter()
        .filter(|quote| !section(&quote.section).is_some_and(|text| text.contains(&quote.text)))
        .map(|quote| format!("{}: not in section {}: {}", quote.place, quote.section, quote.text))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_must_is_quoted() {
    let (spec, quotes) = (one_line(SPEC), quotes());
    let covered = |at: usize| {
        let covers = |text: &str| {
            spec.match_indices(text).any(|(from, _)| (from..from + text.len()).contains(&at))
        };
        quotes.iter().any(|quote| covers(&quote.text))
            || ADDRESSED_TO_OTHERS.iter().any(|(start, _)| covers(start))
    };
    let missing: Vec<_> = spec
        .match_indices("MUST")
        .filter(|(at, _)| !covered(*at))
        .map(|(at, _)| &spec[at.saturating_sub(60)..spec.len().min(at + 80)])
        .filter(|text| text.is_ascii())
        .collect();
    assert!(missing.is_empty(), "not quoted in any source file:\n{}", missing.join("\n"));
}

/// The text of a section, up to the next heading.
fn section(number: &str) -> Option<String> {
    let is_start = |line: &&str| {
        let title = line.trim_start_matches('#').trim_start();
        line.starts_with('#')
            && title.strip_prefix(number).is_some_and(|rest| rest.starts_with([' ', '.']))
    };
    let mut lines = SPEC.lines().skip_while(|line| !is_start(line));
    lines.next()?;
    Some(one_line(&lines.take_while(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")))
}

fn quotes() -> Vec<Quote> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut files);
    files.iter().flat_map(|path| quotes_of(path)).collect()
}

fn quotes_of(path: &Path) -> Vec<Quote> {
    let source = fs::read_to_string(path).unwrap();
    let mut lines = source.lines().map(str::trim_start).enumerate().peekable();
    let mut quotes = Vec::new();
    while let Some((number, line)) = lines.next() {
        let Some(section) = line.strip_prefix("//= spec ") else { continue };
        let mut text = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("//# ")) {
            text = format!("{text} {}", &line["//# ".len()..]);
        }
        let place = format!("{}:{}", path.display(), number + 1);
        quotes.push(Quote { place, section: section.to_owned(), text: one_line(&text) });
    }
    quotes
}

/// The Rust sources of all crates, without tests.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.is_dir() && name != "tests" && name != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs"
        {
            files.push(path);
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
