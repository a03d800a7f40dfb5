//! Which processors there are, and which one this thread runs on.

use std::sync::OnceLock;

/// Says whether the machine has one processor only, where polling for another process keeps that process from running.
pub(crate) fn is_single() -> bool {
    static SINGLE: OnceLock<bool> = OnceLock::new();
    // SAFETY: the call takes an integer and returns one.
    *SINGLE.get_or_init(|| unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) } == 1)
}

/// The processor this thread runs on at the moment.
pub(crate) fn current() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// How many processors this thread may run on; 1 if the system does not tell.
pub(crate) fn allowed() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count())
}
