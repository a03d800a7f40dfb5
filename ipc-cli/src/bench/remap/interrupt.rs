//! What a remap takes from the other processor that runs the process, and from nothing else.
//!
//! A thread remaps as fast as it can on one processor; the process computes on another, which the system interrupts for
//! each remap to have it forget its old translations. What is missing from the computation is the c of a machine on which the
//! remapping thread takes no processor away from the messages.
//!
//! Promise: the peer sleeps meanwhile, so the thread has a processor to itself on any machine with two. Refusal: no
//! message passes.

use super::super::ours;
use super::super::process::{Fallible, Side};
use super::rate::Rate;
use super::stream::{Setup, with_thread};
use super::thread::{Kind, Order, Tally, Work};
use ipc_core::{Connection, RecvError, WaitStrategy};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Memory that the computation goes through, as a program that uses more than one page does, in words of 8 bytes.
const WORDS: usize = (64 << 10) / 8;

/// What one remap took from the processor that only ran the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interruption {
    /// Nanoseconds, against a thread that computes as long and remaps nothing.
    pub(super) nanoseconds: f64,
    /// Remaps a second at which this was measured.
    pub(super) remaps_per_second: f64,
}

/// What was computed while a thread did its work.
struct Computed {
    passes_per_second: f64,
    times_per_second: f64,
    remap_ns: f64,
}

/// Measures one round of one kind. `None` if not one remap took place while the time was taken, as on a machine with much else to do.
///
/// # Errors
/// As for a stream.
pub(super) fn measure(setup: &Setup<'_>, kind: Kind) -> Fallible<Option<Interruption>> {
    let alone = compute(setup, None)?;
    let remapping = compute(setup, Some(Work::Remap(kind)))?;
    let control = compute(setup, Some(Work::Burn { nanoseconds: remapping.remap_ns }))?;
    if remapping.times_per_second == 0.0 {
        return Ok(None);
    }
    let lost = (control.passes_per_second - remapping.passes_per_second) / alone.passes_per_second;
    let remaps_per_second = remapping.times_per_second;
    Ok(Some(Interruption { nanoseconds: lost * 1e9 / remaps_per_second, remaps_per_second }))
}

fn compute(setup: &Setup<'_>, work: Option<Work>) -> Fallible<Computed> {
    let tally = Tally::new()?;
    let numbers = tally.numbers();
    let consume = |side: &Side<'_>, connection: Connection| {
        side.meet()?;
        let mut computed = None;
        let mut body = || {
            go_through_memory(setup.run / 8);
            let (before, start) = (numbers.count(), Instant::now());
            let passes = go_through_memory(setup.run);
            let (after, seconds) = (numbers.count(), start.elapsed().as_secs_f64());
            let done = (after.done - before.done) as f64;
            computed = Some(Computed {
                passes_per_second: passes as f64 / seconds,
                times_per_second: done / seconds,
                remap_ns: (after.remap_ns - before.remap_ns) as f64 / done.max(1.0),
            });
            Ok(())
        };
        match work {
            Some(work) => {
                // The sleeping peer's processor.
                let order = Order { work, rate: Rate::Max, bytes: setup.bytes, cpu: setup.duo.cpus().1 };
                with_thread(&order, numbers, &mut body)?;
            }
            None => body()?,
        }
        drop(connection);
        computed.ok_or_else(|| "the computation gave no result".into())
    };
    let sleep = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        match connection.recv() {
            Err(RecvError::Disconnected { .. }) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err("a message came where none was due".into()),
        }
    };
    ours::connected(setup.duo, WaitStrategy::Sleep, consume, sleep)
}

/// Reads all of some memory again and again for at least so long; how often.
fn go_through_memory(time: Duration) -> u64 {
    let memory = vec![1_u64; WORDS];
    let start = Instant::now();
    let mut passes = 0;
    while start.elapsed() < time {
        black_box(black_box(&memory).iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        passes += 1;
    }
    passes
}
