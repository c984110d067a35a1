//! The `scaling` command: threads on one scope.
//!
//! All threads live throughout. In each round, every subject runs on every number of
//! threads for some milliseconds, one after the other, so that what a second core is worth
//! in this minute shows on both subjects alike.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use bulla_core::{EnvelopeKey, KeyOptions};
use bulla_manager::Scope;
use clap::Args;
use tokio::runtime::Runtime;

use crate::cases::{Raw, aad_len, record, runtime, settings, warm_scope};
use crate::measure::{calls_per_batch, median, round};
use crate::output::Output;
use crate::record::Record;

#[derive(Debug, Args)]
pub(crate) struct Scaling {
    /// Print one JSON object per line instead of a table.
    #[arg(long)]
    json: bool,
    /// Plaintext sizes in bytes.
    #[arg(long, value_delimiter = ',', default_value = "64,1024,65536")]
    sizes: Vec<usize>,
    /// Threads at most. The default is the number of cores.
    #[arg(long)]
    threads: Option<usize>,
}

const ROUNDS: usize = 41;
/// How long a subject runs in one round on one number of threads.
const TURN: Duration = Duration::from_millis(8);

impl Scaling {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let threads = match self.threads {
            Some(threads) => threads,
            None => thread::available_parallelism()?.get(),
        };
        let runtime = runtime()?;
        let options = KeyOptions::default();
        let output = Output::start("scaling", self.json)?;
        for &size in &self.sizes {
            for op in ["seal", "seal_into", "open", "open_into"] {
                let scope = runtime.block_on(warm_scope(options))?;
                let workers = (0..threads)
                    .map(|_| Worker::new(&scope, size, op, &runtime))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                for gain in gains(workers)? {
                    output.print(gain.record(op, size).under(&settings(&options)))?;
                }
            }
        }
        Ok(())
    }
}

/// What one thread does: ours, and the raw cipher.
struct Worker<'a> {
    subjects: [Work<'a>; 2],
}

type Work<'a> = Box<dyn FnMut(u64) -> anyhow::Result<()> + Send + 'a>;

impl<'a> Worker<'a> {
    fn new(scope: &'a Scope, size: usize, op: &str, runtime: &'a Runtime) -> anyhow::Result<Self> {
        let context = record()?;
        let mut raw = Raw::new(size, aad_len(&context))?;
        let raw: Work<'a> = match op {
            "seal" | "seal_into" => Box::new(move |calls| raw.seal(calls)),
            _ => Box::new(move |calls| raw.open(calls)),
        };
        let mut plaintext = vec![7; size];
        let mut envelope = vec![0; size + EnvelopeKey::OVERHEAD];
        runtime.block_on(scope.seal_into(&plaintext, &context, &mut envelope))?;
        let ours: Work<'a> = match op {
            "seal" => repeat(runtime, async move || {
                let (plaintext, context) = black_box((&plaintext, &context));
                black_box(scope.seal(plaintext, context).await?);
                Ok(())
            }),
            "seal_into" => repeat(runtime, async move || {
                let (plaintext, context) = black_box((&plaintext, &context));
                black_box(scope.seal_into(plaintext, context, &mut envelope).await?);
                black_box(&envelope);
                Ok(())
            }),
            "open" => repeat(runtime, async move || {
                let (envelope, context) = black_box((&envelope, &context));
                black_box(scope.open(envelope, context).await?);
                Ok(())
            }),
            _ => repeat(runtime, async move || {
                let (envelope, context) = black_box((&envelope, &context));
                black_box(scope.open_into(envelope, context, &mut plaintext).await?);
                black_box(&plaintext);
                Ok(())
            }),
        };
        Ok(Self { subjects: [ours, raw] })
    }

    /// Takes part in every turn that `me` is among the threads of. Returns the calls per
    /// nanosecond of each turn.
    fn run(mut self, me: usize, threads: usize, barrier: &Barrier) -> anyhow::Result<Vec<f64>> {
        let mut steps = [0; 2];
        for (step, work) in steps.iter_mut().zip(&mut self.subjects) {
            *step = calls_per_batch(work).unwrap_or(1);
        }
        let mut rates = Vec::new();
        let mut failure = Ok(());
        for (at_once, subject) in turns(threads) {
            // Whoever fails still keeps the others company, who wait for it.
            barrier.wait();
            let mut calls = 0;
            let start = Instant::now();
            while me < at_once && failure.is_ok() && start.elapsed() < TURN {
                failure = self.subjects[subject](steps[subject]);
                calls += steps[subject];
            }
            rates.push(calls as f64 / start.elapsed().as_nanos() as f64);
        }
        failure.map(|()| rates)
    }
}

/// Calls `once` as often as it is asked to, on the calling thread.
fn repeat<'a>(
    runtime: &'a Runtime,
    mut once: impl AsyncFnMut() -> anyhow::Result<()> + Send + 'a,
) -> Work<'a> {
    Box::new(move |calls| {
        runtime.handle().block_on(async {
            for _ in 0..calls {
                once().await?;
            }
            Ok(())
        })
    })
}

/// Number of threads and subject of each turn.
fn turns(threads: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..ROUNDS).flat_map(move |_| {
        (1..=threads).flat_map(|at_once| [0, 1].map(|subject| (at_once, subject)))
    })
}

/// Medians over the rounds, for one number of threads.
struct Gain {
    threads: usize,
    /// Nanoseconds between two calls of all threads together.
    ns: f64,
    raw_ns: f64,
    /// What one thread takes, by what so many take.
    gain: f64,
    raw_gain: f64,
    /// Our gain by that of the raw cipher in the same round.
    ratio: f64,
}

fn gains(workers: Vec<Worker<'_>>) -> anyhow::Result<Vec<Gain>> {
    let threads = workers.len();
    let barrier = Barrier::new(threads);
    let rates = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(me, worker)| {
                scope.spawn({
                    let barrier = &barrier;
                    move || worker.run(me, threads, barrier)
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<Vec<f64>>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
        };
        threads.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
    })?;
    // Calls per nanosecond of all threads together, turn by turn.
    let together: Vec<f64> = (0..turns(threads).count())
        .map(|turn| rates.iter().map(|rates| rates[turn]).sum())
        .collect();
    let rounds: Vec<&[f64]> = together.chunks(2 * threads).collect();
    let over =
        |figure: &dyn Fn(&[f64]) -> f64| median(rounds.iter().map(|round| figure(round)).collect());
    Ok((0..threads)
        .map(|more| {
            let (ours, raw) = (2 * more, 2 * more + 1);
            Gain {
                threads: more + 1,
                ns: over(&|round| 1.0 / round[ours]),
                raw_ns: over(&|round| 1.0 / round[raw]),
                gain: over(&|round| round[ours] / round[0]),
                raw_gain: over(&|round| round[raw] / round[1]),
                ratio: over(&|round| (round[ours] / round[0]) / (round[raw] / round[1])),
            }
        })
        .collect())
}

impl Gain {
    fn record(&self, op: &str, size: usize) -> Record {
        let record = Record {
            subject: "bulla-manager".to_owned(),
            op: op.to_owned(),
            size: Some(size as u64),
            ns: Some(round(self.ns, 2)),
            raw_ns: Some(round(self.raw_ns, 2)),
            ratio: Some(round(self.ratio, 4)),
            ..Record::default()
        };
        record
            .at("threads", self.threads)
            .counting("gain", round(self.gain, 4))
            .counting("raw_gain", round(self.raw_gain, 4))
    }
}
