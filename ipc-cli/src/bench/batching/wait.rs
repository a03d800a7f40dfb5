//! Messages at a pace to a receiver that sleeps between them, with the doorbell rung at once or put off.
//!
//! Promise: each message carries the time at which it was sent, on a clock that both processes read; the times of all messages
//! but the first eighth count. Refusal: a sender that falls behind its pace does not hurry to make up for it.

use super::super::ours::{self, Bytes};
use super::super::process::{Duo, Fallible, Side};
use super::super::stats::Summary;
use super::WORDS;
use ipc_core::{ConnectOptions, Connection, ListenOptions, WaitStrategy};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// How the doorbell is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Putting {
    /// Until so many messages wait (N).
    pub(super) limit: u64,
    /// For so long at most (τ).
    pub(super) delay: Duration,
}

/// Messages at a pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals {
    gap: Duration,
    messages: u64,
}

impl Arrivals {
    /// As many as come in `time`; enough to say anything.
    pub(super) fn for_about(time: Duration, gap: Duration) -> Self {
        let messages = time.as_nanos().checked_div(gap.as_nanos()).unwrap_or_default().max(16) as u64;
        Self { gap, messages }
    }
}

/// What became of the messages of one run: averages, unless it says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// Nanoseconds from the send to the return of the receive.
    pub(super) latency_ns: f64,
    /// The same in the median, which a message or two that met other work on the processor do not move.
    pub(super) median_latency_ns: f64,
    /// Messages for each time that the receiver slept.
    pub(super) messages_per_sleep: f64,
    /// Nanoseconds that a send took.
    pub(super) send_ns: f64,
}

/// The number of the last message, which carries what the sender measured.
const LAST: u64 = u64::MAX;

/// Sends at a pace over a fresh connection.
///
/// # Errors
/// A message that is not the one expected, or a pair of processes that could not be run.
pub(super) fn measure(duo: &Duo, arrivals: Arrivals, putting: Option<Putting>) -> Fallible<Delivery> {
    let warm_up = arrivals.messages / 8 + 1;
    let total = warm_up + arrivals.messages;
    let receive = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        let mut latencies = Vec::with_capacity(arrivals.messages as usize);
        let mut slept = 0;
        for number in 0..total {
            let sent = receive_one(&mut connection, number)?;
            let now = nanoseconds();
            if number + 1 == warm_up {
                slept = connection.receiver().sleeps();
            } else if number >= warm_up {
                latencies.push(now.saturating_sub(sent) as f64);
            }
        }
        let sleeps = connection.receiver().sleeps() - slept;
        let in_send = receive_one(&mut connection, LAST)?;
        let messages = arrivals.messages as f64;
        Ok(Delivery {
            latency_ns: latencies.iter().sum::<f64>() / messages,
            median_latency_ns: Summary::of(&latencies)?.median,
            messages_per_sleep: messages / sleeps.max(1) as f64,
            send_ns: in_send as f64 / messages,
        })
    };
    let send = |side: &Side<'_>, mut connection: Connection| {
        side.meet()?;
        let gap = arrivals.gap.as_nanos() as u64;
        let (mut due, mut in_send) = (nanoseconds(), 0);
        let mut message = [0; WORDS];
        for number in 0..total {
            let mut now = nanoseconds();
            while now < due {
                std::hint::spin_loop();
                now = nanoseconds();
            }
            (message[0], message[1]) = (number, now);
            connection.send(message.bytes())?;
            if number >= warm_up {
                in_send += nanoseconds() - now;
            }
            due = now + gap;
        }
        (message[0], message[1]) = (LAST, in_send);
        connection.send(message.bytes())?;
        connection.sender().flush()?;
        ours::wait_for_end(&mut connection)
    };
    let mut connect = ConnectOptions::new();
    if let Some(Putting { limit, delay }) = putting {
        connect = connect.coalesce(limit, delay);
    }
    let listen = ListenOptions::new().wait_strategy(WaitStrategy::Sleep);
    ours::connected_with(duo, listen, connect, receive, send)
}

/// Receives the message with this number and returns what it carries.
fn receive_one(connection: &mut Connection, number: u64) -> Fallible<u64> {
    let mut message = [0; WORDS];
    let len = connection.recv_into(message.bytes_mut())?;
    if message[0] != number || len != size_of_val(&message) {
        return Err(format!("message {} of {len} bytes came where {number} was due", message[0]).into());
    }
    Ok(message[1])
}

/// The time on a clock that all processes share, in nanoseconds.
fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
