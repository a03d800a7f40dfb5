//! What the library has to say beside results.
//!
//! Promise: nothing is said unless somebody listens. Refusal: no messages and no contents of them are logged.

use crate::error::Failure;
use crate::result::ipc_result;
use crate::text::c_string;
use std::ffi::{c_char, c_void};
use std::fmt::Arguments;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

/// How much a line of the log matters.
///
/// Since 0.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum ipc_log_level {
    /// A peer broke the protocol, or this library has a defect.
    IPC_LOG_ERROR = 1,
    /// A call failed in a way that programs seldom expect: the system, an argument, a client that was refused.
    IPC_LOG_WARNING = 2,
    /// Listeners and connections that come and go.
    IPC_LOG_INFO = 3,
    /// Every other call that failed, but those that found nothing or came to the end of their time.
    IPC_LOG_DEBUG = 4,
}

use ipc_log_level::*;

/// Takes a line of the log, without a line end; the text is gone when it returns. It is called by whichever thread the line comes from,
/// several at a time, while a call of this library runs: it must not call this library.
///
/// Since 0.1.
pub type ipc_log_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, level: u32, text: *const c_char)>;

/// Who listens. Never written once others know of it.
struct Listener {
    function: unsafe extern "C" fn(*mut c_void, u32, *const c_char),
    user_data: *mut c_void,
    level: u32,
}

// SAFETY: the caller of `ipc_set_log` says that any thread may call the function with its data.
unsafe impl Send for Listener {}
// SAFETY: as above.
unsafe impl Sync for Listener {}

static LISTENER: AtomicPtr<Listener> = AtomicPtr::new(std::ptr::null_mut());

/// Everybody who ever listened, so that tools which look for lost memory find it.
static KEPT: Mutex<Vec<&'static Listener>> = Mutex::new(Vec::new());

/// Has `function` called with every line of the log up to `level` (an ipc_log_level), for the whole process. NULL ends that; a line that
/// another thread is writing meanwhile may still come. Without it nothing is written anywhere.
///
/// Any thread, any time; meant to be called once: each call keeps some bytes for good. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_set_log(function: ipc_log_fn, user_data: *mut c_void, level: u32) {
    let listener = function.map_or(std::ptr::null_mut(), |function| {
        // Never freed: another thread may be using the one before.
        let listener = Box::leak(Box::new(Listener { function, user_data, level }));
        // Nobody waits here, as in handle.rs.
        if let Ok(mut kept) = KEPT.try_lock() {
            kept.push(listener);
        }
        std::ptr::from_ref(listener).cast_mut()
    });
    // Release: pairs with the load in `say`.
    LISTENER.store(listener, Ordering::Release);
}

/// Writes a line, if anybody listens.
pub(crate) fn say(level: ipc_log_level, text: Arguments<'_>) {
    let listener = LISTENER.load(Ordering::Acquire);
    // SAFETY: null, or made by `ipc_set_log` and never freed.
    let Some(listener) = (unsafe { listener.as_ref() }) else { return };
    if level as u32 <= listener.level {
        let line = c_string(&text.to_string());
        // SAFETY: what the caller of `ipc_set_log` gave for this; the text lives until it returns.
        unsafe { (listener.function)(listener.user_data, level as u32, line.as_ptr()) };
    }
}

pub(crate) fn info(text: Arguments<'_>) {
    say(IPC_LOG_INFO, text);
}

pub(crate) fn warning(text: Arguments<'_>) {
    say(IPC_LOG_WARNING, text);
}

/// Writes what a call failed with.
pub(crate) fn failure(failure: &Failure, result: ipc_result) {
    use ipc_result::*;
    let level = match result {
        IPC_WOULD_BLOCK | IPC_TIMED_OUT => return,
        IPC_VIOLATION | IPC_DEFECT => IPC_LOG_ERROR,
        IPC_SYSTEM | IPC_NO_MEMORY | IPC_INVALID | IPC_CLOSED | IPC_FORKED => IPC_LOG_WARNING,
        IPC_DISCONNECTED | IPC_PEER_DIED => IPC_LOG_INFO,
        _ => IPC_LOG_DEBUG,
    };
    say(level, format_args!("{failure}"));
}
