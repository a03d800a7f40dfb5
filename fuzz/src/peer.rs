//! What a hostile peer can do to a ring: write any word of it, at any time, with a value that hurts.
//!
//! Promise: the values lean towards those that the other side looks for (positions near its own, headers with the stamp that
//! is due), since arbitrary bytes alone hardly ever pass for a record. Refusal: it knows nothing of the ring's operations.

use arbitrary::Arbitrary;
use ipc_core::layout::{CONTROL_SIZE, HEADER, max_record};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Padding, as a header shows it (drawn in `ipc_core::layout`).
const PAD: u64 = 1 << 30;
const STAMP_SHIFT: u32 = 32;
const CONTROL_WORDS: u64 = CONTROL_SIZE / 8;

/// A word of shared memory.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Place {
    Control(Signal),
    /// The first word that is not consumed.
    AtHead,
    /// So many words behind it, at most 32.
    BehindHead(u8),
    /// So many words behind the header of the last reservation, at most 32.
    BehindTail(u8),
    /// Any word of control block and data.
    Any(u16),
}

/// A word of the control block that is read (drawn in `ipc_core::layout`).
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Signal {
    ProducerTicket,
    Head,
    Credit,
    Messages,
    ConsumerTicket,
}

impl Signal {
    fn word(self) -> u64 {
        match self {
            Self::ProducerTicket => 0,
            Self::Head => 16,
            Self::Credit => 32,
            Self::Messages => 33,
            Self::ConsumerTicket => 34,
        }
    }
}

/// What is written there.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Value {
    Any(u64),
    Small(u8),
    /// So many below 2^64.
    Top(u16),
    /// A position so many bytes from the head.
    NearHead(i16),
    /// A position so many laps from the head.
    Laps(i8),
    /// A header with the stamp that is due so many laps after the head, and this length.
    Record {
        laps: u8,
        length: Length,
    },
    /// A header that says padding, and so many other bits.
    Padding {
        laps: u8,
        more: u8,
    },
    /// A header with any flags and length.
    Header {
        laps: u8,
        low: u32,
    },
}

/// A payload length.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Length {
    Small(u8),
    Line,
    /// The longest, and so many bytes less or more.
    NearMax(i8),
    /// So many parts of the longest.
    Any(u16),
}

impl Length {
    pub fn bytes(self, capacity: u64) -> u64 {
        let max = max_record(capacity);
        match self {
            Self::Small(bytes) => bytes.into(),
            Self::Line => 64 - HEADER,
            Self::NearMax(more) => max.saturating_add_signed(more.into()),
            Self::Any(share) => max * u64::from(share) / u64::from(u16::MAX),
        }
    }
}

/// One write by the peer.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Blow {
    place: Place,
    value: Value,
    /// Only this byte of the value, if it is one of eight.
    byte: u8,
}

/// How the peer aims: where the sides of the ring are, as far as it knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim {
    /// Position of the first byte that is not consumed.
    pub head: u64,
    /// Index of the header of the last reservation.
    pub tail_index: u64,
}

/// The peer's own view of a ring: control block and data.
#[derive(Clone, Copy)]
pub struct Shared {
    words: NonNull<u64>,
    capacity: u64,
}

impl Shared {
    /// # Safety
    /// `CONTROL_SIZE + capacity` bytes from `base`, aligned to 8, are valid while the view is used, and nothing refers to them but
    /// rings on this thread.
    pub unsafe fn new(base: NonNull<u8>, capacity: u64) -> Self {
        Self { words: base.cast(), capacity }
    }

    pub fn words(&self) -> u64 {
        CONTROL_WORDS + self.capacity / 8
    }

    fn word(&self, index: u64) -> &AtomicU64 {
        assert!(index < self.words(), "the peer itself stays inside the ring");
        // SAFETY: inside the view, by the assertion; rings run on this thread and not at this moment.
        unsafe { AtomicU64::from_ptr(self.words.add(index as usize).as_ptr()) }
    }

    pub fn read(&self, index: u64) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    pub fn write(&self, index: u64, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// The consumer's head as the memory has it.
    pub fn head(&self) -> u64 {
        self.read(Signal::Head.word())
    }

    pub fn strike(&self, blow: Blow, aim: Aim) {
        let index = self.index(blow.place, aim);
        let value = blow.value.resolve(self.capacity, aim);
        let mask = if blow.byte < 8 { 0xff << (8 * blow.byte) } else { u64::MAX };
        self.write(index, (self.read(index) & !mask) | (value & mask));
    }

    fn index(&self, place: Place, aim: Aim) -> u64 {
        let data = |index: u64| CONTROL_WORDS + index % (self.capacity / 8);
        match place {
            Place::Control(signal) => signal.word(),
            Place::AtHead => data(aim.head / 8),
            Place::BehindHead(words) => data(aim.head / 8 + u64::from(words % 33)),
            Place::BehindTail(words) => data(aim.tail_index / 8 + u64::from(words % 33)),
            Place::Any(word) => u64::from(word) % self.words(),
        }
    }
}

impl Value {
    pub fn resolve(self, capacity: u64, aim: Aim) -> u64 {
        let due = |laps: u8| ((aim.head / capacity).wrapping_add(u64::from(laps % 4)).wrapping_add(1)) << STAMP_SHIFT;
        match self {
            Self::Any(value) => value,
            Self::Small(value) => value.into(),
            Self::Top(less) => u64::MAX - u64::from(less),
            Self::NearHead(bytes) => aim.head.wrapping_add_signed(bytes.into()),
            Self::Laps(laps) => aim.head.wrapping_add_signed(i64::from(laps) * capacity as i64),
            Self::Record { laps, length } => due(laps) | length.bytes(capacity),
            Self::Padding { laps, more } => due(laps) | PAD | u64::from(more & 1),
            Self::Header { laps, low } => due(laps) | u64::from(low),
        }
    }
}
