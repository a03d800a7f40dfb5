//! A region of an arena: memory that one side writes and the other side reads.
//!
//! Promise: nobody can make it smaller; nobody can map it for writing once it is made, unless its sender permits that. Pages take memory when
//! they are first used, and a shortage then is an error, not a signal; a receiver that may write can take pages away again. Refusal: which
//! bytes mean what is for the arena's books.

use super::fork::GuardedFd;
use super::segment::{self, SEALS, SegmentError, SegmentOptions};
use crate::sync::{AtomicU64, Ordering};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals};
use rustix::io::retry_on_intr;
use std::io;

/// Memory is asked for in steps of this many bytes, so that small blocks do not pay a system call each.
const STEP: u64 = 256 << 10;

/// What the receiver of a region may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Read it; the kernel sees to that.
    ReadOnly,
    /// It could write to it: it is believed not to, or what it finds there is nobody's business but its own. Some processors are faster with
    /// pages that could be written, even if they never are: docs/PERFORMANCE.md, "Lanes".
    MayWrite,
}

impl Readers {
    pub(crate) const ALL: [Self; 2] = [Self::ReadOnly, Self::MayWrite];
}

/// A mapped region and the descriptor it was mapped from.
pub(crate) struct Region {
    /// Dropped before the mapping it covers.
    fd: GuardedFd,
    map: MmapRaw,
    /// Bytes from the start that have memory, as far as this side knows. Only the side that writes uses it.
    populated: AtomicU64,
}

impl Region {
    /// Makes a region of `size` bytes.
    pub(crate) fn create(label: &str, size: u64, readers: Readers) -> Result<Self, SegmentError> {
        let options = SegmentOptions { reserve: false, prefault: false, huge_pages: false };
        let (fd, _) = segment::allocate(label, size, options)?;
        let region = Self::new(segment::guard(fd)?, |fd| MmapOptions::new().len(size as usize).map_raw(fd), size)?;
        // After the mapping: this seal forbids every later one that can write.
        let seals = if readers == Readers::ReadOnly { SEALS | SealFlags::FUTURE_WRITE } else { SEALS };
        fcntl_add_seals(&region.fd, seals).map_err(segment::os("sealing the arena"))?;
        Ok(region)
    }

    /// Maps a region that a peer made, for reading. Its pages could be written if the peer permits it: that is faster.
    pub(crate) fn attach(fd: OwnedFd, size: u64) -> Result<Self, SegmentError> {
        segment::check_memory(&fd, SEALS, size..=size, false)?;
        let map = |fd| {
            let options = MmapOptions::new().len(size as usize).clone();
            options.map_raw(fd).or_else(|_| options.map_raw_read_only(fd))
        };
        Self::new(segment::guard(fd)?, map, size)
    }

    fn new(
        fd: GuardedFd,
        map: impl FnOnce(std::os::fd::RawFd) -> io::Result<MmapRaw>,
        size: u64,
    ) -> Result<Self, SegmentError> {
        let no_memory = |source| SegmentError::NoMemory { size, source };
        if usize::try_from(size).is_err() {
            return Err(no_memory(io::ErrorKind::OutOfMemory.into()));
        }
        let mut fd = fd;
        let map = map(fd.as_raw_fd()).map_err(no_memory)?;
        segment::keep_from_children(&map)?;
        // SAFETY: the mapping is dropped after the guard, and children do not inherit it.
        unsafe { fd.cover(map.as_mut_ptr().cast(), map.len()) };
        Ok(Self { fd, map, populated: AtomicU64::new(0) })
    }

    /// Bytes in the region.
    pub(crate) fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// The byte at `offset`, which is inside the region.
    #[inline(always)]
    pub(crate) fn pointer(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset <= self.size());
        self.map.as_mut_ptr().wrapping_add(offset as usize)
    }

    /// Gives the bytes up to `end` memory, as far as they have none. For the side that writes.
    #[inline]
    pub(crate) fn populate(&self, end: u64) -> io::Result<()> {
        // Relaxed, here and below: one sender, one thread at a time.
        let populated = self.populated.load(Ordering::Relaxed);
        if end <= populated { Ok(()) } else { self.populate_from(populated, end) }
    }

    #[cold]
    fn populate_from(&self, populated: u64, end: u64) -> io::Result<()> {
        let end = end.next_multiple_of(STEP).min(self.size());
        let len = end - populated;
        // SAFETY: inside the mapping; the advice allocates and maps pages and changes no contents.
        let advised = unsafe { libc::madvise(self.pointer(populated).cast(), len as usize, libc::MADV_POPULATE_WRITE) };
        if advised != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
            // A kernel before 5.14: the pages are there at least, if not mapped.
            retry_on_intr(|| fallocate(&self.fd, FallocateFlags::empty(), populated, len))?;
        }
        self.populated.store(end, Ordering::Relaxed);
        Ok(())
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// SAFETY: the mapping is shared memory by design; who may touch which bytes is decided by the arena's books.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap};

    #[test]
    fn what_the_sender_writes_is_read_and_nobody_else_can_write() {
        let region = Region::create("test", 1 << 20, Readers::ReadOnly).unwrap();
        region.populate(8).unwrap();
        // SAFETY: inside the region, populated.
        unsafe { region.pointer(4096).write(7) };
        let fd = region.as_fd().try_clone_to_owned().unwrap();
        // SAFETY: a new mapping; it must be refused anyway.
        let writable =
            unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0) };
        assert!(writable.is_err());
        assert!(rustix::io::pwrite(&fd, b"x", 0).is_err());
        assert!(fallocate(&fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 8192).is_err());
        let attached = Region::attach(fd, 1 << 20).unwrap();
        // SAFETY: inside the region.
        assert_eq!(unsafe { attached.pointer(4096).read() }, 7);
    }

    /// The rights of the mapping that begins at `start`, as in `rw-s`.
    fn rights(start: *const u8) -> std::string::String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.starts_with(&std::format!("{:x}-", start as usize))).unwrap();
        line.split(' ').nth(1).unwrap().into()
    }

    #[test]
    fn pages_are_mapped_as_their_sender_permits() {
        for (readers, expected) in [(Readers::ReadOnly, "r--s"), (Readers::MayWrite, "rw-s")] {
            let region = Region::create("test", 1 << 20, readers).unwrap();
            let attached = Region::attach(region.as_fd().try_clone_to_owned().unwrap(), 1 << 20).unwrap();
            assert_eq!(rights(attached.pointer(0)), expected);
            // Neither side can make it smaller under the other.
            assert!(rustix::fs::ftruncate(&region, 4096).is_err());
        }
        // A descriptor that was opened for reading permits no more, whatever the seals.
        let region = Region::create("test", 1 << 20, Readers::MayWrite).unwrap();
        let path = std::format!("/proc/self/fd/{}", region.as_fd().as_raw_fd());
        let attached = Region::attach(std::fs::File::open(path).unwrap().into(), 1 << 20).unwrap();
        assert_eq!(rights(attached.pointer(0)), "r--s");
    }

    #[test]
    fn a_region_of_another_size_than_announced_is_refused() {
        let region = Region::create("test", 1 << 20, Readers::ReadOnly).unwrap();
        let fd = || region.as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(Region::attach(fd(), 2 << 20), Err(SegmentError::Field { field: "size", .. })));
        assert!(Region::attach(fd(), 1 << 20).is_ok());
    }

    #[test]
    fn pages_take_memory_when_they_are_first_used() {
        let region = Region::create("test", 64 << 20, Readers::ReadOnly).unwrap();
        let blocks = |region: &Region| rustix::fs::fstat(region).unwrap().st_blocks * 512;
        assert_eq!(blocks(&region), 0);
        region.populate(10).unwrap();
        assert_eq!(blocks(&region), STEP as i64);
        region.populate(STEP + 1).unwrap();
        assert_eq!(blocks(&region), 2 * STEP as i64);
    }
}
