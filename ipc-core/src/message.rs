//! A received message, in place.
//!
//! Promise: the bytes stay where they are until the guard is dropped, and then the space goes back to the
//! sender. Refusal: unless the peer is trusted, or cannot write there any more, no `&[u8]` is formed over them: a hostile peer can
//! still write there.

use crate::arena::borrower::WayBack;
use crate::error::TooShort;
use crate::layout::descriptor;
use crate::link::Link;
use crate::os::payload;
use crate::os::region::Region;
use crate::receiver::Receiver;
use crate::ring::{OutOfBounds, Payload, Place, ReadWindow};
use crate::router::Lane;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use rustix::fd::OwnedFd;
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;
use zerocopy::FromBytes;

/// Whether the peer is believed not to write to messages after it has sent them: [`Untrusted`] or [`Trusted`].
pub trait Trust: sealed::Sealed {}

/// The peer may write to shared memory at any time. The default.
#[derive(Debug)]
pub enum Untrusted {}

/// The peer keeps to the protocol: see [`crate::Connection::trust_peer`].
#[derive(Debug)]
pub enum Trusted {}

impl Trust for Untrusted {}
impl Trust for Trusted {}

mod sealed {
    use crate::os::region::Readers;

    pub trait Sealed {
        /// What the receiver of a loan may do with its bytes.
        #[doc(hidden)]
        const READERS: Readers;
    }
    impl Sealed for super::Untrusted {
        const READERS: Readers = Readers::ReadOnly;
    }
    impl Sealed for super::Trusted {
        const READERS: Readers = Readers::MayWrite;
    }
}

/// The bytes of a message, and what must be given back for them.
pub(crate) struct Body {
    start: *const u8,
    /// Where its first [`descriptor::HEAD`] bytes are copied from: its head, which came with the record, or the same as `start`. Never
    /// for more of it, nor for longer than the record is ours.
    near: *const u8,
    len: usize,
    pub(crate) hold: Hold,
}

/// What a message holds beside its record in the ring.
pub(crate) enum Hold {
    /// Nothing: its bytes are in the record.
    Record,
    /// A block of the arena.
    Block(descriptor::Place),
    Other(Box<Other>),
}

impl Hold {
    /// Says whether nobody can write the bytes any more: those of sealed files, and in memory of this process.
    fn is_sealed(&self) -> bool {
        matches!(self, Self::Other(other) if other.file.is_some() || other.bytes.is_some())
    }

    /// Files beside the message that were not taken.
    fn file_count(&self) -> usize {
        if let Self::Other(other) = self { other.files.len() } else { 0 }
    }
}

/// What few messages hold.
#[derive(Default)]
pub(crate) struct Other {
    pub(crate) lane: Option<Lane>,
    pub(crate) block: Option<descriptor::Place>,
    /// The mapping of a file of its own.
    pub(crate) file: Option<payload::Payload>,
    /// Bytes in memory of this process.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) files: Vec<OwnedFd>,
}

impl Body {
    /// A message whose bytes are in its record.
    #[inline(always)]
    pub(crate) fn in_record(payload: &Payload) -> Self {
        let start = payload.as_ptr();
        Self { start, near: start, len: payload.len(), hold: Hold::Record }
    }

    pub(crate) fn new(start: *const u8, len: usize, hold: Hold) -> Self {
        Self { start, near: start, len, hold }
    }

    /// A message in a block whose head, if it has one, is in its record: there as long as the record.
    #[inline(always)]
    pub(crate) fn in_block(start: *const u8, head: Option<*const u8>, len: usize, place: descriptor::Place) -> Self {
        Self { start, near: head.unwrap_or(start), len, hold: Hold::Block(place) }
    }

    /// Where the bytes are.
    pub(crate) fn parts(&self) -> (*const u8, usize) {
        (self.start, self.len)
    }
}

/// What messages, views of them and held ones have in common; the fields `start`, `near` and `len` say where the bytes are.
macro_rules! payload_methods {
    ($type:ident<$($life:lifetime,)? T>) => {
        impl<T: Trust> $type<$($life,)? T> {
            /// Bytes in the message.
            #[inline]
            #[must_use]
            pub fn len(&self) -> usize {
                self.len
            }

            /// Says whether the message has no bytes.
            #[inline]
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Copies the message to the start of `target` and returns its length.
            ///
            /// # Errors
            /// [`TooShort`] if `target` is shorter than the message.
            #[inline(always)]
            pub fn copy_to(&self, target: &mut [u8]) -> Result<usize, TooShort> {
                if target.len() < self.len {
                    return Err(TooShort { message: self.len, buffer: target.len() });
                }
                // SAFETY: the bytes are valid while the guard lives; a hostile peer may write meanwhile, and the copy is then
                // arbitrary, which is all that is promised.
                unsafe { core::ptr::copy_nonoverlapping(self.source(self.len), target.as_mut_ptr(), self.len) };
                Ok(self.len)
            }

            /// Copies `target.len()` bytes from `offset` on.
            ///
            /// # Errors
            /// [`OutOfBounds`] if the message ends before.
            #[inline(always)]
            pub fn read_at(&self, offset: usize, target: &mut [u8]) -> Result<(), OutOfBounds> {
                if offset > self.len || target.len() > self.len - offset {
                    return Err(OutOfBounds { len: target.len(), offset, message: self.len });
                }
                // SAFETY: inside the message; otherwise as in `copy_to`.
                unsafe {
                    let source = self.source(offset + target.len()).add(offset);
                    core::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len());
                };
                Ok(())
            }

            /// Copies the message.
            #[must_use]
            pub fn to_vec(&self) -> Vec<u8> {
                let mut copy = Vec::with_capacity(self.len);
                // SAFETY: the vector has room; otherwise as in `copy_to`.
                unsafe {
                    core::ptr::copy_nonoverlapping(self.start, copy.as_mut_ptr(), self.len);
                    copy.set_len(self.len);
                }
                copy
            }

            /// Copies a value out of the first bytes of the message.
            ///
            /// # Errors
            /// [`OutOfBounds`] if the message is shorter than the value.
            pub fn value<P: FromBytes>(&self) -> Result<P, OutOfBounds> {
                let mut value = MaybeUninit::<P>::uninit();
                // SAFETY: `size_of::<P>()` bytes that the slice does not outlive; `read_at` only writes to them.
                let bytes = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<P>()) };
                self.read_at(0, bytes)?;
                // SAFETY: all bytes are written, and any bytes are a `P`.
                Ok(unsafe { value.assume_init() })
            }

            /// Where bytes up to `end`, which is inside the message, are copied from.
            #[inline(always)]
            fn source(&self, end: usize) -> *const u8 {
                if end as u64 <= descriptor::HEAD { self.near } else { self.start }
            }

            /// First byte of the message, valid for `len` bytes while the guard lives. Aligned to 8 bytes in the ring, to 128 in the
            /// arena or in a file; not aligned where the bytes were copied into memory of this process: packets, pieces, records
            /// with files beside them or that are held. A hostile peer may write there meanwhile, so reading through it must bear any
            /// value at any time.
            #[inline]
            #[must_use]
            pub fn as_ptr(&self) -> *const u8 {
                self.start
            }
        }

        impl core::ops::Deref for $type<$($life,)? Trusted> {
            type Target = [u8];

            #[inline]
            fn deref(&self) -> &[u8] {
                // SAFETY: the bytes were checked to lie inside the memory of the connection, they are ours until the guard is
                // dropped, and whoever called `trust_peer` promised that the peer writes nowhere else.
                unsafe { core::slice::from_raw_parts(self.start, self.len) }
            }
        }
    };
}

/// A message that is being read in place. Dropping it consumes it and gives its space back.
#[must_use = "a message that is dropped is consumed"]
pub struct Message<'r, T: Trust = Untrusted> {
    receiver: &'r mut Receiver<T>,
    start: *const u8,
    near: *const u8,
    len: usize,
    hold: ManuallyDrop<Hold>,
}

payload_methods!(Message<'_, T>);

impl<'r, T: Trust> Message<'r, T> {
    #[inline(always)]
    pub(crate) fn new(receiver: &'r mut Receiver<T>, body: Body) -> Self {
        let Body { start, near, len, hold } = body;
        Self { receiver, start, near, len, hold: ManuallyDrop::new(hold) }
    }

    /// The lane that the message came on.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.receiver.lane_of(&self.hold)
    }

    /// The bytes, if nobody can write them any more: of messages in sealed files, of those that came in a packet beside the ring, in
    /// pieces, or in their record with files beside them. `None` for all others.
    #[must_use]
    pub fn as_sealed(&self) -> Option<&[u8]> {
        // SAFETY: memory of this process, or a file with a seal against writing; valid while the guard lives.
        self.hold.is_sealed().then(|| unsafe { core::slice::from_raw_parts(self.start, self.len) })
    }

    /// How many files are beside the message, as far as they were not taken.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.hold.file_count()
    }

    /// The files that came beside the message; none are left in it. Those that are not taken are closed with the message.
    #[must_use]
    pub fn take_files(&mut self) -> Vec<OwnedFd> {
        match &mut *self.hold {
            Hold::Other(other) => core::mem::take(&mut other.files),
            _ => Vec::new(),
        }
    }

    /// Takes the guard apart, for code that cannot keep it: where the bytes are and how many, if they lie in the message's record and
    /// nothing else belongs to it. The message is not consumed: [`Receiver::retake`] makes the guard again.
    ///
    /// # Errors
    /// The message, if it has more than its record.
    #[inline(always)]
    pub fn leave(self) -> Result<(*const u8, usize), Self> {
        if !matches!(*self.hold, Hold::Record) {
            return Err(self);
        }
        // Nothing is in it that would have to be dropped.
        let this = ManuallyDrop::new(self);
        Ok((this.start, this.len))
    }

    /// Keeps the message while others are received: its place in the ring is free again, its block of the arena stays held and counts
    /// against our credit until the held message is dropped. A message in the ring itself is copied.
    #[must_use]
    pub fn hold(self) -> Held<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once; the message is not dropped.
        let hold = unsafe { ManuallyDrop::take(&mut this.hold) };
        let copied = matches!(hold, Hold::Record).then(|| this.to_vec());
        let Message { start, len, .. } = *this;
        // Without its head, which goes with the record.
        this.receiver.hold(Body::new(start, len, hold), copied)
    }
}

impl<T: Trust> Drop for Message<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: taken once: `hold` does not drop the message.
        let hold = unsafe { ManuallyDrop::take(&mut self.hold) };
        match hold {
            Hold::Record => self.receiver.release(1),
            hold => self.receiver.release_hold(hold),
        }
    }
}

/// A message of a batch, until the next one is asked for. Its bytes stay in place until the batch is dropped: what [`View::as_ptr`] gave
/// is valid as long.
pub struct View<'b, T: Trust = Untrusted> {
    start: *const u8,
    near: *const u8,
    len: usize,
    batch: PhantomData<&'b ()>,
    trust: PhantomData<fn() -> T>,
}

payload_methods!(View<'_, T>);

impl<T: Trust> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Trust> Copy for View<'_, T> {}

/// Messages that are received one after the other; their space is given back once, when the batch is dropped.
#[must_use = "a batch that is dropped is consumed"]
pub struct RecvBatch<'r, T: Trust = Untrusted> {
    receiver: &'r mut Receiver<T>,
    /// Where the next message is: kept here, and not in the receiver, so that a loop over the batch has it in registers.
    place: Place,
    taken: u64,
    limit: u64,
    /// What messages of the batch hold beside their records.
    holds: Vec<Hold>,
    /// The last of them is that of the message that was asked for last.
    last_holds: bool,
}

impl<'r, T: Trust> RecvBatch<'r, T> {
    pub(crate) fn new(receiver: &'r mut Receiver<T>, place: Place, limit: u64) -> Self {
        Self { receiver, place, taken: 0, limit, holds: Vec::new(), last_holds: false }
    }

    /// The next message, or `None` when nothing more is published or the batch has as many as were asked for.
    ///
    /// # Errors
    /// [`crate::RecvError::Violation`] if the peer wrote what it must not; [`crate::RecvError::Os`] if the system has no room for the
    /// files of the next message, which stays where it is.
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Option<View<'_, T>>, crate::RecvError> {
        if self.taken >= self.limit {
            return Ok(None);
        }
        let payload = match self.place.next() {
            Ok(Some(payload)) => payload,
            Ok(None) => return Ok(None),
            Err(violation) => return Err(self.receiver.condemn(violation)),
        };
        if !payload.is_plain() {
            return self.open(payload);
        }
        self.last_holds = false;
        self.taken += 1;
        let (start, len) = (payload.as_ptr(), payload.len());
        Ok(Some(View { start, near: start, len, batch: PhantomData, trust: PhantomData }))
    }

    #[cold]
    fn open(&mut self, payload: Payload) -> Result<Option<View<'_, T>>, crate::RecvError> {
        let Body { start, near, len, hold } = match self.receiver.in_block(&payload) {
            // It is not looked at again: a hostile peer may make news of it meanwhile.
            Some(body) => body,
            None if self.taken > 0 => {
                // News, and messages that came otherwise, may give space back, and what the batch has must stay: they begin the next one.
                self.place.go_back(&payload);
                return Ok(None);
            }
            None => {
                // The receiver goes on where the batch is, and the batch where that comes to.
                self.receiver.go_to(self.place);
                let opened = self.receiver.open_or_next(payload, usize::MAX);
                self.place = self.receiver.place();
                match opened? {
                    Some(body) => body,
                    None => return Ok(None),
                }
            }
        };
        self.last_holds = !matches!(hold, Hold::Record);
        if self.last_holds {
            self.holds.push(hold);
        }
        self.taken += 1;
        // The head stays as long as the batch: its record is not given back before.
        Ok(Some(View { start, near, len, batch: PhantomData, trust: PhantomData }))
    }

    /// The messages from here on, for code in other languages that reads them by itself, and how many the batch may still have. It is
    /// good until the next call of the batch, which has to be told what was read first: [`RecvBatch::close_window`].
    #[must_use]
    pub fn open_window(&self) -> (ReadWindow, u64) {
        (self.place.window(), self.limit - self.taken)
    }

    /// Takes over that `messages` were read through the [window](RecvBatch::open_window), and that the next record begins at `index`.
    ///
    /// # Safety
    /// They were read as [`ReadWindow`] says, not more than the batch may have.
    pub unsafe fn close_window(&mut self, index: u64, messages: u64) {
        if messages > 0 {
            self.place.go_on(index);
            self.taken += messages;
            self.last_holds = false;
        }
    }

    /// The lane of messages whose bytes are in their records: that of all but those that [`last_beside`](Self::last_beside) tells of.
    #[must_use]
    pub fn queue_lane(&self) -> Lane {
        self.receiver.queue_lane()
    }

    /// Of the message that was asked for last, if it has something beside its record: its lane, whether nobody can write its bytes any
    /// more, and how many files are beside it that were not taken.
    #[inline]
    #[must_use]
    pub fn last_beside(&self) -> Option<(Lane, bool, usize)> {
        if !self.last_holds {
            return None;
        }
        self.holds.last().map(|hold| (self.receiver.lane_of(hold), hold.is_sealed(), hold.file_count()))
    }

    /// The files that came beside the message that was asked for last; none are left in it.
    #[must_use]
    pub fn take_files(&mut self) -> Vec<OwnedFd> {
        match self.holds.last_mut() {
            Some(Hold::Other(other)) if self.last_holds => core::mem::take(&mut other.files),
            _ => Vec::new(),
        }
    }

    /// Hands each message to `use_message` and returns how many there were.
    ///
    /// # Errors
    /// As [`RecvBatch::try_next`].
    #[inline(always)]
    pub fn for_each(mut self, mut use_message: impl FnMut(View<'_, T>)) -> Result<u64, crate::RecvError> {
        while let Some(message) = self.try_next()? {
            use_message(message);
        }
        Ok(self.taken)
    }
}

impl<T: Trust> Drop for RecvBatch<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.receiver.release_to(self.place, self.taken);
        if !self.holds.is_empty() {
            self.receiver.give_back(core::mem::take(&mut self.holds));
        }
    }
}

/// A message that was kept: [`Message::hold`]. It can go to another thread, outlives its receiver, and is given back when it is
/// dropped, in any order.
pub struct Held<T: Trust = Untrusted> {
    start: *const u8,
    /// The same: a held message has no head.
    near: *const u8,
    len: usize,
    keep: Keep,
    files: Vec<OwnedFd>,
    lane: Lane,
    trust: PhantomData<fn() -> T>,
}

payload_methods!(Held<T>);

/// What keeps the bytes of a held message where they are.
pub(crate) enum Keep {
    Bytes(#[expect(dead_code, reason = "owns what `start` points to")] Vec<u8>),
    File(#[expect(dead_code, reason = "owns what `start` points to")] payload::Payload),
    Block(#[expect(dead_code, reason = "gives the block back when it is dropped")] Borrowed),
}

/// A block that is held.
pub(crate) struct Borrowed {
    pub(crate) block: u16,
    pub(crate) way_back: Arc<WayBack>,
    /// Keeps the bytes mapped.
    pub(crate) _region: Arc<Region>,
    /// Keeps the way back mapped.
    pub(crate) link: Arc<Link>,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // A forked child holds nothing of its parent's.
        if self.link.is_original() && self.way_back.give(self.block) {
            self.link.space.ring();
        }
    }
}

// SAFETY: the bytes belong to the held message until it is dropped; giving back is for any thread.
unsafe impl<T: Trust> Send for Held<T> {}
// SAFETY: shared access reads only.
unsafe impl<T: Trust> Sync for Held<T> {}

impl<T: Trust> Held<T> {
    pub(crate) fn new(start: *const u8, len: usize, keep: Keep, files: Vec<OwnedFd>, lane: Lane) -> Self {
        Self { start, near: start, len, keep, files, lane, trust: PhantomData }
    }

    /// The lane that the message came on.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// The bytes, if nobody can write them any more: of all held messages but those in the arena.
    #[must_use]
    pub fn as_sealed(&self) -> Option<&[u8]> {
        let sealed = !matches!(self.keep, Keep::Block(_));
        // SAFETY: memory of this process, or a file with a seal against writing; it is kept.
        sealed.then(|| unsafe { core::slice::from_raw_parts(self.start, self.len) })
    }

    /// The files that came beside the message; none are left in it.
    #[must_use]
    pub fn take_files(&mut self) -> Vec<OwnedFd> {
        core::mem::take(&mut self.files)
    }
}

impl<T: Trust> core::fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Held").field("len", &self.len).field("lane", &self.lane).finish_non_exhaustive()
    }
}
