//! What a connection has done, and how much of what it has is used.

use crate::boundary::boundary;
use crate::connection::{ipc_connection, receiving};
use crate::error::Failure;
use crate::options::fill;
use crate::result::ipc_result;
use crate::send::idle;

/// The sending half. It may grow at its end in later versions.
///
/// Since 0.1.
#[repr(C)]
pub struct ipc_send_status {
    /// sizeof(ipc_send_status), to be set before the call.
    pub size: usize,
    /// Messages sent since the connection began.
    pub sent: u64,
    /// Messages that the peer has consumed.
    pub consumed: u64,
    /// Times that this half went to sleep.
    pub sleeps: u64,
    /// Bytes of the ring.
    pub ring_capacity: u64,
    /// Bytes of the ring that are used.
    pub ring_used: u64,
    /// Bytes of address space beside the ring. Memory is taken only where it was used.
    pub arena_size: u64,
    /// Bytes that it may grow to: what the peer accepts.
    pub arena_limit: u64,
    /// Bytes of it that are lent, on the way, or held by the peer; what came back counts until a call looks for room, or ipc_trim.
    pub arena_used: u64,
    /// Blocks of it that are.
    pub arena_blocks: u64,
    /// The largest message that this connection takes, in bytes.
    pub max_message: u64,
    /// The largest message that ipc_reserve takes, in bytes.
    pub max_reservation: u64,
    /// Messages that the peer lets be on the way to it.
    pub credit_messages: u64,
}

/// Fills status, whose size must be set. Counting takes a time that grows with the messages in the ring.
///
/// Returns IPC_OK; IPC_BUSY; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_get_send_status(
    connection: *mut ipc_connection,
    status: *mut ipc_send_status,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let sender = unsafe { idle(connection) }?;
        let (ring, arena, credit) = (sender.status(), sender.arena(), sender.credit());
        let value = ipc_send_status {
            size: 0,
            sent: sender.sent(),
            consumed: ring.received,
            sleeps: sender.sleeps(),
            ring_capacity: ring.capacity,
            ring_used: ring.used,
            arena_size: arena.size,
            arena_limit: arena.limit,
            arena_used: arena.used,
            arena_blocks: arena.blocks,
            max_message: sender.max_message(),
            max_reservation: sender.max_reservation(),
            credit_messages: credit.messages,
        };
        // SAFETY: the caller's pointer, with its size.
        unsafe { fill(status, size_of::<ipc_send_status>(), "status", value) }
    })
}

/// The receiving half. It may grow at its end in later versions.
///
/// Since 0.1.
#[repr(C)]
pub struct ipc_recv_status {
    /// sizeof(ipc_recv_status), to be set before the call.
    pub size: usize,
    /// Messages received since the connection began.
    pub received: u64,
    /// Times that this half went to sleep.
    pub sleeps: u64,
    /// Bytes of the ring.
    pub ring_capacity: u64,
    /// Bytes of the ring that are used.
    pub ring_used: u64,
    /// Messages in the ring that wait to be consumed.
    pub waiting: u64,
    /// Bytes beside the ring that this process maps of the peer's.
    pub mapped: u64,
}

/// Fills status, whose size must be set. Counting takes a time that grows with the messages in the ring.
///
/// Returns IPC_OK; IPC_BUSY if a message is being read; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_get_recv_status(
    connection: *mut ipc_connection,
    status: *mut ipc_recv_status,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let half = unsafe { receiving(connection) }?;
        // SAFETY: as above.
        let receiver =
            unsafe { half.unread() }.ok_or_else(|| Failure::Busy("a message is being read: ipc_release it first"))?;
        let ring = receiver.status();
        let value = ipc_recv_status {
            size: 0,
            received: receiver.received(),
            sleeps: receiver.sleeps(),
            ring_capacity: ring.capacity,
            ring_used: ring.used,
            waiting: ring.sent.saturating_sub(ring.received),
            mapped: receiver.mapped(),
        };
        // SAFETY: the caller's pointer, with its size.
        unsafe { fill(status, size_of::<ipc_recv_status>(), "status", value) }
    })
}
