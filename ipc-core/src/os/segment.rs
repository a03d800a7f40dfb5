//! A segment: a sealed memfd, mapped once.
//!
//! Promise: a mapped segment can neither shrink nor grow under its users, whatever the peer does, and its size and
//! header have been checked. It vanishes with its last holder; there is no name to remove. Refusal: the
//! contents beyond the header are not looked at here.

use crate::layout::exchange::Exchange;
use crate::layout::{
    Geometry, LAYOUT_HASH, LAYOUT_VERSION, SEGMENT_MAGIC, SegmentHeader, exchange_offset, is_capacity,
};
use crate::os::fork::GuardedFd;
use crate::ring::RingMemory;
use core::ops::RangeInclusive;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate,
    memfd_create,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;
use std::io;
use std::ptr::NonNull;
use zerocopy::{FromBytes, IntoBytes};

/// How the memory of a segment is obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Reserve all memory when the segment is made, so that a shortage is an error then and not a signal later. Default: true.
    pub reserve: bool,
    /// Map all pages at once, so that no message pays a page fault. Default: true.
    pub prefault: bool,
    /// Use huge pages where the system has any to give; ordinary ones otherwise. Default: false.
    pub huge_pages: bool,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self { reserve: true, prefault: true, huge_pages: false }
    }
}

impl SegmentOptions {
    /// The most that a segment of this geometry takes, in bytes.
    pub(crate) fn size_of(&self, geometry: Geometry) -> u64 {
        let size = geometry.segment_size();
        if self.huge_pages { size.next_multiple_of(HUGE_PAGE) } else { size }
    }
}

/// Why a segment could not be made or attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A field of the segment, or of what the peer said of it, is not what it must be.
    #[error("the segment's {field} is {value:#x}, it must be {expected:#x}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What was found.
        value: u64,
        /// What is allowed.
        expected: u64,
    },
    /// A ring capacity that no ring can have.
    #[error("the segment's ring has {capacity} bytes; the capacity must be a power of two from 4 KiB to 1 GiB")]
    Capacity {
        /// What was asked for.
        capacity: u64,
    },
    /// The memory is not there.
    #[error("no memory for a segment of {size} bytes: {source}")]
    NoMemory {
        /// Size in bytes.
        size: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Another failure of the system.
    #[error("{action} failed: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) fn os(action: &'static str) -> impl FnOnce(Errno) -> SegmentError {
    move |errno| SegmentError::Os { action, source: errno.into() }
}

pub(super) const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
const HUGE_PAGE: u64 = 2 << 20;

/// A mapped segment and the descriptor it was mapped from, which lets tools find it.
pub(crate) struct Segment {
    /// Dropped before the mapping it covers.
    fd: GuardedFd,
    map: MmapRaw,
    geometry: Geometry,
}

impl Segment {
    /// Makes a segment for rings of this geometry.
    pub(crate) fn create(label: &str, geometry: Geometry, options: SegmentOptions) -> Result<Self, SegmentError> {
        check_capacities(geometry)?;
        let (fd, size) = allocate(label, geometry.segment_size(), options)?;
        fcntl_add_seals(&fd, SEALS).map_err(os("sealing the segment"))?;
        let fd = guard(fd)?;
        let map = map(&fd, size, options)?;
        let header = SegmentHeader { size, ..geometry.header() };
        // SAFETY: the mapping is larger than the header and nobody else knows it yet.
        unsafe { std::ptr::copy_nonoverlapping(header.as_bytes().as_ptr(), map.as_mut_ptr(), size_of_val(&header)) };
        Ok(Self::new(map, fd, geometry))
    }

    /// Maps a segment that a peer made, of the geometry and size that it announced.
    pub(crate) fn attach(
        fd: OwnedFd,
        size: u64,
        geometry: Geometry,
        options: SegmentOptions,
    ) -> Result<Self, SegmentError> {
        check_capacities(geometry)?;
        let least = geometry.segment_size();
        if size < least || size > least.next_multiple_of(HUGE_PAGE) {
            return Err(SegmentError::Field { field: "announced size", value: size, expected: least });
        }
        check_memory(&fd, SEALS, size..=size, options.huge_pages)?;
        let fd = guard(fd)?;
        let map = map(&fd, size, options)?;
        check_header(&map, SegmentHeader { size, ..geometry.header() })?;
        Ok(Self::new(map, fd, geometry))
    }

    fn new(map: MmapRaw, mut fd: GuardedFd, geometry: Geometry) -> Self {
        // SAFETY: the mapping is dropped after the guard, and children do not inherit it (see `map`).
        unsafe { fd.cover(map.as_mut_ptr().cast(), map.len()) };
        Self { fd, map, geometry }
    }

    /// The ring that carries messages to the server.
    pub(crate) fn to_server(&self) -> RingMemory<'_> {
        self.ring(self.geometry.to_server_offset(), self.geometry.to_server_capacity)
    }

    /// The ring that carries messages to the client.
    pub(crate) fn to_client(&self) -> RingMemory<'_> {
        self.ring(self.geometry.to_client_offset(), self.geometry.to_client_capacity)
    }

    /// The exchange areas of the rings to the server and to the client.
    pub(crate) fn exchanges(&self) -> [NonNull<Exchange>; 2] {
        let Geometry { to_server_capacity, to_client_capacity } = self.geometry;
        [
            self.geometry.to_server_offset() + exchange_offset(to_server_capacity),
            self.geometry.to_client_offset() + exchange_offset(to_client_capacity),
        ]
        // SAFETY: the geometry fits the mapping, exchange areas start on page boundaries.
        .map(|offset| unsafe { NonNull::new_unchecked(self.map.as_mut_ptr().add(offset as usize)).cast() })
    }

    fn ring(&self, offset: u64, capacity: u64) -> RingMemory<'_> {
        // SAFETY: the geometry fits the mapping (checked when it was made), control blocks start on page boundaries.
        unsafe {
            let base = NonNull::new_unchecked(self.map.as_mut_ptr().add(offset as usize));
            let data = base.add(crate::layout::CONTROL_SIZE as usize);
            RingMemory::from_parts(base.cast(), data, capacity)
        }
    }

    /// Bytes in the mapping.
    pub(crate) fn size(&self) -> u64 {
        self.map.len() as u64
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check_capacities(geometry: Geometry) -> Result<(), SegmentError> {
    for capacity in [geometry.to_server_capacity, geometry.to_client_capacity] {
        if !is_capacity(capacity) {
            return Err(SegmentError::Capacity { capacity });
        }
    }
    Ok(())
}

/// Checks memory that a peer made: its seals, its size in bytes and its kind.
///
/// Huge pages can be taken out of a segment again by whoever made it, and when the pool is empty then, touching the hole is a signal.
/// So they are accepted only where they were asked for.
pub(super) fn check_memory(
    fd: &OwnedFd,
    needed: SealFlags,
    size: RangeInclusive<u64>,
    huge_pages: bool,
) -> Result<(), SegmentError> {
    let seals = match fcntl_get_seals(fd) {
        // A file of a kind that has no seals.
        Err(Errno::INVAL) => SealFlags::empty(),
        seals => seals.map_err(os("reading the segment's seals"))?,
    };
    if !seals.contains(needed) {
        let (value, expected) = (u64::from(seals.bits()), u64::from(needed.bits()));
        return Err(SegmentError::Field { field: "seals", value, expected });
    }
    let found = fstat(fd).map_err(os("reading the segment's size"))?.st_size as u64;
    if !size.contains(&found) {
        return Err(SegmentError::Field { field: "size", value: found, expected: *size.start() });
    }
    let kind = fstatfs(fd).map_err(os("reading the segment's kind of memory"))?.f_type as u64;
    if kind == libc::HUGETLBFS_MAGIC as u64 && !huge_pages {
        let expected = libc::TMPFS_MAGIC as u64;
        return Err(SegmentError::Field { field: "kind of memory", value: kind, expected });
    }
    Ok(())
}

/// Bytes that a file of this process may have. Beyond them the kernel does not only refuse: it sends SIGXFSZ, which ends a process.
pub(super) fn largest_file() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// Makes a memfd of at least `size` bytes, of huge pages if they are wanted and there are enough.
pub(super) fn allocate(name: &str, size: u64, options: SegmentOptions) -> Result<(OwnedFd, u64), SegmentError> {
    let limit = largest_file();
    if size > limit {
        return Err(SegmentError::NoMemory { size, source: Errno::FBIG.into() });
    }
    if options.huge_pages {
        let rounded = size.next_multiple_of(HUGE_PAGE);
        // Huge pages are always reserved here: a shortage must show now, while there is another way.
        if rounded <= limit
            && let Ok(fd) = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB)
            && ftruncate(&fd, rounded).is_ok()
            && fallocate(&fd, FallocateFlags::empty(), 0, rounded).is_ok()
        {
            return Ok((fd, rounded));
        }
    }
    let no_memory = |errno: Errno| SegmentError::NoMemory { size, source: errno.into() };
    if options.reserve && size > memory_of_the_machine() {
        // The kernel would try, and kill others for it, before it finds that there is not so much.
        return Err(no_memory(Errno::NOMEM));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        // Kernels before 6.3 do not know the flag that forbids execution.
        .or_else(|_| memfd_create(name, flags))
        .map_err(os("making the segment's memory"))?;
    ftruncate(&fd, size).map_err(no_memory)?;
    if options.reserve {
        // Older kernels give up when a signal comes.
        retry_on_intr(|| fallocate(&fd, FallocateFlags::empty(), 0, size)).map_err(no_memory)?;
    }
    Ok((fd, size))
}

/// Bytes of memory and swap, used or not.
fn memory_of_the_machine() -> u64 {
    let there_is = sysinfo();
    let units = u128::from(there_is.totalram) + u128::from(there_is.totalswap);
    u64::try_from(units * u128::from(there_is.mem_unit.max(1))).unwrap_or(u64::MAX)
}

pub(super) fn guard(fd: OwnedFd) -> Result<GuardedFd, SegmentError> {
    GuardedFd::new(fd).map_err(|source| SegmentError::Os { action: "guarding the segment against forks", source })
}

fn map(fd: &GuardedFd, size: u64, options: SegmentOptions) -> Result<MmapRaw, SegmentError> {
    let no_memory = |source| SegmentError::NoMemory { size, source };
    let mut mapping = MmapOptions::new();
    mapping.len(usize::try_from(size).map_err(|_| no_memory(io::ErrorKind::OutOfMemory.into()))?);
    let map = mapping.map_raw(fd.as_raw_fd()).map_err(no_memory)?;
    keep_from_children(&map)?;
    // SAFETY: the range is the mapping just made; the advice changes no contents.
    unsafe {
        let (base, len) = (map.as_mut_ptr().cast(), map.len());
        if options.huge_pages {
            // Only advice: without huge pages for shared memory the segment works as well, with smaller ones.
            libc::madvise(base, len, libc::MADV_HUGEPAGE);
        }
        // An older kernel (before 5.14) has no such advice and faults pages in as they are used.
        if options.prefault && libc::madvise(base, len, libc::MADV_POPULATE_WRITE) != 0 {
            let source = io::Error::last_os_error();
            if source.raw_os_error() != Some(libc::EINVAL) {
                return Err(no_memory(source));
            }
        }
    }
    Ok(map)
}

/// Forked children do not inherit the mapping.
pub(super) fn keep_from_children(map: &MmapRaw) -> Result<(), SegmentError> {
    // SAFETY: the range is a mapping; the advice changes no contents.
    if unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_DONTFORK) } != 0 {
        let source = io::Error::last_os_error();
        return Err(SegmentError::Os { action: "keeping the segment from forked children", source });
    }
    Ok(())
}

/// Compares each field of the header in memory with the one expected. It is read once; nothing reads it later.
fn check_header(map: &MmapRaw, expected: SegmentHeader) -> Result<(), SegmentError> {
    let mut bytes = [0; size_of::<SegmentHeader>()];
    // SAFETY: the mapping is larger than the header. The peer may write meanwhile; any bytes are good to be checked.
    unsafe { std::ptr::copy_nonoverlapping(map.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
    let header = SegmentHeader::read_from_bytes(&bytes).unwrap_or(SegmentHeader { magic: 0, ..expected });
    for (field, value, expected) in [
        ("magic", header.magic, SEGMENT_MAGIC),
        ("layout version", header.version.into(), LAYOUT_VERSION.into()),
        ("reserved field", header.reserved.into_iter().fold(0, |all, word| all | u64::from(word)), 0),
        ("layout hash", header.hash, LAYOUT_HASH),
        ("size in its header", header.size, expected.size),
        ("capacity to the server", header.to_server_capacity, expected.to_server_capacity),
        ("capacity to the client", header.to_client_capacity, expected.to_client_capacity),
    ] {
        if value != expected {
            return Err(SegmentError::Field { field, value, expected });
        }
    }
    Ok(())
}
