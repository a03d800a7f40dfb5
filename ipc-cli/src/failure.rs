//! Why a command failed, as one sentence and one exit code.
//!
//! Promise: every failure of the command line passes through here, so that a code means the same in each
//! subcommand. Refusal: nothing is printed and nobody exits here; `main` does both, once.

use ipc_core::ring::Violation;
use ipc_core::{AcceptError, ConnectError, DialError, ListenError, RecvError, SendError};
use std::fmt;
use std::io;

/// What scripts can tell apart. Usage errors (2) are the argument parser's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Anything that is not one of the others: files, permissions, memory.
    Runtime = 1,
    /// Nobody listens, or nobody came before the time was over.
    Nobody = 3,
    /// The peer died or disconnected in mid-transfer.
    PeerGone = 4,
    /// The peer broke the protocol, or what arrived is not what was sent.
    Corrupt = 5,
}

/// The end of every `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  all went well
  1  a failure of this machine: a file, a permission, memory, a closed output
  2  wrong arguments
  3  nobody listens, or nobody came in time
  4  the peer died or disconnected in mid-transfer
  5  corrupted data, or a peer that broke the protocol";

/// A failed command: a sentence for people, a code for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    /// A failure with a code of its own.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A failure of this machine.
    pub(crate) fn runtime(message: impl Into<String>) -> Self {
        Self::new(Code::Runtime, message)
    }

    /// `action`, a phrase such as "reading data.bin", failed in the system.
    pub(crate) fn os(action: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::runtime(format!("{action} failed: {}", source.into()))
    }

    /// Writing to `target` failed. A reader that has closed its end gets a plainer sentence.
    pub(crate) fn writing(target: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::runtime(format!("whoever read {target} has closed it")),
            _ => Self::os(format_args!("writing to {target}"), source),
        }
    }

    /// Puts what was being done, or is known beyond the cause, behind the sentence.
    pub(crate) fn with(mut self, more: impl fmt::Display) -> Self {
        use fmt::Write as _;
        // Writing to a string cannot fail.
        let _ = write!(self.message, "; {more}");
        self
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<Violation> for Failure {
    fn from(error: Violation) -> Self {
        Self::new(Code::Corrupt, error.to_string())
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let code = match error {
            SendError::Disconnected { .. } => Code::PeerGone,
            SendError::TimedOut { .. } => Code::Nobody,
            SendError::Violation(_) => Code::Corrupt,
            _ => Code::Runtime,
        };
        Self::new(code, error.to_string())
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        let code = match error {
            RecvError::Disconnected { .. } => Code::PeerGone,
            RecvError::TimedOut { .. } => Code::Nobody,
            RecvError::Violation(_) => Code::Corrupt,
            _ => Code::Runtime,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::Dial(DialError::NotFound { .. } | DialError::Stale { .. } | DialError::Busy { .. })
            | ConnectError::TimedOut { .. }
            | ConnectError::HungUp { .. } => Code::Nobody,
            ConnectError::Malformed { .. } | ConnectError::Segment { .. } => Code::Corrupt,
            _ => Code::Runtime,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        Self::runtime(error.to_string())
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        let code = match error {
            AcceptError::TimedOut { .. } => Code::Nobody,
            _ => Code::Runtime,
        };
        Self::new(code, error.to_string())
    }
}
