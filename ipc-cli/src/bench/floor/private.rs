//! A message in memory of one's own: the buffer that a side copies from and copies into.
//!
//! It begins at a page, every byte was written before it is used, and it carries the number of its message at both ends,
//! so that an exchange that lost, repeated or cut a message fails instead of being timed. What lies between the ends is
//! not looked at.

use super::super::process::Fallible;

/// Alignment of a buffer, bytes: a page, so that no measured system gets a luckier buffer than another.
const ALIGNMENT: usize = 4096;

/// Bytes of a message's number.
const NUMBER: usize = size_of::<u64>();

/// A private message of a fixed size.
pub(crate) struct Private {
    /// The message and what lies before it up to the alignment.
    memory: Vec<u8>,
    /// Where the message begins in `memory`.
    start: usize,
    /// Length of the message, bytes, at least [`NUMBER`].
    len: usize,
}

impl Private {
    /// A message of `len` bytes, none of them 0.
    ///
    /// # Errors
    ///
    /// `len` is below the 8 bytes of a number.
    pub(crate) fn new(len: usize) -> Fallible<Self> {
        if len < NUMBER {
            return Err(format!("a message of {len} bytes has no room for its number").into());
        }
        // Not zero: a zeroed allocation has no memory of its own until it is written.
        let memory = vec![1u8; len + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Ok(Self { memory, start, len })
    }

    /// The message.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The message, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// Writes `number` into the first and the last 8 bytes.
    pub(crate) fn stamp(&mut self, number: u64) {
        let last = self.len - NUMBER;
        let bytes = self.bytes_mut();
        bytes[..NUMBER].copy_from_slice(&number.to_ne_bytes());
        bytes[last..].copy_from_slice(&number.to_ne_bytes());
    }

    /// Turns over every bit of the number at both ends, which makes an answer that its asker can tell from the question.
    ///
    /// The answering side does not judge what came: only the asker's failure ends a run, and a mistake comes back to it.
    pub(crate) fn answer(&mut self) {
        let last = self.len - NUMBER;
        let (first, end) = self.bytes_mut().split_at_mut(last);
        // Ends that overlap have one number between them, which `expect` looks for in the last.
        let beginning = if first.len() < NUMBER { &mut [] } else { &mut first[..NUMBER] };
        beginning.iter_mut().chain(end).for_each(|byte| *byte = !*byte);
    }

    /// Looks for `number` in the last 8 bytes, and in the first if the two do not overlap.
    ///
    /// # Errors
    ///
    /// Another number lies there.
    pub(crate) fn expect(&self, number: u64) -> Fallible<()> {
        let expected = number.to_ne_bytes();
        let bytes = self.bytes();
        let overlap = self.len < 2 * NUMBER;
        if bytes.ends_with(&expected) && (overlap || bytes.starts_with(&expected)) {
            return Ok(());
        }
        Err(format!("the message expected was {number}, and another one came").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_at_a_page_and_carries_its_number_at_both_ends() {
        for len in [8, 9, 15, 16, 100, 5000] {
            let mut message = Private::new(len).unwrap();
            assert_eq!(message.bytes().len(), len);
            assert_eq!(message.bytes().as_ptr().addr() % ALIGNMENT, 0);
            message.stamp(0x1122_3344_5566_7788);
            message.expect(0x1122_3344_5566_7788).unwrap();
            assert!(message.expect(1).is_err());
        }
    }

    #[test]
    fn an_answer_is_the_number_turned_over_and_a_damaged_question_shows_in_it() {
        for len in [8, 12, 15, 16, 17, 100] {
            let mut message = Private::new(len).unwrap();
            message.stamp(5);
            message.answer();
            message.expect(!5).unwrap();
            message.stamp(5);
            message.bytes_mut()[len - 1] ^= 1;
            message.answer();
            assert!(message.expect(!5).is_err(), "{len}");
        }
    }

    #[test]
    fn a_message_cut_at_either_end_is_noticed() {
        for damaged in [0, 63] {
            let mut message = Private::new(64).unwrap();
            message.stamp(7);
            message.bytes_mut()[damaged] ^= 1;
            assert!(message.expect(7).is_err(), "byte {damaged}");
        }
    }

    #[test]
    fn a_message_without_room_for_its_number_is_refused() {
        assert!(Private::new(7).is_err());
    }
}
