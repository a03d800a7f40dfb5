//! Who is at the other end of a connected Unix socket, as the kernel says.
//!
//! Promises facts that the peer cannot forge: they were recorded by the kernel when the peer connected or
//! listened. Does not decide who is welcome, and does not say whether the peer still runs: the number of a
//! process that ended is given to another, only the pidfd stays bound to the process it was taken for.

use core::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `SO_PEERPIDFD` of `asm-generic/socket.h`, which every architecture but sparc follows.
const SO_PEERPIDFD: c_int = if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x0056 } else { 77 };

/// The user, group and process at the other end of a connection.
///
/// For the accepting side: of the process that called `connect`. For the connecting side: of the process
/// that called `listen`. Numbers are as seen in the reader's namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Process id; `None` where the peer's process has no number in our pid namespace. For display: a
    /// number is reused once its process has ended.
    pub pid: Option<u32>,
    /// Effective user id at the time; the overflow id (65534) where our user namespace does not map it.
    pub uid: u32,
    /// Effective group id at the time; the overflow id as above.
    pub gid: u32,
}

/// Asks for the credentials of the process at the other end of `socket`.
///
/// # Errors
/// What the system answered: `socket` is no socket, for instance.
pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    // Not rustix's: its process id cannot be zero, but a peer in a foreign pid namespace reads as zero.
    let mut raw = libc::ucred { pid: 0, uid: 0, gid: 0 };
    // SAFETY: `ucred` is plain old data of exactly the size that the option writes.
    let written = unsafe { get_option(socket.as_fd(), libc::SO_PEERCRED, &mut raw)? };
    if written != size_of::<libc::ucred>() {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let pid = u32::try_from(raw.pid).ok().filter(|&pid| pid != 0);
    Ok(PeerCredentials { pid, uid: raw.uid, gid: raw.gid })
}

/// A descriptor of the peer's process that becomes readable when it ends, and is never reused.
///
/// `None` where the kernel has no `SO_PEERPIDFD` (before 6.5) or does not tell, as for a peer that is gone.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> Option<OwnedFd> {
    let mut raw: c_int = -1;
    // SAFETY: the option writes one `int`.
    let written = unsafe { get_option(socket.as_fd(), SO_PEERPIDFD, &mut raw) }.ok()?;
    if written != size_of::<c_int>() || raw < 0 {
        return None;
    }
    // SAFETY: the kernel made this descriptor (close-on-exec, as every pidfd) for this call; nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Reads a `SOL_SOCKET` option into `value`; the answer is the number of bytes written.
///
/// # Safety
/// Any bytes that the kernel writes for `option` make a valid `T`.
unsafe fn get_option<T>(socket: BorrowedFd<'_>, option: c_int, value: &mut T) -> io::Result<usize> {
    let mut length = size_of::<T>() as libc::socklen_t;
    let target = core::ptr::from_mut(value).cast::<c_void>();
    // SAFETY: `target` is valid for `length` bytes, and the kernel writes no more than that.
    let answer = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, target, &mut length) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(length as usize)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::fork::tests::{Child, pair};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{getegid, geteuid, getpid};
    use std::os::fd::AsRawFd;

    #[test]
    fn the_kernel_names_the_peer() {
        let (ours, _theirs) = pair();
        let peer = peer_credentials(&ours).unwrap();
        assert_eq!(peer.pid, u32::try_from(getpid().as_raw_nonzero().get()).ok());
        assert_eq!((peer.uid, peer.gid), (geteuid().as_raw(), getegid().as_raw()));
    }

    #[test]
    fn a_descriptor_that_is_no_socket_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer_credentials(&file).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
        assert!(peer_pidfd(&file).is_none());
    }

    #[test]
    fn the_pidfd_tells_when_the_peer_ends() {
        let scratch = crate::os::address::tests::Scratch::new("peer-pidfd");
        let address = scratch.address("s");
        let server = crate::os::rendezvous::BoundSocket::bind(&address, 0o600, 4).unwrap();
        let child = Child::start(|| {
            let _connection = crate::os::rendezvous::connect_stream(&address);
            std::thread::sleep(std::time::Duration::from_secs(30));
            0
        });
        let wait = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&wait)), Ok(1));
        let connection = rustix::net::accept(&server).unwrap();
        assert_eq!(peer_credentials(&connection).unwrap().pid, Some(child.id()));
        let Some(pidfd) = peer_pidfd(&connection) else { return };
        let flags = rustix::io::fcntl_getfd(&pidfd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{}", pidfd.as_raw_fd());
        let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
        assert_eq!(poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
        child.kill();
        assert_eq!(poll(&mut watched, Some(&wait)), Ok(1));
    }
}
