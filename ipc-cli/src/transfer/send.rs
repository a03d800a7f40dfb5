//! `ipc send`: cuts the input into messages and sends them.
//!
//! Promise: a byte of a file is copied once, into shared memory; small messages that were read together are published together,
//! before the next read. Refusal: nothing is retried, a receiver that went away ends the command.

use super::framing::{Cut, Framing, Kind, MARK_SIZE, Mark, Splitter, find_newline, looks_like_mark};
use super::input::{Buffer, Input};
use super::{ANSWER_CAPACITY, Common, Tally, seconds};
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use ipc_core::{Batch, ConnectError, ConnectOptions, Connection, Receiver, RecvError, SendError, Sender};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Reads below this size are copied through a buffer, in bytes; they may look like marks.
const SMALL: usize = 512;
/// A line that is too long is counted up to here, in bytes.
const COUNTED: u64 = 64 << 20;
/// Between two tries to reach a receiver that is busy with another sender.
const PAUSE: Duration = Duration::from_millis(10);

/// Sends a file or standard input to `ipc recv`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// What to send; standard input if not given
    file: Option<PathBuf>,
    /// Stop after this many lines or frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Wait for a receiver as long as it takes
    #[arg(long, conflicts_with = "timeout")]
    wait: bool,
    /// Wait for a receiver this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

/// Sends.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let framing = args.common.framing.framing();
    if framing == Framing::Raw && args.count.is_some() {
        use clap::CommandFactory as _;
        let text = "--count counts lines or frames: it needs --lines or --frame";
        crate::Cli::command().error(clap::error::ErrorKind::MissingRequiredArgument, text).exit();
    }
    let input = Input::open(args.file.as_deref())?;
    let (sender, receiver) = connect(&args)?.split();
    let progress = Progress::new(args.common.quiet, input.size());
    let mut transfer = Transfer { sender, receiver, bare: args.common.bare, tally: Tally::default(), progress };
    let sent = match framing {
        Framing::Raw => transfer.send_bytes(&input),
        Framing::Lines | Framing::Len32 => transfer.send_messages(&input, framing, args.count.unwrap_or(u64::MAX)),
    };
    sent.and_then(|()| transfer.finish()).map_err(|failure| transfer.explain(failure))
}

fn connect(args: &Args) -> Result<Connection, Failure> {
    let start = Instant::now();
    let patient = args.wait || args.timeout.is_some();
    let options = ConnectOptions::new().capacities(args.common.capacity, ANSWER_CAPACITY).wait_for_listener(patient);
    loop {
        let options = match args.timeout {
            Some(timeout) => options.clone().timeout(timeout.saturating_sub(start.elapsed())),
            None if args.wait => options.clone().no_timeout(),
            None => options.clone(),
        };
        match options.connect(&args.common.name) {
            // A receiver that takes one sender hangs up on those behind it. The next receiver may be for us.
            Err(ConnectError::HungUp { .. }) if args.timeout.map_or(args.wait, |most| start.elapsed() < most) => {
                std::thread::sleep(PAUSE);
            }
            result => return Ok(result?),
        }
    }
}

/// A stream on its way.
struct Transfer {
    sender: Sender,
    receiver: Receiver,
    bare: bool,
    tally: Tally,
    progress: Progress,
}

impl Transfer {
    /// Sends the input in chunks, read straight into shared memory.
    fn send_bytes(&mut self, input: &Input) -> Result<(), Failure> {
        let most = usize::try_from(self.sender.max_reservation()).unwrap_or(usize::MAX);
        loop {
            let wanted = input.wait(&mut self.sender)?.min(most);
            let sent = if wanted < SMALL {
                let mut bytes = [0; SMALL];
                let read = input.read(&mut bytes[..wanted])?;
                self.send(&bytes[..read])?
            } else {
                self.send_from(input, wanted)?
            };
            if sent == 0 {
                return Ok(());
            }
            self.progress.advance(sent as u64);
        }
    }

    /// Reads up to `wanted` bytes and sends them as one message; 0 at the end of the input.
    fn send_from(&mut self, input: &Input, wanted: usize) -> Result<usize, Failure> {
        let mut reservation = self.sender.reserve(wanted)?;
        let target = reservation.as_mut_ptr();
        // SAFETY: the reservation keeps `wanted` bytes writable until it is committed or dropped.
        let read = unsafe { input.read_to(target, wanted)? };
        if read == wanted {
            reservation.commit();
            self.tally.add(read);
            return Ok(read);
        }
        // The end of the input, mostly. A reservation cannot shrink: what came is sent as another message.
        let mut came = vec![0; read];
        // SAFETY: `read` bytes of the reservation were written; the vector is ours. The peer may write there too, which a
        // copy of bytes bears.
        unsafe { std::ptr::copy_nonoverlapping(target, came.as_mut_ptr(), read) };
        drop(reservation);
        self.send(&came)
    }

    /// Sends some bytes as one message, unless there are none.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        if !bytes.is_empty() {
            let mut batch = self.sender.batch();
            push(&mut batch, bytes, self.bare)?;
            batch.publish()?;
            self.tally.add(bytes.len());
        }
        Ok(bytes.len())
    }

    /// Sends up to `count` lines or frames.
    fn send_messages(&mut self, input: &Input, framing: Framing, count: u64) -> Result<(), Failure> {
        let most = usize::try_from(self.sender.max_message()).unwrap_or(usize::MAX);
        let mut splitter = Splitter::new(framing, most);
        let mut buffer = Buffer::default();
        while self.tally.messages < count {
            input.wait(&mut self.sender)?;
            let read = buffer.fill(input)?;
            if read == 0 {
                return match splitter.finish(buffer.rest()) {
                    Ok(Some(last)) => {
                        let mut batch = self.sender.batch();
                        push(&mut batch, last, self.bare)?;
                        batch.publish()?;
                        self.tally.add(last.len());
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(Failure::runtime(error.to_string())),
                };
            }
            let mut batch = self.sender.batch();
            let mut cut = Ok(Cut::Partial);
            while self.tally.messages < count {
                cut = splitter.cut(buffer.rest());
                let Ok(Cut::Message { payload, taken }) = cut else { break };
                push(&mut batch, payload, self.bare)?;
                self.tally.add(payload.len());
                cut = Ok(Cut::Partial);
                buffer.skip(taken);
            }
            // Nothing that was read waits for the next read, which may take its time.
            batch.publish()?;
            self.progress.advance(read as u64);
            match cut {
                Ok(Cut::Overlong) => return Err(measure_line(&splitter, buffer, input)),
                Ok(_) => {}
                Err(error) => return Err(Failure::runtime(error.to_string())),
            }
        }
        Ok(())
    }

    /// Says that this was all, and waits until the receiver has written it.
    fn finish(&mut self) -> Result<(), Failure> {
        if self.bare {
            return Ok(());
        }
        match self.sender.send(&self.tally.mark(Kind::End).encode()) {
            // A receiver that wanted no more than there was may have left. Its confirmation says so.
            Ok(()) | Err(SendError::Disconnected { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let answer = match self.receiver.recv() {
            Ok(message) => message.to_vec(),
            Err(RecvError::Disconnected { .. }) => {
                let text = "the receiver went away before it had written everything";
                return Err(Failure::new(Code::PeerGone, text));
            }
            Err(error) => return Err(error.into()),
        };
        match read_mark(&answer) {
            Some(Mark { kind: Kind::Done, messages, .. }) if messages >= self.tally.messages => Ok(()),
            Some(Mark { kind: Kind::Done, messages, .. }) => Err(satisfied(messages)),
            _ => {
                let text = "the receiver's confirmation makes no sense (a program that sends none needs --bare)";
                Err(Failure::new(Code::Corrupt, text))
            }
        }
    }

    /// Adds to a failure what is known about a receiver that went away.
    fn explain(&mut self, failure: Failure) -> Failure {
        if failure.code() != Code::PeerGone {
            return failure;
        }
        let failure = match self.receiver.try_recv().ok().flatten().and_then(|message| read_mark(&message.to_vec())) {
            Some(Mark { kind: Kind::Done, messages, .. }) => satisfied(messages),
            _ => failure,
        };
        failure.with(format_args!("{} were sent", self.tally))
    }
}

fn satisfied(messages: u64) -> Failure {
    Failure::new(Code::PeerGone, format!("the receiver took {messages} messages, all that it wanted, and left"))
}

fn read_mark(message: &[u8]) -> Option<Mark> {
    let mark = message.first_chunk::<MARK_SIZE>().filter(|_| looks_like_mark(message))?;
    Mark::decode(mark)
}

/// Appends a message of the user's to a batch, announced if it could be taken for a mark.
fn push(batch: &mut Batch<'_>, message: &[u8], bare: bool) -> Result<(), SendError> {
    if !bare && looks_like_mark(message) {
        batch.push(&Mark { kind: Kind::Literal, messages: 0, bytes: 0 }.encode())?;
    }
    batch.push(message)
}

/// The error for a line that is too long: reads on to find out how long it is.
fn measure_line(splitter: &Splitter, mut buffer: Buffer, input: &Input) -> Failure {
    let mut len = buffer.rest().len() as u64;
    let more = loop {
        buffer.skip(buffer.rest().len());
        match buffer.fill(input) {
            Ok(0) => break false,
            Ok(_) if len >= COUNTED => break true,
            Ok(read) => match find_newline(buffer.rest()) {
                Some(at) => {
                    len += at as u64;
                    break false;
                }
                None => len += read as u64,
            },
            Err(failure) => return failure,
        }
    };
    Failure::runtime(splitter.overlong(len, more).to_string())
}
