//! The measured system: the same work as the floors do, through the library's public interface.

use super::floor::copy::sum_words;
use super::process::{Duo, Fallible, Side};
use ipc_core::{ConnectOptions, Connection, ListenOptions, Mode, RecvError, Trust, WaitStrategy};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long either side waits for the other to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs both sides over a fresh connection with this wait strategy.
///
/// # Errors
/// As [`Duo::run`], or the two could not connect.
pub(super) fn connected<T>(
    duo: &Duo,
    strategy: WaitStrategy,
    server: impl FnOnce(&Side<'_>, Connection) -> Fallible<T>,
    client: impl FnOnce(&Side<'_>, Connection) -> Fallible<()>,
) -> Fallible<T> {
    connected_with(
        duo,
        ListenOptions::new().wait_strategy(strategy),
        ConnectOptions::new().wait_strategy(strategy),
        server,
        client,
    )
}

/// The same with these options.
///
/// # Errors
/// As [`connected`].
pub(super) fn connected_with<T>(
    duo: &Duo,
    listen: ListenOptions,
    connect: ConnectOptions,
    server: impl FnOnce(&Side<'_>, Connection) -> Fallible<T>,
    client: impl FnOnce(&Side<'_>, Connection) -> Fallible<()>,
) -> Fallible<T> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let name = format!("bench-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let mut listener = listen.bind(&name)?;
    let parent = |side: &Side<'_>| server(side, listener.accept_timeout(PATIENCE)?);
    let child = |side: &Side<'_>| client(side, connect.wait_for_listener(true).timeout(PATIENCE).connect(&name)?);
    duo.run(parent, child)
}

/// Nanoseconds a round trip of `size` bytes each way. The answering side works for `think` before each reply.
///
/// # Errors
/// A message that is not the one expected, or a pair of processes that could not be run.
pub(crate) fn round_trip(
    duo: &Duo,
    size: usize,
    strategy: WaitStrategy,
    think: Duration,
    rounds: u64,
) -> Fallible<f64> {
    let warm_up = (rounds / 8).max(8);
    let ask = |side: &Side<'_>, mut connection: Connection| {
        let mut message = vec![1; size];
        side.meet()?;
        ask(&mut connection, &mut message, warm_up)?;
        let start = Instant::now();
        ask(&mut connection, &mut message, rounds)?;
        Ok(start.elapsed().as_nanos() as f64 / rounds as f64)
    };
    let answer = |side: &Side<'_>, mut connection: Connection| {
        let mut message = vec![0; size];
        side.meet()?;
        for _ in 0..warm_up + rounds {
            connection.recv_into(&mut message)?;
            work_for(think);
            connection.send(&message)?;
        }
        Ok(())
    };
    connected(duo, strategy, ask, answer)
}

fn ask(connection: &mut Connection, message: &mut [u8], rounds: u64) -> Fallible<()> {
    for round in 0..rounds {
        message[0] = round as u8;
        connection.send(message)?;
        connection.recv_into(message)?;
        if message[0] != round as u8 {
            return Err(format!("round {round} was answered with {}", message[0]).into());
        }
    }
    Ok(())
}

fn work_for(time: Duration) {
    if time > Duration::ZERO {
        let start = Instant::now();
        while start.elapsed() < time {}
    }
}

/// Nanoseconds a message of `size` bytes in one direction, `batch` of them published together. Every byte is read.
///
/// # Errors
/// As [`round_trip`].
pub(crate) fn stream(duo: &Duo, size: usize, batch: u64, strategy: WaitStrategy, messages: u64) -> Fallible<f64> {
    match (size, batch) {
        // Sizes known at compile time, as in programs that send one type.
        (8, _) => stream_words::<1>(duo, Mode::default(), batch, strategy, messages),
        (64, _) => stream_words::<8>(duo, Mode::default(), batch, strategy, messages),
        _ => stream_bytes(duo, size, batch, strategy, messages),
    }
}

/// The same for messages of so many words, over a connection of this mode.
///
/// # Errors
/// As [`round_trip`].
pub(super) fn stream_words<const WORDS: usize>(
    duo: &Duo,
    mode: Mode,
    batch: u64,
    strategy: WaitStrategy,
    messages: u64,
) -> Fallible<f64>
where
    [u64; WORDS]: Bytes,
{
    let warm_up = messages / 8 / batch * batch + batch;
    let messages = messages.next_multiple_of(batch);
    let consume = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        consume_words::<WORDS>(&mut connection, batch, 0, warm_up)?;
        let start = Instant::now();
        consume_words::<WORDS>(&mut connection, batch, warm_up, messages)?;
        Ok(start.elapsed().as_nanos() as f64 / messages as f64)
    };
    let produce = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        let total = warm_up + messages;
        let mut number = 0;
        while number < total {
            if batch == 1 {
                connection.send([number; WORDS].bytes())?;
                number += 1;
            } else {
                let mut open = connection.batch();
                for _ in 0..batch {
                    open.push([number; WORDS].bytes())?;
                    number += 1;
                }
                open.publish()?;
            }
        }
        // What is still in the ring is read before this side goes.
        wait_for_end(&mut connection)
    };
    let options = ConnectOptions::new().wait_strategy(strategy).mode(mode);
    connected_with(duo, ListenOptions::new().wait_strategy(strategy), options, consume, produce)
}

/// Receives `count` messages, the first of them numbered `first`, and checks the number in each.
fn consume_words<const WORDS: usize>(connection: &mut Connection, batch: u64, first: u64, count: u64) -> Fallible<()>
where
    [u64; WORDS]: Bytes,
{
    let mut number = first;
    let mut sum = 0;
    let mut wrong = 0;
    let mut check = |words: [u64; WORDS]| {
        wrong |= words[0] ^ number;
        sum = words.iter().fold(sum, |sum, word| sum ^ word);
        number += 1;
    };
    let mut received = 0;
    while received < count {
        let mut words = [0; WORDS];
        if batch == 1 {
            connection.recv()?.read_at(0, words.bytes_mut())?;
            check(words);
            received += 1;
        } else {
            received += connection.recv_batch(count - received)?.for_each(|message| {
                // A message that is too short leaves the number of the one before, which the check finds.
                let _ = message.read_at(0, words.bytes_mut());
                check(words);
            })?;
        }
    }
    black_box(sum);
    if wrong == 0 { Ok(()) } else { Err("a message did not carry the number that was due".into()) }
}

fn stream_bytes(duo: &Duo, size: usize, batch: u64, strategy: WaitStrategy, messages: u64) -> Fallible<f64> {
    let warm_up = messages / 8 + 1;
    let consume = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        consume_bytes(&mut connection, warm_up)?;
        let start = Instant::now();
        consume_bytes(&mut connection, messages)?;
        Ok(start.elapsed().as_nanos() as f64 / messages as f64)
    };
    let produce = |side: &Side<'_>, mut connection: Connection| {
        let message = vec![1; size];
        side.meet()?;
        let mut left = warm_up + messages;
        while left > 0 {
            let now = left.min(batch);
            if now == 1 {
                connection.send(&message)?;
            } else {
                let mut open = connection.batch();
                for _ in 0..now {
                    open.push(&message)?;
                }
                open.publish()?;
            }
            left -= now;
        }
        wait_for_end(&mut connection)
    };
    connected(duo, strategy, consume, produce)
}

fn consume_bytes(connection: &mut Connection, messages: u64) -> Fallible<()> {
    let mut sum = 0_u64;
    for _ in 0..messages {
        let message = connection.recv()?;
        // SAFETY: the pointer is valid for the message's length while its guard lives; any bytes make a sum.
        sum = sum.wrapping_add(unsafe { sum_words(message.as_ptr(), message.len()) });
    }
    black_box(sum);
    Ok(())
}

/// Waits until the peer has closed its end.
pub(super) fn wait_for_end<T: Trust>(connection: &mut Connection<T>) -> Fallible<()> {
    match connection.recv() {
        Err(RecvError::Disconnected { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a message came where none was due".into()),
    }
}

/// Words seen as bytes.
pub(super) trait Bytes {
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl<const WORDS: usize> Bytes for [u64; WORDS] {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: every byte of an integer may be read.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), size_of_val(self)) }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: any bytes make integers.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), size_of_val(self)) }
    }
}
