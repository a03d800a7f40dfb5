//! `ipc bench c`: round trips and streams in C beside the same in Rust, in one run, in turns.
//!
//! Promise: the C side is a file of C that the machine's compiler compiles against `ipc.h` now and that calls the library as any C program
//! does: the shared one through its table of functions, and the static one directly. Refusal: nothing is measured without a C compiler and
//! the libraries, which are looked for beside this program.

mod compiled;

use super::ours;
use super::process::{Duo, Fallible, Side};
use super::stats::{Case, Pairs, Subject, table};
use crate::failure::Failure;
use compiled::{Compiled, Linkage};
use indicatif::{ProgressBar, ProgressDrawTarget};
use ipc_core::WaitStrategy;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Measure C programs beside Rust ones.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The folder with libipc.so and libipc.a. Without it: that of this program.
    #[arg(long, value_name = "DIR")]
    library: Option<PathBuf>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Work of a round, in percent of the default; less is faster and noisier.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    effort: u32,
    /// Print one JSON object per case, in an array.
    #[arg(long)]
    json: bool,
}

/// One line of the result, before it is measured.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// A round trip, both sides polling.
    RoundTrip { size: usize },
    /// A stream with blocking calls.
    Stream { size: usize, batch: u64 },
}

const PLANS: [Plan; 5] = [
    Plan::RoundTrip { size: 64 },
    Plan::Stream { size: 64, batch: 1 },
    Plan::Stream { size: 64, batch: 32 },
    Plan::Stream { size: 8, batch: 32 },
    Plan::Stream { size: 16 << 10, batch: 1 },
];

/// Measures and prints.
///
/// # Errors
/// No compiler, no libraries, or a side that failed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let told = |error: Box<dyn std::error::Error>| Failure::runtime(error.to_string());
    let duo = Duo::new().map_err(told)?;
    let cases = measure(&duo, args).map_err(told)?;
    if args.json {
        let text = serde_json::to_string_pretty(&cases).map_err(|error| Failure::runtime(error.to_string()))?;
        println!("{text}");
    } else {
        print!("{}", table(&cases));
        let (parent, child) = duo.cpus();
        println!(
            "ours: C on both sides; floor: Rust on both sides; medians of {} rounds in turns on processors {parent} and {child}",
            args.rounds
        );
    }
    Ok(())
}

fn measure(duo: &Duo, args: &Args) -> Fallible<Vec<Case>> {
    let folder = match &args.library {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default(),
    };
    // No thread that ticks: processes are forked for each round.
    let bar = ProgressBar::with_draw_target(Some(2 * PLANS.len() as u64), ProgressDrawTarget::stderr());
    bar.tick();
    let mut cases = Vec::new();
    for linkage in [Linkage::Shared, Linkage::Static] {
        let compiled = Compiled::new(&folder, linkage)?;
        for plan in PLANS {
            cases.push(plan.measure(duo, args, &compiled)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(cases)
}

impl Plan {
    fn measure(self, duo: &Duo, args: &Args, compiled: &Compiled) -> Fallible<Case> {
        let rounds = usize::from(args.rounds);
        let repetitions = |ns: f64| (40e6 * f64::from(args.effort) / 100.0 / ns).max(32.0) as u64;
        match self {
            Self::RoundTrip { size } => {
                let trips = repetitions(150.0);
                let rust = || ours::round_trip(duo, size, WaitStrategy::Busy, Duration::ZERO, trips);
                let c = || round_trip(duo, compiled, size, trips);
                let case = compiled.linkage().name("round trip, C", "round trip, C, static");
                Case::new(&subject(case, size, 1, "spin"), &Pairs::take(rounds, rust, c)?)
            }
            Self::Stream { size, batch } => {
                let messages = repetitions(if size > 64 { size as f64 / 14.0 } else { 6.0 });
                let rust = || ours::stream(duo, size, batch, WaitStrategy::default(), messages);
                let c = || stream(duo, compiled, size, batch, messages);
                let case = compiled.linkage().name("stream, C", "stream, C, static");
                Case::new(&subject(case, size, batch, "block"), &Pairs::take(rounds, rust, c)?)
            }
        }
    }
}

fn subject(case: &'static str, size: usize, batch: u64, wait: &'static str) -> Subject<'static> {
    Subject { case, size: size as u64, batch, wait, unit: "ns" }
}

/// As [`ours::round_trip`], in C.
fn round_trip(duo: &Duo, compiled: &Compiled, size: usize, rounds: u64) -> Fallible<f64> {
    let warm_up = (rounds / 8).max(8);
    let name = name();
    let ask = |side: &Side<'_>| compiled.open(&name, true, WaitStrategy::Busy)?.ask(size, warm_up, rounds, side);
    let answer =
        |side: &Side<'_>| compiled.open(&name, false, WaitStrategy::Busy)?.answer(size, warm_up + rounds, side);
    duo.run(ask, answer)
}

/// As [`ours::stream`], in C.
fn stream(duo: &Duo, compiled: &Compiled, size: usize, batch: u64, messages: u64) -> Fallible<f64> {
    let (warm_up, messages) = (messages / 8 / batch * batch + batch, messages.next_multiple_of(batch));
    let (name, wait) = (name(), WaitStrategy::default());
    let consume = |side: &Side<'_>| compiled.open(&name, true, wait)?.consume(size, batch, warm_up, messages, side);
    let produce = |side: &Side<'_>| compiled.open(&name, false, wait)?.produce(size, batch, warm_up + messages, side);
    duo.run(consume, produce)
}

fn name() -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!("bench-c-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}
