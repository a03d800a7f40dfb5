//! What is behind a handle of a connection: two halves, each for one thread at a time.
//!
//! Promise: a half that was closed is found closed; what is open in a half (a batch, a message that is read) ends before the half does.
//! Refusal: that one thread at a time uses a half is the caller's promise.

use crate::error::Failure;
use crate::fast::{FastRecv, FastSend};
use crate::receive::lane_code;
use core::cell::UnsafeCell;
use core::marker::PhantomPinned;
use ipc_core::{Batch, Loan, Message, Receiver, RecvBatch, Reservation, Sender};

/// What is being written in place. It borrows the sender beside it.
pub(crate) enum Writing {
    Nothing,
    Batch(Batch<'static>),
    Reservation(Reservation<'static>),
    Loan(Loan<'static>),
}

/// The sending half. Dropped in this order: what is open goes first.
pub(crate) struct Sending {
    writing: UnsafeCell<Writing>,
    fast: &'static FastSend,
    sender: UnsafeCell<Sender>,
    /// What is open points into this: a `&mut` to the whole, as `drop` has one, must not be taken for the only way to it.
    _pinned: PhantomPinned,
}

// SAFETY: what is open in a half points into memory that the half keeps, and is used by the half's thread alone.
unsafe impl Send for Sending {}
// SAFETY: as above.
unsafe impl Send for Receiving {}

impl Drop for Sending {
    fn drop(&mut self) {
        // SAFETY: nobody else uses the half.
        unsafe { self.fast.forget() };
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // SAFETY: nobody else uses the half. What was read is consumed.
        unsafe { self.idle() };
    }
}

impl Sending {
    pub(crate) fn new(sender: Sender, fast: &'static FastSend) -> Self {
        Self {
            writing: UnsafeCell::new(Writing::Nothing),
            fast,
            sender: UnsafeCell::new(sender),
            _pinned: PhantomPinned,
        }
    }

    /// What is open; a batch knows of what the header appended, and the header can append no more.
    ///
    /// # Safety
    /// One thread at a time, and one such reference.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "a cell")]
    pub(crate) unsafe fn writing(&self) -> &mut Writing {
        // SAFETY: the caller's promise.
        unsafe {
            let writing = &mut *self.writing.get();
            if let Writing::Batch(batch) = writing {
                self.fast.close(batch);
            }
            writing
        }
    }

    /// Lets the header append to the open batch.
    ///
    /// # Safety
    /// As [`Sending::writing`].
    pub(crate) unsafe fn open_window(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Writing::Batch(batch) = self.writing() {
                self.fast.open(batch);
            }
        }
    }

    /// The sender, if nothing is open that borrows it. The reference may be kept in what is open, since both stay where they are
    /// until the half is closed, what is open first.
    ///
    /// # Safety
    /// As [`Sending::writing`].
    #[inline(always)]
    pub(crate) unsafe fn idle(&self) -> Result<&'static mut Sender, Failure> {
        // SAFETY: the caller's promise.
        match unsafe { &*self.writing.get() } {
            // SAFETY: nothing borrows the sender; it lives as long as what keeps the reference.
            Writing::Nothing => Ok(unsafe { &mut *self.sender.get() }),
            _ => Err(self.busy()),
        }
    }

    #[cold]
    fn busy(&self) -> Failure {
        // SAFETY: the caller of `idle` promised.
        Failure::Busy(match unsafe { &*self.writing.get() } {
            Writing::Nothing => "nothing is open",
            Writing::Batch(_) => "a batch is open: ipc_batch_publish or ipc_cancel it first",
            Writing::Reservation(_) => "a reservation is open: ipc_commit or ipc_cancel it first",
            Writing::Loan(_) => "a loan is open: ipc_commit, ipc_loan_detach or ipc_cancel it first",
        })
    }
}

/// What is being read in place. It borrows the receiver beside it.
pub(crate) enum Reading {
    Nothing,
    /// A message whose bytes are in its record, left there: the usual one, and this is a third of the work of keeping its guard.
    Record(*const u8, usize),
    Message(Message<'static>),
    Batch(RecvBatch<'static>),
}

/// The receiving half. Dropped in this order: what is read goes first.
pub(crate) struct Receiving {
    reading: UnsafeCell<Reading>,
    fast: &'static FastRecv,
    receiver: UnsafeCell<Receiver>,
    /// As in [`Sending`].
    _pinned: PhantomPinned,
}

impl Receiving {
    pub(crate) fn new(receiver: Receiver, fast: &'static FastRecv) -> Self {
        Self {
            reading: UnsafeCell::new(Reading::Nothing),
            fast,
            receiver: UnsafeCell::new(receiver),
            _pinned: PhantomPinned,
        }
    }

    /// What is being read; a batch knows of what the header read, and the header can read no more.
    ///
    /// # Safety
    /// One thread at a time, and one such reference.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "a cell")]
    pub(crate) unsafe fn reading(&self) -> &mut Reading {
        // SAFETY: the caller's promise.
        unsafe {
            let reading = &mut *self.reading.get();
            if let Reading::Batch(batch) = reading {
                self.fast.close(batch);
            }
            reading
        }
    }

    /// Lets the header read on in the open batch.
    ///
    /// # Safety
    /// As [`Receiving::reading`].
    pub(crate) unsafe fn open_window(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Reading::Batch(batch) = self.reading() {
                self.fast.open(batch, lane_code(batch.queue_lane()));
            }
        }
    }

    /// The receiver, once what was being read is given back. As for [`Sending::idle`], the reference may be kept in what is read.
    ///
    /// # Safety
    /// As [`Receiving::reading`].
    #[inline(always)]
    pub(crate) unsafe fn idle(&self) -> &'static mut Receiver {
        // SAFETY: the caller's promise; a message that was left is the last one, and its guard is made once.
        unsafe {
            let reading = self.reading();
            match *reading {
                Reading::Nothing => {}
                Reading::Record(start, len) => {
                    // Written, not assigned: nothing is there to be dropped.
                    core::ptr::write(reading, Reading::Nothing);
                    drop((*self.receiver.get()).retake(start, len));
                }
                _ => *reading = Reading::Nothing,
            }
        }
        // SAFETY: nothing borrows the receiver; it lives as long as what keeps the reference.
        unsafe { &mut *self.receiver.get() }
    }

    /// Keeps what is read from here on. Only after [`Receiving::idle`], when nothing else is.
    ///
    /// # Safety
    /// As [`Receiving::reading`].
    #[inline(always)]
    pub(crate) unsafe fn begin(&self, reading: Reading) {
        // SAFETY: the caller's promise. Written, not assigned: nothing is there to be dropped.
        unsafe { self.reading.get().write(reading) };
    }

    /// The message that is being read, if it is one by itself.
    ///
    /// # Safety
    /// As [`Receiving::reading`].
    pub(crate) unsafe fn take_message(&self) -> Option<Message<'static>> {
        // SAFETY: the caller's promise; a message that was left is the last one, and its guard is made once.
        unsafe {
            let reading = self.reading();
            if matches!(reading, Reading::Nothing | Reading::Batch(_)) {
                return None;
            }
            match std::mem::replace(reading, Reading::Nothing) {
                Reading::Record(start, len) => Some((*self.receiver.get()).retake(start, len)),
                Reading::Message(message) => Some(message),
                _ => None,
            }
        }
    }

    /// The receiver, if nothing is being read.
    ///
    /// # Safety
    /// As [`Receiving::reading`].
    #[allow(clippy::mut_from_ref, reason = "a cell")]
    pub(crate) unsafe fn unread(&self) -> Option<&mut Receiver> {
        // SAFETY: the caller's promise; nothing borrows the receiver.
        unsafe { matches!(self.reading(), Reading::Nothing).then(|| &mut *self.receiver.get()) }
    }
}
