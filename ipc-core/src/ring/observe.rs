//! A look at a ring from outside, by someone who is neither its producer nor its consumer.

use super::RingMemory;
use crate::doorbell::is_waiting;
use crate::sync::Ordering;

/// What a ring looked like at about one moment. The words are read one after the other while both sides go on,
/// so they need not fit each other exactly; a hostile peer can make them say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStatus {
    /// Capacity in bytes.
    pub capacity: u64,
    /// Bytes published and not yet consumed, padding included; 0 to `capacity`.
    pub used: u64,
    /// Messages published since the ring began.
    pub sent: u64,
    /// Messages consumed since the ring began.
    pub received: u64,
    /// The producer sleeps until there is room.
    pub producer_sleeps: bool,
    /// The consumer sleeps until there is a message.
    pub consumer_sleeps: bool,
}

impl RingMemory<'_> {
    /// Looks at the ring without disturbing it.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        let control = self.control();
        let head = control.consumer.head.load(Ordering::Relaxed);
        let tail = control.producer.tail.load(Ordering::Relaxed);
        RingStatus {
            capacity: self.capacity(),
            used: tail.saturating_sub(head).min(self.capacity()),
            sent: control.producer.messages.load(Ordering::Relaxed),
            received: control.consumer.messages.load(Ordering::Relaxed),
            producer_sleeps: is_waiting(control.producer_signals.ticket.load(Ordering::Relaxed)),
            consumer_sleeps: is_waiting(control.consumer_signals.ticket.load(Ordering::Relaxed)),
        }
    }
}
