//! Threads that a library may start: they take no signal that is meant for the program.
//!
//! Promise: a signal to the process is never handled on such a thread. Refusal: whoever starts one also waits for its end.

use core::mem::MaybeUninit;
use core::ptr;
use std::io;
use std::string::ToString;
use std::thread::{Builder, JoinHandle};

/// Starts a thread that has every signal blocked.
pub(crate) fn spawn_deaf<R: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both calls write the sets that they are given, or fail; the second reads one that the first has filled. A thread begins with
    // the mask of the one that starts it.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
    };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    let started = Builder::new().name(name.to_string()).spawn(work);
    // SAFETY: the call above filled `before`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn blocks_interrupts() -> bool {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: asks for the mask, which fills the set.
        unsafe {
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()), 0);
            libc::sigismember(mask.as_ptr(), libc::SIGINT) == 1
        }
    }

    #[test]
    fn signals_stay_with_the_thread_that_started_it() {
        assert!(spawn_deaf("deaf", blocks_interrupts).unwrap().join().unwrap());
        assert!(!blocks_interrupts());
    }
}
