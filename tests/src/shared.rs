//! Memory shared between processes, without the library under test.

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

/// A page of counters that any process can open by its path while the value lives. It is no file on a disk: writing to it
/// never faults.
#[derive(Debug)]
pub struct Counters {
    file: OwnedFd,
    map: Mapping,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// All 0.
    ///
    /// # Panics
    /// If the system has no room.
    #[must_use]
    pub fn new() -> Self {
        let file = memfd_create("counters", MemfdFlags::CLOEXEC).expect("a memfd");
        ftruncate(&file, PAGE as u64).expect("room for a page");
        let map = Mapping::of(&file, PAGE).expect("a mapping");
        Self { file, map }
    }

    /// What another process passes to [`Mapping::counters`].
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The counter at `offset` bytes, a multiple of 8.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        self.map.word(offset)
    }
}

const PAGE: usize = 4096;

/// A shared mapping, unmapped with the value.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is only handed out as atomics, and it belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file, to read and to write.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, access, shared, fd.as_fd().as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }

    /// Maps the [`Counters`] of another process.
    ///
    /// # Panics
    /// If they cannot be mapped.
    #[must_use]
    pub fn counters(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).expect("the other process lives");
        Self::of(&file, PAGE).expect("a mapping")
    }

    /// Bytes mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The word at `offset` bytes, a multiple of 8.
    ///
    /// # Panics
    /// If it lies outside.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: inside the mapping, aligned, and touched as atomics by everybody here.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// If it lies outside.
    #[must_use]
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.len);
        // SAFETY: inside the mapping, and touched as atomics by everybody here.
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, and every reference into it has ended.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
