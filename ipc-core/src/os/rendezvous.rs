//! The listening socket file: made, replaced when stale, dialled, removed.
//!
//! Promises that of all processes that bind a path exactly one listens there, that a live server's file is
//! never replaced, that a dead one's is, and that nothing but a socket is ever deleted. All changes to the
//! file happen under an exclusive `flock` of its directory, which the kernel drops with its holder, so there
//! is no lock file to go stale. The existence of the file proves nothing and is never asked: who wants to
//! know whether a server lives connects to it (and so may show it a connection that ends at once).
//!
//! Does not wait for a server to appear, does not accept, and gives no promise against programs that change
//! the directory without its lock.

use crate::os::address::{AddressError, IfMissing, SocketAddress};
use crate::os::fork::{ForkToken, GuardedFd, token};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, Stat, chmodat, fchmod, flock, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::borrow::ToOwned;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mode of a socket file unless the caller wants another: its owner alone may connect.
pub(crate) const DEFAULT_MODE: u32 = 0o600;

/// How long to wait for the directory's lock. Holders keep it for microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The directory of the socket is not to be trusted, or cannot be opened.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A live process listens at the path.
    #[error("the socket path {path:?} is in use by a live process")]
    AddressInUse {
        /// The socket file.
        path: PathBuf,
    },
    /// Something else than a socket is at the path. It is left alone.
    #[error("the path {path:?} holds {found}, not a socket; it is not replaced")]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The directory stayed locked by another process, which one the system does not tell.
    #[error("the directory {directory:?} was locked by another process for {} ms", .waited.as_millis())]
    Locked {
        /// The directory of the socket.
        directory: PathBuf,
        /// How long the lock was waited for.
        waited: Duration,
    },
    /// The mode asks for more than permission bits.
    #[error("the socket mode {mode:#o} is out of range; allowed are 0 to 0o777")]
    Mode {
        /// The mode as given.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot {action} {path:?}: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The directory of the socket is not to be trusted.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody listens: there is no such file.
    #[error("nobody listens at {path:?}: there is no such file")]
    NotFound {
        /// The socket file.
        path: PathBuf,
    },
    /// Nobody listens: the file is what a dead process left behind, or its server is just starting.
    #[error("nobody listens at {path:?}: the socket is stale{}", if *.removed { ", and was removed" } else { "" })]
    Stale {
        /// The socket file.
        path: PathBuf,
        /// Whether the file was removed. It stays if the directory is locked or not ours to change.
        removed: bool,
    },
    /// A server listens, but its queue of waiting connections is full. Trying again later may succeed.
    #[error("the server at {path:?} is busy: its queue of waiting connections is full")]
    Busy {
        /// The socket file.
        path: PathBuf,
    },
    /// The permissions of the socket or of a directory on the way forbid the connection.
    #[error("access to the socket {path:?} is denied: {source}")]
    Denied {
        /// The socket file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The path holds something that does not speak in packets.
    #[error("the path {path:?} holds {found}; a SEQPACKET socket is needed")]
    WrongType {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The system refused.
    #[error("cannot connect to {path:?}: {source}")]
    Os {
        /// The socket file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

impl DialError {
    /// Whether the only trouble is that no server runs (yet): `NotFound` and `Stale`.
    #[must_use]
    pub fn nobody_listens(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Stale { .. })
    }
}

/// A listening socket, and its file.
///
/// Forked children do not keep it open, and do not remove the file when they drop their copy.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    /// `SEQPACKET`, close-on-exec, non-blocking, listening. Holds the file's inode, so that `identity` cannot
    /// become another file's while this is open.
    socket: GuardedFd,
    address: SocketAddress,
    /// The file as it was bound; written once, read by `drop`.
    identity: Identity,
    /// Of the process that bound, the only one that may remove the file.
    token: ForkToken,
}

impl BoundSocket {
    /// Binds and listens, replacing what a dead server left behind.
    ///
    /// Takes microseconds, or up to 2 s if others hold the directory's lock.
    /// `mode` holds the permission bits of the file, whatever the umask: who may write to it may connect.
    /// `backlog` is the number of connections that may wait to be accepted; the system caps it.
    ///
    /// # Errors
    /// `AddressInUse` if a live process listens there, or listened and does not speak our protocol;
    /// `NotASocket`; `Locked`; and what [`BindError`] says of the others. Nothing is left behind.
    pub(crate) fn bind(address: &SocketAddress, mode: u32, backlog: i32) -> Result<Self, BindError> {
        if mode > 0o777 {
            return Err(BindError::Mode { mode });
        }
        let path = address.path();
        let place = SocketAddrUnix::new(path).map_err(|errno| failed("address the socket", path, errno))?;
        let directory = LockedDirectory::wait_for(address, IfMissing::Create)?;
        directory.clear_the_way(address)?;

        let socket = GuardedFd::open(|| Ok(seqpacket()?)).map_err(|source| BindError::Os {
            action: "create a socket for",
            path: path.to_owned(),
            source,
        })?;
        let wanted = Mode::from_raw_mode(mode);
        bind_narrow(&socket, &place, wanted).map_err(|errno| match errno {
            Errno::ADDRINUSE => BindError::AddressInUse { path: path.to_owned() },
            errno => failed("bind", path, errno),
        })?;
        match directory.publish(&socket, address, wanted, backlog) {
            Ok(identity) => Ok(Self { socket, address: address.clone(), identity, token: token() }),
            Err(error) => {
                let _ = unlinkat(&directory.fd, address.file(), AtFlags::empty());
                Err(error)
            }
        }
    }

    /// The address it is bound to.
    pub(crate) fn address(&self) -> &SocketAddress {
        &self.address
    }

    fn remove_file(&self) -> Result<(), BindError> {
        let directory = LockedDirectory::wait_for(&self.address, IfMissing::Report)?;
        if directory.look(&self.address)?.is_some_and(|found| Identity::of(&found) == self.identity) {
            directory.unlink(&self.address)?;
        }
        Ok(())
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for BoundSocket {
    /// Removes the file if it is still ours, then closes. Waits up to 2 s if others hold the directory's lock;
    /// a file that then stays is stale, and the next one to bind or connect removes it.
    fn drop(&mut self) {
        if self.token.is_original() {
            let _ = self.remove_file();
        }
    }
}

/// Which file it is, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// The directory of a socket, open and exclusively locked.
struct LockedDirectory {
    /// Guarded: `flock` belongs to the open file, which a forked child would share.
    fd: GuardedFd,
}

impl Drop for LockedDirectory {
    fn drop(&mut self) {
        let _ = flock(&self.fd, FlockOperation::Unlock);
    }
}

impl LockedDirectory {
    /// Locks the directory, trying for [`PATIENCE`].
    fn wait_for(address: &SocketAddress, if_missing: IfMissing) -> Result<Self, BindError> {
        let failed = |errno| failed("lock the directory", address.directory(), errno);
        let fd = GuardedFd::new(address.open_directory(if_missing)?).map_err(|source| BindError::Os {
            action: "guard the directory",
            path: address.directory().to_owned(),
            source,
        })?;
        let since = Instant::now();
        loop {
            if try_lock(&fd).map_err(failed)? {
                return Ok(Self { fd });
            }
            let waited = since.elapsed();
            if waited >= PATIENCE {
                return Err(BindError::Locked { directory: address.directory().to_owned(), waited });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Locks the directory if that takes no waiting and is permitted.
    fn at_once(address: &SocketAddress) -> Option<Self> {
        let fd = GuardedFd::new(address.open_directory(IfMissing::Report).ok()?).ok()?;
        matches!(try_lock(&fd), Ok(true)).then_some(Self { fd })
    }

    /// What is at the socket's path, if anything. A link is not followed.
    fn look(&self, address: &SocketAddress) -> Result<Option<Stat>, BindError> {
        match statat(&self.fd, address.file(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("examine", address.path(), errno)),
        }
    }

    fn unlink(&self, address: &SocketAddress) -> Result<(), BindError> {
        unlinkat(&self.fd, address.file(), AtFlags::empty())
            .map_err(|errno| failed("remove the stale socket", address.path(), errno))
    }

    /// Removes a stale socket from the path; leaves everything else, with the reason.
    fn clear_the_way(&self, address: &SocketAddress) -> Result<(), BindError> {
        let Some(found) = self.look(address)? else { return Ok(()) };
        let path = address.path();
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind != FileType::Socket {
            return Err(BindError::NotASocket { path: path.to_owned(), found: describe(kind) });
        }
        match dial(path) {
            // A full queue, or a socket of another type, is someone's all the same.
            Ok(_) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(BindError::AddressInUse { path: path.to_owned() }),
            // All our binders listen before they release the lock, so a socket that is bound but does not
            // listen yet cannot be one of theirs.
            Err(Errno::CONNREFUSED) => self.unlink(address),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("probe the socket", path, errno)),
        }
    }

    /// Gives the bound file its mode and starts to listen.
    fn publish(
        &self,
        socket: &GuardedFd,
        address: &SocketAddress,
        wanted: Mode,
        backlog: i32,
    ) -> Result<Identity, BindError> {
        let path = address.path();
        let found = statat(&self.fd, address.file(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("examine the new socket", path, errno))?;
        if Mode::from_raw_mode(found.st_mode) != wanted {
            chmodat(&self.fd, address.file(), wanted, AtFlags::empty())
                .map_err(|errno| failed("set the mode of", path, errno))?;
        }
        listen(socket, backlog).map_err(|errno| failed("listen at", path, errno))?;
        Ok(Identity::of(&found))
    }
}

/// Connects to the server at `address`, without waiting: a `SEQPACKET` socket, close-on-exec, non-blocking.
///
/// A file that a dead server left behind is removed, if the directory lets us.
///
/// # Errors
/// See [`DialError`]. `NotFound` and `Stale` mean that nobody listens, `Busy` that trying later may help.
pub(crate) fn connect_stream(address: &SocketAddress) -> Result<OwnedFd, DialError> {
    let path = address.path();
    if address.is_private() {
        // A squatter's directory must not choose our server.
        match address.open_directory(IfMissing::Report) {
            Ok(_checked) => {}
            Err(AddressError::DirectoryMissing { .. }) => return Err(DialError::NotFound { path: path.to_owned() }),
            Err(error) => return Err(error.into()),
        }
    }
    match dial(path) {
        Ok(socket) => Ok(socket),
        Err(Errno::CONNREFUSED) => dial_refused(address),
        Err(errno) => Err(not_dialled(path, errno)),
    }
}

/// Finds out why a connection was refused, and cleans up if it is the remains of a dead server.
fn dial_refused(address: &SocketAddress) -> Result<OwnedFd, DialError> {
    let path = address.path();
    let found = rustix::fs::stat(path).map_err(|errno| not_dialled(path, errno))?;
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind != FileType::Socket {
        return Err(DialError::WrongType { path: path.to_owned(), found: describe(kind) });
    }
    // Without waiting: if someone holds the lock, a server is just coming or going.
    let Some(directory) = LockedDirectory::at_once(address) else {
        return Err(DialError::Stale { path: path.to_owned(), removed: false });
    };
    // Again, under the lock: a server may have bound since, or may have been about to listen.
    match dial(path) {
        Ok(socket) => Ok(socket),
        Err(Errno::CONNREFUSED) => {
            let removed = directory.clear_the_way(address).is_ok();
            Err(DialError::Stale { path: path.to_owned(), removed })
        }
        Err(errno) => Err(not_dialled(path, errno)),
    }
}

fn not_dialled(path: &Path, errno: Errno) -> DialError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => DialError::NotFound { path },
        Errno::AGAIN => DialError::Busy { path },
        Errno::ACCESS | Errno::PERM => DialError::Denied { path, source: errno.into() },
        Errno::PROTOTYPE => DialError::WrongType { path, found: "a socket of another type" },
        errno => DialError::Os { path, source: errno.into() },
    }
}

/// One attempt to connect; a Unix socket answers at once.
fn dial(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = seqpacket()?;
    let server = SocketAddrUnix::new(path)?;
    retry_on_intr(|| connect(&socket, &server))?;
    Ok(socket)
}

/// Binds `socket` to `place`. The file gets the mode of the socket's inode, less the umask: never more than was
/// asked for, not even for an instant.
fn bind_narrow(socket: impl AsFd, place: &SocketAddrUnix, mode: Mode) -> Result<(), Errno> {
    fchmod(&socket, mode)?;
    bind(&socket, place)
}

fn seqpacket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// False: someone else holds the lock.
fn try_lock(directory: impl AsFd) -> Result<bool, Errno> {
    match retry_on_intr(|| flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "a file of another kind",
    }
}

fn failed(action: &'static str, path: &Path, errno: Errno) -> BindError {
    BindError::Os { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::address::tests::Scratch;
    use crate::os::fork::tests::{Child, pair};
    use rustix::net::{RecvFlags, SendFlags, accept, recv, send};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::string::ToString;
    use std::vec::Vec;

    /// Leaves what a killed server leaves: a bound file without a socket behind it.
    fn leave_stale(address: &SocketAddress) {
        let socket = GuardedFd::open(|| Ok(seqpacket()?)).unwrap();
        bind(&socket, &SocketAddrUnix::new(address.path()).unwrap()).unwrap();
        listen(&socket, 1).unwrap();
        drop(socket);
        until_refused(address);
    }

    /// Waits for a closed socket to be gone: a child forked meanwhile holds it until its fork handler ran.
    fn until_refused(address: &SocketAddress) {
        let since = Instant::now();
        while dial(address.path()).err() != Some(Errno::CONNREFUSED) {
            assert!(since.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn bound(address: &SocketAddress) -> BoundSocket {
        BoundSocket::bind(address, DEFAULT_MODE, 4).unwrap()
    }

    /// Asserts that a connection made at `address` arrives at `server`.
    fn reaches(address: &SocketAddress, server: &BoundSocket) -> bool {
        connect_stream(address).is_ok() && accept(server).is_ok()
    }

    #[test]
    fn a_bound_socket_accepts_and_its_file_goes_with_it() {
        let scratch = Scratch::new("rendezvous-basic");
        for address in [scratch.address("s"), scratch.named("s")] {
            let server = bound(&address);
            assert!(reaches(&address, &server));
            assert_eq!(server.address().path(), address.path());
            drop(server);
            assert!(!address.path().exists());
        }
    }

    #[test]
    fn two_processes_that_race_for_a_stale_file_leave_one_live_winner() {
        let scratch = Scratch::new("rendezvous-race");
        let address = scratch.named("raced");
        drop(bound(&address));
        for round in 0..200 {
            leave_stale(&address);
            let contender = || {
                let (ours, theirs) = pair();
                let child = Child::start(|| {
                    let theirs = theirs.as_fd();
                    let mut go = [0; 1];
                    if send(theirs, b"r", SendFlags::NOSIGNAL) != Ok(1)
                        || recv(theirs, &mut go, RecvFlags::empty()).is_err()
                    {
                        return 1;
                    }
                    let socket = BoundSocket::bind(&address, DEFAULT_MODE, 4);
                    let verdict = match &socket {
                        Ok(_) => b"w",
                        Err(BindError::AddressInUse { .. }) => b"l",
                        Err(_) => b"e",
                    };
                    let _ = send(theirs, verdict, SendFlags::NOSIGNAL);
                    // Stays until it is killed, and so leaves a stale file for the next round.
                    std::thread::sleep(Duration::from_secs(60));
                    2
                });
                (child, ours)
            };
            let contenders = [contender(), contender()];
            let hear = |ours: &OwnedFd| {
                let mut byte = [0; 1];
                recv(ours, &mut byte, RecvFlags::empty()).unwrap();
                byte[0]
            };
            contenders.iter().for_each(|(_, ours)| assert_eq!(hear(ours), b'r'));
            contenders.iter().for_each(|(_, ours)| assert_eq!(send(ours, b"g", SendFlags::NOSIGNAL), Ok(1)));
            let mut verdicts: Vec<u8> = contenders.iter().map(|(_, ours)| hear(ours)).collect();
            let winner = if verdicts[0] == b'w' { &contenders[0].0 } else { &contenders[1].0 };
            let connection = connect_stream(&address).unwrap();
            let peer = crate::os::peer::peer_credentials(&connection).unwrap();
            assert_eq!(peer.pid, Some(winner.id()), "round {round}: the file leads to the winner");
            verdicts.sort_unstable();
            assert_eq!(verdicts, b"lw", "round {round}: exactly one wins");
            drop(contenders);
            assert!(address.path().exists());
            fs::remove_file(address.path()).unwrap();
        }
    }

    #[test]
    fn a_file_left_by_a_killed_process_is_replaced() {
        let scratch = Scratch::new("rendezvous-killed");
        let address = scratch.address("s");
        let (ours, theirs) = pair();
        let child = Child::start(|| {
            let _server = BoundSocket::bind(&address, DEFAULT_MODE, 4);
            let _ = send(&theirs, b"r", SendFlags::NOSIGNAL);
            std::thread::sleep(Duration::from_secs(60));
            1
        });
        recv(&ours, &mut [0; 1], RecvFlags::empty()).unwrap();
        assert!(matches!(BoundSocket::bind(&address, DEFAULT_MODE, 4), Err(BindError::AddressInUse { .. })));
        assert!(connect_stream(&address).is_ok());
        child.kill();
        assert_eq!(child.code(), -1);
        assert!(address.path().exists());
        let server = bound(&address);
        assert!(reaches(&address, &server));
    }

    #[test]
    fn a_client_removes_what_a_dead_server_left() {
        let scratch = Scratch::new("rendezvous-cleanup");
        for address in [scratch.address("s"), {
            bound(&scratch.named("s"));
            scratch.named("s")
        }] {
            leave_stale(&address);
            let error = connect_stream(&address).unwrap_err();
            assert!(matches!(error, DialError::Stale { removed: true, .. }), "{error}");
            assert!(error.nobody_listens());
            assert!(!address.path().exists());
            let error = connect_stream(&address).unwrap_err();
            assert!(matches!(error, DialError::NotFound { .. }), "{error}");
            assert!(error.nobody_listens());
        }
    }

    #[test]
    fn a_client_leaves_a_stale_file_while_the_directory_is_locked() {
        let scratch = Scratch::new("rendezvous-client-lock");
        let address = scratch.address("s");
        leave_stale(&address);
        let lock = LockedDirectory::wait_for(&address, IfMissing::Report).unwrap();
        let answer = connect_stream(&address);
        assert!(matches!(answer, Err(DialError::Stale { removed: false, .. })));
        assert!(address.path().exists());
        drop(lock);
        assert!(matches!(connect_stream(&address), Err(DialError::Stale { removed: true, .. })));
    }

    #[test]
    fn without_a_file_or_a_directory_nobody_listens() {
        let scratch = Scratch::new("rendezvous-missing");
        for address in [scratch.named("s"), scratch.address("s"), scratch.address("no/s")] {
            let error = connect_stream(&address).unwrap_err();
            assert!(matches!(error, DialError::NotFound { .. }), "{error}");
        }
        assert!(!scratch.path().join("ipc").exists());
    }

    #[test]
    fn what_is_not_a_socket_is_never_deleted() {
        let scratch = Scratch::new("rendezvous-other");
        let stale = scratch.address("stale");
        leave_stale(&stale);
        let at = |file: &str| scratch.path().join(file);
        fs::write(at("file"), "precious").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(stale.path(), at("link-to-stale")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for (file, found, dialled) in [
            ("file", "a regular file", "a regular file"),
            ("directory", "a directory", "a directory"),
            ("link", "a symbolic link", "a regular file"),
            ("pipe", "a named pipe", "a named pipe"),
        ] {
            let address = scratch.address(file);
            let error = BoundSocket::bind(&address, DEFAULT_MODE, 4).unwrap_err();
            assert!(matches!(error, BindError::NotASocket { found: what, .. } if what == found), "{error}");
            let error = connect_stream(&address).unwrap_err();
            assert!(matches!(error, DialError::WrongType { found: what, .. } if what == dialled), "{error}");
            assert!(fs::symlink_metadata(at(file)).is_ok());
        }
        let error = connect_stream(&scratch.address("link-to-stale")).unwrap_err();
        assert!(matches!(error, DialError::Stale { removed: false, .. }), "{error}");
        assert!(fs::symlink_metadata(at("link-to-stale")).is_ok() && stale.path().exists());
        assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    }

    #[test]
    fn sockets_of_other_types_are_in_use_and_of_the_wrong_type() {
        let scratch = Scratch::new("rendezvous-types");
        let (stream, datagram) = (scratch.address("stream"), scratch.address("datagram"));
        let _stream = UnixListener::bind(stream.path()).unwrap();
        let _datagram = UnixDatagram::bind(datagram.path()).unwrap();
        for address in [stream, datagram] {
            let error = BoundSocket::bind(&address, DEFAULT_MODE, 4).unwrap_err();
            assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
            let error = connect_stream(&address).unwrap_err();
            assert!(matches!(error, DialError::WrongType { .. }), "{error}");
            assert!(address.path().exists());
        }
    }

    #[test]
    fn a_full_queue_is_busy_and_alive() {
        let scratch = Scratch::new("rendezvous-busy");
        let address = scratch.address("s");
        let server = BoundSocket::bind(&address, DEFAULT_MODE, 0).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect_stream(&address) {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
            assert!(waiting.len() < 8);
        };
        assert!(matches!(error, DialError::Busy { .. }), "{error}");
        let error = BoundSocket::bind(&address, DEFAULT_MODE, 0).unwrap_err();
        assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
        accept(&server).unwrap();
        connect_stream(&address).unwrap();
    }

    #[test]
    fn the_file_has_the_mode_asked_for_under_any_umask() {
        let scratch = Scratch::new("rendezvous-mode");
        for umask in [0, 0o022, 0o077, 0o777] {
            for mode in [0o600, 0o660, 0o666, 0o000] {
                let address = scratch.address("s");
                let child = Child::start(|| {
                    rustix::process::umask(Mode::from_raw_mode(umask));
                    let Ok(_server) = BoundSocket::bind(&address, mode, 4) else { return 1 };
                    let Ok(found) = fs::metadata(address.path()) else { return 2 };
                    if found.mode() & 0o7777 == mode { 0 } else { 3 }
                });
                assert_eq!(child.code(), 0, "umask {umask:o}, mode {mode:o}");
                let _ = fs::remove_file(address.path());
            }
        }
        let error = BoundSocket::bind(&scratch.address("s"), 0o1600, 4).unwrap_err();
        assert!(error.to_string().contains("0o1600"), "{error}");
    }

    #[test]
    fn the_file_never_has_more_rights_than_asked_for() {
        let scratch = Scratch::new("rendezvous-narrow");
        let address = scratch.address("s");
        let child = Child::start(|| {
            rustix::process::umask(Mode::empty());
            let (Ok(socket), Ok(place)) = (seqpacket(), SocketAddrUnix::new(address.path())) else { return 1 };
            if bind_narrow(&socket, &place, Mode::RUSR | Mode::WUSR).is_err() {
                return 2;
            }
            // As bind leaves it, before anything could correct it.
            i32::from(fs::metadata(address.path()).map(|found| found.mode() & 0o7777).ok() != Some(0o600))
        });
        assert_eq!(child.code(), 0);
    }

    #[test]
    fn a_client_without_permission_is_denied() {
        let scratch = Scratch::new("rendezvous-denied");
        let address = scratch.address("s");
        let _server = BoundSocket::bind(&address, 0o600, 4).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let child = Child::start(|| {
            if rustix::process::geteuid().is_root() {
                // SAFETY: changes the identity of this child only.
                unsafe { libc::setresuid(65534, 65534, 65534) };
            } else {
                let _ = fs::set_permissions(address.path(), fs::Permissions::from_mode(0o000));
            }
            i32::from(!matches!(connect_stream(&address), Err(DialError::Denied { .. })))
        });
        assert_eq!(child.code(), 0);
    }

    #[test]
    fn a_squatted_directory_is_refused_to_binders_and_clients() {
        let scratch = Scratch::new("rendezvous-squat");
        let address = scratch.named("s");
        fs::create_dir(address.directory()).unwrap();
        fs::set_permissions(address.directory(), fs::Permissions::from_mode(0o755)).unwrap();
        leave_stale(&address);
        let refused = BoundSocket::bind(&address, DEFAULT_MODE, 4);
        assert!(matches!(refused, Err(BindError::Address(AddressError::DirectoryMode { mode: 0o755, .. }))));
        let refused = connect_stream(&address);
        assert!(matches!(refused, Err(DialError::Address(AddressError::DirectoryMode { .. }))));
        assert!(address.path().exists());
    }

    #[test]
    fn a_lock_that_is_not_released_ends_in_an_error_with_the_directory() {
        let scratch = Scratch::new("rendezvous-locked");
        let address = scratch.address("s");
        let _lock = LockedDirectory::wait_for(&address, IfMissing::Report).unwrap();
        let error = BoundSocket::bind(&address, DEFAULT_MODE, 4).unwrap_err();
        assert!(
            matches!(&error, BindError::Locked { directory, waited } if directory == scratch.path() && *waited >= PATIENCE)
        );
        assert!(error.to_string().contains("rendezvous-locked"), "{error}");
        assert!(!address.path().exists());
    }

    #[test]
    fn drop_leaves_a_file_that_is_no_longer_its_own() {
        let scratch = Scratch::new("rendezvous-successor");
        let address = scratch.address("s");
        let first = bound(&address);
        fs::remove_file(address.path()).unwrap();
        let second = bound(&address);
        drop(first);
        assert!(reaches(&address, &second));
    }

    #[test]
    fn a_child_neither_removes_the_file_nor_keeps_the_socket() {
        let scratch = Scratch::new("rendezvous-fork");
        let address = scratch.address("s");
        let server = bound(&address);
        let mut inherited = Some(server);
        let child = Child::start(|| {
            drop(inherited.take());
            0
        });
        assert_eq!(child.code(), 0);
        assert!(reaches(&address, inherited.as_ref().unwrap()));
        let idle = Child::start(|| {
            std::thread::sleep(Duration::from_secs(60));
            0
        });
        drop(inherited);
        leave_stale(&address); // the file is gone, so the path is free to bind
        drop(bound(&address));
        drop(idle);
    }

    #[test]
    fn a_live_child_of_a_killed_server_does_not_keep_its_address() {
        let scratch = Scratch::new("rendezvous-orphan");
        let address = scratch.address("s");
        let (ours, theirs) = pair();
        let server = Child::start(|| {
            let _server = BoundSocket::bind(&address, DEFAULT_MODE, 4);
            let orphan = Child::start(|| {
                std::thread::sleep(Duration::from_secs(10));
                0
            });
            let _ = send(&theirs, &orphan.id().to_ne_bytes(), SendFlags::NOSIGNAL);
            std::thread::sleep(Duration::from_secs(60));
            0
        });
        let mut orphan = [0; 4];
        recv(&ours, &mut orphan, RecvFlags::empty()).unwrap();
        server.kill();
        assert_eq!(server.code(), -1);
        until_refused(&address);
        assert!(matches!(connect_stream(&address), Err(DialError::Stale { removed: true, .. })));
        // SAFETY: the orphan sleeps for longer than this test runs.
        unsafe { libc::kill(i32::from_ne_bytes(orphan), libc::SIGKILL) };
    }
}
