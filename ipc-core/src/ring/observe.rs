//! A look at a ring from outside, by someone who is neither its producer nor its consumer.

use super::RingMemory;
use super::read::Payload;
use super::walk::Walk;
use crate::doorbell::is_waiting;
use crate::layout::HEADER;
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
    ///
    /// Neither side keeps a count of messages in shared memory that is written for each of them: it would cost every
    /// message something. The records are still there, so they are counted instead, up to a whole ring of them.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        let control = self.control();
        let counted = control.consumer_signals.messages.load(Ordering::Relaxed);
        let credit = control.consumer_signals.credit.load(Ordering::Relaxed);
        let head = control.consumer.head.load(Ordering::Relaxed);
        let mut walk = Walk::new(self, credit);
        let (mut received, mut sent) = (counted, counted);
        // A record that is written over meanwhile ends the walk early. There are at most as many as fit a ring: a hostile peer
        // that goes on writing must not keep an observer.
        for _ in 0..self.capacity() / HEADER {
            if walk.position().wrapping_sub(credit) > self.capacity() {
                break;
            }
            let Ok(Some(record)) = Payload::next(&mut walk) else { break };
            sent = sent.saturating_add(u64::from(record.ends_message()));
            if walk.position() <= head {
                received = sent;
            }
        }
        RingStatus {
            capacity: self.capacity(),
            used: walk.position().saturating_sub(head).min(self.capacity()),
            sent,
            received,
            producer_sleeps: is_waiting(control.producer_signals.ticket.load(Ordering::Relaxed)),
            consumer_sleeps: is_waiting(control.consumer_signals.ticket.load(Ordering::Relaxed)),
        }
    }
}
