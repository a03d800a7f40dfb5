//! Connecting, and what is common to both directions.

use crate::boundary::{boundary, os_text, out};
use crate::error::Failure;
use crate::fast::{FastRecv, FastSend};
use crate::halves::{Receiving, Sending};
use crate::handle::{Slot, Yard};
use crate::log;
use crate::options::{Given, ipc_options};
use crate::result::ipc_result;
use ipc_core::{Connection, PeerCredentials};
use std::ffi::{c_char, c_int};
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};

/// Both directions between two processes. Made by ipc_connect and ipc_accept, ended by ipc_close.
///
/// It has two halves, each for one thread at a time: that of the functions that send, and that of those that receive (each says
/// whose it is). The two threads may be different, and run at once. A child that was forked finds every handle of its parent's unusable:
/// IPC_FORKED.
///
/// Since 0.1.
#[repr(C, align(128))]
pub struct ipc_connection {
    /// First, and in this order: the header's code knows where they are.
    fast_send: FastSend,
    fast_recv: FastRecv,
    /// Each on lines of its own: they belong to different threads.
    pub(crate) sending: Padded<Slot<Sending>>,
    pub(crate) receiving: Padded<Slot<Receiving>>,
    pub(crate) whole: Slot<Whole>,
}

// Where the inlined code of the header looks for its windows.
const _: () = assert!(offset_of!(ipc_connection, fast_send) == 0 && offset_of!(ipc_connection, fast_recv) == 128);

/// On lines that it shares with nothing.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// What is known of the connection for good.
pub(crate) struct Whole {
    pub(crate) peer: ipc_peer,
    /// The descriptors to sleep on, of the halves while these are open.
    pub(crate) send_fd: c_int,
    pub(crate) recv_fd: c_int,
}

/// Who the other side is, as the kernel says: of a client the process that connected, of a server the one that listened.
///
/// Since 0.1.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ipc_peer {
    /// Process id, -1 if it has none here. For display: a number is used again once its process has ended.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// A descriptor of the process itself (see pidfd_open(2)), which stays the connection's; -1 where the kernel has none, before
    /// version 6.5, once both halves were shut down, and for ipc_admit_fn.
    pub pidfd: c_int,
}

impl ipc_peer {
    pub(crate) fn of(credentials: &PeerCredentials) -> Self {
        let pid = credentials.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(-1);
        Self { pid, uid: credentials.uid, gid: credentials.gid, pidfd: -1 }
    }
}

static YARD: Yard<ipc_connection> = Yard::new();

/// A handle for a new connection.
pub(crate) fn hand_out(connection: Connection) -> *mut ipc_connection {
    let peer = connection.peer();
    let pidfd = peer.pidfd().map_or(-1, |fd| fd.as_raw_fd());
    let peer = ipc_peer { pidfd, ..ipc_peer::of(peer.credentials()) };
    log::info(format_args!("connected to process {} of user {}", peer.pid, peer.uid));
    let (sender, receiver) = connection.split();
    let (send_fd, recv_fd) = (sender.as_fd().as_raw_fd(), receiver.as_fd().as_raw_fd());
    let handle = YARD.take(|| ipc_connection {
        fast_send: FastSend::closed(),
        fast_recv: FastRecv::closed(),
        sending: Padded(Slot::closed()),
        receiving: Padded(Slot::closed()),
        whole: Slot::closed(),
    });
    handle.sending.0.open(Sending::new(sender, &handle.fast_send));
    handle.receiving.0.open(Receiving::new(receiver, &handle.fast_recv));
    handle.whole.open(Whole { peer, send_fd, recv_fd });
    std::ptr::from_ref(handle).cast_mut()
}

/// # Safety
/// `connection` is null or a handle of ours.
#[inline(always)]
pub(crate) unsafe fn handle(connection: *const ipc_connection) -> Result<&'static ipc_connection, Failure> {
    // SAFETY: the memory of handles stays.
    unsafe { connection.as_ref() }.ok_or_else(|| Failure::Null("connection"))
}

/// # Safety
/// As [`handle`]; one thread at a time for the sending half.
#[inline(always)]
pub(crate) unsafe fn sending(connection: *const ipc_connection) -> Result<&'static Sending, Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle(connection) }?.sending.0.get("sending half of the connection")
}

/// # Safety
/// As [`handle`]; one thread at a time for the receiving half.
#[inline(always)]
pub(crate) unsafe fn receiving(connection: *const ipc_connection) -> Result<&'static Receiving, Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle(connection) }?.receiving.0.get("receiving half of the connection")
}

/// Connects to whoever listens under this name or absolute path.
///
/// options: may be NULL. connection: where the handle goes; NULL on failure. It is ours until ipc_close.
/// Returns IPC_OK; IPC_NOT_FOUND: nobody listens there; IPC_WOULD_BLOCK: too many others are connecting; IPC_TIMED_OUT; IPC_REFUSED, with the
/// server's reason in ipc_last_error; IPC_NOT_ADMITTED: the options do not admit its user, or the system denies access; IPC_BAD_ADDRESS; IPC_TOO_LARGE: the server's segment; IPC_DISCONNECTED, IPC_VIOLATION: it hung up, or answered
/// wrongly; IPC_INVALID for an option out of range; IPC_SYSTEM.
/// Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_connect(
    name: *const c_char,
    options: *const ipc_options,
    connection: *mut *mut ipc_connection,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's pointers, as the header asks.
        let (target, name, given) =
            unsafe { (out(connection, "connection")?, os_text(name, "name"), Given::read(options)) };
        *target = std::ptr::null_mut();
        let connected = given?.connect()?.connect(name?).map_err(Failure::Connect)?;
        *target = hand_out(connected);
        Ok(())
    })
}

/// Who the peer is.
///
/// Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_get_peer(connection: *const ipc_connection, peer: *mut ipc_peer) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer.
        let (peer, handle) = unsafe { (out(peer, "peer")?, handle(connection)?) };
        *peer = handle.whole.get("connection")?.peer;
        if handle.sending.0.get("sending half").is_err() && handle.receiving.0.get("receiving half").is_err() {
            // It went with the halves, and its number may be another file's.
            peer.pidfd = -1;
        }
        Ok(())
    })
}

/// The half that sends, for ipc_shutdown.
pub const IPC_SENDING: u32 = 1;
/// The half that receives, for ipc_shutdown.
pub const IPC_RECEIVING: u32 = 2;

/// Closes halves of a connection: IPC_SENDING, IPC_RECEIVING or both. The peer gets what was sent before, and then IPC_DISCONNECTED; what
/// it sends to a half that was closed is refused. What is open in a half is cancelled or given back. While no other call of these halves runs.
///
/// Returns IPC_OK, also if they were closed before; IPC_INVALID; IPC_CLOSED. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_shutdown(connection: *mut ipc_connection, halves: u32) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle.
        let handle = unsafe { handle(connection) }?;
        handle.whole.get("connection")?;
        if halves == 0 || halves & !(IPC_SENDING | IPC_RECEIVING) != 0 {
            return Err(Failure::invalid("halves", halves, "1 to 3: IPC_SENDING, IPC_RECEIVING or both"));
        }
        if halves & IPC_SENDING != 0 {
            handle.sending.0.close();
        }
        if halves & IPC_RECEIVING != 0 {
            handle.receiving.0.close();
        }
        Ok(())
    })
}

/// Ends a connection. The peer gets what was sent before. Messages and batches that are open are given back or cancelled; held messages
/// and loans that were detached live on. The handle is closed whatever is returned: calls with it say IPC_CLOSED (until some hundred
/// others were closed too).
///
/// Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was closed before. While no other call with this handle runs. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_close(connection: *mut ipc_connection) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle.
        let handle = unsafe { handle(connection) }?;
        let Whole { peer, .. } = handle.whole.take("connection")?;
        handle.receiving.0.close();
        handle.sending.0.close();
        log::info(format_args!("closed the connection to process {}", peer.pid));
        YARD.bury(handle);
        Ok(())
    })
}
