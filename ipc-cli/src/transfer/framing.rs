//! Where messages begin and end: in the bytes of a file or pipe, and in the stream of messages itself.
//!
//! Promise: pure functions of bytes; what [`Splitter`] cuts, [`Framing::prefix`] and [`Framing::suffix`] put back. Every
//! sequence of messages can be sent between marks, also one that looks like marks. Refusal: nothing is read or written here.
//!
//! # The stream
//!
//! ```text
//! message  message  ...  End(messages, bytes)          sender to receiver
//! Done(messages, bytes)                                receiver to sender
//! ```
//!
//! Messages travel as they are: a program that uses the library sees the lines or frames themselves. `End` tells a sender that
//! has finished from one that was killed, and counts what it sent. `Done` says that everything up to `messages` was written to
//! the output. A mark is a message of 32 bytes:
//!
//! ```text
//! 0 "\0ipc-transfer\0\0"  15 kind: 'E', 'D' or 'L'  16 messages: u64 LE  24 bytes: u64 LE
//! ```
//!
//! A message of the user's that could be taken for a mark is announced: a mark of kind `L` (literal) says that the next
//! message is data whatever it looks like. With `--bare` there are no marks in either direction.

use std::fmt;

/// How messages lie in a file or pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A message is some bytes; where one ends and the next begins has no meaning.
    Raw,
    /// A message is a line without its newline. A last line that has none gets one at the receiver.
    Lines,
    /// A message follows its length in bytes, a little-endian `u32`.
    Len32,
}

/// Size of the length in front of a [`Framing::Len32`] message, in bytes.
const LENGTH_SIZE: usize = size_of::<u32>();

impl Framing {
    /// What stands before a message of `len` bytes: `None` if the framing has no number for such a length.
    pub(crate) fn prefix(self, len: usize) -> Option<Prefix> {
        match self {
            Self::Raw | Self::Lines => Some(Prefix { bytes: [0; LENGTH_SIZE], used: 0 }),
            Self::Len32 => {
                let len = u32::try_from(len).ok()?;
                Some(Prefix { bytes: len.to_le_bytes(), used: LENGTH_SIZE })
            }
        }
    }

    /// What stands behind each message.
    pub(crate) fn suffix(self) -> &'static [u8] {
        match self {
            Self::Raw | Self::Len32 => b"",
            Self::Lines => b"\n",
        }
    }
}

/// What stands before a message.
pub(crate) struct Prefix {
    bytes: [u8; LENGTH_SIZE],
    used: usize,
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// Why some input is no sequence of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A line has more bytes than a message can.
    Line {
        /// Which one, counted from 1.
        number: u64,
        /// Its bytes, as far as they were counted.
        len: u64,
        /// The line goes on beyond `len`.
        more: bool,
        /// The most a message can have.
        max: u64,
    },
    /// A frame announces more bytes than a message can have.
    Frame {
        /// Which one, counted from 1.
        number: u64,
        /// What it announces.
        len: u64,
        /// The most a message can have.
        max: u64,
    },
    /// The input ends in the middle of a frame.
    Cut {
        /// Which frame, counted from 1.
        number: u64,
        /// Bytes that are there, the length included.
        found: u64,
        /// Bytes that are missing at least.
        missing: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { number, len, more, max } => {
                let least = if *more { "more than " } else { "" };
                write!(out, "line {number} has {least}{len} bytes; this connection takes messages of up to {max}")
            }
            Self::Frame { number, len, max } => {
                write!(out, "frame {number} announces {len} bytes; this connection takes messages of up to {max}")
            }
            Self::Cut { number, found, missing } => {
                write!(out, "the input ends inside frame {number}: {found} bytes are there, {missing} are missing")
            }
        }
    }
}

/// What the start of some input is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'b> {
    /// A message, and how many bytes of input it takes with its framing.
    Message {
        /// The message itself.
        payload: &'b [u8],
        /// Bytes to step over.
        taken: usize,
    },
    /// The beginning of a message: more input is needed.
    Partial,
    /// A line that is too long already; its end has not been seen.
    Overlong,
}

/// Cuts input into messages.
#[derive(Debug)]
pub(crate) struct Splitter {
    framing: Framing,
    /// The most bytes a message can have.
    max: usize,
    /// Messages cut so far.
    messages: u64,
    /// Bytes at the start of the rest that are known to hold no newline.
    scanned: usize,
}

impl Splitter {
    /// Cuts messages of up to `max` bytes.
    pub(crate) fn new(framing: Framing, max: usize) -> Self {
        Self { framing, max, messages: 0, scanned: 0 }
    }

    /// The first message of `rest`: the input that was not stepped over, and all that came since.
    ///
    /// # Errors
    /// A message that is known to be too long.
    pub(crate) fn cut<'b>(&mut self, rest: &'b [u8]) -> Result<Cut<'b>, FrameError> {
        let cut = match self.framing {
            Framing::Raw if rest.is_empty() => Cut::Partial,
            Framing::Raw => {
                let payload = &rest[..rest.len().min(self.max)];
                Cut::Message { payload, taken: payload.len() }
            }
            Framing::Lines => self.cut_line(rest)?,
            Framing::Len32 => self.cut_frame(rest)?,
        };
        self.messages += u64::from(matches!(cut, Cut::Message { .. }));
        Ok(cut)
    }

    fn cut_line<'b>(&mut self, rest: &'b [u8]) -> Result<Cut<'b>, FrameError> {
        let Some(at) = find_newline(&rest[self.scanned..]) else {
            self.scanned = rest.len();
            return Ok(if rest.len() > self.max { Cut::Overlong } else { Cut::Partial });
        };
        let len = self.scanned + at;
        self.scanned = 0;
        if len > self.max {
            return Err(self.overlong(len as u64, false));
        }
        Ok(Cut::Message { payload: &rest[..len], taken: len + 1 })
    }

    fn cut_frame<'b>(&self, rest: &'b [u8]) -> Result<Cut<'b>, FrameError> {
        let Some((len, rest)) = rest.split_first_chunk::<LENGTH_SIZE>() else {
            return Ok(Cut::Partial);
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > self.max {
            return Err(FrameError::Frame { number: self.messages + 1, len: len as u64, max: self.max as u64 });
        }
        Ok(match rest.get(..len) {
            Some(payload) => Cut::Message { payload, taken: LENGTH_SIZE + len },
            None => Cut::Partial,
        })
    }

    /// What the input ends with: a message that its end completes, or nothing.
    ///
    /// # Errors
    /// [`FrameError::Cut`].
    pub(crate) fn finish<'b>(&self, rest: &'b [u8]) -> Result<Option<&'b [u8]>, FrameError> {
        if rest.is_empty() {
            return Ok(None);
        }
        let Framing::Len32 = self.framing else {
            return Ok(Some(rest));
        };
        let found = rest.len();
        let needed = match rest.first_chunk() {
            Some(len) => LENGTH_SIZE + u32::from_le_bytes(*len) as usize,
            None => LENGTH_SIZE,
        };
        Err(FrameError::Cut { number: self.messages + 1, found: found as u64, missing: (needed - found) as u64 })
    }

    /// The error for the line that comes next, after as much of it was counted as `len` says.
    pub(crate) fn overlong(&self, len: u64, more: bool) -> FrameError {
        FrameError::Line { number: self.messages + 1, len, more, max: self.max as u64 }
    }
}

/// Where the first newline is.
pub(crate) fn find_newline(bytes: &[u8]) -> Option<usize> {
    // SAFETY: the range is that of the slice.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), i32::from(b'\n'), bytes.len()) };
    (!found.is_null()).then(|| found.addr() - bytes.as_ptr().addr())
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The sender has finished.
    End = b'E' as isize,
    /// The receiver has written everything up to here, and wants no more.
    Done = b'D' as isize,
    /// The next message is data, whatever it looks like.
    Literal = b'L' as isize,
}

/// A message of the stream itself: see the drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// What it says.
    pub(crate) kind: Kind,
    /// Data messages before it.
    pub(crate) messages: u64,
    /// Bytes in those messages.
    pub(crate) bytes: u64,
}

const MAGIC: &[u8; KIND_AT] = b"\0ipc-transfer\0\0";
const KIND_AT: usize = 15;
const MESSAGES_AT: usize = 16;
const BYTES_AT: usize = 24;
/// Size of a mark, in bytes.
pub(crate) const MARK_SIZE: usize = 32;

impl Mark {
    /// The message that says it.
    pub(crate) fn encode(self) -> [u8; MARK_SIZE] {
        let mut message = [0; MARK_SIZE];
        message[..KIND_AT].copy_from_slice(MAGIC);
        message[KIND_AT] = self.kind as u8;
        message[MESSAGES_AT..BYTES_AT].copy_from_slice(&self.messages.to_le_bytes());
        message[BYTES_AT..].copy_from_slice(&self.bytes.to_le_bytes());
        message
    }

    /// Reads a message for which [`looks_like_mark`] is true; `None` for a kind that this version does not know.
    pub(crate) fn decode(message: &[u8; MARK_SIZE]) -> Option<Self> {
        let kind = match message[KIND_AT] {
            b'E' => Kind::End,
            b'D' => Kind::Done,
            b'L' => Kind::Literal,
            _ => return None,
        };
        let word = |at: usize| message[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        Some(Self { kind, messages: word(MESSAGES_AT)?, bytes: word(BYTES_AT)? })
    }
}

/// Says whether a message is a mark, or would be taken for one.
pub(crate) fn looks_like_mark(message: &[u8]) -> bool {
    message.len() == MARK_SIZE && message.starts_with(MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `input` as it comes in pieces of `step` bytes.
    fn split(framing: Framing, max: usize, input: &[u8], step: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut splitter = Splitter::new(framing, max);
        let (mut messages, mut start, mut end) = (Vec::new(), 0, 0);
        while end < input.len() {
            end = input.len().min(end + step);
            loop {
                match splitter.cut(&input[start..end])? {
                    Cut::Message { payload, taken } => {
                        messages.push(payload.to_vec());
                        start += taken;
                    }
                    Cut::Partial => break,
                    Cut::Overlong => return Err(splitter.overlong((end - start) as u64, true)),
                }
            }
        }
        messages.extend(splitter.finish(&input[start..])?.map(<[u8]>::to_vec));
        Ok(messages)
    }

    fn join(framing: Framing, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut output = Vec::new();
        for message in messages {
            output.extend_from_slice(framing.prefix(message.len()).unwrap().as_ref());
            output.extend_from_slice(message);
            output.extend_from_slice(framing.suffix());
        }
        output
    }

    #[test]
    fn what_is_cut_can_be_put_back_however_the_input_arrives() {
        let messages: Vec<Vec<u8>> = [0, 1, 0, 0, 300, 7, 31, 0].map(|len| vec![b'x'; len]).to_vec();
        for framing in [Framing::Lines, Framing::Len32] {
            let input = join(framing, &messages);
            for step in [1, 2, 3, 5, 64, 1000] {
                assert_eq!(split(framing, 300, &input, step).unwrap(), messages, "{framing:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn raw_input_keeps_its_bytes() {
        let input: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        for step in [1, 64, 333, 2000] {
            let messages = split(Framing::Raw, 100, &input, step).unwrap();
            assert!(messages.iter().all(|message| !message.is_empty() && message.len() <= 100));
            assert_eq!(join(Framing::Raw, &messages), input);
        }
    }

    #[test]
    fn empty_input_holds_no_message() {
        for framing in [Framing::Raw, Framing::Lines, Framing::Len32] {
            assert_eq!(split(framing, 10, b"", 1), Ok(vec![]));
        }
    }

    #[test]
    fn a_last_line_without_newline_counts() {
        assert_eq!(split(Framing::Lines, 10, b"a\n\nb", 2), Ok(vec![b"a".to_vec(), vec![], b"b".to_vec()]));
    }

    #[test]
    fn a_line_of_the_largest_size_passes_and_one_byte_more_does_not() {
        for step in [1, 100] {
            assert!(split(Framing::Lines, 5, b"12345\n12345", step).is_ok());
        }
        let too_long = split(Framing::Lines, 5, b"ok\n123456\n", 100);
        assert_eq!(too_long, Err(FrameError::Line { number: 2, len: 6, more: false, max: 5 }));
        let unended = split(Framing::Lines, 5, b"ok\n123456", 100);
        assert_eq!(unended, Err(FrameError::Line { number: 2, len: 6, more: true, max: 5 }));
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_length() {
        let input = [&1_u32.to_le_bytes()[..], b"x", &u32::MAX.to_le_bytes()].concat();
        let expected = FrameError::Frame { number: 2, len: u32::MAX.into(), max: 5 };
        assert_eq!(split(Framing::Len32, 5, &input, 3), Err(expected));
    }

    #[test]
    fn input_that_ends_inside_a_frame_is_an_error() {
        let input = [&4_u32.to_le_bytes()[..], b"abcd", &9_u32.to_le_bytes(), b"ab"].concat();
        let cut = |input| split(Framing::Len32, 100, input, 3);
        assert_eq!(cut(&input), Err(FrameError::Cut { number: 2, found: 6, missing: 7 }));
        assert_eq!(cut(&input[..10]), Err(FrameError::Cut { number: 2, found: 2, missing: 2 }));
    }

    #[test]
    fn marks_are_told_from_data() {
        for kind in [Kind::End, Kind::Done, Kind::Literal] {
            let mark = Mark { kind, messages: u64::MAX - 1, bytes: 3 };
            let message = mark.encode();
            assert!(looks_like_mark(&message));
            assert_eq!(Mark::decode(&message), Some(mark));
            assert!(!looks_like_mark(&message[..MARK_SIZE - 1]));
            assert!(!looks_like_mark(&[&message[..], b"x"].concat()));
        }
        assert!(!looks_like_mark(&[0; MARK_SIZE]));
        let mut unknown = Mark { kind: Kind::End, messages: 0, bytes: 0 }.encode();
        unknown[KIND_AT] = b'?';
        assert_eq!(Mark::decode(&unknown), None);
    }
}
