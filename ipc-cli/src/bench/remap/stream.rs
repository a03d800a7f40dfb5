//! A stream of messages between two processes, one of which has a thread that remaps.
//!
//! Promise: every message is checked for its number and every byte of it is copied out; the time starts when thread and
//! stream have run for a while. Refusal: the thread's work is not looked at.

use super::super::ours;
use super::super::process::{Duo, Fallible, Side};
use super::rate::Rate;
use super::thread::{self, Count, Numbers, Order, Tally, Work};
use ipc_core::{Connection, SendError, WaitStrategy};
use serde::Serialize;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes in a message.
pub(super) const MESSAGE: usize = 64;
/// Messages between two looks at the clock.
const BLOCK: u64 = 256;

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// The process that receives.
    Receiver,
    /// The process that sends.
    Sender,
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Receiver => Self::Sender,
            Self::Sender => Self::Receiver,
        }
    }
}

/// What all streams of a report have in common.
pub(super) struct Setup<'a> {
    /// Receiver and sender.
    pub(super) duo: &'a Duo,
    /// Which process has the thread.
    pub(super) side: End,
    /// Where the thread runs.
    pub(super) cpu: usize,
    /// Bytes of a remap.
    pub(super) bytes: usize,
    /// How long a stream is timed.
    pub(super) run: Duration,
}

/// What one stream gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Messages received in a second.
    pub(super) messages_per_second: f64,
    /// Times a second that the thread did its work.
    pub(super) times_per_second: f64,
    /// Processor time that the thread took, as a part of the time that passed.
    pub(super) thread_share: f64,
    /// What each time took; `None` if there was none.
    pub(super) each: Option<Each>,
}

/// What one time took on average: processor time in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Each {
    /// The call that takes away from the address space.
    pub(super) call_ns: f64,
    /// The whole remap.
    pub(super) remap_ns: f64,
    /// All that the thread needed, sleeping and waking included.
    pub(super) thread_ns: f64,
}

impl Sample {
    fn of(messages: u64, elapsed: Duration, before: Count, after: Count) -> Self {
        let seconds = elapsed.as_secs_f64();
        let done = (after.done - before.done) as f64;
        let (call, remap) = (after.call_ns - before.call_ns, after.remap_ns - before.remap_ns);
        let thread = after.thread_ns - before.thread_ns;
        let each = |total: u64| total as f64 / done;
        Self {
            messages_per_second: messages as f64 / seconds,
            times_per_second: done / seconds,
            thread_share: thread as f64 / 1e9 / seconds,
            each: (done > 0.0).then(|| Each { call_ns: each(call), remap_ns: each(remap), thread_ns: each(thread) }),
        }
    }
}

/// Runs one stream, with the thread doing `work` at this rate.
///
/// # Errors
/// A message that is not the one expected, a remap that the system refused, or a pair of processes that could not be run.
pub(super) fn measure(setup: &Setup<'_>, rate: Rate, work: Work) -> Fallible<Sample> {
    let order = Order { work, rate, bytes: setup.bytes, cpu: setup.cpu };
    let tally = Tally::new()?;
    let beside = |end: End, body: &mut dyn FnMut() -> Fallible<()>| match end == setup.side && rate != Rate::NONE {
        true => with_thread(&order, tally.numbers(), body),
        false => body(),
    };
    let consume = |side: &Side<'_>, mut connection: Connection| {
        let mut sample = None;
        beside(End::Receiver, &mut || {
            side.meet()?;
            let mut next = 0;
            receive(&mut connection, setup.run / 8, &mut next)?;
            let (first, before, start) = (next, tally.numbers().count(), Instant::now());
            receive(&mut connection, setup.run, &mut next)?;
            let (after, elapsed) = (tally.numbers().count(), start.elapsed());
            sample = Some(Sample::of(next - first, elapsed, before, after));
            Ok(())
        })?;
        // Dropping the connection ends the sender's part.
        sample.ok_or_else(|| "the stream gave no result".into())
    };
    let produce = |side: &Side<'_>, mut connection: Connection| {
        beside(End::Sender, &mut || {
            side.meet()?;
            send_to_the_end(&mut connection)
        })
    };
    ours::connected(setup.duo, WaitStrategy::Busy, consume, produce)
}

/// Runs `body` while a thread of this process carries out the order.
///
/// # Errors
/// That of the body, or of the thread: what the system refused it.
pub(super) fn with_thread(order: &Order, numbers: &Numbers, body: &mut dyn FnMut() -> Fallible<()>) -> Fallible<()> {
    /// Ends the thread also when the body fails, so that the scope does.
    struct Stop<'a>(&'a Numbers);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel();
        let stop = Stop(numbers);
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, move || {
                // Whoever waits for this has not gone: it waits for this thread too.
                thread::live(order, numbers, || ready.send(()).unwrap_or_default())
            })
            .map_err(|error| format!("cannot start the thread that remaps: {error}"))?;
        let outcome = if is_ready.recv().is_ok() { body() } else { Ok(()) };
        drop(stop);
        match thread.join() {
            Ok(Ok(())) => outcome,
            Ok(Err(refused)) => Err(refused.into()),
            Err(_) => Err("the thread that remaps panicked".into()),
        }
    })
}

/// Receives for at least this long. `next` is the number that the next message has to have.
fn receive(connection: &mut Connection, time: Duration, next: &mut u64) -> Fallible<()> {
    let start = Instant::now();
    let mut message = [0; MESSAGE];
    while start.elapsed() < time {
        for _ in 0..BLOCK {
            let len = connection.recv_into(&mut message)?;
            let number = message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            if number != *next || len != MESSAGE {
                return Err(format!("message {number} of {len} bytes came where {next} was due").into());
            }
            *next += 1;
        }
    }
    Ok(())
}

/// Sends numbered messages until the receiver has gone.
fn send_to_the_end(connection: &mut Connection) -> Fallible<()> {
    let mut message = [0; MESSAGE];
    for number in 0_u64.. {
        message[..8].copy_from_slice(&number.to_le_bytes());
        match connection.send(&message) {
            Ok(()) => {}
            Err(SendError::Disconnected { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
