//! Why the last call of a thread failed: kept as it is, put into words only for who asks.

use crate::result::ipc_result::{self, *};
use ipc_core::router::RouterError;
use ipc_core::{AcceptError, BindError, ConnectError, DialError, ListenError, RecvError, SendError};
use std::cell::RefCell;
use std::error::Error;
use std::ffi::{c_char, c_int};
use std::fmt;
use std::io;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Send(SendError),
    Recv(RecvError),
    Listen(ListenError),
    Accept(AcceptError),
    Connect(ConnectError),
    Route(RouterError),
    /// No message now, or no client.
    Nothing(&'static str),
    /// An argument that is null.
    Null(&'static str),
    /// An argument that is out of range.
    Invalid(String),
    /// A loan that cannot be detached.
    NotInArena,
    /// A handle, or half of it, that this process has closed.
    Closed(&'static str),
    /// What is open, or is not.
    Busy(&'static str),
    Defect(String),
}

impl Failure {
    pub(crate) fn invalid(argument: &str, value: impl fmt::Display, allowed: &str) -> Self {
        Self::Invalid(format!("{argument} is {value}; allowed: {allowed}"))
    }

    pub(crate) fn result(&self) -> ipc_result {
        match self {
            Self::Send(error) => of_send(error),
            Self::Recv(error) => match error {
                RecvError::TimedOut { .. } => IPC_TIMED_OUT,
                RecvError::Disconnected { closed: true, .. } => IPC_DISCONNECTED,
                RecvError::Disconnected { closed: false, .. } => IPC_PEER_DIED,
                RecvError::TooShort(_) => IPC_TOO_SHORT,
                RecvError::Violation(_) => IPC_VIOLATION,
                RecvError::Forked => IPC_FORKED,
                _ => IPC_SYSTEM,
            },
            Self::Listen(error) => match error {
                ListenError::Bind(BindError::AddressInUse { .. }) => IPC_ADDRESS_IN_USE,
                ListenError::Bind(BindError::Address(_) | BindError::NotASocket { .. }) | ListenError::Address(_) => {
                    IPC_BAD_ADDRESS
                }
                ListenError::Bind(BindError::Mode { .. }) | ListenError::Capacity { .. } => IPC_INVALID,
                _ => IPC_SYSTEM,
            },
            Self::Accept(error) => match error {
                AcceptError::TimedOut { .. } => IPC_TIMED_OUT,
                AcceptError::Forked => IPC_FORKED,
                _ => IPC_SYSTEM,
            },
            Self::Connect(error) => of_connect(error),
            Self::Route(error) => match error {
                RouterError::MissingLane { .. } | RouterError::NoLane => IPC_NO_LANE,
                _ => IPC_INVALID,
            },
            Self::Nothing(_) => IPC_WOULD_BLOCK,
            Self::Null(_) | Self::Invalid(_) => IPC_INVALID,
            Self::NotInArena => IPC_NO_LANE,
            Self::Closed(_) => IPC_CLOSED,
            Self::Busy(_) => IPC_BUSY,
            Self::Defect(_) => IPC_DEFECT,
        }
    }

    /// The system's number for it, if it was the system.
    fn errno(&self) -> Option<c_int> {
        match self {
            Self::Send(error) => os_error(error),
            Self::Recv(error) => os_error(error),
            Self::Listen(error) => os_error(error),
            Self::Accept(error) => os_error(error),
            Self::Connect(error) => os_error(error),
            _ => None,
        }
    }
}

/// The system's number behind an error, however deep it lies.
fn os_error(error: &(dyn Error + 'static)) -> Option<c_int> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            // Memory of this process is refused without a number.
            let no_memory = system.kind() == io::ErrorKind::OutOfMemory;
            return system.raw_os_error().or(no_memory.then_some(rustix::io::Errno::NOMEM.raw_os_error()));
        }
        next = error.source();
    }
    None
}

fn of_send(error: &SendError) -> ipc_result {
    match error {
        SendError::TooLarge { .. } => IPC_TOO_LARGE,
        SendError::WouldBlock { .. } => IPC_WOULD_BLOCK,
        SendError::TimedOut { .. } => IPC_TIMED_OUT,
        SendError::Memory { .. } => IPC_NO_MEMORY,
        SendError::TooManyFiles { .. } => IPC_TOO_MANY_FILES,
        SendError::Lane { .. } => IPC_NO_LANE,
        SendError::Disconnected { .. } => IPC_DISCONNECTED,
        SendError::Violation(_) => IPC_VIOLATION,
        SendError::Forked => IPC_FORKED,
        _ => IPC_SYSTEM,
    }
}

fn of_connect(error: &ConnectError) -> ipc_result {
    match error {
        ConnectError::Address(_) => IPC_BAD_ADDRESS,
        ConnectError::Capacity { .. } => IPC_INVALID,
        ConnectError::Dial(DialError::NotFound { .. } | DialError::Stale { .. }) => IPC_NOT_FOUND,
        ConnectError::Dial(DialError::Busy { .. }) => IPC_WOULD_BLOCK,
        ConnectError::Dial(DialError::Denied { .. }) => IPC_NOT_ADMITTED,
        ConnectError::Dial(DialError::Address(_) | DialError::WrongType { .. }) => IPC_BAD_ADDRESS,
        ConnectError::Refused { .. } => IPC_REFUSED,
        ConnectError::Policy { .. } => IPC_NOT_ADMITTED,
        ConnectError::TooLarge { .. } => IPC_TOO_LARGE,
        ConnectError::TimedOut { .. } => IPC_TIMED_OUT,
        ConnectError::HungUp { .. } => IPC_DISCONNECTED,
        ConnectError::Segment { .. } if is_shortage(os_error(error)) => IPC_SYSTEM,
        ConnectError::Malformed { .. } | ConnectError::Segment { .. } => IPC_VIOLATION,
        _ => IPC_SYSTEM,
    }
}

/// Whether the system lacks something: then it is not the peer's fault that its segment cannot be mapped.
fn is_shortage(errno: Option<c_int>) -> bool {
    use rustix::io::Errno;
    errno.is_some_and(|errno| {
        [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN].contains(&Errno::from_raw_os_error(errno))
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(error) => error.fmt(f),
            Self::Recv(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Accept(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Route(error) => error.fmt(f),
            Self::Nothing(what) => write!(f, "there is no {what} now"),
            Self::Null(argument) => write!(f, "the argument {argument} is null"),
            Self::Invalid(text) | Self::Defect(text) => f.write_str(text),
            Self::NotInArena => {
                f.write_str("the loan's memory is not in the arena; it can be committed or cancelled only")
            }
            Self::Closed(what) => write!(f, "the {what} was closed by this process"),
            Self::Busy(text) => f.write_str(text),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        Self::Recv(error)
    }
}

/// Bytes of a text for a failure, its end included; longer ones are cut.
const TEXT: usize = 1024;

/// What a thread knows of its last failure.
struct Last {
    failure: Option<Failure>,
    /// The words for it, once somebody asked. They stay where they are: C may print a text of before.
    text: [u8; TEXT],
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { failure: None, text: [0; TEXT] }) };
}

/// Keeps a failure for this thread and returns its result.
#[cold]
pub(crate) fn note(failure: Failure) -> ipc_result {
    let result = failure.result();
    crate::log::failure(&failure, result);
    // A thread that ends has nobody left to tell.
    let _ = LAST.try_with(|last| last.borrow_mut().failure = Some(failure));
    result
}

/// What went wrong in the last call of this thread that failed, with the numbers: what was asked for, what there is, what is
/// allowed. An empty text if none has failed. The same memory for every call of a thread: it holds until the thread's next call of this.
///
/// Any thread: each has its own. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_last_error() -> *const c_char {
    let text = LAST.try_with(|last| {
        let Last { failure, text } = &mut *last.borrow_mut();
        crate::text::write(text, failure.as_ref().map(Failure::to_string).as_deref().unwrap_or_default());
        text.as_ptr().cast::<c_char>()
    });
    text.unwrap_or(c"".as_ptr())
}

/// The system's error number (as in errno.h) of the last call of this thread that failed; 0 if it was not the system that failed.
///
/// Any thread: each has its own. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_last_errno() -> c_int {
    LAST.try_with(|last| last.borrow().failure.as_ref().and_then(Failure::errno)).ok().flatten().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ipc_connect, ipc_listen};
    use ipc_core::SegmentError;
    use std::ptr::null;

    #[test]
    fn a_failure_of_the_system_tells_its_number() {
        let mut listener = std::ptr::null_mut();
        // SAFETY: a text that ends, and a place for the handle.
        let result = unsafe { ipc_listen(c"/proc/libipc".as_ptr(), null(), &mut listener) };
        assert_eq!((result, listener.is_null()), (IPC_SYSTEM, true));
        assert_ne!(ipc_last_errno(), 0);
        let mut connection = std::ptr::null_mut();
        // SAFETY: as above.
        let result = unsafe { ipc_connect(c"/proc/libipc".as_ptr(), null(), &mut connection) };
        assert_eq!((result, ipc_last_errno()), (IPC_NOT_FOUND, 0));
    }

    #[test]
    fn memory_of_this_process_that_is_not_there_has_a_number_too() {
        let short = Failure::Recv(io::Error::from(io::ErrorKind::OutOfMemory).into());
        assert_eq!((short.result(), short.errno()), (IPC_SYSTEM, Some(12)));
    }

    #[test]
    fn a_segment_that_cannot_be_mapped_is_no_violation_of_the_peer() {
        let segment = |source| Failure::Connect(ConnectError::Segment { name: "x".into(), source });
        let os = |errno| SegmentError::Os { action: "mapping", source: io::Error::from_raw_os_error(errno) };
        assert_eq!((segment(os(12)).result(), segment(os(12)).errno()), (IPC_SYSTEM, Some(12)));
        // A descriptor of another kind.
        assert_eq!(segment(os(22)).result(), IPC_VIOLATION);
        let wrong = segment(SegmentError::Capacity { capacity: 5 });
        assert_eq!((wrong.result(), wrong.errno()), (IPC_VIOLATION, None));
    }
}
