//! What travels beside the queue: files, messages in files of their own, and packets.
//!
//! Promise: what is beside a message is on its way before the message is, or neither is. Refusal: large messages that fit the arena do not
//! come here.

use super::content::Content;
use super::need::Need;
use super::undelivered::InFlight;
use super::{Patience, Sender, Shortage};
use crate::error::{Resource, SendError};
use crate::layout::descriptor::{Descriptor, Kind};
use crate::message::Trust;
use crate::os::bell::Deadline;
use crate::os::files;
use crate::os::payload::Draft;
use crate::os::segment::SegmentError;
use crate::router::Lane;
use rustix::fd::{AsFd, BorrowedFd};
use std::io::{self, IoSlice};
use std::time::Duration;
use std::vec::Vec;

/// The most messages in files of their own, or in packets beside the ring, that are sent and not consumed.
const MAX_IN_FLIGHT: usize = 64;
/// Time between two attempts while too many files are on their way in all sockets of this user.
const TOO_MANY_PAUSE: Duration = Duration::from_millis(1);

impl<T: Trust> Sender<T> {
    /// Sends files ahead of the record that they belong to.
    pub(super) fn put_beside(
        &mut self,
        files: &[BorrowedFd<'_>],
        patience: Patience,
        made: &mut Option<Deadline>,
    ) -> Result<(), SendError> {
        if files.is_empty() {
            return Ok(());
        }
        self.beside(patience, made, |socket| socket.send(files))
    }

    pub(super) fn beside(
        &mut self,
        patience: Patience,
        made: &mut Option<Deadline>,
        send: impl Fn(&files::Files) -> io::Result<()>,
    ) -> Result<(), SendError> {
        loop {
            let mut too_many = false;
            match send(&self.link.files) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if files::is_too_many(&error) => too_many = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.producer.mark_gone();
                    return Err(self.disconnected());
                }
                Err(error) => return Err(error.into()),
            }
            let (resource, needed, free) = (Resource::Packets, 1, 0);
            self.lanes.ring_deferred(&self.link, &mut self.producer);
            let Some(deadline) = patience.deadline(made) else {
                self.note_full_socket();
                return Err(SendError::WouldBlock { resource, needed, free });
            };
            let goes_on = if too_many {
                // Nothing tells when other connections have fewer.
                std::thread::sleep(deadline.left().map_or(TOO_MANY_PAUSE, |left| left.min(TOO_MANY_PAUSE)));
                !deadline.is_over()
            } else {
                self.link.files.wait_for_room(deadline)?
            };
            if !goes_on {
                return Err(SendError::TimedOut { waited: deadline.waited(), resource, needed, free });
            }
        }
    }

    pub(super) fn no_lane(&self, lane: Lane, len: u64) -> SendError {
        SendError::Lane { lane, len, mode: self.link.mode }
    }

    /// A file of its own.
    pub(super) fn send_file(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let draft = self.draft(content.len)?;
        // SAFETY: the file has room for the message, and is ours.
        unsafe { content.copy_to(draft.pointer()) };
        self.send_draft(draft, files, patience)
    }

    pub(super) fn draft(&self, len: u64) -> Result<Draft, SendError> {
        if !self.link.mode.has_arena() {
            return Err(self.no_lane(Lane::File, len));
        }
        Draft::new(&self.link.label, len).map_err(|error| no_memory(len, error))
    }

    pub(super) fn send_draft(
        &mut self,
        draft: Draft,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        let len = draft.len();
        let sealed = draft.seal().map_err(|error| no_memory(len, error))?;
        let mut made = None;
        self.await_in_flight(patience, &mut made)?;
        let all: Vec<_> = core::iter::once(sealed.as_fd()).chain(files.iter().copied()).collect();
        self.prepare_record(&all, patience, &mut made)?;
        let mut descriptor = Descriptor::new(Kind::File, len);
        descriptor.files = all.len() as u8;
        drop(all);
        self.lanes.in_flight.push_back((self.producer.messages(), InFlight::File(sealed)));
        self.publish_described(&descriptor, 1);
        Ok(())
    }

    /// A packet of the kernel, with its place in the ring.
    pub(super) fn send_packet(
        &mut self,
        content: &Content<'_>,
        files: &[BorrowedFd<'_>],
        patience: Patience,
    ) -> Result<(), SendError> {
        if content.len > files::MAX_BYTES {
            return Err(self.no_lane(Lane::Kernel, content.len));
        }
        let mut made = None;
        self.await_in_flight(patience, &mut made)?;
        if !files.is_empty() {
            // Two packets: if the second did not fit, the files would be left to the next message.
            self.beside(patience, &mut made, |socket| socket.check_room())?;
        }
        self.prepare_record(files, patience, &mut made)?;
        let parts: Vec<_> = content.slices().iter().map(|slice| IoSlice::new(slice)).collect();
        self.beside(patience, &mut made, |socket| socket.send_bytes(&parts))?;
        let mut descriptor = Descriptor::new(Kind::Packet, content.len);
        descriptor.files = files.len() as u8;
        self.lanes.keep(self.producer.messages(), content);
        self.publish_described(&descriptor, 1);
        Ok(())
    }

    /// Bounds the messages whose bytes are kept beside ring and arena.
    pub(super) fn await_in_flight(&mut self, patience: Patience, made: &mut Option<Deadline>) -> Result<(), SendError> {
        loop {
            self.lanes.hear(&self.link, &mut self.producer)?;
            self.lanes.prune(self.producer.consumed());
            if self.lanes.in_flight.len() < MAX_IN_FLIGHT {
                return Ok(());
            }
            let oldest = self.lanes.in_flight.front().map_or(0, |(number, _)| *number);
            let shortage = Shortage { resource: Resource::Files, needed: 1, free: 0 };
            self.wait(Need::Consumed(oldest + 1), shortage, patience, made)?;
        }
    }
}

pub(super) fn no_memory(len: u64, error: SegmentError) -> SendError {
    let source = match error {
        SegmentError::NoMemory { source, .. } | SegmentError::Os { source, .. } => source,
        other => io::Error::other(other),
    };
    SendError::Memory { len, source }
}
