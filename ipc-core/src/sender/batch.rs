//! Messages that are published together.

use super::content::Content;
use super::{Patience, Sender};
use crate::error::SendError;
use crate::message::{Trust, Untrusted};
use crate::ring::{BatchWindow, OpenBatch, ReserveError};
use std::time::Duration;

/// Messages that are sent together. Dropping it aborts those that were not published yet.
#[must_use = "a batch that is not published is dropped unsent"]
pub struct Batch<'s, T: Trust = Untrusted> {
    pub(super) sender: &'s mut Sender<T>,
    pub(super) open: OpenBatch,
}

impl<T: Trust> Batch<'_, T> {
    /// Appends a copy of `message`. If the ring has no room for it, or it travels on another lane than the ring, what the batch
    /// holds so far is published first.
    ///
    /// # Errors
    /// As [`Sender::send`].
    #[inline]
    pub fn push(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.push_with(message, Patience::Endless)
    }

    /// Appends a copy of `message` if there is room now. Messages that the batch holds are kept if not; where `message` travels
    /// on another lane than the ring, or credit in messages has run out, they may have been published.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.push_with(message, Patience::None)
    }

    /// Appends a copy of `message`; waits for room for at most `timeout`, as [`Batch::push`] does.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    #[inline]
    pub fn push_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.push_with(message, Patience::Until(timeout))
    }

    #[inline(always)]
    fn push_with(&mut self, message: &[u8], patience: Patience) -> Result<(), SendError> {
        let Self { sender, open } = self;
        if open.len() == 0 {
            sender.check()?;
        }
        match sender.producer.claim_next_fast(open, message.len()) {
            Some(index) => {
                sender.producer.write_next(open, index, message);
                Ok(())
            }
            None => self.push_slow(message, patience),
        }
    }

    /// A message that the ring has no room for at once, or that travels on another lane.
    #[cold]
    fn push_slow(&mut self, message: &[u8], patience: Patience) -> Result<(), SendError> {
        let Self { sender, open } = self;
        sender.check()?;
        let len = message.len();
        let lane = sender.route(len as u64)?;
        if !sender.lanes.is_queue(lane) || len as u64 > sender.producer.max_record() {
            self.publish_open();
            return self.sender.send_slow(&Content::of(message), &[], patience);
        }
        if sender.lanes.is_guarded() {
            if !sender.has_credit(open.len()) {
                self.publish_open();
            }
            self.sender.await_credit(patience, &mut None)?;
        }
        let Self { sender, open } = self;
        let index = match sender.producer.claim_next(open, len) {
            Ok(index) => {
                sender.check_stalled()?;
                index
            }
            Err(refused) => {
                if matches!(refused, ReserveError::Full { .. }) && !patience.is_none() {
                    self.publish_open();
                }
                let Self { sender, open } = self;
                sender.claim_late(refused, patience, &mut None, |producer| producer.claim_next(open, len))?
            }
        };
        let Self { sender, open } = self;
        sender.producer.write_next(open, index, message);
        Ok(())
    }

    fn publish_open(&mut self) {
        let Self { sender, open } = self;
        let wake = sender.producer.commit_batch(*open);
        sender.wake(wake);
        *open = OpenBatch::default();
    }

    /// The space behind the messages of the batch, for code in other languages that appends by itself. It is good until the next call
    /// of the batch, which has to be told what was written first: [`Batch::close_window`].
    #[must_use]
    pub fn open_window(&self) -> BatchWindow {
        self.sender.producer.batch_window(&self.open)
    }

    /// Takes over the messages that were appended through the [window](Batch::open_window): the next one would begin at `end`, and there are
    /// `messages` in the batch.
    ///
    /// # Safety
    /// Both are what became of the window's by records that were written as [`BatchWindow`] says.
    pub unsafe fn close_window(&mut self, end: u64, messages: u64) {
        let Self { sender, open } = self;
        sender.producer.close_window(open, end, messages);
    }

    /// Messages in the batch that are not published yet.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.open.len()
    }

    /// Says whether there is nothing to publish.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Publishes the messages with one store, and wakes the peer only if it sleeps.
    ///
    /// # Errors
    /// [`SendError::Violation`] and [`SendError::Forked`]; nothing was published then.
    #[inline]
    pub fn publish(self) -> Result<(), SendError> {
        let mut this = self;
        this.sender.check()?;
        this.publish_open();
        Ok(())
    }
}
