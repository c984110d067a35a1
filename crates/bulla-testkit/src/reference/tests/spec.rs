//! Reads the worked examples out of the specification.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

const SPEC: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/spec/envelope-v1.md"));

/// One indented block of names and values.
#[derive(Debug, Default)]
pub(super) struct Block(BTreeMap<String, String>);

impl Block {
    /// The text of a value, lines joined.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not in {:?}", self.0.keys()))
    }

    /// The bytes of a value in hexadecimal.
    pub(super) fn hex(&self, name: &str) -> Vec<u8> {
        HEXLOWER.decode(self.text(name).as_bytes()).expect("hexadecimal")
    }
}

/// The lines below a heading, down to the next one.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let mut lines = SPEC.lines().skip_while(move |line| !line.starts_with(heading));
    assert!(lines.next().is_some(), "the specification has no {heading}");
    lines.take_while(|line| !line.starts_with('#'))
}

/// The blocks below a heading. A line with deeper indentation continues the one before.
pub(super) fn blocks(heading: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut last: Option<String> = None;
    for line in section(heading) {
        let Some(line) = line.strip_prefix("    ") else {
            last = None;
            continue;
        };
        if last.is_none() {
            blocks.push(Block::default());
        }
        let values = &mut blocks.last_mut().expect("pushed above").0;
        if line.starts_with(' ') {
            let name = last.as_ref().expect("a first line");
            values.get_mut(name).expect("a first line").push_str(line.trim());
        } else {
            // Names may contain a space and fill their column, so the column decides.
            let (name, value) = line.split_at(13);
            // B.4 has two lines named "entry"; they are not hexadecimal and not asked for.
            values.insert(name.trim().to_owned(), value.trim().to_owned());
            last = Some(name.trim().to_owned());
        }
    }
    blocks
}

/// The rows of a table below a heading, without its head.
pub(super) fn table(heading: &str) -> Vec<Vec<&'static str>> {
    section(heading)
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(1)
        .map(|row| row.split(" | ").collect())
        .collect()
}
