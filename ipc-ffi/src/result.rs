//! What calls return, in numbers that never change.

use std::ffi::c_char;

/// What a call came to. 0 is success. New results are added at the end; numbers never change.
///
/// Since 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ipc_result {
    /// It was done.
    IPC_OK = 0,
    /// There is no message, or no room, now, and the call was one that does not wait (timeout 0).
    IPC_WOULD_BLOCK = 1,
    /// What the call waited for did not come in time.
    IPC_TIMED_OUT = 2,
    /// The peer has closed its side. Everything it had sent before was received.
    IPC_DISCONNECTED = 3,
    /// The peer died, or vanished without closing. Everything it had sent before was received.
    IPC_PEER_DIED = 4,
    /// The peer wrote what it must not; the connection is unusable, this process is unharmed.
    IPC_VIOLATION = 5,
    /// The message is larger than this connection takes, or than the call can send at once.
    IPC_TOO_LARGE = 6,
    /// The buffer is shorter than the message, which can be received again.
    IPC_TOO_SHORT = 7,
    /// The system has no memory for it. Nothing was sent.
    IPC_NO_MEMORY = 8,
    /// More files than can be beside one message: 63.
    IPC_TOO_MANY_FILES = 9,
    /// This connection does not have the lane, or the lane does not take such a message.
    IPC_NO_LANE = 10,
    /// The handle belongs to the parent of this process.
    IPC_FORKED = 11,
    /// The system failed; ipc_last_errno() is its number.
    IPC_SYSTEM = 12,
    /// An argument is null, or out of the range that the message of the error names.
    IPC_INVALID = 13,
    /// The handle, or that half of the connection, was closed by this process.
    IPC_CLOSED = 14,
    /// A batch, a reservation or a loan of this connection is open: ipc_commit, ipc_batch_publish or ipc_cancel first. Or there is
    /// none, or no message, and the call asks for one.
    IPC_BUSY = 15,
    /// Nobody listens under that name.
    IPC_NOT_FOUND = 16,
    /// Somebody listens under that name already.
    IPC_ADDRESS_IN_USE = 17,
    /// The name cannot be one, or its directory cannot be trusted.
    IPC_BAD_ADDRESS = 18,
    /// The server refused the connection.
    IPC_REFUSED = 19,
    /// The server's user is not one that the options admit.
    IPC_NOT_ADMITTED = 20,
    /// A defect of this library. Nothing is known of the handle any more but that it can be closed.
    IPC_DEFECT = 21,
}

impl ipc_result {
    fn text(code: i32) -> &'static std::ffi::CStr {
        match code {
            0 => c"done",
            1 => c"nothing to receive, or no room to send, at the moment",
            2 => c"the time is over",
            3 => c"the peer has closed the connection",
            4 => c"the peer died",
            5 => c"the peer broke the protocol",
            6 => c"the message is too large",
            7 => c"the buffer is too short",
            8 => c"no memory",
            9 => c"too many files beside one message",
            10 => c"no such lane",
            11 => c"the handle belongs to the parent process",
            12 => c"the system failed",
            13 => c"an argument is out of range",
            14 => c"the handle is closed",
            15 => c"a batch, reservation or loan is open, or what the call asks for is not",
            16 => c"nobody listens there",
            17 => c"somebody listens there already",
            18 => c"the name cannot be used",
            19 => c"the server refused the connection",
            20 => c"the server's user is not admitted",
            21 => c"a defect of the library",
            _ => c"no result of this library",
        }
    }
}

/// What a result means, in a few words: a text that is never freed, also for a number that is no result.
///
/// Any thread, any time. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_strerror(result: i32) -> *const c_char {
    ipc_result::text(result).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_a_text_of_its_own() {
        let last = ipc_result::IPC_DEFECT as i32;
        let texts: std::collections::HashSet<_> = (0..=last + 1).map(ipc_result::text).collect();
        assert_eq!(texts.len() as i32, last + 2);
        assert_eq!(ipc_result::text(-1), ipc_result::text(i32::MAX));
    }
}
