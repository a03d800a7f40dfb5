//! `membarrier(2)`: making the peer's processors fence so that the publishing side need not.

use std::sync::OnceLock;

const CMD_QUERY: libc::c_int = 0;
const CMD_GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const CMD_REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

fn membarrier(command: libc::c_int) -> libc::c_long {
    // SAFETY: the call takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
}

/// Registers this process as a target of expedited barriers, once. False where the kernel has none: then both sides
/// of a doorbell use fences.
pub(crate) fn register() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        let wanted = (CMD_GLOBAL_EXPEDITED | CMD_REGISTER_GLOBAL_EXPEDITED) as libc::c_long;
        let supported = membarrier(CMD_QUERY);
        supported >= 0 && supported & wanted == wanted && membarrier(CMD_REGISTER_GLOBAL_EXPEDITED) == 0
    })
}

/// Returns after every running thread of each registered process has executed a full memory barrier.
///
/// It cannot fail in a process where [`register`] returned true: the command is there, and it takes no argument that could be wrong.
pub(crate) fn global_expedited() {
    membarrier(CMD_GLOBAL_EXPEDITED);
}
