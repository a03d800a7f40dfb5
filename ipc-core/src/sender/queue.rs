//! Messages in the queue itself: the ring, or the socket that stands for it. Whole, or in pieces; and credit that the ring does not know of.
//!
//! Promise: a message that ends in the middle is forgotten by the receiver. Refusal: small messages to a ring with room do not come here.

use super::content::Content;
use super::need::Need;
use super::{Patience, Sender, Shortage};
use crate::error::{Resource, SendError};
use crate::layout::descriptor::{self, Descriptor, Kind};
use crate::layout::{HEADER, Mark};
use crate::message::Trust;
use crate::os::bell::Deadline;
use crate::os::carrier;
use rustix::fd::BorrowedFd;

/// Looks at credit that has come before a call waits for it: a peer that gives it without end, and none, must not keep us.
const MAX_LOOKS: u32 = 16;

impl<T: Trust> Sender<T> {
    /// The ring, or the socket that stands for it: whole if it fits a record, in pieces if not.
    pub(super) fn send_in_queue(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let mut made = None;
        let longest = self.producer.max_record();
        // The last piece of several says so.
        let described = !files.is_empty() || content.len > longest;
        let extra = if described { descriptor::SIZE } else { 0 };
        let mut at = 0;
        if content.len + extra > longest {
            self.check_pieces(content.len + extra, patience)?;
            self.await_in_flight(patience, &mut made)?;
        }
        while content.len + extra - at > longest {
            // The descriptor alone may be what does not fit behind the rest: then the last piece has no bytes.
            let end = content.len.min(at + longest);
            let len = (end - at) as usize;
            let claimed = self.claim_slow(len, patience, &mut made);
            self.note_pieces(at, claimed)?;
            let mut record = self.producer.reservation(len);
            let mut offset = 0;
            for piece in content.range(at, end) {
                record.write_at(offset, piece);
                offset += piece.len();
            }
            let wake = record.publish_as(Mark::More, 0).1;
            self.wake(wake);
            at = end;
        }
        let len = (content.len - at + extra) as usize;
        let claimed =
            self.claim_slow(len, patience, &mut made).and_then(|()| self.put_beside(files, patience, &mut made));
        self.note_pieces(at, claimed)?;
        let number = self.producer.messages();
        let mut record = self.producer.reservation(len);
        let mut offset = extra as usize;
        if described {
            let mut descriptor = Descriptor::new(Kind::Inline, content.len - at);
            descriptor.files = files.len() as u8;
            record.write_words(descriptor.encode());
        }
        for piece in content.range(at, content.len) {
            record.write_at(offset, piece);
            offset += piece.len();
        }
        if at > 0 {
            // Pieces that were consumed cannot be taken back from the ring.
            self.lanes.keep(number, content);
        }
        let mark = if described { Mark::Described } else { Mark::Plain };
        let wake = record.publish_as(mark, 1).1;
        self.wake(wake);
        Ok(())
    }

    /// A message that fails when `at` bytes of it were sent leaves pieces that the peer must forget.
    pub(super) fn note_pieces<R>(&mut self, at: u64, result: Result<R, SendError>) -> Result<R, SendError> {
        if at > 0 && result.is_err() {
            self.lanes.in_pieces = true;
            self.lanes.set_fast(&mut self.producer);
        }
        result
    }

    /// A call that does not wait cannot send a message piece by piece: all pieces, of `len` bytes together, have to fit at once.
    pub(super) fn check_pieces(&mut self, len: u64, patience: Patience) -> Result<(), SendError> {
        if !patience.is_none() {
            return Ok(());
        }
        self.lanes.hear(&self.link, &mut self.producer)?;
        let longest = self.producer.max_record();
        let needed = len + len.div_ceil(longest) * 2 * HEADER;
        let most = 2 * longest;
        if needed > most {
            return Err(SendError::TooLarge { len, max: most - 4 * HEADER });
        }
        // Behind a piece there may be padding, as long as the next piece.
        match self.producer.look_ahead(needed + longest) {
            Ok(()) => Ok(()),
            Err(refused) => {
                let (needed, free) = self.refusal(refused)?;
                self.wait(Need::Room, Shortage { resource: Resource::Ring, needed, free }, patience, &mut None)
            }
        }
    }

    /// Says whether the receiver's credit, as far as it is known, covers one more message beside `open` ones that are not published.
    pub(super) fn has_credit(&self, open: u64) -> bool {
        let out = self.producer.messages().saturating_sub(self.producer.consumed());
        out.saturating_add(open) < self.lanes.credit
    }

    /// Waits for what the ring does not know of: credit in messages, and room in the socket.
    pub(super) fn await_credit(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        if self.lanes.in_pieces {
            self.abort_pieces(patience, made)?;
        }
        let credit = self.lanes.credit;
        let mut looks = 0;
        loop {
            let sent = self.producer.messages();
            // Looked at once: a count that moves on meanwhile would make a refusal that contradicts itself.
            let out = sent.saturating_sub(self.producer.consumed());
            if out < credit {
                break;
            }
            looks += 1;
            if looks <= MAX_LOOKS && self.lanes.hear(&self.link, &mut self.producer)? {
                continue;
            }
            let shortage = Shortage { resource: Resource::Messages, needed: 1, free: 0 };
            self.wait(Need::Consumed((sent + 1).saturating_sub(credit)), shortage, patience, made)?;
        }
        if self.lanes.outlet.is_some() && !matches!(patience, Patience::Endless) {
            self.note_full_socket();
            carrier::await_room(&self.link, &mut self.lanes.surely, patience.deadline(made))?.map_err(|waited| {
                let (resource, needed, free) = (Resource::Packets, 1, 0);
                match waited {
                    None => SendError::WouldBlock { resource, needed, free },
                    Some(waited) => SendError::TimedOut { waited, resource, needed, free },
                }
            })?;
        }
        Ok(())
    }

    /// A socket that is full has room again when the peer has consumed something, and the peer says so after a few messages.
    pub(super) fn note_full_socket(&mut self) {
        self.lanes.last_need = Need::Consumed(self.producer.consumed().saturating_add(1));
    }

    /// A call gave up in the middle of a message: the peer forgets the pieces it has.
    pub(super) fn abort_pieces(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        self.lanes.in_pieces = false;
        if let Err(error) = self.claim_slow(descriptor::SIZE as usize, patience, made) {
            self.lanes.in_pieces = true;
            return Err(error);
        }
        self.publish_described(&Descriptor::new(Kind::Abort, 0), 0);
        Ok(())
    }
}
