//! The target `segment`: a ring of 4 KiB whose memory holds anything, and goes on being overwritten.
//!
//! Promise: the memory is an allocation of exactly the ring's size, so that AddressSanitizer sees the first byte beside it.

use crate::peer::{Aim, Shared, Value};
use crate::script::{Fences, Manners, World};
use arbitrary::{Arbitrary, Unstructured};
use ipc_core::layout::{CONTROL_SIZE, HEADER, MIN_CAPACITY};
use ipc_core::ring::RingMemory;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const CAPACITY: u64 = MIN_CAPACITY;
/// No script is longer.
const MAX_STEPS: usize = 256;

/// What the memory holds before there is a ring.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Filling {
    Zeroes,
    /// So many bytes of the input, over and over.
    Input(u16),
    /// The same word everywhere.
    Word(Value),
    /// A word that looks like a header in every second, noise in between.
    Noise(u64, Value),
}

/// Where the ring begins.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Start {
    /// Where the memory says.
    AsFound,
    /// At so many words before a position at which something wraps.
    Reset { mark: u8, words: u8 },
}

impl Start {
    fn position(self) -> Option<u64> {
        const MARKS: [u64; 8] =
            [0, CAPACITY, CAPACITY << 31, (CAPACITY << 32) - CAPACITY, CAPACITY << 32, 1 << 40, 1 << 62, 0];
        match self {
            Self::AsFound => None,
            Self::Reset { mark, words } => {
                Some(MARKS[usize::from(mark) % MARKS.len()].saturating_sub(u64::from(words) * HEADER))
            }
        }
    }
}

/// An allocation of exactly a ring.
struct Memory(NonNull<u8>);

impl Memory {
    const LAYOUT: Layout = match Layout::from_size_align((CONTROL_SIZE + CAPACITY) as usize, 128) {
        Ok(layout) => layout,
        Err(_) => panic!("the size of a ring fits a layout"),
    };

    fn zeroed() -> Self {
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(Self::LAYOUT) });
        Self(base.unwrap_or_else(|| handle_alloc_error(Self::LAYOUT)))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), Self::LAYOUT) };
    }
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    // An input that ends too early has told nothing.
    let _ = try_run(&mut input);
}

fn try_run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (filling, start) = (Filling::arbitrary(input)?, Start::arbitrary(input)?);
    let (fences, manners) = (Fences::arbitrary(input)?, Manners::arbitrary(input)?);
    let memory = Memory::zeroed();
    // SAFETY: the allocation outlives the view, and rings run on this thread alone.
    let shared = unsafe { Shared::new(memory.0, CAPACITY) };
    fill(shared, filling, start.position().unwrap_or(0), input)?;
    // SAFETY: the allocation has the size of a ring and outlives it.
    let ring = unsafe { RingMemory::from_raw(memory.0, CAPACITY) }.expect("a capacity that a ring can have");
    if let Some(position) = start.position() {
        // SAFETY: there is no half yet.
        unsafe { ring.reset(position) };
    }
    let honest = start.position().is_some() || matches!(filling, Filling::Zeroes);
    let data = memory.0.addr().get() + CONTROL_SIZE as usize;
    // SAFETY: the only halves.
    unsafe { World::new(ring, data, shared, fences, honest) }.play(input, MAX_STEPS, manners);
    Ok(())
}

fn fill(shared: Shared, filling: Filling, position: u64, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let aim = Aim { head: position, tail_index: 0 };
    match filling {
        Filling::Zeroes => {}
        Filling::Input(len) => {
            let len = usize::from(len) % (8 * shared.words() as usize + 1);
            let mut bytes = input.bytes(len.min(input.len() / 2))?.iter().copied().cycle();
            for index in 0..shared.words() {
                shared.write(index, u64::from_ne_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))));
            }
        }
        Filling::Word(value) => {
            (0..shared.words()).for_each(|index| shared.write(index, value.resolve(CAPACITY, aim)));
        }
        Filling::Noise(seed, value) => {
            let mut random = crate::Random::new(seed);
            for index in 0..shared.words() {
                let word = if index % 2 == 0 { value.resolve(CAPACITY, aim) } else { random.next() };
                shared.write(index, word);
            }
        }
    }
    Ok(())
}
