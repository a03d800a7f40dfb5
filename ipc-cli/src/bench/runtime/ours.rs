//! The measured system: `send().await` and `recv_into().await` for each message.
//!
//! Promise: every message is checked for its number, whole. Refusal: no batches; those are measured without a runtime.

use super::super::ours::connected;
use super::super::process::{Duo, Fallible, Side};
use super::{Message, SIZE, Wait, check, in_runtime, message, number, trips};
use ::tokio::task::yield_now;
use ipc_core::tokio::Connection;
use ipc_core::{RecvError, WaitStrategy};
use std::time::Instant;

/// What round trips took.
pub(super) struct Trip {
    /// Nanoseconds of each: see [`trips`].
    pub(super) ns: f64,
    /// The share of them in which a side slept until its message came, 0 to 1; of the side that slept less.
    pub(super) asleep: f64,
}

/// Round trips over a fresh connection.
///
/// # Errors
/// A message that is not the one expected, or a pair of processes that could not be run.
pub(super) fn round_trip(duo: &Duo, wait: Wait, count: u64) -> Fallible<Trip> {
    let warm_up = count / 8 + 8;
    let asking = |side: &Side<'_>, connection| {
        in_runtime(async {
            let mut connection = Connection::from_sync(connection)?;
            side.meet()?;
            ask(&mut connection, wait, 0, warm_up).await?;
            let before = connection.receiver().sleeps();
            let ns = ask(&mut connection, wait, warm_up, count).await?;
            let slept = connection.receiver().sleeps() - before;
            let others = number(&receive(&mut connection, wait).await?);
            Ok(Trip { ns, asleep: slept.min(others) as f64 / count as f64 })
        })
    };
    let answering = |side: &Side<'_>, connection| {
        in_runtime(async {
            let mut connection = Connection::from_sync(connection)?;
            side.meet()?;
            let mut before = 0;
            for number in 0..warm_up + count {
                if number == warm_up {
                    before = connection.receiver().sleeps();
                }
                let message = receive(&mut connection, wait).await?;
                connection.send(&message).await?;
            }
            let slept = connection.receiver().sleeps() - before;
            connection.send(&message(slept)).await?;
            wait_for_end(&mut connection).await
        })
    };
    connected(duo, WaitStrategy::default(), asking, answering)
}

async fn ask(connection: &mut Connection, wait: Wait, first: u64, count: u64) -> Fallible<f64> {
    let exchange = async |number| {
        connection.send(&message(number)).await?;
        check(&receive(connection, wait).await?, number)
    };
    trips(wait, first, count, exchange).await
}

/// Waits until the peer has gone, which it does when it has received everything.
async fn wait_for_end(connection: &mut Connection) -> Fallible<()> {
    match connection.recv().await {
        Err(RecvError::Disconnected { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a message came where none was due".into()),
    }
}

async fn receive(connection: &mut Connection, wait: Wait) -> Fallible<Message> {
    let mut message = [0; SIZE];
    match wait {
        Wait::Asleep => {
            connection.recv_into(&mut message).await?;
        }
        Wait::Polling => loop {
            if let Some(found) = connection.receiver().try_recv()? {
                found.copy_to(&mut message)?;
                break;
            }
            yield_now().await;
        },
    }
    Ok(message)
}

/// Nanoseconds a message in one direction, over a fresh connection.
///
/// # Errors
/// As [`round_trip`].
pub(super) fn stream(duo: &Duo, messages: u64) -> Fallible<f64> {
    let warm_up = messages / 8 + 8;
    let consume = |side: &Side<'_>, connection| {
        in_runtime(async {
            let mut connection = Connection::from_sync(connection)?;
            side.meet()?;
            take(&mut connection, 0, warm_up).await?;
            let start = Instant::now();
            take(&mut connection, warm_up, messages).await?;
            Ok(start.elapsed().as_nanos() as f64 / messages as f64)
        })
    };
    let produce = |side: &Side<'_>, connection| {
        in_runtime(async {
            let mut connection = Connection::from_sync(connection)?;
            side.meet()?;
            for number in 0..warm_up + messages {
                connection.send(&message(number)).await?;
            }
            wait_for_end(&mut connection).await
        })
    };
    connected(duo, WaitStrategy::default(), consume, produce)
}

async fn take(connection: &mut Connection, first: u64, count: u64) -> Fallible<()> {
    for number in first..first + count {
        check(&receive(connection, Wait::Asleep).await?, number)?;
    }
    Ok(())
}
