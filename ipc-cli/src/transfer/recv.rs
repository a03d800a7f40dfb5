//! `ipc recv`: listens, and writes out what a sender sends.
//!
//! Promise: exit code 0 says that the sender had finished and everything is written. What came from a sender that did not
//! finish is written too, and then it is a failure. Refusal: nothing is reordered, joined or kept.

use super::framing::{Framing, Kind, MARK_SIZE, Mark, looks_like_mark};
use super::output::Output;
use super::{Common, Tally, seconds};
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use ipc_core::{Credit, ListenOptions, Listener, Receiver, RecvError};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The longest line or frame that is taken unless told otherwise, in bytes.
const LONGEST: u64 = 64 << 20;
/// Space that is held back from the sender until a batch is done, in bytes.
const HELD: usize = 64 << 10;

/// Receives what `ipc send` sends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Where to write; standard output if not given
    file: Option<PathBuf>,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Bytes in the longest line or frame that is taken
    #[arg(long, value_name = "BYTES", default_value_t = LONGEST, value_parser = clap::value_parser!(u64).range(MARK_SIZE as u64..))]
    max_message: u64,
    /// Serve one sender after the other instead of one
    #[arg(long)]
    keep: bool,
    /// Wait for a sender this many seconds; without it, as long as it takes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

/// Receives.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let Args { common, file, count, max_message, keep, timeout } = args;
    let mut credit = Credit::default();
    credit.message = max_message;
    let options = ListenOptions::new().capacity(common.capacity).max_capacity(common.capacity).credit(credit);
    let mut listener = Some(options.bind(&common.name)?);
    // Only now: a file is not emptied for a name that is taken.
    let mut output = Output::create(file.as_deref())?;
    let mut left = count.unwrap_or(u64::MAX);
    while let Some(listening) = &mut listener {
        let connection = accept(listening, timeout)?;
        if !keep {
            // Nobody else shall wait for us.
            listener = None;
        }
        let (mut sender, receiver) = connection.split();
        let progress = Progress::new(common.quiet, None);
        let mut stream = Stream {
            receiver,
            bare: common.bare,
            framing: common.framing.framing(),
            tally: Tally::default(),
            progress,
        };
        let drained = stream.drain(&mut output, left);
        // What came is written, also when more should have come.
        output.flush()?;
        left -= stream.tally.messages;
        match drained {
            Ok(()) if common.bare => {}
            // A sender that did not wait for it has gone, which changes nothing.
            Ok(()) => drop(sender.send(&stream.tally.mark(Kind::Done).encode())),
            Err(failure) if keep && failure.code() == Code::PeerGone => {
                let _ = writeln!(std::io::stderr().lock(), "ipc: {failure}");
            }
            Err(failure) => return Err(failure),
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

fn accept(listener: &mut Listener, timeout: Option<Duration>) -> Result<ipc_core::Connection, Failure> {
    Ok(match timeout {
        Some(timeout) => listener.accept_timeout(timeout)?,
        None => listener.accept()?,
    })
}

/// A stream as it arrives.
struct Stream {
    receiver: Receiver,
    bare: bool,
    framing: Framing,
    tally: Tally,
    progress: Progress,
}

impl Stream {
    /// Receives until the sender has finished or `count` messages have come.
    fn drain(&mut self, output: &mut Output, count: u64) -> Result<(), Failure> {
        let mut literal = false;
        while self.tally.messages < count {
            if !self.receiver.is_ready() {
                // The next wait may be long.
                output.flush()?;
            }
            let before = self.tally;
            let mut batch = match self.receiver.recv_batch(u64::MAX) {
                Ok(batch) => batch,
                Err(RecvError::Disconnected { .. }) if self.bare => return Ok(()),
                Err(RecvError::Disconnected { .. }) => return Err(cut_short(self.tally)),
                Err(error) => return Err(error.into()),
            };
            while self.tally.messages < count
                && self.tally.bytes - before.bytes < HELD as u64
                && let Some(message) = batch.try_next()?
            {
                if !self.bare && !literal && message.len() == MARK_SIZE {
                    let mut bytes = [0; MARK_SIZE];
                    message.copy_to(&mut bytes).map_err(RecvError::from)?;
                    if looks_like_mark(&bytes) {
                        match Mark::decode(&bytes) {
                            Some(Mark { kind: Kind::Literal, .. }) => literal = true,
                            Some(mark) if mark == self.tally.mark(Kind::End) => return Ok(()),
                            _ => return Err(wrong_mark(self.tally, Mark::decode(&bytes))),
                        }
                        continue;
                    }
                }
                literal = false;
                output.put(self.framing, &message)?;
                self.tally.add(message.len());
            }
            drop(batch);
            self.progress.advance(self.tally.bytes - before.bytes);
        }
        Ok(())
    }
}

fn cut_short(received: Tally) -> Failure {
    let text = "the sender went away in mid-stream, before it had finished (a program that sends no end needs --bare)";
    Failure::new(Code::PeerGone, text).with(format_args!("{received} were received and written"))
}

fn wrong_mark(received: Tally, mark: Option<Mark>) -> Failure {
    let text = match mark {
        Some(Mark { kind: Kind::End, messages, bytes }) => {
            format!("the sender counted {}, but {received} came", Tally { messages, bytes })
        }
        _ => format!("the sender sent a mark of an unknown kind after {received}"),
    };
    Failure::new(Code::Corrupt, text)
}
