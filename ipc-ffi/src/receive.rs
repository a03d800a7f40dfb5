//! Receiving.

use crate::boundary::{Patience, boundary, out, out_if, slice_mut};
use crate::connection::{ipc_connection, receiving};
use crate::error::Failure;
use crate::halves::Reading;
use crate::result::ipc_result;
use ipc_core::{Lane, Message, Receiver, RecvBatch, RecvError, TooShort};
use std::ffi::{c_int, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};

/// How a message came.
///
/// Since 0.1.
#[repr(u32)]
pub enum ipc_lane {
    /// In a packet of the socket.
    IPC_LANE_KERNEL = 1,
    /// In the ring.
    IPC_LANE_INLINE = 2,
    /// In a block of shared memory beside the ring.
    IPC_LANE_ARENA = 3,
    /// In a sealed file of its own.
    IPC_LANE_FILE = 4,
}

pub(crate) fn lane_code(lane: Lane) -> u32 {
    match lane {
        Lane::Kernel => 1,
        Lane::Inline => 2,
        Lane::Arena => 3,
        Lane::File => 4,
    }
}

/// Of a message: nobody can write its bytes any more. Those of others a hostile peer may still change: read each once, check, use.
pub const IPC_MESSAGE_SEALED: u32 = 1;

/// A message that is read in place. Filled by the library; this structure does not grow.
///
/// Since 0.1.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ipc_message {
    /// Its bytes, to be read only. Aligned to 8 bytes in the ring and to 128 in blocks and files; not aligned in IPC_MODE_KERNEL, and where
    /// files are beside it.
    pub data: *const c_void,
    /// How many there are.
    pub len: usize,
    /// An ipc_lane.
    pub lane: u32,
    /// IPC_MESSAGE_SEALED, or 0.
    pub flags: u32,
    /// How many files are beside it, which ipc_message_files takes.
    pub files: u32,
    /// 0.
    pub reserved: u32,
}

impl ipc_message {
    pub(crate) const NONE: Self = Self { data: std::ptr::null(), len: 0, lane: 0, flags: 0, files: 0, reserved: 0 };

    pub(crate) fn new((data, len): (*const u8, usize), lane: Lane, sealed: bool, files: usize) -> Self {
        let flags = if sealed { IPC_MESSAGE_SEALED } else { 0 };
        Self { data: data.cast(), len, lane: lane_code(lane), flags, files: files as u32, reserved: 0 }
    }

    fn of(message: &Message<'_>) -> Self {
        let sealed = message.as_sealed().is_some();
        Self::new((message.as_ptr(), message.len()), message.lane(), sealed, message.file_count())
    }

    /// One whose bytes are in its record.
    #[inline(always)]
    fn in_record(data: *const u8, len: usize, lane: u32) -> Self {
        Self { data: data.cast(), len, lane, ..Self::NONE }
    }
}

/// Waits for the next message and has it read in place. It stays valid until the next call of the receiving half that is given this
/// connection (but for ipc_message_files and ipc_recv_fd), which gives its space back first; ipc_release does only that.
///
/// timeout_ns: how long to wait; 0: not at all; negative: without end. message: filled; all zero on failure.
/// Returns IPC_OK; IPC_WOULD_BLOCK, IPC_TIMED_OUT: none came; IPC_DISCONNECTED, IPC_PEER_DIED: none will come, and all that were sent were
/// received; IPC_VIOLATION; IPC_FORKED; IPC_SYSTEM (no descriptor or address space for it: it stays the next); IPC_INVALID; IPC_CLOSED.
/// Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv(
    connection: *mut ipc_connection,
    message: *mut ipc_message,
    timeout_ns: i64,
) -> ipc_result {
    let result = boundary(|| {
        // SAFETY: the caller's handle and pointer, as the header asks; the message is dropped before its receiver.
        unsafe {
            let target = out(message, "message")?;
            let half = receiving(connection)?;
            let receiver = half.idle();
            let taken = match Patience::of(timeout_ns) {
                Patience::Endless => receiver.recv()?,
                Patience::None => receiver.try_recv()?.ok_or_else(|| Failure::Nothing("message"))?,
                Patience::Until(timeout) => receiver.recv_timeout(timeout)?,
            };
            let lane = lane_code(taken.lane());
            let read = match taken.leave() {
                Ok((start, len)) => {
                    *target = ipc_message::in_record(start, len, lane);
                    Reading::Record(start, len)
                }
                Err(taken) => {
                    *target = ipc_message::of(&taken);
                    Reading::Message(taken)
                }
            };
            half.begin(read);
        }
        Ok(())
    });
    if result != ipc_result::IPC_OK {
        // SAFETY: the caller's pointer; one that `out` refused is left alone.
        unsafe { clear(message) };
    }
    result
}

/// Says that there is no message.
///
/// # Safety
/// `target` is null, or not aligned, or a message can be written there.
#[cold]
unsafe fn clear(target: *mut ipc_message) {
    if !target.is_null() && target.is_aligned() {
        // SAFETY: the caller's promise.
        unsafe { target.write(ipc_message::NONE) };
    }
}

/// Waits for the next message and copies it to buffer. A large one is copied out while its sender still copies it in.
///
/// buffer: capacity bytes; may be NULL if capacity is 0. len: bytes in the message, if not NULL; with IPC_TOO_SHORT what the buffer must
/// have, and the message stays the next. timeout_ns and other results as for ipc_recv. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv_into(
    connection: *mut ipc_connection,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and buffer, as the header asks.
        let (half, buffer) = unsafe { (receiving(connection)?, slice_mut(buffer.cast::<u8>(), capacity, "buffer")?) };
        // SAFETY: as above.
        let receiver = unsafe { half.idle() };
        let received = match Patience::of(timeout_ns) {
            Patience::Endless => receiver.recv_into(buffer),
            Patience::None => match receiver.try_recv_into(buffer) {
                Ok(Some(len)) => Ok(len),
                Ok(None) => return Err(Failure::Nothing("message")),
                Err(error) => Err(error),
            },
            Patience::Until(timeout) => receiver.recv_into_timeout(buffer, timeout),
        };
        let told = match &received {
            Ok(len) => Some(*len),
            Err(RecvError::TooShort(TooShort { message, .. })) => Some(*message),
            Err(_) => None,
        };
        if let Some(told) = told {
            // SAFETY: the caller's pointer.
            unsafe { out_if(len, told) };
        }
        received?;
        Ok(())
    })
}

/// Waits for at least one message and has those that are there read in place, at most capacity. All stay valid as the one of ipc_recv does; their
/// space is given back at once, which is faster than one by one.
///
/// messages: capacity of them, at least 1; the first count are filled. If the last one has files beside it, ipc_message_files takes them.
/// timeout_ns and results as for ipc_recv. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv_many(
    connection: *mut ipc_connection,
    messages: *mut ipc_message,
    capacity: usize,
    count: *mut usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointers, as the header asks; the batch is dropped before its receiver.
        unsafe {
            let count = out(count, "count")?;
            *count = 0;
            let messages = slice_mut(messages, capacity, "messages")?;
            if messages.is_empty() {
                return Err(Failure::invalid("capacity", 0, "1 and more"));
            }
            let half = receiving(connection)?;
            let receiver = half.idle();
            half.begin(Reading::Batch(recv_batch(receiver, messages.len() as u64, timeout_ns)?));
            let Reading::Batch(batch) = half.reading() else { return Ok(()) };
            let queue = lane_code(batch.queue_lane());
            for target in messages {
                *target = match next(batch, queue) {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    // What came before it is good.
                    Err(_) if *count > 0 => break,
                    Err(error) => return Err(error.into()),
                };
                *count += 1;
                if target.files > 0 {
                    // The last message is the one whose files can be taken.
                    break;
                }
            }
            if *count == 0 {
                // News were there, and no message.
                return Err(Failure::Nothing("message"));
            }
        }
        Ok(())
    })
}

fn recv_batch(receiver: &'static mut Receiver, limit: u64, timeout_ns: i64) -> Result<RecvBatch<'static>, Failure> {
    Ok(match Patience::of(timeout_ns) {
        Patience::Endless => receiver.recv_batch(limit)?,
        Patience::None => receiver.try_recv_batch(limit)?.ok_or_else(|| Failure::Nothing("message"))?,
        Patience::Until(timeout) => receiver.recv_batch_timeout(limit, timeout)?,
    })
}

/// Waits for at least one message and begins to read those that are there, at most limit (0: without limit), with ipc_recv_next. All stay valid as
/// the one of ipc_recv does.
///
/// timeout_ns and results as for ipc_recv. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv_batch(connection: *mut ipc_connection, limit: u64, timeout_ns: i64) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks; the batch is dropped before its receiver.
        unsafe {
            let half = receiving(connection)?;
            let receiver = half.idle();
            half.begin(Reading::Batch(recv_batch(receiver, if limit == 0 { u64::MAX } else { limit }, timeout_ns)?));
            half.open_window();
        }
        Ok(())
    })
}

/// The next message of the batch that ipc_recv_batch began. It never waits. ipc_recv_next is the same without a call where that is possible.
///
/// message: filled; all zero on failure. Its files, if there are any, are to be taken before the next one is asked for.
/// Returns IPC_OK; IPC_WOULD_BLOCK: nothing more is there, or the batch has as many as were asked for; IPC_BUSY if no batch was begun;
/// IPC_VIOLATION; IPC_SYSTEM; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv_batch_next(connection: *mut ipc_connection, message: *mut ipc_message) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer, as the header asks.
        unsafe {
            let target = out(message, "message")?;
            *target = ipc_message::NONE;
            let half = receiving(connection)?;
            let Reading::Batch(batch) = half.reading() else {
                return Err(Failure::Busy("no batch is being read: ipc_recv_batch begins one"));
            };
            let queue = lane_code(batch.queue_lane());
            let taken = next(batch, queue);
            half.open_window();
            *target = taken?.ok_or_else(|| Failure::Nothing("further message"))?;
            Ok(())
        }
    })
}

/// The next message of a batch; `queue` is the lane of those whose bytes are in their records.
#[inline(always)]
fn next(batch: &mut RecvBatch<'_>, queue: u32) -> Result<Option<ipc_message>, RecvError> {
    let Some(view) = batch.try_next()? else { return Ok(None) };
    let (data, len) = (view.as_ptr(), view.len());
    Ok(Some(match batch.last_beside() {
        None => ipc_message::in_record(data, len, queue),
        Some((lane, sealed, files)) => ipc_message::new((data, len), lane, sealed, files),
    }))
}

/// Gives the space of what ipc_recv or ipc_recv_many gave back, if there is any. To be called before a long wait for something else.
///
/// Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_release(connection: *mut ipc_connection) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        unsafe { receiving(connection)?.idle() };
        Ok(())
    })
}

/// Takes the files beside the message that is being read (the last one of ipc_recv_many). They are the caller's then, close-on-exec, and to
/// be closed by it; those that are not taken are closed with the message.
///
/// fds: capacity of them, at least as many as the message says; count: how many there are.
/// Returns IPC_OK; IPC_TOO_SHORT, with the number in count, and none are taken; IPC_BUSY if no message is being read; IPC_INVALID; IPC_CLOSED.
/// Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_message_files(
    connection: *mut ipc_connection,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointers, as the header asks.
        let (half, fds, count) =
            unsafe { (receiving(connection)?, slice_mut(fds, capacity, "fds")?, out(count, "count")?) };
        *count = 0;
        // SAFETY: as above.
        let reading = unsafe { half.reading() };
        let there = match reading {
            Reading::Nothing => return Err(Failure::Busy("no message is being read")),
            Reading::Record(..) => 0,
            Reading::Message(message) => message.file_count(),
            Reading::Batch(batch) => batch.last_beside().map_or(0, |(_, _, files)| files),
        };
        let take = || match reading {
            Reading::Message(message) => message.take_files(),
            Reading::Batch(batch) => batch.take_files(),
            Reading::Nothing | Reading::Record(..) => Vec::new(),
        };
        hand_out_files(there, take, fds, count)
    })
}

/// Gives files to C, `there` of them, if there is room for all.
pub(crate) fn hand_out_files(
    there: usize,
    take: impl FnOnce() -> Vec<OwnedFd>,
    fds: &mut [c_int],
    count: &mut usize,
) -> Result<(), Failure> {
    *count = there;
    if there > fds.len() {
        return Err(RecvError::TooShort(TooShort { message: there, buffer: fds.len() }).into());
    }
    for (fd, file) in fds.iter_mut().zip(take()) {
        *fd = file.into_raw_fd();
    }
    Ok(())
}
