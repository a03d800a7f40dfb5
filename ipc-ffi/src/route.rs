//! Which lane a message takes.

use crate::boundary::{boundary, out_if, slice_mut};
use crate::connection::ipc_connection;
use crate::error::Failure;
use crate::result::ipc_result;
use crate::send::idle;
use ipc_core::Lane;
use ipc_core::router::Override;
use std::ffi::c_char;

/// What decides about lanes.
///
/// Since 0.1.
#[repr(u32)]
pub enum ipc_route {
    /// What each lane costs on this machine. The default; the value is ignored.
    IPC_ROUTE_COSTS = 0,
    /// One lane for every message; the value is an ipc_lane. What it does not take is refused: IPC_TOO_LARGE, IPC_NO_LANE.
    IPC_ROUTE_LANE = 1,
    /// Messages up to value bytes in the queue (ring or packets), longer ones in shared memory.
    IPC_ROUTE_THRESHOLD = 2,
}

pub(crate) fn lane(value: u64) -> Result<Lane, Failure> {
    Ok(match value {
        1 => Lane::Kernel,
        2 => Lane::Inline,
        3 => Lane::Arena,
        4 => Lane::File,
        _ => return Err(Failure::invalid("the lane", value, "1 to 4, an ipc_lane")),
    })
}

/// Fixes how the lanes of messages are chosen: route is an ipc_route, value what it says.
///
/// Returns IPC_OK; IPC_NO_LANE if this connection does not have it; IPC_BUSY; IPC_INVALID; IPC_CLOSED.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_set_route(connection: *mut ipc_connection, route: u32, value: u64) -> ipc_result {
    boundary(|| {
        let route = match route {
            0 => Override::Auto,
            1 => Override::Lane(lane(value)?),
            2 => Override::Threshold(value),
            _ => return Err(Failure::invalid("route", route, "0 to 2, an ipc_route")),
        };
        // SAFETY: the caller's handle, as the header asks.
        unsafe { idle(connection) }?.set_route(route).map_err(Failure::Route)
    })
}

/// Writes how messages are routed at the moment as a text: "inline up to 5000 B, then arena up to 268435456 B, ...".
///
/// text: capacity bytes; what does not fit is cut, and it always ends in a NUL. len: bytes of the whole text without its end, if not NULL.
/// Returns IPC_OK; IPC_BUSY; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_route_text(
    connection: *mut ipc_connection,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and buffer, as the header asks.
        let (sender, target) = unsafe { (idle(connection)?, slice_mut(text.cast::<u8>(), capacity, "text")?) };
        let whole = sender.router().to_string();
        crate::text::write(target, &whole);
        // SAFETY: the caller's pointer.
        unsafe { out_if(len, whole.len()) };
        Ok(())
    })
}
