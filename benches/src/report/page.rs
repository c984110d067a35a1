//! The page as it is being written: text, tables, and charts that go beside it.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::runs::{Bench, Runs};
use super::save;

/// A page in Markdown, and its charts in SVG.
#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    text: String,
    folder: String,
    charts: Vec<(String, String)>,
    /// Names and lines of the runs.
    runs: Vec<(String, String)>,
}

impl Page {
    /// Charts are in `folder`, seen from the page.
    pub(crate) fn new(folder: &str) -> Self {
        Self {
            text: String::new(),
            folder: folder.to_owned(),
            charts: Vec::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) fn heading(&mut self, level: usize, text: &str) {
        self.paragraph(&format!("{} {text}", "#".repeat(level)));
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A section about a measurement; where there is no run of it, the section says so.
    pub(crate) fn section(
        &mut self,
        title: &str,
        runs: &Runs,
        bench: &str,
        fill: impl FnOnce(&mut Self, &Bench) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.heading(2, title);
        match runs.get(bench) {
            Some(found) => {
                let (run, folder) = (&found.run, &self.folder);
                let file = &found.file;
                self.paragraph(&format!(
                    "Run of {}: `{}` ([lines]({folder}/runs/{file})).",
                    run.date, run.command
                ));
                fill(self, found)
            }
            None => {
                self.paragraph(&format!("*Not shown: there is no run of `{bench}`.*"));
                Ok(())
            }
        }
    }

    /// A chart, or where it has nothing to show, a line that says so. `alt` says what it
    /// shows to those who do not see it.
    pub(crate) fn chart(&mut self, name: &str, alt: &str, svg: Option<String>) {
        match svg {
            Some(svg) => {
                self.paragraph(&format!("![{alt}]({}/{name}.svg)", self.folder));
                self.charts.push((format!("{name}.svg"), svg));
            }
            None => self
                .paragraph(&format!("*No chart of this: the run has no figures for it ({alt}).*")),
        }
    }

    /// A table whose first column is text and whose others are numbers.
    pub(crate) fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        self.aligned("---:|", head, rows);
    }

    /// A table of text.
    pub(crate) fn words(&mut self, head: &[String], rows: &[Vec<String>]) {
        self.aligned("---|", head, rows);
    }

    fn aligned(&mut self, others: &str, head: &[String], rows: &[Vec<String>]) {
        let mut text = format!("| {} |\n|---|", head.join(" | "));
        text.push_str(&others.repeat(head.len() - 1));
        for row in rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            // Writing to a string cannot fail.
            let _ = write!(text, "\n| {} |", cells.join(" | "));
        }
        self.paragraph(&text);
    }

    /// Keeps the lines of a run beside the page.
    pub(crate) fn keep(&mut self, name: &str, lines: &str) {
        self.runs.push((name.to_owned(), lines.to_owned()));
    }

    pub(crate) fn charts(&self) -> &[(String, String)] {
        &self.charts
    }

    /// The text.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Writes the page to `path`, its charts to `folder`, where no other chart stays, and the
    /// lines of its runs to `folder/runs`.
    pub(crate) fn save(&self, path: &Path, folder: &Path) -> anyhow::Result<()> {
        save(path, &self.text)?;
        if folder.is_dir() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?.path();
                if entry.extension().is_some_and(|extension| extension == "svg") {
                    fs::remove_file(entry)?;
                }
            }
        }
        for (name, svg) in &self.charts {
            save(&folder.join(name), svg)?;
        }
        for (name, lines) in &self.runs {
            save(&folder.join("runs").join(name), lines)?;
        }
        Ok(())
    }
}
