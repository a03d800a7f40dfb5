//! Messages that are kept while others are received.

use crate::boundary::{boundary, out, slice_mut};
use crate::connection::{ipc_connection, receiving};
use crate::error::Failure;
use crate::handle::Handles;
use crate::receive::{hand_out_files, ipc_message};
use crate::result::ipc_result;
use core::cell::UnsafeCell;
use ipc_core::Held;
use std::ffi::c_int;

/// A message that was kept. From any thread, one at a time; it outlives its connection.
///
/// Since 0.1.
pub struct ipc_held(());

struct Holding {
    held: Held,
    files: Vec<std::os::fd::OwnedFd>,
}

static HELD: Handles<ipc_held, UnsafeCell<Holding>> = Handles::new("held", "held message");

/// Keeps the message that ipc_recv gave while others are received. One in shared memory stays where it is and counts against
/// credit_arena; one in the ring is copied. Its data are where message says from here on, no longer where ipc_recv said.
///
/// held: where the handle goes; NULL on failure. It is ours until ipc_held_drop. message: filled anew, if not NULL.
/// Returns IPC_OK; IPC_BUSY if no message of ipc_recv is being read; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_hold(
    connection: *mut ipc_connection,
    held: *mut *mut ipc_held,
    message: *mut ipc_message,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointers, as the header asks.
        let (target, half) = unsafe { (out(held, "held")?, receiving(connection)?) };
        *target = std::ptr::null_mut();
        // SAFETY: as above.
        let open = unsafe { half.take_message() };
        let open = open.ok_or_else(|| Failure::Busy("no message of ipc_recv is being read"))?;
        let mut kept = open.hold();
        let files = kept.take_files();
        let holding = Holding { held: kept, files };
        let view = view(&holding);
        *target = HELD.hand_out(UnsafeCell::new(holding));
        // SAFETY: the caller's pointer.
        unsafe { crate::boundary::out_if(message, view) };
        Ok(())
    })
}

fn view(Holding { held, files }: &Holding) -> ipc_message {
    ipc_message::new((held.as_ptr(), held.len()), held.lane(), held.as_sealed().is_some(), files.len())
}

/// Where the bytes of a held message are; valid until ipc_held_drop.
///
/// Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the held message's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_held_message(held: *const ipc_held, message: *mut ipc_message) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer; one thread at a time.
        unsafe { *out(message, "message")? = view(&*HELD.get(held)?.get()) };
        Ok(())
    })
}

/// Takes the files beside a held message, as ipc_message_files does.
///
/// Returns IPC_OK; IPC_TOO_SHORT; IPC_INVALID; IPC_CLOSED. Thread: the held message's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_held_files(
    held: *mut ipc_held,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointers; one thread at a time.
        let (holding, fds, count) =
            unsafe { (&mut *HELD.get(held)?.get(), slice_mut(fds, capacity, "fds")?, out(count, "count")?) };
        hand_out_files(holding.files.len(), || std::mem::take(&mut holding.files), fds, count)
    })
}

/// Gives a held message back, and closes its handle and the files that were not taken.
///
/// Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was dropped before. Thread: the held message's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_held_drop(held: *mut ipc_held) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle.
        unsafe { HELD.close(held) }
    })
}
