//! Messages that are copied out while their sender still copies them in.
//!
//! Promise: only bytes that are written are read; a message whose sender dies meanwhile is not received. Refusal: offers are in
//! `offers.rs`.

use super::Receiver;
use super::incoming::Growing;
use crate::arena::progress;
use crate::error::{RecvError, TooShort};
use crate::layout::descriptor::{Descriptor, Kind};
use crate::message::{Hold, Trust};
use crate::os::bell::Deadline;
use crate::ring::Payload;
use core::ops::ControlFlow;
use std::boxed::Box;

impl<T: Trust> Receiver<T> {
    /// Bytes that are written of a message that grows; at least `known` were, so far.
    pub(super) fn grown(&mut self, descriptor: &Descriptor) -> Result<u64, RecvError> {
        let known = self.incoming.growing.map_or(0, |growing| growing.known);
        let block = descriptor.place.block();
        let Some(way_back) = &self.incoming.way_back else { return Ok(0) };
        let grown = progress::read(way_back.progress(block), known, descriptor.length);
        let grown = grown.map_err(|violation| self.condemn(violation))?;
        let growing = Growing { block, known: grown };
        self.incoming.growing = (grown < descriptor.length).then_some(growing);
        Ok(grown)
    }

    /// Says whether a message is still being written.
    pub(super) fn is_growing(&mut self, descriptor: &Descriptor) -> Result<bool, RecvError> {
        Ok(descriptor.kind == Kind::Stream && self.grown(descriptor)? < descriptor.length)
    }

    /// Copies a message that may still be written, close behind the sender.
    pub(super) fn follow(
        &mut self,
        descriptor: &Descriptor,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<(), RecvError> {
        let found = self.incoming.borrower.find(descriptor.place, descriptor.length);
        let start = found.map_err(|violation| self.condemn(violation))?;
        let mut done = 0;
        loop {
            let grown = self.grown(descriptor)? as usize;
            // SAFETY: inside the region, written as far as the progress says; the target is as long as the message.
            unsafe { core::ptr::copy_nonoverlapping(start.add(done), target.as_mut_ptr().add(done), grown - done) };
            done = grown;
            if done == target.len() {
                return Ok(());
            }
            self.wait_ready(deadline, made)?;
        }
    }

    /// Goes back to a message that is longer than the `buffer` bytes that the caller has. What its sender did not finish before it died is
    /// no message: it ends the connection, however long the buffer is.
    pub(super) fn too_short(&mut self, record: &Payload, descriptor: &Descriptor, buffer: usize) -> RecvError {
        // In this order: its last word may be written between two looks.
        let unfinished = self
            .is_growing(descriptor)
            .and_then(|grows| Ok(grows && self.link.messages.is_peer_gone() && self.is_growing(descriptor)?));
        self.incoming.growing_is_over();
        self.consumer.go_back(record);
        match unfinished {
            Ok(true) => self.disconnected(),
            Ok(false) => TooShort { message: self.length(descriptor), buffer }.into(),
            Err(error) => error,
        }
    }

    /// Receives a message into `target`; its record is consumed. `Continue`: its bytes are not for copying piece by piece.
    pub(super) fn receive_into(
        &mut self,
        record: &Payload,
        descriptor: &Descriptor,
        target: &mut [u8],
        deadline: &impl Fn() -> Deadline,
        made: &mut Option<Deadline>,
    ) -> Result<ControlFlow<usize>, RecvError> {
        let len = self.length(descriptor);
        let Some(target) = target.get_mut(..len) else {
            return Err(self.too_short(record, descriptor, target.len()));
        };
        match descriptor.kind {
            Kind::Stream if descriptor.files == 0 => {
                if let Err(error) = self.follow(descriptor, target, deadline, made) {
                    self.incoming.growing_is_over();
                    self.consumer.go_back(record);
                    return Err(error);
                }
                self.release_hold(Hold::Block(descriptor.place));
            }
            Kind::Packet if descriptor.files == 0 => {
                if let Err(error) = self.take_packet(target) {
                    self.consumer.go_back(record);
                    return Err(error);
                }
                self.release_hold(Hold::Other(Box::default()));
            }
            _ => return Ok(ControlFlow::Continue(())),
        }
        Ok(ControlFlow::Break(len))
    }
}
