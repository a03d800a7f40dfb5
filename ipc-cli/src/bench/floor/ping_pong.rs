//! The round trip of one message through one shared cache line each way, both sides polling.
//!
//! Nothing is queued: each side owns one message's room and writes it again only after the answer.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::process::{Duo, Fallible, SharedBuffer, Side};
use super::{PAYLOAD_WORDS, StampedLine, nanoseconds_each};

/// Distance between the two sides' lines, bytes: another page, out of reach of every prefetcher.
const SIDE_STRIDE: usize = 4096;

/// Payload words of the two-line message: 64 bytes, 8 of them in the second line.
const TWO_LINE_WORDS: usize = 8;

/// Nanoseconds of a round trip of 56 bytes and a stamp, one line each way.
///
/// # Errors
///
/// The pair of processes could not be run.
pub(crate) fn stamped_line_round_trip(duo: &Duo, rounds: u64) -> Fallible<f64> {
    round_trip(duo, rounds, write_one, read_one)
}

/// Nanoseconds of a round trip of 64 bytes and a stamp, two adjacent lines each way.
///
/// # Errors
///
/// The pair of processes could not be run.
pub(crate) fn two_line_round_trip(duo: &Duo, rounds: u64) -> Fallible<f64> {
    round_trip(duo, rounds, write_two, read_two)
}

/// Runs the exchange with the given way to write and to read a message, the parent serving.
#[inline(always)]
fn round_trip(
    duo: &Duo,
    rounds: u64,
    write: unsafe fn(*mut StampedLine, u64),
    read: unsafe fn(*const StampedLine, u64) -> u64,
) -> Fallible<f64> {
    let memory = SharedBuffer::new(2 * SIDE_STRIDE)?;
    let asked: *mut StampedLine = memory.as_ptr().cast();
    // SAFETY: the buffer holds two strides.
    let answered: *mut StampedLine = unsafe { memory.as_ptr().add(SIDE_STRIDE) }.cast();
    let warm_up = rounds / 8 + 1;

    let ask = |side: &Side<'_>| {
        memory.touch();
        let exchange = |first: u64, count: u64| {
            for number in first..first + count {
                // SAFETY: `asked` is this side's to write until the stamp, and again once the answer to
                // it has arrived, which `read` waits for.
                unsafe { write(asked, number) };
                // SAFETY: the other side writes `answered` only between `asked` and its own stamp.
                black_box(unsafe { read(answered, number) });
            }
        };
        exchange(1, warm_up);
        side.meet()?;
        let start = Instant::now();
        exchange(1 + warm_up, rounds);
        Ok(nanoseconds_each(start, rounds))
    };
    let answer = |side: &Side<'_>| {
        memory.touch();
        let exchange = |first: u64, count: u64| {
            for number in first..first + count {
                // SAFETY: the other side writes `asked` only before its stamp, which `read` waits for.
                black_box(unsafe { read(asked, number) });
                // SAFETY: `answered` is this side's to write from the question's stamp to its own.
                unsafe { write(answered, number) };
            }
        };
        exchange(1, warm_up);
        side.meet()?;
        exchange(1 + warm_up, rounds);
        Ok(())
    };
    duo.run(ask, answer)
}

/// Writes 56 bytes and then the stamp, all into one line.
///
/// # Safety
///
/// `line` is mapped and the caller's alone to write.
#[inline(always)]
unsafe fn write_one(line: *mut StampedLine, number: u64) {
    // SAFETY: the caller's line; the other side reads the payload only after [L1].
    unsafe { (*line).payload.get().write([number; PAYLOAD_WORDS]) };
    // [L1] publishes the payload; pairs with [L2].
    // SAFETY: the caller's line.
    unsafe { (*line).stamp.store(number, Ordering::Release) };
}

/// Waits for the stamp `number` and reads the 56 bytes beside it.
///
/// # Safety
///
/// `line` is mapped, and the other side leaves it alone from that stamp on until this side answers.
#[inline(always)]
unsafe fn read_one(line: *const StampedLine, number: u64) -> u64 {
    // [L2] takes the payload over; pairs with [L1].
    // SAFETY: the line is mapped and the stamp atomic.
    while unsafe { (*line).stamp.load(Ordering::Acquire) } != number {
        std::hint::spin_loop();
    }
    // SAFETY: written before [L1], and not again until this side answers.
    let payload = unsafe { (*line).payload.get().read() };
    payload.iter().fold(0, |sum, word| sum ^ word)
}

/// Writes 64 bytes, the last 8 of them in the second line, and then the stamp of the first.
///
/// # Safety
///
/// `lines` and the line after it are mapped and the caller's alone to write.
#[inline(always)]
unsafe fn write_two(lines: *mut StampedLine, number: u64) {
    // SAFETY: 8 bytes of stamp and 64 of payload lie in the caller's two lines; the other side reads
    // them only after [L3].
    unsafe {
        lines.cast::<u64>().add(1).cast::<[u64; TWO_LINE_WORDS]>().write([number; TWO_LINE_WORDS]);
    }
    // [L3] publishes both lines; pairs with [L4].
    // SAFETY: the caller's line.
    unsafe { (*lines).stamp.store(number, Ordering::Release) };
}

/// Waits for the stamp `number` and reads the 64 bytes after it, in two lines.
///
/// # Safety
///
/// `lines` and the line after it are mapped, and the other side leaves both alone from that stamp on
/// until this side answers.
#[inline(always)]
unsafe fn read_two(lines: *const StampedLine, number: u64) -> u64 {
    // [L4] takes both lines over; pairs with [L3].
    // SAFETY: the line is mapped and the stamp atomic.
    while unsafe { (*lines).stamp.load(Ordering::Acquire) } != number {
        std::hint::spin_loop();
    }
    // SAFETY: written before [L3], and not again until this side answers.
    let payload = unsafe { lines.cast::<u64>().add(1).cast::<[u64; TWO_LINE_WORDS]>().read() };
    payload.iter().fold(0, |sum, word| sum ^ word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_round_trips_end_and_take_time() {
        let Ok(duo) = Duo::new() else { return };
        assert!(stamped_line_round_trip(&duo, 1000).unwrap() > 0.0);
        assert!(two_line_round_trip(&duo, 1000).unwrap() > 0.0);
    }
}
