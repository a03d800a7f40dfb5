//! Waiting: in event loops, and how calls do it.

use crate::boundary::{boundary, out};
use crate::connection::{handle, ipc_connection, receiving};
use crate::error::Failure;
use crate::options::strategy;
use crate::result::ipc_result;
use crate::send::idle;
use std::ffi::c_int;

/// The descriptor of the receiving half, for poll and epoll (readable). It says something only between ipc_recv_arm and the next call that
/// receives. It stays the library's: do not read or close it. -1 if the handle is NULL or closed.
///
/// Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv_fd(connection: *mut ipc_connection) -> c_int {
    let mut fd = -1;
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let handle = unsafe { handle(connection) }?;
        handle.receiving.0.get("receiving half of the connection")?;
        fd = handle.whole.get("connection")?.recv_fd;
        Ok(())
    });
    fd
}

/// To be called before each sleep on the descriptor of the receiving half, once ipc_recv with timeout 0 has found nothing.
///
/// armed: 1 if nothing is there and the descriptor becomes readable when something comes or the peer goes; 0 if it is worth trying to
/// receive, and calling this, again now. Gives back what was being read. Returns IPC_OK; otherwise as ipc_recv.
/// Thread: the receiving half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_recv_arm(connection: *mut ipc_connection, armed: *mut c_int) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer, as the header asks.
        unsafe { *out(armed, "armed")? = receiving(connection)?.idle().arm()?.into() };
        Ok(())
    })
}

/// The descriptor of the sending half, for poll and epoll (readable, not writable). It says something only between ipc_send_arm and the
/// next call that sends. It stays the library's: do not read or close it. -1 if the handle is NULL or closed.
///
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_send_fd(connection: *mut ipc_connection) -> c_int {
    let mut fd = -1;
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let handle = unsafe { handle(connection) }?;
        handle.sending.0.get("sending half of the connection")?;
        fd = handle.whole.get("connection")?.send_fd;
        Ok(())
    });
    fd
}

/// To be called before each sleep on the descriptor of the sending half, once a call with timeout 0 returned IPC_WOULD_BLOCK.
///
/// armed: 1 if there is still no room and the descriptor becomes readable when there is some or the peer goes; 0 if it is worth trying
/// again now. Returns IPC_OK; IPC_BUSY; IPC_VIOLATION; IPC_FORKED; IPC_INVALID; IPC_CLOSED.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_send_arm(connection: *mut ipc_connection, armed: *mut c_int) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer, as the header asks.
        unsafe { *out(armed, "armed")? = idle(connection)?.arm()?.into() };
        Ok(())
    })
}

/// Chooses how calls of both halves wait: an ipc_wait, and with IPC_WAIT_ADAPTIVE for how long to poll, in ns (0: 50000).
///
/// Returns IPC_OK; IPC_BUSY if something is open or a message is being read; IPC_INVALID; IPC_CLOSED. Otherwise than with IPC_OK nothing has changed.
/// While no other call with this handle runs. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_set_wait(connection: *mut ipc_connection, wait: u32, spin_ns: u64) -> ipc_result {
    boundary(|| {
        let strategy = strategy(wait, spin_ns)?;
        // SAFETY: the caller's handle, and nobody else uses it, as the header asks.
        unsafe {
            let handle = handle(connection)?;
            handle.whole.get("connection")?;
            let sending = handle.sending.0.get("sending half").ok();
            let receiving = handle.receiving.0.get("receiving half").ok();
            if sending.is_none() && receiving.is_none() {
                return Err(Failure::Closed("connection, in both halves,"));
            }
            // Both are asked before one is changed.
            let sender = sending.map(|half| half.idle()).transpose()?;
            if let Some(half) = receiving {
                let receiver =
                    half.unread().ok_or_else(|| Failure::Busy("a message is being read: ipc_release it first"))?;
                receiver.set_wait_strategy(strategy);
            }
            if let Some(sender) = sender {
                sender.set_wait_strategy(strategy);
            }
        }
        Ok(())
    })
}
