//! The round trip of a message that is copied in and copied out through bare shared memory, both sides polling.
//!
//! One shape covers the ways to do it: one whole copy after the other, cut-through (the receiver copies out what the
//! sender has already copied in), and a window smaller than the message, reused while the message passes. Each way has
//! shared memory of its own, or both share one. Sizes are powers of two; there is no framing and nobody sleeps.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::process::{Duo, Fallible, SharedBuffer, Side};
use super::{Copier, IndexLine, Private, nanoseconds_each};

/// How a message passes through shared memory. All figures are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of shared memory for each way: a multiple of the message means as many blocks in rotation, less than it
    /// means a window that the message passes through.
    pub(crate) window: usize,
    /// Bytes that are copied in before the receiver is told: the message's size means one copy after the other.
    pub(crate) chunk: usize,
    /// Both ways use the same memory, which a round trip allows as long as the whole message fits.
    pub(crate) common: bool,
    /// How the sender copies in.
    pub(crate) copy_in: Copier,
    /// How the receiver copies out.
    pub(crate) copy_out: Copier,
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, chunk, common, copy_in, copy_out } = self;
        let ways = if *common { "common" } else { "each way" };
        write!(formatter, "{}K {ways}, told every {}K, {copy_in} {copy_out}", window >> 10, chunk >> 10)
    }
}

/// Nanoseconds of a round trip of `size` bytes each way.
///
/// # Errors
///
/// A copier is missing on this processor, a figure is no power of two of at least 64, a chunk is larger than the message
/// or the window, a window that is smaller than the message is common to both ways, an answer was not the one expected,
/// or the pair of processes could not be run.
pub(crate) fn round_trip(duo: &Duo, shape: Shape, size: usize, rounds: u64) -> Fallible<f64> {
    let Shape { window, chunk, common, copy_in, copy_out } = shape;
    copy_in.check()?;
    copy_out.check()?;
    let uneven = [size, window, chunk].iter().any(|figure| !figure.is_power_of_two() || *figure < 64);
    if uneven || chunk > size.min(window) || (common && window < size) {
        return Err(format!("{size} bytes do not pass through {shape}").into());
    }
    let counters = SharedBuffer::new(4 * size_of::<IndexLine>())?;
    let memory = SharedBuffer::new(2 * window)?;
    let lines: *const IndexLine = counters.as_ptr().cast();
    let lane = |way: usize| Lane {
        // SAFETY: the counters hold two lines each way, and `way` is 0 or 1.
        written: unsafe { &raw const (*lines.add(2 * way)) },
        // SAFETY: as above.
        read: unsafe { &raw const (*lines.add(2 * way + 1)) },
        // SAFETY: the memory holds two windows.
        bytes: unsafe { memory.as_ptr().add(if common { 0 } else { way * window }) },
        shape,
        checked: window < size,
    };
    let (asked, answered) = (lane(0), lane(1));
    let warm_up = rounds / 8 + 1;

    let ask = |side: &Side<'_>| {
        memory.touch();
        counters.touch();
        let mut buffer = Private::new(size)?;
        let mut free = window as u64;
        let mut exchange = |first: u64, count: u64| -> Fallible<()> {
            for number in first..first + count {
                buffer.stamp(number);
                // SAFETY: this side alone sends here and receives there, messages in order from 0; the mappings outlive
                // the run, and with common memory the two ways take turns.
                unsafe {
                    asked.send(buffer.bytes(), number, &mut free);
                    answered.receive(buffer.bytes_mut(), number);
                }
                buffer.expect(!number)?;
            }
            Ok(())
        };
        side.meet()?;
        exchange(0, warm_up)?;
        side.meet()?;
        let start = Instant::now();
        exchange(warm_up, rounds)?;
        Ok(nanoseconds_each(start, rounds))
    };
    let answer = |side: &Side<'_>| {
        memory.touch();
        counters.touch();
        let mut buffer = Private::new(size)?;
        let mut free = window as u64;
        let mut exchange = |first: u64, count: u64| -> Fallible<()> {
            for number in first..first + count {
                // SAFETY: as above, with the ways exchanged.
                unsafe { asked.receive(buffer.bytes_mut(), number) };
                buffer.answer();
                // SAFETY: as above.
                unsafe { answered.send(buffer.bytes(), number, &mut free) };
            }
            Ok(())
        };
        side.meet()?;
        exchange(0, warm_up)?;
        side.meet()?;
        exchange(warm_up, rounds)
    };
    duo.run(ask, answer)
}

/// One way of the exchange, as each side sees it. Positions count bytes from the first message on.
struct Lane {
    /// Position up to which the sender has copied in. Written by the sender, polled by the receiver.
    written: *const IndexLine,
    /// Position up to which the receiver has copied out, if that is `checked`. Written by the receiver, read by the sender.
    read: *const IndexLine,
    /// The window.
    bytes: *mut u8,
    shape: Shape,
    /// Whether the sender waits for room. Without it the answer to a message is what makes room for the next.
    checked: bool,
}

impl Lane {
    /// Copies message `number` in. `free` is the sender's copy of the position up to which there is room.
    ///
    /// # Safety
    ///
    /// The caller is the only sender, the messages before `number` were sent, the window is mapped, and if the lane is not
    /// `checked`, the message one window ago was received.
    #[inline(always)]
    unsafe fn send(&self, message: &[u8], number: u64, free: &mut u64) {
        let Shape { window, chunk, copy_in, .. } = self.shape;
        let mut position = number * message.len() as u64;
        // SAFETY: both counters are mapped and atomic.
        let (written, read) = unsafe { (&(*self.written).0, &(*self.read).0) };
        for part in message.chunks_exact(chunk) {
            let end = position + chunk as u64;
            // The peer's line is read only when the copy says full.
            while self.checked && end > *free {
                std::hint::spin_loop();
                // [T3] takes the room back; pairs with [T4].
                *free = read.load(Ordering::Acquire) + window as u64;
            }
            let offset = position as usize & (window - 1);
            // SAFETY: chunk and window are powers of two, so the chunk ends within the window; its former bytes were copied
            // out ([T3], or the answer), and the receiver reads these only after [T1].
            unsafe { copy_in.copy(part.as_ptr(), self.bytes.add(offset), chunk) };
            // [T1] publishes the chunk; pairs with [T2].
            written.store(end, Ordering::Release);
            position = end;
        }
    }

    /// Waits for message `number` and copies it out as it comes.
    ///
    /// # Safety
    ///
    /// The caller is the only receiver, the messages before `number` were received, and the window is mapped.
    #[inline(always)]
    unsafe fn receive(&self, message: &mut [u8], number: u64) {
        let Shape { window, chunk, copy_out, .. } = self.shape;
        let mut position = number * message.len() as u64;
        // SAFETY: both counters are mapped and atomic.
        let (written, read) = unsafe { (&(*self.written).0, &(*self.read).0) };
        let mut filled = position;
        for part in message.chunks_exact_mut(chunk) {
            let end = position + chunk as u64;
            while filled < end {
                std::hint::spin_loop();
                // [T2] takes the chunk over; pairs with [T1].
                filled = written.load(Ordering::Acquire);
            }
            let offset = position as usize & (window - 1);
            // SAFETY: the chunk lies within the window, was copied in before [T1], and is written again only after [T4] or
            // the answer.
            unsafe { copy_out.copy(self.bytes.add(offset), part.as_mut_ptr(), chunk) };
            if self.checked {
                // [T4] gives the room back; pairs with [T3].
                read.store(end, Ordering::Release);
            }
            position = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(window: usize, chunk: usize, common: bool) -> Shape {
        Shape { window, chunk, common, copy_in: Copier::Library, copy_out: Copier::Library }
    }

    #[test]
    fn every_shape_returns_its_message_whole() {
        let Ok(duo) = Duo::new() else { return };
        let shapes = [
            shape(64 << 10, 64 << 10, false),
            shape(64 << 10, 64 << 10, true),
            shape(256 << 10, 4096, false),
            shape(16 << 10, 4096, false),
            shape(4096, 4096, false),
        ];
        for copier in Copier::available() {
            for shape in shapes.map(|shape| Shape { copy_in: copier, copy_out: copier, ..shape }) {
                assert!(round_trip(&duo, shape, 64 << 10, 40).unwrap() > 0.0, "{shape}");
            }
        }
    }

    #[test]
    fn a_shape_that_does_not_fit_the_message_is_refused() {
        let Ok(duo) = Duo::new() else { return };
        for (size, shape) in [
            (4096, shape(4096, 8192, false)),
            (8192, shape(4096, 8192, false)),
            (8192, shape(4096, 4096, true)),
            (5000, shape(8192, 4096, false)),
            (4096, shape(4096, 32, false)),
        ] {
            let error = round_trip(&duo, shape, size, 1).unwrap_err().to_string();
            assert!(error.contains(&size.to_string()), "{error}");
        }
    }
}
