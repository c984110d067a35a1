//! Bulla in one minute: seals columns of a CSV file into SQLite, attacks them, rotates
//! the keys above them, and opens everything again.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- --help
//! ```
//!
//! This file is the story, in its order; `support/` is what it is told with.

mod support;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use bulla::backend::{KeyAdmin, KeyInspector};
use bulla::local::Unlock;
use bulla::{DekVersion, Header, RecordContext};
use clap::Parser;

use support::args::Args;
use support::columns::Columns;
use support::csv_source::CsvSource;
use support::demo::Demo;
use support::place::Place;
use support::report::{Figures, Story, bytes, count, duration, excerpt, hex};
use support::table::Table;
use support::{resealing, sealing, verifying};

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed, the exit code has to do.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let mut csv = CsvSource::open(args.csv())?;
    let columns = Columns::choose(csv.header(), args.columns(), args.key_column())?;
    let mut story = Story::new(!args.json);
    story.introduce(args, &columns)?;

    let (mut place, unlock) = Place::choose(args.db.as_deref())?;
    let mut demo = open(story, columns, &place, unlock).await?;
    seal(&mut demo, &mut csv).await?;
    place.keep();
    look(&mut demo).await?;
    read(&mut demo).await?;
    attack(&mut demo).await?;
    let active = rotate(&mut demo).await?;
    count_stale(&mut demo, active).await?;
    read_on(&mut demo).await?;
    reseal(&mut demo, active).await?;
    let mismatch = verify(&mut demo, &mut csv.reopen()?).await?;
    let figures = close(demo).await?;

    if args.json {
        figures.print_json()?;
    }
    match mismatch {
        Some(first) => bail!("{} mismatches; the first: {first}", figures.mismatches),
        None => Ok(()),
    }
}

async fn open(mut story: Story, columns: Columns, place: &Place, unlock: Unlock) -> Result<Demo> {
    story.chapter("Open the KEK and the key store")?;
    let start = Instant::now();
    let bulla = bulla::open_embedded(&place.keys, unlock).await?;
    let scope = bulla.manager.scope("demo", "records")?;
    // Makes the scope's first DEK, so that the first seal need not wait for it.
    scope.prepare().await?;
    let columns = Arc::new(columns);
    let table = Table::create(&place.records, Arc::clone(&columns)).await?;

    let (records, keys) = (place.records.display(), place.keys.display());
    let version = bulla.kek.describe().await?.current;
    story.say(format_args!("records   {records} ({})", place.lifetime()))?;
    story.say(format_args!("keys      {keys}, unlocked by {}", place.unlocked_by))?;
    story.say(format_args!("KEK       version {version}, in kek.json; in production: a KMS"))?;
    story.say(format_args!("DEK       of scope {}, wrapped by the KEK, in keys.db", scope.id()))?;
    story.say(format_args!("ready     in {}", duration(start.elapsed())))?;
    Ok(Demo { story, columns, bulla, scope, table, figures: Figures::default() })
}

async fn seal(demo: &mut Demo, csv: &mut CsvSource) -> Result<()> {
    demo.story.chapter("Seal on the way into the database")?;
    let start = Instant::now();
    let sealed = sealing::seal_all(csv, &demo.columns, &demo.scope, &mut demo.table).await?;
    let elapsed = start.elapsed();
    demo.figures.add_sealed(&sealed);
    let per_second = sealed.rows as f64 / elapsed.as_secs_f64();
    demo.story.say(format_args!(
        "{} rows, {} sealed cells in {}: {} rows/s with reading and writing",
        count(sealed.rows),
        count(sealed.cells),
        duration(elapsed),
        count(per_second as u64)
    ))?;
    demo.story.say(format_args!("one seal  {}", sealed.latency))?;
    Ok(())
}

async fn look(demo: &mut Demo) -> Result<()> {
    demo.story.chapter("See what a thief of the database sees")?;
    for cell in demo.some_cells() {
        let (envelope, _) = demo.sealed_cell(cell).await?;
        let key = demo.key_of(cell.number).await?;
        let key = format!("{} {}", demo.columns.list([demo.columns.key]), excerpt(key.as_bytes()));
        let column = demo.columns.list([cell.column]);
        demo.story.say(format_args!("{key}, {column}: {}", hex(&envelope)))?;
    }
    if let Some(&cell) = demo.some_cells().first() {
        let (envelope, _) = demo.sealed_cell(cell).await?;
        demo.story.say(format_args!("which is: {}", Header::parse(&envelope)?))?;
    }
    Ok(())
}

async fn read(demo: &mut Demo) -> Result<()> {
    demo.story.chapter("Open a few cells")?;
    for cell in demo.some_cells() {
        let (envelope, context) = demo.sealed_cell(cell).await?;
        let opened = demo.scope.open(&envelope, &context).await?;
        let name = demo.name_of(cell);
        demo.story.say(format_args!("{name}: {}", excerpt(&opened.plaintext)))?;
    }
    Ok(())
}

async fn attack(demo: &mut Demo) -> Result<()> {
    demo.story.chapter("Swap two envelopes behind the application's back")?;
    let Some((one, other)) = demo.two_cells() else {
        return Ok(demo.story.say("there are no two sealed cells to swap")?);
    };
    demo.table.exchange(one, other).await?;
    for cell in [one, other] {
        let (envelope, context) = demo.sealed_cell(cell).await?;
        let name = demo.name_of(cell);
        match demo.scope.open(&envelope, &context).await {
            Ok(_) => bail!("{name} opened in a place that it was not sealed for"),
            Err(error) => demo.story.say(format_args!("{name}: refused: {error}"))?,
        }
    }
    demo.table.exchange(one, other).await?;
    demo.story.say("swapped back")?;
    Ok(())
}

/// Returns the version of the DEK that seals from now on.
async fn rotate(demo: &mut Demo) -> Result<DekVersion> {
    demo.story.chapter("Rotate the KEK and the DEK")?;
    let kek_version = demo.bulla.kek.rotate().await?;
    let rotation = demo.scope.rotate().await?;
    // What the background would learn within a minute, it learns now.
    demo.bulla.manager.sync().await?;
    demo.figures.dek_versions = rotation.active.get();

    let context = RecordContext::new([("table", "records"), ("row", "new")])?;
    let header = Header::parse(&demo.scope.seal(b"new", &context).await?)?;
    demo.story.say(format_args!("KEK       version {kek_version} wraps"))?;
    demo.story.say(format_args!("DEK       version {} seals", rotation.active))?;
    demo.story.say(format_args!("new seal  {header}"))?;
    demo.story.say("records   none was touched")?;
    Ok(rotation.active)
}

async fn count_stale(demo: &mut Demo, active: DekVersion) -> Result<()> {
    demo.story.chapter("Count stale cells without any key")?;
    demo.figures.stale_before = demo.table.count_stale(active).await?;
    let (stale, all) = (count(demo.figures.stale_before), count(demo.figures.sealed_cells));
    demo.story.say(demo.table.stale_query(active))?;
    demo.story.say(format_args!("stale     {stale} of {all} cells, over all sealed columns"))?;
    Ok(())
}

async fn read_on(demo: &mut Demo) -> Result<()> {
    demo.story.chapter("Read on; meanwhile the old DEK gets a new wrap")?;
    demo.story.say(format_args!("DEKs      {}", demo.wraps().await?))?;
    let Some(&cell) = demo.some_cells().first() else { return Ok(()) };
    let (envelope, context) = demo.sealed_cell(cell).await?;
    for moment in ["first", "later"] {
        let freshness = demo.scope.open(&envelope, &context).await?.freshness;
        let (dek, kek) = (freshness.stale_dek, freshness.stale_kek);
        let name = demo.name_of(cell);
        demo.story
            .say(format_args!("{moment}     {name} opens; DEK stale: {dek}, KEK stale: {kek}"))?;
        demo.bulla.manager.rewraps_settled().await;
    }
    demo.story.say(format_args!("DEKs      {}", demo.wraps().await?))?;
    Ok(())
}

async fn reseal(demo: &mut Demo, active: DekVersion) -> Result<()> {
    demo.story.chapter("Reseal in bulk")?;
    let start = Instant::now();
    let (rows, table) = (demo.figures.rows, &mut demo.table);
    let resealed = resealing::reseal_all(&demo.columns, &demo.scope, table, rows).await?;
    let elapsed = duration(start.elapsed());
    demo.figures.resealed_cells = resealed.cells;
    demo.figures.stale_after = demo.table.count_stale(active).await?;
    let (before, after) = (demo.figures.stale_before, demo.figures.stale_after);
    let (cells, lost) = (count(resealed.cells), count(resealed.rows_lost));
    demo.story.say(format_args!("resealed  {cells} cells in {elapsed}"))?;
    demo.story.say(format_args!("skipped   {lost} rows that others changed meanwhile"))?;
    demo.story.say(format_args!("stale     {} before, {} after", count(before), count(after)))?;
    Ok(())
}

/// Returns where the first mismatch is, if there is one.
async fn verify(demo: &mut Demo, csv: &mut CsvSource) -> Result<Option<String>> {
    demo.story.chapter("Open every cell and compare it with the file")?;
    let start = Instant::now();
    let verified = verifying::verify_all(csv, &demo.columns, &demo.scope, &mut demo.table).await?;
    let (cells, elapsed) = (count(verified.cells), duration(start.elapsed()));
    demo.figures.mismatches = verified.mismatches;
    demo.figures.open_ns_median = verified.latency.median();
    demo.story.say(format_args!("opened    {cells} cells in {elapsed}"))?;
    demo.story.say(format_args!("one open  {}", verified.latency))?;
    demo.story.say(format_args!("mismatch  {}", count(verified.mismatches)))?;
    Ok(verified.first_mismatch)
}

async fn close(demo: Demo) -> Result<Figures> {
    let Demo { mut story, bulla, table, mut figures, .. } = demo;
    let stats = bulla.manager.stats();
    figures.kms_calls = stats.kms_calls;
    figures.rewrapped_deks = stats.rewraps;
    figures.kek_versions = bulla.kek.describe().await?.versions.len();
    // Moves what was written into the database files, and wipes the cached keys.
    table.close().await?;
    bulla.close().await?;

    story.chapter("In short")?;
    let sealed = format!("{} rows, {} cells", count(figures.rows), count(figures.sealed_cells));
    let (plain, total) = (bytes(figures.plaintext_bytes), bytes(figures.envelope_bytes));
    let overhead = figures.envelope_overhead_bytes;
    story.say(format_args!(
        "sealed    {sealed}: {plain} in {total} of envelopes, {overhead} bytes more each"
    ))?;
    let (deks, keks) = (figures.dek_versions, figures.kek_versions);
    story.say(format_args!(
        "keys      DEK versions: {deks}, KEK versions: {keks}, KMS calls: {}",
        figures.kms_calls
    ))?;
    story.say(format_args!("result    {} mismatches", count(figures.mismatches)))?;
    Ok(figures)
}
