//! The target `attach`: any descriptor with any contents, offered as a segment.
//!
//! Promise: a segment is attached exactly if it is sealed, has the size and geometry that were announced and says so in its
//! header; then its rings bear a hostile peer that has a mapping of its own, makes holes, and tries to take the memory away.

use crate::peer::{Blow, Shared};
use crate::script::{Fences, Manners, World};
use arbitrary::{Arbitrary, Unstructured};
use ipc_core::SegmentOptions;
use ipc_core::doorbell::Barrier;
use ipc_core::fuzzing::Attached;
use ipc_core::layout::{
    CONTROL_SIZE, Geometry, HEADER, LAYOUT_HASH, LAYOUT_VERSION, SEGMENT_MAGIC, SegmentHeader, is_capacity,
};
use ipc_core::ring::RingMemory;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use zerocopy::IntoBytes;

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;
/// No file is larger, whatever is announced.
const MAX_FILE: u64 = 3 << 20;
/// No script has more deeds.
const MAX_DEEDS: usize = 64;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Capacity {
    Smallest,
    Shift(u8),
    /// One that no ring has, nearly always.
    Any(u64),
}

impl Capacity {
    fn bytes(self) -> u64 {
        match self {
            Self::Smallest => PAGE,
            Self::Shift(shift) => PAGE << (shift % 6),
            Self::Any(bytes) => bytes,
        }
    }
}

/// A size, measured from the one that the geometry needs.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Size {
    Right,
    Off(i16),
    Pages(i8),
    HugePages(u8),
    Any(u64),
}

impl Size {
    fn bytes(self, right: u64) -> u64 {
        match self {
            Self::Right => right,
            Self::Off(bytes) => right.saturating_add_signed(bytes.into()),
            Self::Pages(pages) => right.saturating_add_signed(i64::from(pages) * PAGE as i64),
            Self::HugePages(pages) => right.next_multiple_of(HUGE_PAGE) * u64::from(pages),
            Self::Any(bytes) => bytes,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Seals {
    Right,
    AllBut(u8),
    Any(u8),
}

impl Seals {
    const RIGHT: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

    fn flags(self) -> SealFlags {
        match self {
            Self::Right => Self::RIGHT,
            Self::AllBut(bit) => Self::RIGHT - SealFlags::from_bits_truncate(1 << (bit % 3)),
            Self::Any(bits) => SealFlags::from_bits_truncate(bits.into()),
        }
    }
}

/// What the descriptor is one of.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    ReadOnlyMemory,
    Null,
    Directory,
    Pipe,
}

/// A byte of the header that is not what it should be.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Patch {
    at: u8,
    bits: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Offer {
    /// One bit for each of the following: it counts only if the bit is set in both. The rest is as it should be.
    faults: [u8; 2],
    kind: Kind,
    announced: Size,
    file: Size,
    seals: Seals,
    patches: [Patch; 2],
    capacities: [Capacity; 2],
    prefault: bool,
    huge_pages: bool,
}

/// What the peer does once its segment is attached.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Deed {
    Nothing,
    Strike(Blow),
    /// Takes pages out of the file, whatever they hold.
    Hole {
        page: u8,
        pages: u8,
    },
    /// Tries to take the memory away, or to seal it.
    Take,
    /// Writes the same word all over the segment.
    Flood(u64),
}

/// The peer's mapping of its segment.
struct View {
    base: NonNull<u8>,
    size: usize,
}

impl View {
    fn of(memory: &File, size: u64) -> Result<Self, Errno> {
        let size = size as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where the system likes it.
        let base = unsafe { mmap(null_mut(), size, protection, MapFlags::SHARED, memory, 0) }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, size })
    }

    fn ring(&self, offset: u64, capacity: u64) -> Shared {
        assert!(offset + CONTROL_SIZE + capacity <= self.size as u64);
        // SAFETY: inside the mapping, on a page boundary; used on this thread.
        unsafe { Shared::new(self.base.add(offset as usize), capacity) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: mapped with this size.
        unsafe { munmap(self.base.as_ptr().cast(), self.size) }.expect("a mapping can be removed");
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    // An input that ends too early has told nothing.
    let _ = try_run(&mut input);
}

fn try_run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let offer = Offer::arbitrary(input)?;
    let [to_server_capacity, to_client_capacity] = offer.capacities.map(Capacity::bytes);
    let geometry = Geometry { to_server_capacity, to_client_capacity };
    let possible = is_capacity(to_server_capacity) && is_capacity(to_client_capacity);
    let right = if possible { geometry.segment_size() } else { 4 * PAGE };
    let fault = |bit: u8| offer.faults[0] & offer.faults[1] & (1 << bit) != 0;
    let announced = if fault(0) { offer.announced.bytes(right) } else { right };
    let size = if fault(1) { offer.file.bytes(right).min(MAX_FILE) } else { announced.min(MAX_FILE) };
    let kind = if fault(2) { offer.kind } else { Kind::Memory };
    let seals = if fault(3) { offer.seals } else { Seals::Right };
    let patches = if fault(4) { &offer.patches[..] } else { &[] };

    let header = SegmentHeader {
        magic: SEGMENT_MAGIC,
        version: LAYOUT_VERSION,
        reserved: [0; 3],
        hash: LAYOUT_HASH,
        size: announced,
        to_server_capacity,
        to_client_capacity,
    };
    let mut bytes = header.as_bytes().to_vec();
    let mut whole = true;
    for &Patch { at, bits } in patches {
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= bits;
        whole = bytes == header.as_bytes();
    }

    let memory = memory(size, &bytes);
    let _ = fcntl_add_seals(&memory, seals.flags());
    let seals = fcntl_get_seals(&memory).expect("a memfd has seals");
    let acceptable = kind == Kind::Memory
        && seals.contains(Seals::RIGHT)
        && !seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)
        && possible
        && (right..=right.next_multiple_of(HUGE_PAGE)).contains(&announced)
        && announced == size
        && whole;
    let options = SegmentOptions { prefault: offer.prefault, huge_pages: offer.huge_pages, ..Default::default() };
    match Attached::new(kind.descriptor(&memory), announced, geometry, options) {
        Ok(attached) => {
            assert!(acceptable, "{offer:?} was attached");
            assert_eq!(attached.size(), announced);
            abuse(&attached, geometry, &memory, input)
        }
        Err(error) => {
            assert!(!acceptable, "{offer:?} was refused: {error}");
            assert!(!error.to_string().is_empty());
            Ok(())
        }
    }
}

/// A memfd of this size that begins with these bytes, as far as they fit.
fn memory(size: u64, bytes: &[u8]) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = File::from(memfd_create("ipc-fuzz", flags).expect("a memfd can be made"));
    memory.set_len(size).expect("its size is small");
    memory.write_all_at(&bytes[..bytes.len().min(size as usize)], 0).expect("it can be written");
    memory
}

impl Kind {
    fn descriptor(self, memory: &File) -> OwnedFd {
        match self {
            Self::Memory => memory.try_clone().expect("a descriptor is left").into(),
            Self::ReadOnlyMemory => {
                File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).expect("its own file can be opened").into()
            }
            Self::Null => File::open("/dev/null").expect("it is always there").into(),
            Self::Directory => File::open("/").expect("it is always there").into(),
            Self::Pipe => std::io::pipe().expect("a descriptor is left").0.into(),
        }
    }
}

/// Plays scripts on both rings while the peer does its deeds.
fn abuse(
    attached: &Attached,
    geometry: Geometry,
    memory: &File,
    input: &mut Unstructured<'_>,
) -> arbitrary::Result<()> {
    let view = View::of(memory, attached.size()).expect("what this process has mapped can be mapped again");
    let rings = attached.rings();
    let [to_server, to_client] = rings.map(data_of);
    let between = geometry.to_client_offset() - geometry.to_server_offset();
    assert_eq!((to_client - to_server) as u64, between, "the rings lie where the geometry says");
    let shared = [
        view.ring(geometry.to_server_offset(), geometry.to_server_capacity),
        view.ring(geometry.to_client_offset(), geometry.to_client_capacity),
    ];
    let (fences, manners) = (Fences::arbitrary(input)?, Manners::arbitrary(input)?);
    // SAFETY: these are the only halves; those of `data_of` are gone.
    let mut worlds = unsafe {
        [
            World::new(rings[0], to_server, shared[0], fences, true),
            World::new(rings[1], to_client, shared[1], fences, true),
        ]
    };
    for _ in 0..MAX_DEEDS {
        if input.is_empty() {
            break;
        }
        let world = usize::from(bool::arbitrary(input)?);
        match Deed::arbitrary(input)? {
            Deed::Nothing => {}
            Deed::Strike(blow) => worlds[world].strike(Some(blow)),
            Deed::Hole { page, pages } => {
                let (start, len) = (u64::from(page) * PAGE, (u64::from(pages) + 1) * PAGE);
                // A kernel that refuses it does the peer's victim a favour.
                let _ = fallocate(memory, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, len);
                worlds.iter_mut().for_each(World::distrust);
            }
            Deed::Take => {
                assert!(memory.set_len(0).is_err() && memory.set_len(attached.size() + PAGE).is_err());
                assert_eq!(fcntl_add_seals(memory, SealFlags::WRITE), Err(Errno::PERM));
            }
            Deed::Flood(word) => {
                shared.iter().for_each(|ring| (0..ring.words()).for_each(|index| ring.write(index, word)));
                worlds.iter_mut().for_each(World::distrust);
            }
        }
        worlds[world].play(input, 8, manners);
    }
    Ok(())
}

/// The address of the data of a ring that was never used: behind the first header, where its first payload would begin.
fn data_of(ring: RingMemory<'_>) -> usize {
    // SAFETY: the only producer while it lives; it publishes nothing.
    let mut producer = unsafe { ring.producer(Barrier::Polling) };
    let first = producer.try_reserve(0).expect("an empty ring has room").as_mut_ptr();
    first.addr() - HEADER as usize
}
