//! Messages that are appended one by one and published together.

use crate::boundary::{Patience, boundary, bytes};
use crate::connection::{ipc_connection, sending};
use crate::error::Failure;
use crate::halves::Writing;
use crate::result::ipc_result;
use crate::send::push;
use std::ffi::c_void;

/// Appends a copy of len bytes to the open batch, which the first call opens. The peer sees them when the batch is published; if the
/// ring has no room and the call waits for it, the peer's credit in messages has run out, or the message takes another lane, what the batch
/// has so far is published first. Until ipc_batch_publish or ipc_cancel nothing else can be sent.
///
/// Arguments and results as for ipc_send; unless it is IPC_OK the message is not in the batch, and the batch stays open. After IPC_WOULD_BLOCK
/// it may still have messages: publish them before you wait, for the peer makes no room for what it does not get. ipc_batch_add is
/// the same without a call where there is room. In a forked child both may append to a batch that was open before; publishing it fails.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_batch_push(
    connection: *mut ipc_connection,
    data: *const c_void,
    len: usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and bytes, as the header asks; the batch is dropped before its sender.
        unsafe {
            let half = sending(connection)?;
            let message = bytes(data, len, "data")?;
            if !matches!(half.writing(), Writing::Batch(_)) {
                let batch = half.idle()?.batch();
                *half.writing() = Writing::Batch(batch);
            }
            let pushed = match half.writing() {
                Writing::Batch(batch) => push(batch, message, Patience::of(timeout_ns)),
                _ => Ok(()),
            };
            half.open_window();
            Ok(pushed?)
        }
    })
}

/// Publishes the open batch with one store, and wakes the peer only if it sleeps. Without an open batch it does nothing.
///
/// Returns IPC_OK; IPC_BUSY if something else is open; IPC_VIOLATION, IPC_FORKED: then the batch is dropped; IPC_INVALID; IPC_CLOSED.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_batch_publish(connection: *mut ipc_connection) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let half = unsafe { sending(connection) }?;
        // SAFETY: as above.
        let writing = unsafe { half.writing() };
        match writing {
            Writing::Nothing => Ok(()),
            Writing::Batch(_) => match std::mem::replace(writing, Writing::Nothing) {
                Writing::Batch(batch) => Ok(batch.publish()?),
                _ => Ok(()),
            },
            _ => Err(Failure::Busy("a reservation or loan is open: ipc_commit or ipc_cancel it")),
        }
    })
}
