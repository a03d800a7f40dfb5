//! Reads the state of a segment that may be anybody's.
//!
//! Promise: size, seals and header are checked before memory is mapped, so that nothing the holders do can crash the
//! observer; nothing is written. Refusal: words in the rings are reported as found, true or not.

use super::{Ring, Row};
use ipc_core::layout::{
    CONTROL_SIZE, Geometry, LAYOUT_HASH, LAYOUT_VERSION, SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, SegmentHeader, is_capacity,
};
use ipc_core::ring::RingMemory;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::ptr::{NonNull, null_mut};

/// Reads the segment behind `fd`; `None` if it is none.
pub(super) fn inspect(fd: &OwnedFd, name: String) -> Option<Row> {
    // Without this seal the memory could vanish while it is read.
    if !fcntl_get_seals(fd).ok()?.contains(SealFlags::SHRINK) {
        return None;
    }
    let size = u64::try_from(fstat(fd).ok()?.st_size).ok()?;
    let header = read_header(fd)?;
    if header.magic != SEGMENT_MAGIC {
        return None;
    }
    let rings = geometry(&header, size).and_then(|geometry| read_rings(fd, size, geometry));
    let (to_server, to_client) = rings.unzip();
    Some(Row { name, processes: Vec::new(), size, layout_version: header.version, to_server, to_client })
}

fn read_header(fd: &OwnedFd) -> Option<SegmentHeader> {
    let mut bytes = [0; size_of::<SegmentHeader>()];
    if rustix::io::pread(fd, &mut bytes[..], 0).ok()? != bytes.len() {
        return None;
    }
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    let half = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    Some(SegmentHeader {
        magic: word(offset_of!(SegmentHeader, magic))?,
        version: half(offset_of!(SegmentHeader, version))?,
        reserved: [0; 3],
        hash: word(offset_of!(SegmentHeader, hash))?,
        size: word(offset_of!(SegmentHeader, size))?,
        to_server_capacity: word(offset_of!(SegmentHeader, to_server_capacity))?,
        to_client_capacity: word(offset_of!(SegmentHeader, to_client_capacity))?,
    })
}

/// Where the rings are; `None` if this program does not know, or they would not fit.
fn geometry(header: &SegmentHeader, size: u64) -> Option<Geometry> {
    let SegmentHeader { to_server_capacity, to_client_capacity, .. } = *header;
    let known = header.version == LAYOUT_VERSION && header.hash == LAYOUT_HASH && header.size == size;
    if !known || !is_capacity(to_server_capacity) || !is_capacity(to_client_capacity) {
        return None;
    }
    let geometry = Geometry { to_server_capacity, to_client_capacity };
    (geometry.segment_size() <= size).then_some(geometry)
}

fn read_rings(fd: &OwnedFd, size: u64, geometry: Geometry) -> Option<(Ring, Ring)> {
    let map = Map::new(fd, size)?;
    let to_server = map.ring(geometry.to_server_offset(), geometry.to_server_capacity)?;
    let to_client = map.ring(geometry.to_client_offset(), geometry.to_client_capacity)?;
    Some((to_server, to_client))
}

/// A segment mapped for reading.
struct Map {
    base: NonNull<u8>,
    len: usize,
}

impl Map {
    fn new(fd: &OwnedFd, size: u64) -> Option<Self> {
        let len = usize::try_from(size).ok()?;
        // SAFETY: the kernel chooses the place, so nothing that exists is touched.
        let base = unsafe { mmap(null_mut(), len, ProtFlags::READ, MapFlags::SHARED, fd, 0) }.ok()?;
        Some(Self { base: NonNull::new(base.cast())?, len })
    }

    /// Reads the ring at `offset`; `None` if it would not lie in the mapping.
    fn ring(&self, offset: u64, capacity: u64) -> Option<Ring> {
        let end = offset.checked_add(CONTROL_SIZE)?.checked_add(capacity)?;
        if end > self.len as u64 || offset < SEGMENT_HEADER_SIZE {
            return None;
        }
        // SAFETY: control block and data lie in the mapping, as was just checked, which cannot shrink (sealed) and outlives the
        // view. The pages are read-only, and only `status` is called, which does nothing but load.
        let status = unsafe { RingMemory::from_raw(self.base.add(offset as usize), capacity) }.ok()?.status();
        Some(Ring {
            capacity,
            used: status.used,
            fill_percent: status.used as f64 * 100.0 / capacity as f64,
            sent: status.sent,
            received: status.received,
            producer_sleeps: status.producer_sleeps,
            consumer_sleeps: status.consumer_sleeps,
        })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and no view of it is left. If it fails, the mapping stays, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    /// A memfd of `size` bytes that starts with `words`.
    fn memory(words: &[u64], size: u64, seals: SealFlags) -> OwnedFd {
        let fd = memfd_create("ipc:test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, size).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        rustix::io::pwrite(&fd, &bytes, 0).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    }

    fn header(geometry: Geometry) -> [u64; 6] {
        let header = geometry.header();
        [
            header.magic,
            header.version.into(),
            header.hash,
            header.size,
            header.to_server_capacity,
            header.to_client_capacity,
        ]
    }

    const GEOMETRY: Geometry = Geometry { to_server_capacity: 4096, to_client_capacity: 8192 };

    #[test]
    fn a_fresh_segment_is_empty() {
        let fd = memory(&header(GEOMETRY), GEOMETRY.segment_size(), SealFlags::SHRINK);
        let row = inspect(&fd, "x".into()).unwrap();
        let (to_server, to_client) = (row.to_server.unwrap(), row.to_client.unwrap());
        assert_eq!((to_server.capacity, to_client.capacity), (4096, 8192));
        assert_eq!((to_server.used, to_server.sent, to_server.received, to_server.producer_sleeps), (0, 0, 0, false));
    }

    #[test]
    fn memory_that_is_no_segment_is_left_out() {
        let size = GEOMETRY.segment_size();
        let unsealed = memory(&header(GEOMETRY), size, SealFlags::empty());
        let short = memory(&[], 10, SealFlags::SHRINK);
        let zero = memory(&[], size, SealFlags::SHRINK);
        for fd in [unsealed, short, zero] {
            assert!(inspect(&fd, "x".into()).is_none());
        }
        let file = rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        assert!(inspect(&file, "x".into()).is_none());
    }

    #[test]
    fn rings_that_would_not_fit_or_have_another_layout_are_not_read() {
        let size = GEOMETRY.segment_size();
        for (at, value) in
            [(1, u64::from(LAYOUT_VERSION) + 1), (2, 0), (3, size * 2), (4, 4097), (4, 1 << 30), (5, u64::MAX), (5, 0)]
        {
            let mut words = header(GEOMETRY);
            words[at] = value;
            let row = inspect(&memory(&words, size, SealFlags::SHRINK), "x".into()).unwrap();
            assert!(row.to_server.is_none() && row.to_client.is_none(), "word {at} is {value}");
        }
    }
}
