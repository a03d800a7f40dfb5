//! Sending copies.

use crate::boundary::{Patience, boundary, bytes, out_if, slice};
use crate::connection::{ipc_connection, sending};
use crate::error::Failure;
use crate::halves::Sending;
use crate::result::ipc_result;
use core::mem::MaybeUninit;
use ipc_core::{SendError, Sender};
use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

/// Some bytes of the program's.
///
/// Since 0.1.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ipc_slice {
    /// Where they are; may be NULL if there are none.
    pub data: *const c_void,
    /// How many there are.
    pub len: usize,
}

/// The sender of a handle, if nothing is open there.
///
/// # Safety
/// As [`sending`].
#[inline(always)]
pub(crate) unsafe fn idle(connection: *const ipc_connection) -> Result<&'static mut Sender, Failure> {
    // SAFETY: the caller's promise.
    unsafe { Sending::idle(sending(connection)?) }
}

/// Sends a copy of len bytes as one message, on the lane that costs least. Wakes the peer only if it sleeps.
///
/// data: may be NULL if len is 0. timeout_ns: how long to wait for room; 0: not at all; negative: without end.
/// Returns IPC_OK; IPC_WOULD_BLOCK, IPC_TIMED_OUT: the peer has made no room; IPC_TOO_LARGE: more than the peer accepts (or, without a
/// wait, than can be on its way at once); IPC_DISCONNECTED; IPC_VIOLATION; IPC_NO_MEMORY; IPC_NO_LANE; IPC_BUSY; IPC_FORKED;
/// IPC_SYSTEM; IPC_INVALID; IPC_CLOSED. Unless it is IPC_OK, nothing was sent.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_send(
    connection: *mut ipc_connection,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and bytes, as the header asks.
        let (sender, message) = unsafe { (idle(connection)?, bytes(data, len, "data")?) };
        match Patience::of(timeout_ns) {
            Patience::Endless => send(sender, message)?,
            Patience::None => sender.try_send(message)?,
            Patience::Until(timeout) => sender.send_timeout(message, timeout)?,
        }
        Ok(())
    })
}

/// As [`Sender::send`], with short lengths known to the compiler: a copy of unknown length is a call, which costs a third of what all of a
/// 64-byte message does.
#[inline(always)]
fn send(sender: &mut Sender, message: &[u8]) -> Result<(), SendError> {
    macro_rules! send_short {
        ($($len:literal)*) => {
            match message.len() {
                $($len => sender.send(&message[..$len]),)*
                _ => sender.send(message),
            }
        };
    }
    send_short!(8 16 24 32 40 48 56 64)
}

/// Sends the slices, one behind the other, as one message.
///
/// slices: count of them. timeout_ns and results as for ipc_send.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_send_vectored(
    connection: *mut ipc_connection,
    slices: *const ipc_slice,
    count: usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and slices, as the header asks.
        let (sender, given) = unsafe { (idle(connection)?, slice(slices, count, "slices")?) };
        let mut few = [MaybeUninit::<&[u8]>::uninit(); 16];
        let many: Vec<&[u8]>;
        let parts = if given.len() <= few.len() {
            for (part, slice) in few.iter_mut().zip(given) {
                // SAFETY: the caller's bytes.
                part.write(unsafe { bytes(slice.data, slice.len, "slices[].data") }?);
            }
            // SAFETY: as many were written.
            unsafe { std::slice::from_raw_parts(few.as_ptr().cast::<&[u8]>(), given.len()) }
        } else {
            // SAFETY: the caller's bytes.
            let all = given.iter().map(|slice| unsafe { bytes(slice.data, slice.len, "slices[].data") });
            many = all.collect::<Result<_, _>>()?;
            &many
        };
        match Patience::of(timeout_ns) {
            Patience::Endless => sender.send_vectored(parts)?,
            Patience::None => sender.try_send_vectored(parts)?,
            Patience::Until(timeout) => sender.send_vectored_timeout(parts, timeout)?,
        }
        Ok(())
    })
}

/// Sends a copy of len bytes with files beside them: the receiver gets descriptors of its own for the same open files, sockets or
/// buffers (ipc_message_files). The caller's stay open and its own.
///
/// fds: count open descriptors, at most 63. Otherwise as ipc_send; and IPC_TOO_MANY_FILES.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_send_with_files(
    connection: *mut ipc_connection,
    data: *const c_void,
    len: usize,
    fds: *const c_int,
    count: usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, bytes and descriptors, as the header asks.
        let (sender, message, fds) =
            unsafe { (idle(connection)?, bytes(data, len, "data")?, slice(fds, count, "fds")?) };
        if let Some(fd) = fds.iter().find(|fd| **fd < 0) {
            return Err(Failure::invalid("a descriptor in fds", fd, "open descriptors"));
        }
        // SAFETY: not -1; the caller keeps them open while the call runs.
        let files: Vec<_> = fds.iter().map(|fd| unsafe { BorrowedFd::borrow_raw(*fd) }).collect();
        match Patience::of(timeout_ns) {
            Patience::Endless => sender.send_with_files(message, &files)?,
            Patience::None => sender.try_send_with_files(message, &files)?,
            Patience::Until(timeout) => sender.send_with_files_timeout(message, &files, timeout)?,
        }
        Ok(())
    })
}

/// Sends count messages, published together: faster than one by one, for this side and for the peer.
///
/// messages: count of them. sent: how many were sent, if not NULL; all unless a result says why not.
/// timeout_ns: how long to wait for room, for each message; 0: not at all, then those that there was room for are sent.
/// Returns as ipc_send, of the first message that was not sent. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_send_many(
    connection: *mut ipc_connection,
    messages: *const ipc_slice,
    count: usize,
    timeout_ns: i64,
    sent: *mut usize,
) -> ipc_result {
    let mut done = 0;
    let result = boundary(|| {
        // SAFETY: the caller's handle and messages, as the header asks.
        let (sender, messages) = unsafe { (idle(connection)?, slice(messages, count, "messages")?) };
        let patience = Patience::of(timeout_ns);
        let mut batch = sender.batch();
        let mut failure = None;
        for message in messages {
            // SAFETY: the caller's bytes.
            let pushed = unsafe { bytes(message.data, message.len, "messages[].data") }
                .and_then(|message| push(&mut batch, message, patience).map_err(Failure::from));
            match pushed {
                Ok(()) => done += 1,
                Err(why) => {
                    failure = Some(why);
                    break;
                }
            }
        }
        // What waits in the batch is not sent if this fails; what went before it, because there was no room or it took another lane, is.
        let unpublished = batch.len() as usize;
        batch.publish().inspect_err(|_| done -= unpublished)?;
        failure.map_or(Ok(()), Err)
    });
    // SAFETY: the caller's pointer.
    unsafe { out_if(sent, done) };
    result
}

/// Appends to a batch.
#[inline(always)]
pub(crate) fn push(batch: &mut ipc_core::Batch<'_>, message: &[u8], patience: Patience) -> Result<(), SendError> {
    match patience {
        Patience::Endless => batch.push(message),
        Patience::None => batch.try_push(message),
        Patience::Until(timeout) => batch.push_timeout(message, timeout),
    }
}

/// Wakes the peer if it sleeps and messages wait for it that coalesce_messages and coalesce_ns put off.
///
/// Returns IPC_OK; IPC_BUSY; IPC_DISCONNECTED; IPC_VIOLATION; IPC_FORKED; IPC_INVALID; IPC_CLOSED.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_flush(connection: *mut ipc_connection) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        unsafe { idle(connection) }?.flush()?;
        Ok(())
    })
}

/// Gives memory beside the ring back to the system that was not used for at least idle_ns, as far as that goes without waiting.
/// Connections that go on sending do so by themselves after 10 s.
///
/// given_back: bytes, if not NULL. Returns as ipc_flush. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_trim(connection: *mut ipc_connection, idle_ns: u64, given_back: *mut u64) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer, as the header asks.
        unsafe {
            let bytes = idle(connection)?.trim(std::time::Duration::from_nanos(idle_ns))?;
            out_if(given_back, bytes);
        }
        Ok(())
    })
}

/// Asks the kernel whether the peer is gone. A sender that sleeps or fills the ring learns it anyway; one that sends now and then can ask.
///
/// Returns IPC_OK if it is there; IPC_DISCONNECTED if not, and then nothing can be sent any more; IPC_BUSY; IPC_VIOLATION; IPC_FORKED;
/// IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_check_peer(connection: *mut ipc_connection) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        unsafe { idle(connection) }?.check_peer()?;
        Ok(())
    })
}

/// Takes a message that the peer did not get; the bytes are gone when it returns.
///
/// Since 0.1.
pub type ipc_message_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, data: *const c_void, len: usize)>;

/// Hands over the messages that the peer has not consumed, oldest first. For a peer that is gone: what it never got, to be sent to
/// another one. Files beside them are not among it; a hostile peer may have changed what was not a loan or a file. Calls function,
/// which must not use this connection, for each.
///
/// count: how many there are, if not NULL. function: may be NULL, to count them. Returns IPC_OK; IPC_BUSY; IPC_VIOLATION if the peer
/// destroyed them; IPC_NO_MEMORY; IPC_FORKED; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_undelivered(
    connection: *mut ipc_connection,
    function: ipc_message_fn,
    user_data: *mut c_void,
    count: *mut usize,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let messages = unsafe { idle(connection) }?.undelivered()?;
        if let Some(function) = function {
            for message in &messages {
                // SAFETY: what the caller gave for this; the bytes live until it returns.
                unsafe { function(user_data, message.as_ptr().cast(), message.len()) };
            }
        }
        // SAFETY: the caller's pointer.
        unsafe { out_if(count, messages.len()) };
        Ok(())
    })
}
