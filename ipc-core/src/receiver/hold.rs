//! What messages hold beside their records, and how it is given back.
//!
//! Promise: a record is consumed before what belongs to it is given back. Refusal: held messages give back by themselves.

use super::Receiver;
use super::incoming::MAX_SPARE;
use crate::layout::descriptor::Place;
use crate::message::{Body, Borrowed, Held, Hold, Keep, Other, Trust};
use std::vec::Vec;

impl<T: Trust> Receiver<T> {
    /// Consumes the record of a message, and gives back what it holds. Never inlined: dropping a plain message would be a call then.
    #[inline(never)]
    pub(crate) fn release_hold(&mut self, hold: Hold) {
        // First the record: a sender whose peer dies between the two must not find a message undelivered whose block it lent again.
        self.release(1);
        match hold {
            Hold::Block(place) => self.give_block(place),
            hold => self.give_back_one(hold),
        }
    }

    #[inline(always)]
    fn give_block(&mut self, place: Place) {
        let Some(way_back) = &self.incoming.way_back else { return };
        if !self.link.is_original() {
            return;
        }
        let block = place.block();
        // Other threads give back what they hold, once anything was held.
        let wake = if self.incoming.has_held { way_back.give(block) } else { way_back.give_alone(block) };
        if wake {
            self.link.space.ring();
        }
    }

    #[cold]
    pub(crate) fn give_back(&mut self, holds: Vec<Hold>) {
        holds.into_iter().for_each(|hold| self.give_back_one(hold));
    }

    #[cold]
    pub(super) fn give_back_one(&mut self, hold: Hold) {
        let block = match hold {
            Hold::Record => return,
            Hold::Block(place) => Some(place),
            Hold::Other(other) => {
                let mut other = other;
                let block = other.block;
                // A large one would be kept for nothing.
                self.incoming.spare =
                    other.bytes.take().filter(|bytes| bytes.capacity() <= MAX_SPARE).unwrap_or_default();
                self.incoming.spare.clear();
                drop(other);
                // The sender keeps files and copies until it hears of this.
                if self.consumer.flush_credit() {
                    self.incoming.call(&self.link);
                }
                block
            }
        };
        if let Some(place) = block {
            self.give_block(place);
        }
    }

    /// Keeps a message while others are received.
    pub(crate) fn hold(&mut self, body: Body, copied: Option<Vec<u8>>) -> Held<T> {
        let lane = self.lane_of(&body.hold);
        let (start, len) = body.parts();
        self.release(1);
        let (block, other) = match body.hold {
            Hold::Record => (None, Other { bytes: copied, ..Other::default() }),
            Hold::Block(place) => (Some(place), Other::default()),
            Hold::Other(other) => {
                if self.consumer.flush_credit() {
                    self.incoming.call(&self.link);
                }
                (other.block, *other)
            }
        };
        let Other { file, bytes, files, .. } = other;
        let borrowed = block.and_then(|place| {
            let region = self.incoming.borrower.region(place)?;
            let way_back = self.incoming.way_back.clone()?;
            self.incoming.has_held = true;
            Some(Borrowed { block: place.block(), way_back, _region: region, link: self.link.clone() })
        });
        let (start, keep) = match (borrowed, file) {
            (Some(borrowed), _) => (start, Keep::Block(borrowed)),
            (None, Some(file)) => (start, Keep::File(file)),
            (None, None) => {
                let bytes = bytes.unwrap_or_default();
                (bytes.as_ptr(), Keep::Bytes(bytes))
            }
        };
        Held::new(start, len, keep, files, lane)
    }
}
