//! Views of a ring for code in other languages, which appends to an open batch, and reads one, without a call for each message.
//!
//! Promise: numbers of this process alone, and pointers that are valid as long as the batch is open. Refusal: nothing is written or read
//! here; whoever does keeps to the rules below, which are those of [`super::reserve`] and [`super::walk`].

/// The space behind the records of a batch, for code in other languages that appends by itself.
///
/// A record of `len` bytes may be written if `len <= longest` and `end + 8 + len <= limit`: its bytes at `base + end + 8`, and the word
/// `stamp | len` at `base + end`. The next one begins at `end + 8 + len`, rounded up to a multiple of 8.
#[derive(Clone, Copy, Debug)]
pub struct BatchWindow {
    /// First byte of the ring.
    pub base: *mut u8,
    /// Where the next record begins, in bytes from there; a multiple of 8.
    pub end: u64,
    /// Where a record ends at most; 0 if none can be written.
    pub limit: u64,
    /// The longest record, in bytes.
    pub longest: u64,
    /// What the header of a record is but for its length.
    pub stamp: u64,
    /// Records in the batch.
    pub records: u64,
}

/// The records from a place on, for code in other languages that reads them by itself.
///
/// If the word at `base + index`, loaded with acquire, has the upper half of `stamp`, and `len`, its lower half, is at most `longest`, and
/// `index + 16 + len <= capacity`, then there is a plain record of `len` bytes at `base + index + 8`, and the next one begins at
/// `index + 8 + len`, rounded up to a multiple of 8. Everything else is to be asked for.
#[derive(Clone, Copy, Debug)]
pub struct ReadWindow {
    /// First byte of the ring.
    pub base: *const u8,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Where the next record begins, in bytes from `base`; a multiple of 8.
    pub index: u64,
    /// What the upper half of a header is.
    pub stamp: u64,
    /// The longest record, in bytes.
    pub longest: u64,
}
