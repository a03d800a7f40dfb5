//! `ipc demo-peer`: the process that the demonstration starts to talk to.
//!
//! Promise: does what it is told until it is told to end or the demonstration is gone. Refusal: checks nothing; the other
//! side does.

use super::content;
use super::order::{Header, Load, Order};
use crate::failure::{Code, Failure};
use ipc_core::{Connection, RecvError, SendError};
use std::time::{Duration, Instant};

/// Messages behind one header. The clock is read once a block.
const BLOCK: u64 = 512;
/// Messages that are published together.
const BATCH: u64 = 32;

/// The other process of the demonstration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the demonstration listens
    name: String,
}

/// Connects and obeys.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let mut connection = ipc_core::connect(&args.name)?;
    match obey(&mut connection) {
        // The demonstration was ended; it has said so itself.
        Err(failure) if failure.code() == Code::PeerGone => Ok(()),
        result => result,
    }
}

fn obey(connection: &mut Connection) -> Result<(), Failure> {
    loop {
        let order = connection.recv()?.to_vec();
        match Order::decode(&order) {
            Some(Order::Quit) => return Ok(()),
            Some(Order::Stream { load, messages, time }) => stream(connection, load, messages, time)?,
            Some(Order::Echo) => echo(connection)?,
            None => return Err(Failure::new(Code::Corrupt, "the demonstration gave no order that makes sense")),
        }
    }
}

fn stream(connection: &mut Connection, load: Load, most: u64, time: Duration) -> Result<(), SendError> {
    let slept = connection.sender().sleeps();
    let max = content::longest(connection.sender().max_message());
    let mut scratch = vec![0; max];
    let start = Instant::now();
    let mut first = 0;
    while first < most && start.elapsed() < time {
        let messages = BLOCK.min(most - first);
        connection.send(&Header { messages, first, slept: 0 }.encode())?;
        let end = first + messages;
        if load.batched {
            while first < end {
                let mut batch = connection.batch();
                for number in first..end.min(first + BATCH) {
                    batch.push(make(&mut scratch, load, number))?;
                }
                first = end.min(first + BATCH);
                batch.publish()?;
            }
        } else {
            for number in first..end {
                connection.send(make(&mut scratch, load, number))?;
            }
            first = end;
        }
    }
    let slept = connection.sender().sleeps() - slept;
    connection.send(&Header { messages: 0, first, slept }.encode())
}

/// Makes message `number` in `scratch`, which is as large as the largest.
fn make(scratch: &mut [u8], load: Load, number: u64) -> &[u8] {
    let len = load.len(number, scratch.len());
    let message = &mut scratch[..len];
    content::fill(number, message);
    message
}

fn echo(connection: &mut Connection) -> Result<(), Failure> {
    let mut message = [0; super::SMALL];
    loop {
        let ping = connection.recv()?;
        if ping.len() != message.len() {
            return Ok(());
        }
        ping.copy_to(&mut message).map_err(RecvError::from)?;
        drop(ping);
        connection.send(&message)?;
    }
}
