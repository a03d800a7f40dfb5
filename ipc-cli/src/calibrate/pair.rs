//! The measurement: messages of one size there and back on one lane, between two processes.
//!
//! Promise: what is timed is `send` on this side, and `recv_into` until the last byte of the answer is copied out; half of that is one
//! message. Every answer is checked for the number of its question. What a round says is the lower quartile of its looks at the clock:
//! other programs on the processor make a message slow, nothing makes it fast. Refusal: nothing is fitted here.

use super::Limits;
use super::plan::Task;
use crate::bench::process::{Duo, Fallible, Side};
use ipc_core::calibration::Queue;
use ipc_core::router::Override;
use ipc_core::{ConnectOptions, Connection, Lane, ListenOptions, Mode, WaitStrategy};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long either side waits for the other to connect, or for a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Says that the next task follows. Shorter than every message that is measured.
const NEXT: [u8; 1] = [0];

/// The longest message of each lane.
///
/// # Errors
/// The pair of processes could not be run.
pub(super) fn limits(duo: &Duo, queue: Queue) -> Fallible<Limits> {
    let ask = |_: &Side<'_>, mut connection: Connection| {
        let costs = *connection.sender().router().costs();
        Ok(Lane::ALL.map(|lane| costs.limit(lane)))
    };
    connected(duo, queue, WaitStrategy::default(), ask, |_, _| Ok(()))
}

/// For each task what one message took in each round, in ns. Every round has a connection and a process of its own.
///
/// # Errors
/// A message that is not the one expected, or a pair of processes that could not be run.
pub(super) fn rounds(
    duo: &Duo,
    queue: Queue,
    wait: WaitStrategy,
    tasks: &[Task],
    rounds: usize,
    mut done: impl FnMut(),
) -> Fallible<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::with_capacity(rounds); tasks.len()];
    for _ in 0..rounds {
        for (samples, ns) in samples.iter_mut().zip(round(duo, queue, wait, tasks)?) {
            samples.push(ns);
        }
        done();
    }
    Ok(samples)
}

fn round(duo: &Duo, queue: Queue, wait: WaitStrategy, tasks: &[Task]) -> Fallible<Vec<f64>> {
    let longest = tasks.iter().map(|task| task.size).max().unwrap_or(0) as usize;
    let ask = |side: &Side<'_>, mut connection: Connection| {
        let (mut message, mut answer) = (vec![1; longest], vec![0; longest]);
        side.meet()?;
        let mut taken = Vec::with_capacity(tasks.len());
        for task in tasks {
            connection.sender().set_route(Override::Lane(task.lane))?;
            let message = &mut message[..task.size as usize];
            taken.push(time(&mut connection, message, &mut answer, task)?);
            connection.send(&NEXT)?;
        }
        Ok(taken)
    };
    let answer = |side: &Side<'_>, mut connection: Connection| {
        let mut message = vec![1; longest];
        side.meet()?;
        for task in tasks {
            connection.sender().set_route(Override::Lane(task.lane))?;
            loop {
                let len = connection.receiver().recv_into_timeout(&mut message, PATIENCE)?;
                if len == NEXT.len() {
                    break;
                }
                connection.send(&message[..len])?;
            }
        }
        Ok(())
    };
    connected(duo, queue, wait, ask, answer)
}

/// What one message of a task takes, in ns.
fn time(connection: &mut Connection, message: &mut [u8], answer: &mut [u8], task: &Task) -> Fallible<f64> {
    let start = Instant::now();
    let mut looks = Vec::with_capacity(task.looks as usize);
    // The first look warms up.
    for look in 0..=task.looks {
        if look > Task::ENOUGH && start.elapsed().as_nanos() as f64 > task.limit_ns {
            break;
        }
        let start = Instant::now();
        ask(connection, message, answer, task.trips)?;
        if look > 0 {
            looks.push(start.elapsed().as_nanos() as f64 / f64::from(2 * task.trips));
        }
    }
    looks.sort_by(f64::total_cmp);
    looks.get(looks.len() / 4).copied().ok_or_else(|| "a point was never measured".into())
}

fn ask(connection: &mut Connection, message: &mut [u8], answer: &mut [u8], trips: u32) -> Fallible<()> {
    for trip in 0..trips {
        message[0] = trip as u8;
        connection.send(message)?;
        let len = connection.receiver().recv_into_timeout(answer, PATIENCE)?;
        if len != message.len() || answer[0] != trip as u8 || answer[len - 1] != message[len - 1] {
            let (size, first) = (message.len(), answer[0]);
            return Err(format!("message {trip} of {size} bytes came back as {len} bytes, numbered {first}").into());
        }
    }
    Ok(())
}

/// Runs both sides over a fresh connection.
fn connected<T>(
    duo: &Duo,
    queue: Queue,
    wait: WaitStrategy,
    server: impl FnOnce(&Side<'_>, Connection) -> Fallible<T>,
    client: impl FnOnce(&Side<'_>, Connection) -> Fallible<()>,
) -> Fallible<T> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let name = format!("calibrate-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let mode = match queue {
        Queue::Shared => Mode::Auto,
        Queue::Socket => Mode::Hybrid,
    };
    let mut listener = ListenOptions::new().mode(mode).wait_strategy(wait).bind(&name)?;
    let parent = |side: &Side<'_>| server(side, listener.accept_timeout(PATIENCE)?);
    let child = |side: &Side<'_>| {
        let options = ConnectOptions::new().mode(mode).wait_for_listener(true).timeout(PATIENCE).wait_strategy(wait);
        client(side, options.connect(&name)?)
    };
    duo.run(parent, child)
}
