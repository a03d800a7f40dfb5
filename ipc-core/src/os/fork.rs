//! What must not survive a `fork`: the right to use an endpoint, and the descriptors that keep it alive.
//!
//! Promises that a [`ForkToken`] is true in the process that took it and false in every child forked
//! later, at the price of one load; and that a [`GuardedFd`] is closed in such a child, so that a peer
//! sees its connection end when the parent dies, whatever children the parent left behind.
//!
//! Does not see children made by a bare `clone` system call or `_Fork`, which run no fork handlers: tokens
//! hold there too, but descriptors stay open until the child closes them or calls `exec`. Does not make
//! `fork` callable from a signal handler (POSIX does not either): the handlers here take a lock.
//! Models never run this file; it compiles there so that nothing else needs a switch.

use crate::sync::{AtomicU64, Ordering};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::{NonNull, null_mut};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::process::getpid;
use std::boxed::Box;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// Says whether the running process is the one that took the token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkToken {
    /// The word that is zero in a child until that takes a token of its own.
    live: &'static AtomicU64,
    /// What [`live`](Self::live) holds in the process that took the token. Never zero.
    generation: u64,
}

impl ForkToken {
    /// True in the process that took the token, false in every child forked since.
    #[inline(always)]
    pub(crate) fn is_original(&self) -> bool {
        // Relaxed: the word was set before the token existed and changes only by becoming another
        // process's; nothing is published through it.
        self.live.load(Ordering::Relaxed) == self.generation
    }

    /// What [`ForkToken::current`] returns in the process that took the token. Never zero.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The generation of the running process; zero in a child that has taken no token.
    #[inline(always)]
    pub(crate) fn current(&self) -> u64 {
        // Relaxed: as above.
        self.live.load(Ordering::Relaxed)
    }
}

/// Two words of the process, made once and never freed.
struct Words {
    /// Generation of this process; zero until its first token. In a page of its own, which the kernel
    /// wipes in a forked child.
    live: &'static AtomicU64,
    /// Number of generations handed out by this process and its ancestors. Copied by `fork`, so a child's
    /// generation differs from those of all tokens it can have inherited.
    last: &'static AtomicU64,
}

/// Takes a token for the running process.
pub(crate) fn token() -> ForkToken {
    let words = words();
    // Relaxed throughout: only the values matter, and each word is its own story.
    let mut generation = words.live.load(Ordering::Relaxed);
    if generation == 0 {
        // First token of this process. The process id in the lower half keeps generations apart even if
        // a fork copied `last` in the instant in which another thread of the parent was here.
        let fresh = ((words.last.fetch_add(1, Ordering::Relaxed) + 1) << 32) | process_id();
        generation = match words.live.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(other_thread) => other_thread,
        };
    }
    ForkToken { live: words.live, generation }
}

fn process_id() -> u64 {
    u64::from(getpid().as_raw_nonzero().get().unsigned_abs())
}

fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let new = || &*Box::leak(Box::new(AtomicU64::new(0)));
        // Without a page that the kernel wipes, the child handler alone zeroes the word.
        Words { live: map_wiped_word().unwrap_or_else(new), last: new() }
    })
}

/// Maps a page that `fork` wipes; `None` where the kernel cannot (before 4.14).
fn map_wiped_word() -> Option<&'static AtomicU64> {
    const LENGTH: usize = size_of::<AtomicU64>(); // rounded up to a page by both calls
    // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
    let page =
        unsafe { mmap_anonymous(null_mut(), LENGTH, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the mapping just made; nobody else knows it.
    if unsafe { madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: as above; no reference into the mapping was made.
        let _ = unsafe { munmap(page, LENGTH) };
        return None;
    }
    // SAFETY: page-aligned, zeroed (a valid value), never unmapped, and only touched as an atomic. The wipe
    // happens in a child before its first instruction, so no running reference sees it.
    Some(unsafe { &*page.cast::<AtomicU64>() })
}

/// A descriptor that forked children do not keep open.
///
/// The child closes it in its fork handler, so for the moment until the child first runs, the descriptor
/// outlives a close in the parent.
///
/// In a child its number stays taken, by the read end of a pipe without a writer: reads there see the end
/// of the file, polls a hang-up, other calls fail. So a leftover value dropped in the child closes that
/// stand-in and not whatever the child opened since. (`/dev/null` would poll as ready for ever, and does not
/// exist in every chroot.)
#[derive(Debug)]
pub(crate) struct GuardedFd {
    /// Closed by `drop`, under the registry's lock.
    fd: ManuallyDrop<OwnedFd>,
    /// This descriptor's entry in the registry. From `Box::into_raw`; freed by `drop`.
    entry: NonNull<Entry>,
}

// SAFETY: `entry` is only dereferenced under the registry's lock, or in `drop` once it is out of the list.
unsafe impl Send for GuardedFd {}
// SAFETY: shared access reads `fd` only.
unsafe impl Sync for GuardedFd {}

impl GuardedFd {
    /// Guards a descriptor that exists already. A fork between its creation and this call is not covered.
    ///
    /// # Errors
    /// The first call in a process: the fork handlers could not be installed (`EMFILE`, `ENFILE`, `ENOMEM`).
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Self::open(|| Ok(fd))
    }

    /// Creates and guards a descriptor in one step that no fork can fall into.
    ///
    /// All forks of the process wait for `create`, which therefore makes one system call that does not
    /// block, and does not touch another `GuardedFd`.
    ///
    /// # Errors
    /// Those of `create`, and those of [`new`](Self::new).
    pub(crate) fn open(create: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<Self> {
        // Allocated before the lock is taken: see `Registry`.
        let mut entry = Box::new(Entry {
            fd: -1,
            memory: null_mut(),
            length: 0,
            lost: false,
            previous: null_mut(),
            next: null_mut(),
        });
        let mut registry = Registry::lock();
        registry.install()?;
        let fd = create()?;
        entry.fd = fd.as_raw_fd();
        let entry = NonNull::from(Box::leak(entry));
        // SAFETY: a fresh entry, in no list, that stays where it is until `drop` has unlinked it.
        unsafe { registry.link(entry) };
        Ok(Self { fd: ManuallyDrop::new(fd), entry })
    }
}

impl GuardedFd {
    /// Guards a mapping of the descriptor too: in a child there is empty memory of its own in the place, so that guards which it
    /// inherited read zeroes and write to nobody.
    ///
    /// # Safety
    /// `length` bytes from `memory` are a mapping that outlives the guard, and that children do not inherit
    /// (`MADV_DONTFORK`).
    pub(crate) unsafe fn cover(&mut self, memory: *mut c_void, length: usize) {
        let _registry = Registry::lock();
        // SAFETY: the entry is valid until `drop`, and ours under the lock.
        unsafe {
            (*self.entry.as_ptr()).memory = memory;
            (*self.entry.as_ptr()).length = length;
        }
    }
}

impl Drop for GuardedFd {
    fn drop(&mut self) {
        let mut registry = Registry::lock();
        // SAFETY: linked by `open`, or detached by the child handler; both are under the lock we hold.
        let lost = unsafe { registry.unlink(self.entry) };
        if !lost {
            // Closed under the lock: a fork either finds the entry, or finds the descriptor closed.
            // SAFETY: dropped once, here, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
        drop(registry);
        // SAFETY: made by `Box::leak` in `open`, out of the list now, so nobody else can reach it.
        drop(unsafe { Box::from_raw(self.entry.as_ptr()) });
    }
}

impl AsFd for GuardedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for GuardedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// One guarded descriptor. All fields belong to whoever holds the registry's lock.
#[derive(Debug)]
struct Entry {
    fd: RawFd,
    /// A mapping of the descriptor: start and bytes.
    memory: *mut c_void,
    length: usize,
    /// Set by the child handler when it had to give the number up: it may be another descriptor's by now.
    lost: bool,
    previous: *mut Entry,
    next: *mut Entry,
}

/// The guarded descriptors of this process: a list threaded through the entries, and its lock.
///
/// The lock is a `pthread_mutex_t`, for it is held across a call that returns twice: taken by the prepare
/// handler, released by the same thread's parent handler and again, in the copy, by the child handler. That
/// is the use POSIX made `pthread_atfork` for. `std`'s mutex releases only through a guard on the stack,
/// and a spin lock would burn a processor while a fork copies large page tables.
///
/// Nothing is allocated or freed under the lock. The allocator may have fork handlers too; if it took its
/// locks before ours while a thread here did so in the other order, a fork could deadlock.
struct Registry {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    /// Touched only by the holder of `mutex`.
    list: UnsafeCell<List>,
}

struct List {
    first: *mut Entry,
    /// Stand-in for guarded descriptors in a child; -1 until the handlers are installed. Never closed.
    stand_in: RawFd,
    /// The word of [`ForkToken`], zeroed in a child.
    live: Option<&'static AtomicU64>,
}

// SAFETY: `list` is only reached through `Locked` or between the prepare handler and its counterparts,
// that is, under `mutex`.
unsafe impl Sync for Registry {}

static REGISTRY: Registry = Registry {
    mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
    list: UnsafeCell::new(List { first: null_mut(), stand_in: -1, live: None }),
};

impl Registry {
    fn lock() -> Locked {
        // SAFETY: a static, initialised mutex of the default kind. Its lock cannot fail; locking it twice in
        // one thread would hang, which `GuardedFd::open` forbids to `create`.
        unsafe { libc::pthread_mutex_lock(REGISTRY.mutex.get()) };
        Locked { _not_send: core::marker::PhantomData }
    }

    /// # Safety
    /// The calling thread holds the lock.
    unsafe fn unlock() {
        // SAFETY: held by this thread: the caller's promise. A forked child's thread is the one that forked.
        unsafe { libc::pthread_mutex_unlock(REGISTRY.mutex.get()) };
    }
}

/// The right to the registry's list; releases the lock when dropped, by the thread that took it.
struct Locked {
    _not_send: core::marker::PhantomData<*mut ()>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: this value is the proof that its thread holds the lock.
        unsafe { Registry::unlock() };
    }
}

impl Locked {
    fn list(&mut self) -> &mut List {
        // SAFETY: the lock is held, and `&mut self` keeps a second borrow away.
        unsafe { &mut *REGISTRY.list.get() }
    }

    /// Installs the fork handlers, once.
    fn install(&mut self) -> io::Result<()> {
        if self.list().stand_in >= 0 {
            return Ok(());
        }
        let mut ends = [-1; 2];
        // SAFETY: `ends` has room for the two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the write end was made above, and is ours to close.
        unsafe { libc::close(ends[1]) };
        // SAFETY: the handlers match the prototypes, live as long as this code is loaded, and the child's
        // calls only async-signal-safe functions.
        let errno =
            unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
        if errno != 0 {
            // SAFETY: as for the write end.
            unsafe { libc::close(ends[0]) };
            return Err(io::Error::from_raw_os_error(errno));
        }
        let list = self.list();
        list.stand_in = ends[0];
        list.live = Some(words().live);
        Ok(())
    }

    /// # Safety
    /// `entry` is in no list, and stays valid at its address until it is unlinked.
    unsafe fn link(&mut self, entry: NonNull<Entry>) {
        let list = self.list();
        // SAFETY: `entry` is valid, as is the first entry of the list; both are ours under the lock.
        unsafe {
            (*entry.as_ptr()).next = list.first;
            if let Some(first) = list.first.as_mut() {
                first.previous = entry.as_ptr();
            }
        }
        list.first = entry.as_ptr();
    }

    /// Takes `entry` out of the list, if it is in it. True: its number is no longer ours to close.
    ///
    /// # Safety
    /// `entry` is valid, and was linked once.
    unsafe fn unlink(&mut self, entry: NonNull<Entry>) -> bool {
        let list = self.list();
        // SAFETY: `entry` is valid, and so are its neighbours: they are unlinked before they are freed.
        unsafe {
            let entry = entry.as_ptr();
            if let Some(next) = (*entry).next.as_mut() {
                next.previous = (*entry).previous;
            }
            if let Some(previous) = (*entry).previous.as_mut() {
                previous.next = (*entry).next;
            } else if list.first == entry {
                list.first = (*entry).next;
            }
            (*entry).lost
        }
    }
}

/// Prepare handler: no descriptor is being registered or closed while the process is copied.
unsafe extern "C" fn before_fork() {
    core::mem::forget(Registry::lock());
}

unsafe extern "C" fn after_fork_in_parent() {
    // SAFETY: `before_fork` took the lock in this thread.
    unsafe { Registry::unlock() };
}

/// Child handler: replaces every guarded descriptor and empties the list.
///
/// Async-signal-safe: `mmap`, `dup3` and `close` are the only calls besides the unlock, and nothing is allocated.
unsafe extern "C" fn after_fork_in_child() {
    // SAFETY: `before_fork` took the lock in this thread, and a child has no other thread. Linked entries are
    // valid; the numbers in them belong to `GuardedFd`s, whose owners may not use them here anyway.
    unsafe {
        let list = &mut *REGISTRY.list.get();
        if let Some(live) = list.live {
            live.store(0, Ordering::Relaxed);
        }
        let mut at = core::mem::replace(&mut list.first, null_mut());
        while let Some(entry) = at.as_mut() {
            if entry.length > 0 {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
                // Failing leaves a hole, where a child that touches it ends with a signal.
                libc::mmap(entry.memory, entry.length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            }
            while libc::dup3(list.stand_in, entry.fd, libc::O_CLOEXEC) < 0 {
                if *libc::__errno_location() == libc::EINTR {
                    continue;
                }
                // The stand-in is gone: someone closed descriptors that were not theirs. Closing is what
                // the peer needs; the number is then given up for good.
                libc::close(entry.fd);
                entry.lost = true;
                break;
            }
            at = core::mem::replace(&mut entry.next, null_mut());
            entry.previous = null_mut();
        }
        Registry::unlock();
    }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
    use std::time::Duration;
    use std::{thread, vec::Vec};

    /// A forked process; killed and reaped with the value.
    pub(crate) struct Child {
        pid: libc::pid_t,
        reaped: bool,
    }

    impl Child {
        /// Runs `body` in a forked child, which exits with the code it returns. `body` must not panic or
        /// print: the harness's locks may be held by a thread that the child does not have.
        pub(crate) fn start(body: impl FnOnce() -> i32) -> Self {
            // SAFETY: the child only runs `body` and leaves without unwinding into the parent's frames.
            match unsafe { libc::fork() } {
                0 => {
                    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
                    // SAFETY: ends the process; nothing runs after.
                    unsafe { libc::_exit(code) }
                }
                pid => {
                    assert!(pid > 0);
                    Self { pid, reaped: false }
                }
            }
        }

        pub(crate) fn id(&self) -> u32 {
            self.pid.unsigned_abs()
        }

        /// Waits for the child's end; -1 if a signal ended it.
        pub(crate) fn code(mut self) -> i32 {
            let status = self.reap();
            if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
        }

        pub(crate) fn kill(&self) {
            if !self.reaped {
                // SAFETY: our own child, not yet reaped, so its number is still its own.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
            }
        }

        fn reap(&mut self) -> i32 {
            let mut status = 0;
            // SAFETY: `status` is valid, `pid` is our child.
            while unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {
                assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted);
            }
            self.reaped = true;
            status
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            if !self.reaped {
                self.kill();
                self.reap();
            }
        }
    }

    pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    /// A connected pair whose first end no fork of a test that runs meanwhile can keep open.
    fn guarded_pair() -> (GuardedFd, OwnedFd) {
        let mut theirs = None;
        let ours = GuardedFd::open(|| {
            let (ours, other) = pair();
            theirs = Some(other);
            Ok(ours)
        });
        (ours.unwrap(), theirs.unwrap())
    }

    /// Whether `fd` reports a hang-up within ten seconds.
    fn hangs_up(fd: impl AsFd) -> bool {
        let wait = Timespec { tv_sec: 60, tv_nsec: 0 };
        let mut watched = [PollFd::new(&fd, PollFlags::empty())];
        poll(&mut watched, Some(&wait)) == Ok(1) && watched[0].revents().contains(PollFlags::HUP)
    }

    /// A child that does nothing until it is killed.
    fn idle_child() -> Child {
        Child::start(|| {
            thread::sleep(Duration::from_secs(60));
            0
        })
    }

    #[test]
    fn a_token_is_true_where_it_was_taken_and_false_in_a_child() {
        let token = token();
        assert!(token.is_original());
        let child = Child::start(|| i32::from(token.is_original()));
        assert_eq!(child.code(), 0);
        assert!(token.is_original());
    }

    #[test]
    fn a_child_takes_tokens_of_its_own_and_inherited_ones_stay_false() {
        let inherited = token();
        let child = Child::start(|| {
            let own = token();
            if inherited.is_original() || !own.is_original() {
                return 1;
            }
            let grandchild = Child::start(|| {
                let fresh = token();
                i32::from(inherited.is_original() || own.is_original() || !fresh.is_original())
            });
            2 * grandchild.code() + i32::from(inherited.is_original() || !own.is_original())
        });
        assert_eq!(child.code(), 0);
        assert!(inherited.is_original());
    }

    #[test]
    fn a_child_finds_empty_memory_where_a_guarded_mapping_was() {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        let map = memmap2::MmapRaw::map_raw(&fd).unwrap();
        // SAFETY: the mapping made above.
        assert_eq!(unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_DONTFORK) }, 0);
        let byte = map.as_mut_ptr();
        // SAFETY: inside the mapping, here and below, in the child too thanks to `cover`.
        unsafe { byte.write_volatile(7) };
        let mut guard = GuardedFd::new(fd).unwrap();
        // SAFETY: the mapping outlives the guard.
        unsafe { guard.cover(map.as_mut_ptr().cast(), map.len()) };
        let child = Child::start(|| {
            // SAFETY: as above.
            unsafe {
                let inherited = byte.read_volatile();
                byte.write_volatile(9);
                i32::from(inherited != 0)
            }
        });
        assert_eq!(child.code(), 0);
        // SAFETY: as above.
        assert_eq!(unsafe { byte.read_volatile() }, 7);
    }

    #[test]
    fn a_child_does_not_keep_a_guarded_socket_open() {
        let (ours, theirs) = guarded_pair();
        let child = idle_child();
        drop(ours);
        assert!(hangs_up(&theirs));
        let mut byte = [0; 1];
        assert_eq!(recv(&theirs, &mut byte, RecvFlags::empty()).unwrap().0, 0);
        drop(child);
    }

    #[test]
    fn a_socket_that_is_not_guarded_stays_open_in_a_child() {
        let (ours, theirs) = pair();
        let child = idle_child();
        drop(ours);
        let mut watched = [PollFd::new(&theirs, PollFlags::empty())];
        assert_eq!(poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })), Ok(0));
        child.kill();
        assert!(hangs_up(&theirs));
    }

    #[test]
    fn in_a_child_the_number_stays_taken_and_a_drop_closes_nothing_else() {
        let (guarded, _theirs) = guarded_pair();
        let number = guarded.as_raw_fd();
        let is_open = || {
            // SAFETY: asks about a number, which may be closed.
            unsafe { libc::fcntl(number, libc::F_GETFD) == libc::FD_CLOEXEC }
        };
        let child = Child::start(|| {
            if recv(&guarded, &mut [0; 1], RecvFlags::empty()).is_ok() || !hangs_up(&guarded) {
                return 1;
            }
            if !is_open() {
                return 2;
            }
            drop(guarded);
            if is_open() { 3 } else { 0 }
        });
        assert_eq!(child.code(), 0);
    }

    #[test]
    fn a_child_guards_its_own_descriptors_too() {
        let (inherited, _theirs) = guarded_pair();
        let child = Child::start(|| {
            let (a, b) = pair();
            let (Ok(a), Ok(b)) = (GuardedFd::new(a), GuardedFd::new(b)) else { return 1 };
            drop(inherited);
            let grandchild = idle_child();
            drop(a);
            let closed = hangs_up(&b);
            drop(grandchild);
            i32::from(!closed)
        });
        assert_eq!(child.code(), 0);
    }

    #[test]
    fn entries_leave_the_list_in_any_order() {
        let mut guarded: Vec<_> = (0..8).map(|_| guarded_pair()).collect();
        for at in [3, 0, 5, 2, 0, 2, 1, 0] {
            let (ours, theirs) = guarded.remove(at);
            drop(ours);
            assert!(hangs_up(&theirs));
            assert!(guarded.iter().all(|(ours, theirs)| send(ours, b"x", SendFlags::NOSIGNAL) == Ok(1)
                && recv(theirs, &mut [0; 1], RecvFlags::empty()).is_ok()));
        }
    }

    #[test]
    fn forks_while_other_threads_open_and_drop_leak_nothing() {
        let stop = AtomicU64::new(0);
        // Outlive the threads: a descriptor that leaked into one of them would never hang up.
        let mut children = Vec::new();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while stop.load(Ordering::Relaxed) == 0 {
                        let (ours, theirs) = guarded_pair();
                        drop(ours);
                        assert!(hangs_up(&theirs));
                    }
                });
            }
            children.extend((0..200).map(|_| idle_child()));
            stop.store(1, Ordering::Relaxed);
        });
        drop(children);
    }
}
