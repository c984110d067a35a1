//! The `report` command: the figures of runs, as a page with charts.
//!
//! Everything on the page comes from the lines of a run, which are kept beside it. The same
//! lines make the same page, to the byte.

mod chart;
mod notation;
mod page;
mod runs;
mod sections;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use self::page::Page;
use self::runs::Runs;

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// What the measurements print with --json, one run of each. Copies are kept in the
    /// folder `runs` beside the charts.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// The page. Its charts go to a folder of the same name.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

impl Report {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut inputs = Vec::new();
        for path in &self.inputs {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            let lines = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            inputs.push((name.into_owned(), lines));
        }
        let folder = self.out.with_extension("");
        let folder_name = folder.file_name().context("--out names no file")?.to_string_lossy();
        let page = write(&inputs, &folder_name)?;
        page.save(&self.out, &folder)?;
        println!("{}: {} charts", self.out.display(), page.charts().len());
        Ok(())
    }
}

/// The page of `inputs`, names and lines, with charts in the folder `charts` beside it.
fn write(inputs: &[(String, String)], charts: &str) -> anyhow::Result<Page> {
    let (mut runs, mut page) = (Runs::default(), Page::new(charts));
    for (name, lines) in inputs {
        runs.read(name, lines)?;
        page.keep(name, lines);
    }
    sections::all(&runs, &mut page)?;
    Ok(page)
}

/// Replaces `path`, in a folder that is made if there is none.
fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
