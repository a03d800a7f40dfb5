//! What the two processes of the demonstration say to each other besides the messages that they check.
//!
//! ```text
//! order to the other process: kind  sizes  batched  messages  nanoseconds     five u64, little-endian
//! header of a block:          messages that follow  number of the first  sleeps
//! ```
//!
//! A stream is sent in blocks, each behind its header; a header of no messages ends it.

use std::time::Duration;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Bytes in each message; none for all sizes.
    pub(super) sizes: Option<usize>,
    /// Published many at a time.
    pub(super) batched: bool,
}

impl Load {
    /// Length of message `number` on a connection that takes up to `max` bytes.
    pub(super) fn len(self, number: u64, max: usize) -> usize {
        self.sizes.unwrap_or_else(|| super::content::len(number, max))
    }
}

/// What the other process is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// End.
    Quit,
    /// Send messages until there were enough, or time is over.
    Stream {
        /// Which ones.
        load: Load,
        /// The most messages.
        messages: u64,
        /// The longest time.
        time: Duration,
    },
    /// Send back what comes, until something empty comes.
    Echo,
}

const QUIT: u64 = 0;
const STREAM: u64 = 1;
const ECHO: u64 = 2;

impl Order {
    pub(super) fn encode(self) -> Vec<u8> {
        let words = match self {
            Self::Quit => [QUIT, 0, 0, 0, 0],
            Self::Stream { load: Load { sizes, batched }, messages, time } => {
                let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                [STREAM, sizes.map_or(u64::MAX, |len| len as u64), batched.into(), messages, time]
            }
            Self::Echo => [ECHO, 0, 0, 0, 0],
        };
        join(words)
    }

    /// `None` if it is no order.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        Some(match split::<5>(message)? {
            [QUIT, ..] => Self::Quit,
            [STREAM, sizes, batched, messages, time] => {
                let sizes = if sizes == u64::MAX { None } else { Some(usize::try_from(sizes).ok()?) };
                let load = Load { sizes, batched: batched != 0 };
                Self::Stream { load, messages, time: Duration::from_nanos(time) }
            }
            [ECHO, ..] => Self::Echo,
            _ => return None,
        })
    }
}

/// What comes before some messages of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Messages that follow; none at the end of the stream.
    pub(super) messages: u64,
    /// Number of the first of them, counted from 0.
    pub(super) first: u64,
    /// Times that the sender slept in this stream.
    pub(super) slept: u64,
}

impl Header {
    pub(super) fn encode(self) -> Vec<u8> {
        join([self.messages, self.first, self.slept])
    }

    /// `None` if it is no header.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let [messages, first, slept] = split(message)?;
        Some(Self { messages, first, slept })
    }
}

fn join<const N: usize>(words: [u64; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn split<const N: usize>(message: &[u8]) -> Option<[u64; N]> {
    let (words, rest) = message.as_chunks::<8>();
    let words: &[[u8; 8]; N] = words.try_into().ok()?;
    rest.is_empty().then(|| words.map(u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_headers_survive_the_way() {
        let load = Load { sizes: None, batched: true };
        let stream = Order::Stream { load, messages: u64::MAX, time: Duration::from_millis(7) };
        for order in [Order::Quit, stream, Order::Echo] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        let header = Header { messages: 3, first: 9, slept: 1 };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        assert_eq!(Header::decode(b"short"), None);
        assert_eq!(Order::decode(&header.encode()), None);
    }
}
