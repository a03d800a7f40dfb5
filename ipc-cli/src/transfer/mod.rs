//! `ipc send` and `ipc recv`: the bytes, lines or frames of one process in another.
//!
//! Promise: what went in comes out, in order; a stream that was cut short is never taken for a whole one; a sender that exits
//! with 0 knows that everything was written. Refusal: one direction, one peer at a time; nothing survives the two processes.
//! [`framing`] describes what travels.

pub(crate) mod framing;
mod input;
mod output;
pub(crate) mod recv;
pub(crate) mod send;

use framing::Framing;
use std::ffi::OsString;
use std::num::ParseFloatError;
use std::time::Duration;

/// Ring from sender to receiver, in bytes. Measured with a file of 1.2 GB into memory: a fourth of it was a third slower, four
/// times as much a tenth faster.
const CAPACITY: u64 = 1 << 20;
/// Ring for the receiver's answer, in bytes.
const ANSWER_CAPACITY: u64 = ipc_core::layout::MIN_CAPACITY;
/// Bytes that one system call moves: as much as a pipe holds, and a sixteenth of the ring. From 32 KiB on the size made no
/// difference beyond the noise.
const CHUNK: usize = 64 << 10;

/// What both sides are asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Name of the connection, or an absolute path of a socket
    name: OsString,
    #[command(flatten)]
    framing: FramingArgs,
    /// Messages alone, without end mark and confirmation: for peers that use the library themselves
    #[arg(long)]
    bare: bool,
    /// Ring size in bytes, a power of two; what is longer than a quarter of it less 8 bytes travels beside it
    #[arg(long, value_name = "BYTES", default_value_t = CAPACITY, value_parser = capacity)]
    capacity: u64,
    /// No progress bar
    #[arg(short, long)]
    quiet: bool,
}

/// How messages lie in the file.
#[derive(Debug, clap::Args)]
struct FramingArgs {
    /// One message a line
    #[arg(long, conflicts_with = "frame")]
    lines: bool,
    /// How messages are told apart; without this and --lines, only the bytes count
    #[arg(long, value_name = "FRAMING", value_enum)]
    frame: Option<FrameKind>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FrameKind {
    /// Each message follows its length in bytes: 32 bits, little-endian
    Len32,
}

impl FramingArgs {
    fn framing(&self) -> Framing {
        match (self.lines, self.frame) {
            (true, _) => Framing::Lines,
            (false, Some(FrameKind::Len32)) => Framing::Len32,
            (false, None) => Framing::Raw,
        }
    }
}

fn capacity(text: &str) -> Result<u64, String> {
    let bytes = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    if !ipc_core::layout::is_capacity(bytes) {
        return Err("a ring has a power of two from 4096 to 1073741824 bytes".to_owned());
    }
    Ok(bytes)
}

/// Reads a number of seconds, fractions allowed.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error: ParseFloatError| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// What was transferred so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    messages: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len as u64;
    }

    fn mark(self, kind: framing::Kind) -> framing::Mark {
        framing::Mark { kind, messages: self.messages, bytes: self.bytes }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { messages, bytes } = self;
        write!(out, "{messages} messages ({bytes} bytes)")
    }
}
