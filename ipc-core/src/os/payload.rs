//! A message in a file of its own: written by the sender, then sealed, then mapped by the receiver.
//!
//! Promise: once it is sealed nobody, the sender least of all, can change, shrink or grow it, so its bytes can be borrowed even from a
//! hostile peer. Refusal: it is for large messages; making, mapping and unmapping cost microseconds.

use super::fork::GuardedFd;
use super::segment::{self, SegmentError, SegmentOptions};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{SealFlags, fcntl_add_seals, fstat, ftruncate};
use rustix::io::Errno;

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);
/// How often sealing is tried while the kernel itself still holds pages of a message. Each time it waits for up to 150 ms (`mm/memfd.c`).
const SEAL_ATTEMPTS: u32 = 8;

/// A message that is being written.
pub(crate) struct Draft {
    /// Dropped before the mapping it covers.
    fd: GuardedFd,
    map: Option<MmapRaw>,
    len: u64,
}

impl Draft {
    /// Memory for a message of `len` bytes, zeroed, all of it there.
    pub(crate) fn new(label: &str, len: u64) -> Result<Self, SegmentError> {
        let options = SegmentOptions { reserve: len > 0, prefault: false, huge_pages: false };
        let (fd, _) = segment::allocate(label, len, options)?;
        let mut fd = segment::guard(fd)?;
        let map = map(&fd, len, true)?;
        if let Some(map) = &map {
            // A child that could write would also keep the message from being sealed.
            segment::keep_from_children(map)?;
            // SAFETY: the mapping is dropped after the guard, or uncovered before, and children do not inherit it.
            unsafe { fd.cover(map.as_mut_ptr().cast(), map.len()) };
        }
        Ok(Self { fd, map, len })
    }

    /// First byte, valid for the length of the message; dangling if that is zero.
    pub(crate) fn pointer(&self) -> *mut u8 {
        self.map.as_ref().map_or(core::ptr::dangling_mut(), MmapRaw::as_mut_ptr)
    }

    /// Bytes in the message.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Makes the message shorter than it was made.
    pub(crate) fn set_len(&mut self, len: u64) -> Result<(), SegmentError> {
        if len != self.len {
            ftruncate(&self.fd, len).map_err(segment::os("shortening a message"))?;
            self.len = len;
        }
        Ok(())
    }

    /// Ends the writing for good.
    pub(crate) fn seal(mut self) -> Result<Sealed, SegmentError> {
        // SAFETY: covers nothing any more, before the mapping goes.
        unsafe { self.fd.cover(core::ptr::null_mut(), 0) };
        // The kernel refuses the seal while a mapping can write.
        self.map = None;
        let seal = || fcntl_add_seals(&self.fd, SEALS | SealFlags::SEAL);
        // There is no other mapping, so what it waits for is its own: pages that it moves, reclaims or has yet to put on its lists.
        let again = (1..SEAL_ATTEMPTS).map(|_| seal()).find(|sealed| *sealed != Err(Errno::BUSY));
        again.unwrap_or_else(seal).map_err(segment::os("sealing a message"))?;
        Ok(Sealed { fd: self.fd, len: self.len })
    }
}

/// A message that was sealed, on its way.
pub(crate) struct Sealed {
    fd: GuardedFd,
    len: u64,
}

impl Sealed {
    /// Bytes in the message.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Maps it again, to take it back.
    pub(crate) fn open(&self) -> Result<Payload, SegmentError> {
        Ok(Payload { map: map(&self.fd, self.len, false)? })
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A message that was received, mapped. The mapping keeps it; there is no descriptor any more.
pub(crate) struct Payload {
    map: Option<MmapRaw>,
}

impl Payload {
    /// Maps a message of `len` bytes that came in `fd`, whose seals, size and kind are checked.
    pub(crate) fn attach(fd: OwnedFd, len: u64) -> Result<Self, SegmentError> {
        segment::check_memory(&fd, SEALS, len..=len, false)?;
        // Pages that the sender has not written would be taken from this process when they are read. No hole can be made later:
        // the seal forbids that too.
        let there = fstat(&fd).map_err(segment::os("reading the size of a message"))?.st_blocks as u64 * 512;
        if there < len {
            return Err(SegmentError::Field { field: "bytes of memory in a file", value: there, expected: len });
        }
        Ok(Self { map: map(&fd, len, false)? })
    }

    /// First byte, valid for the length of the message; dangling if that is zero.
    pub(crate) fn pointer(&self) -> *const u8 {
        self.map.as_ref().map_or(core::ptr::dangling(), MmapRaw::as_ptr)
    }
}

fn map(fd: &impl AsRawFd, len: u64, writable: bool) -> Result<Option<MmapRaw>, SegmentError> {
    if len == 0 {
        return Ok(None);
    }
    let no_memory = |source| SegmentError::NoMemory { size: len, source };
    let len = usize::try_from(len).map_err(|_| no_memory(std::io::ErrorKind::OutOfMemory.into()))?;
    let mut options = MmapOptions::new();
    // Every byte is about to be touched: one call costs less than a fault for each page.
    options.len(len).populate();
    let map = if writable { options.map_raw(fd) } else { options.map_raw_read_only(fd) }.map_err(no_memory)?;
    Ok(Some(map))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::fork::tests::Child;

    #[test]
    fn a_sealed_message_is_read_as_it_was_written_and_stays_so() {
        let draft = Draft::new("test", 100_000).unwrap();
        // SAFETY: inside the message.
        unsafe { draft.pointer().add(99_999).write(9) };
        let sealed = draft.seal().unwrap();
        assert!(rustix::io::pwrite(&sealed, b"x", 0).is_err());
        let payload = Payload::attach(sealed.as_fd().try_clone_to_owned().unwrap(), 100_000).unwrap();
        // SAFETY: inside the message.
        assert_eq!(unsafe { payload.pointer().add(99_999).read() }, 9);
    }

    #[test]
    fn a_file_that_can_still_be_written_is_no_message() {
        let draft = Draft::new("test", 4096).unwrap();
        let fd = draft.fd.as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(Payload::attach(fd, 4096), Err(SegmentError::Field { field: "seals", .. })));
    }

    #[test]
    fn memory_that_the_sender_did_not_take_is_not_taken_from_the_receiver() {
        let sparse = SegmentOptions { reserve: false, prefault: false, huge_pages: false };
        let (fd, _) = segment::allocate("test", 1 << 40, sparse).unwrap();
        fcntl_add_seals(&fd, SEALS).unwrap();
        let refused = Payload::attach(fd, 1 << 40);
        let (value, expected) = (0, 1 << 40);
        assert!(
            matches!(refused, Err(SegmentError::Field { value: v, expected: e, .. }) if (v, e) == (value, expected))
        );
    }

    #[test]
    fn a_child_forked_while_a_message_is_written_neither_writes_it_nor_keeps_it_from_being_sealed() {
        let draft = Draft::new("test", 5000).unwrap();
        // SAFETY: inside the message, here and in the child.
        let write = |byte| unsafe { draft.pointer().write_volatile(byte) };
        write(1);
        let writing = Child::start(|| {
            write(2);
            0
        });
        assert_eq!(writing.code(), 0);
        let _idle = Child::start(|| {
            std::thread::sleep(std::time::Duration::from_secs(60));
            0
        });
        let sealed = draft.seal().unwrap();
        // SAFETY: inside the message.
        assert_eq!(unsafe { sealed.open().unwrap().pointer().read() }, 1);
    }

    /// The kernel gave up on pages that it held itself, and a message was not sent.
    #[test]
    fn a_message_is_sealed_once_the_kernel_has_let_go_of_its_pages() {
        let draft = Draft::new("test", 4096).unwrap();
        let (mut held, holding) = std::io::pipe().unwrap();
        let page = libc::iovec { iov_base: draft.pointer().cast(), iov_len: 4096 };
        // SAFETY: one range, inside the message. The pipe holds the page, not a copy, until it is read.
        assert_eq!(unsafe { libc::vmsplice(holding.as_raw_fd(), &page, 1, 0) }, 4096);
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            // Read, not closed: children that other tests fork have the pipe too.
            std::io::Read::read_exact(&mut held, &mut [0; 4096]).unwrap();
        });
        assert!(draft.seal().is_ok());
        letting_go.join().unwrap();
    }

    #[test]
    fn a_message_of_no_bytes_needs_no_mapping() {
        let sealed = Draft::new("test", 0).unwrap().seal().unwrap();
        assert!(Payload::attach(sealed.as_fd().try_clone_to_owned().unwrap(), 0).is_ok());
    }
}
