//! Listening.

use crate::boundary::{Patience, boundary, os_text, out};
use crate::connection::{self, ipc_connection};
use crate::error::Failure;

use crate::handle::Handles;
use crate::log;
use crate::options::{Given, fill, ipc_options};
use crate::result::ipc_result;
use core::cell::UnsafeCell;
use ipc_core::{Listener, Refusal};
use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// Listens under a name. Made by ipc_listen, ended by ipc_listener_close. One thread at a time.
///
/// Since 0.1.
pub struct ipc_listener(());

struct Listening {
    listener: UnsafeCell<Listener>,
    path: CString,
}

static LISTENERS: Handles<ipc_listener, Listening> = Handles::new("listener", "listener");

/// Listens under a name: a plain one (A-Z a-z 0-9 . _ -, at most 64 bytes), which stands for a socket in a directory of this user's own, or
/// an absolute path. A file that a dead process left is replaced; a live one's is not.
///
/// options: may be NULL. listener: where the handle goes; NULL on failure. It is ours until ipc_listener_close.
/// Returns IPC_OK; IPC_ADDRESS_IN_USE; IPC_BAD_ADDRESS; IPC_INVALID for an option out of range; IPC_SYSTEM.
/// Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_listen(
    name: *const c_char,
    options: *const ipc_options,
    listener: *mut *mut ipc_listener,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's pointers, as the header asks.
        let (target, name, given) =
            unsafe { (out(listener, "listener")?, os_text(name, "name"), Given::read(options)) };
        *target = std::ptr::null_mut();
        let bound = given?.listen()?.bind(name?).map_err(Failure::Listen)?;
        let path = CString::new(bound.path().as_os_str().as_bytes()).unwrap_or_default();
        log::info(format_args!("listening at {}", path.to_string_lossy()));
        *target = LISTENERS.hand_out(Listening { listener: UnsafeCell::new(bound), path });
        Ok(())
    })
}

/// The next client that completes the handshake and is admitted.
///
/// timeout_ns: how long to wait for it; 0: not at all; negative: without end.
/// connection: where the handle goes; NULL on failure. It is ours until ipc_close, and outlives the listener.
/// Returns IPC_OK; IPC_WOULD_BLOCK, IPC_TIMED_OUT: nobody came; IPC_FORKED; IPC_SYSTEM; IPC_INVALID; IPC_CLOSED.
/// Thread: the listener's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_accept(
    listener: *mut ipc_listener,
    timeout_ns: i64,
    connection: *mut *mut ipc_connection,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's pointers, as the header asks.
        let target = unsafe { out(connection, "connection") }?;
        *target = std::ptr::null_mut();
        // SAFETY: as above.
        let listening = unsafe { LISTENERS.get(listener) }?;
        // SAFETY: one thread at a time, as the header asks.
        let listener = unsafe { &mut *listening.listener.get() };
        let refused = listener.refused();
        let accepted = match Patience::of(timeout_ns) {
            Patience::None => listener.try_accept(),
            Patience::Until(timeout) => listener.accept_timeout(timeout).map(Some),
            Patience::Endless => listener.accept().map(Some),
        };
        if listener.refused() > refused {
            let why = listener.last_refusal().map_or("no hello, or none in time".to_owned(), |why| why.to_string());
            log::warning(format_args!("{} clients were turned away: {why}", listener.refused() - refused));
        }
        let accepted = accepted.map_err(Failure::Accept)?.ok_or_else(|| Failure::Nothing("client"))?;
        *target = connection::hand_out(accepted);
        Ok(())
    })
}

/// The descriptor for poll and epoll: readable when ipc_accept may have something to do. It stays the library's: do not read or
/// close it. -1 if the handle is NULL or closed.
///
/// Thread: the listener's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_listener_fd(listener: *const ipc_listener) -> c_int {
    let mut fd = -1;
    boundary(|| {
        // SAFETY: the caller's handle; one thread at a time.
        fd = unsafe { (*LISTENERS.get(listener)?.listener.get()).as_fd().as_raw_fd() };
        Ok(())
    });
    fd
}

/// Where the socket file is, as a text that lives as long as the listener. NULL if the handle is NULL or closed.
///
/// Thread: the listener's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_listener_path(listener: *const ipc_listener) -> *const c_char {
    let mut path = std::ptr::null();
    boundary(|| {
        // SAFETY: the caller's handle.
        path = unsafe { LISTENERS.get(listener)? }.path.as_ptr();
        Ok(())
    });
    path
}

/// Why a listener turned a client away.
///
/// Since 0.1.
#[repr(u32)]
pub enum ipc_refusal {
    /// None was refused yet.
    IPC_REFUSAL_NONE = 0,
    /// It speaks no version of the layout that this library does.
    IPC_REFUSAL_VERSION = 1,
    /// There are as many connections as the options allow.
    IPC_REFUSAL_CONNECTIONS = 2,
    /// Its memory would exceed what the options allow, or what the system has.
    IPC_REFUSAL_MEMORY = 3,
    /// Its user is not admitted.
    IPC_REFUSAL_CREDENTIALS = 4,
    /// Its messages are of another type.
    IPC_REFUSAL_PAYLOAD = 5,
    /// Its hello made no sense, or another reason.
    IPC_REFUSAL_OTHER = 6,
}

fn refusal_code(refusal: Option<Refusal>) -> ipc_refusal {
    use ipc_refusal::*;
    match refusal {
        None => IPC_REFUSAL_NONE,
        Some(Refusal::Version { .. } | Refusal::LayoutHash { .. }) => IPC_REFUSAL_VERSION,
        Some(Refusal::Connections { .. }) => IPC_REFUSAL_CONNECTIONS,
        Some(Refusal::Memory { .. }) => IPC_REFUSAL_MEMORY,
        Some(Refusal::Credentials { .. }) => IPC_REFUSAL_CREDENTIALS,
        Some(Refusal::PayloadLayout { .. } | Refusal::PayloadName { .. }) => IPC_REFUSAL_PAYLOAD,
        Some(_) => IPC_REFUSAL_OTHER,
    }
}

/// What a listener has done so far. It may grow at its end in later versions.
///
/// Since 0.1.
#[repr(C)]
pub struct ipc_listener_status {
    /// sizeof(ipc_listener_status), to be set before the call.
    pub size: usize,
    /// Connections that live at the moment.
    pub connections: u64,
    /// Clients turned away so far: refused, malformed, silent for too long, or gone.
    pub refused: u64,
    /// An ipc_refusal: why the last one was refused.
    pub last_refusal: u32,
    /// 0.
    pub reserved: u32,
}

/// Fills status, whose size must be set.
///
/// Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the listener's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_listener_get_status(
    listener: *const ipc_listener,
    status: *mut ipc_listener_status,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle; one thread at a time.
        let listener = unsafe { &*LISTENERS.get(listener)?.listener.get() };
        let value = ipc_listener_status {
            size: 0,
            connections: listener.connections(),
            refused: listener.refused(),
            last_refusal: refusal_code(listener.last_refusal()) as u32,
            reserved: 0,
        };
        // SAFETY: the caller's pointer, with its size.
        unsafe { fill(status, size_of::<ipc_listener_status>(), "status", value) }
    })
}

/// Takes the name away and ends the listener. Connections live on. The handle is closed whatever is returned; its descriptor too.
///
/// Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was closed before. Thread: the listener's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_listener_close(listener: *mut ipc_listener) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle.
        unsafe { LISTENERS.close(listener) }
    })
}
