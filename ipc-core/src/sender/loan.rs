//! A loan: a message that is written in place, in memory that the receiver will read in place.
//!
//! Promise: the memory is the caller's alone until it is sent: no peer can write it, unless it is trusted not to, so it can be borrowed as a
//! slice even if the peer is hostile. A loan that is dropped is given back. Refusal: no bytes are cleared; they are what an earlier message
//! of the same direction left there, or zero.

use super::{Patience, Sender};
use crate::arena::lender::{Dropped, Lent};
use crate::error::SendError;
use crate::layout::descriptor::{Place, UNIT};
use crate::message::{Trust, Untrusted};
use crate::os::payload::Draft;
use crate::os::region::Region;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::boxed::Box;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where the bytes of a loan are that is not in a block of the arena.
enum Beside {
    /// In a file of its own.
    Draft(Draft),
    /// In memory of this process: the connection shares none.
    Private(Vec<u8>),
}

/// A message that is being written in place. [`Loan::send`] hands it over without a copy; dropping it gives it back unsent.
#[must_use = "a loan that is not sent is given back"]
pub struct Loan<'s, T: Trust = Untrusted> {
    sender: &'s mut Sender<T>,
    /// Where its bytes begin; and the block they are in, with a claim in the ring, unless they are beside the arena.
    lent: Lent,
    beside: Option<Box<Beside>>,
    len: usize,
    capacity: usize,
}

impl<T: Trust> Sender<T> {
    /// Lends memory for a message of `len` bytes, aligned to 128 bytes; waits for room. Its bytes are unspecified.
    ///
    /// What the arena can never hold gets a file of its own; on a connection of mode [`Kernel`](crate::Mode::Kernel), whose memory
    /// is private, the bytes are copied when they are sent.
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// # Examples
    /// ```no_run
    /// # use std::io::Read;
    /// # let mut client = ipc_core::connect("camera")?;
    /// let mut frame = client.sender().loan(8 << 20)?;
    /// std::fs::File::open("frame.raw")?.read_exact(&mut frame)?;
    /// frame.send()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan<'_, T>, SendError> {
        self.loan_with(len, Patience::Endless)
    }

    /// As [`Sender::loan`], if there is room now.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    pub fn try_loan(&mut self, len: usize) -> Result<Loan<'_, T>, SendError> {
        self.loan_with(len, Patience::None)
    }

    /// As [`Sender::loan`]; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    pub fn loan_timeout(&mut self, len: usize, timeout: Duration) -> Result<Loan<'_, T>, SendError> {
        self.loan_with(len, Patience::Until(timeout))
    }

    #[inline(always)]
    fn loan_with(&mut self, len: usize, patience: Patience) -> Result<Loan<'_, T>, SendError> {
        self.check()?;
        let most = self.lanes.max_block();
        // None at all has no room for a message of no bytes either.
        let (lent, beside) = if len as u64 <= most && most > 0 {
            let mut made = None;
            let lent = self.lend(len as u64, self.for_loans(), patience, &mut made)?;
            // The record is claimed now, so that sending cannot fail later.
            if let Err(error) = self.prepare_loan(patience, &mut made) {
                self.cancel(lent);
                return Err(error);
            }
            (lent, None)
        } else {
            let (lent, beside) = self.lend_beside(len)?;
            (lent, Some(beside))
        };
        Ok(Loan { sender: self, lent, beside, len, capacity: len })
    }

    /// Memory beside the arena.
    #[cold]
    fn lend_beside(&self, len: usize) -> Result<(Lent, Box<Beside>), SendError> {
        let (bytes, max) = (len as u64, self.max_message());
        if bytes > max {
            return Err(SendError::TooLarge { len: bytes, max });
        }
        let (start, beside) = match self.link.mode.has_arena() {
            false => {
                let no_memory = || SendError::Memory { len: bytes, source: std::io::ErrorKind::OutOfMemory.into() };
                let mut bytes = zeroed(len).ok_or_else(no_memory)?;
                (bytes.as_mut_ptr(), Beside::Private(bytes))
            }
            true => {
                let draft = self.draft(bytes)?;
                (draft.pointer(), Beside::Draft(draft))
            }
        };
        let lent = Lent { place: Place::default(), start: NonNull::new(start).unwrap_or(NonNull::dangling()) };
        Ok((lent, Box::new(beside)))
    }

    /// Lends memory for one value, to be written in place.
    ///
    /// # Errors
    /// As [`Sender::send`]; [`SendError::Lane`] if the value must be aligned to more than 128 bytes, or at all on a connection
    /// of mode [`Kernel`](crate::Mode::Kernel).
    ///
    /// # Examples
    /// ```no_run
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Pose { position: [f64; 3], rotation: [f64; 4] }
    ///
    /// let mut client = ipc_core::ConnectOptions::new().payload::<Pose>().connect("robot")?;
    /// let mut pose = client.sender().loan_value::<Pose>()?;
    /// pose.position = [0.0, 1.0, 2.0];
    /// pose.send()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn loan_value<P: FromBytes + IntoBytes + Immutable + KnownLayout>(
        &mut self,
    ) -> Result<ValueLoan<'_, P, T>, SendError> {
        // Blocks and files are aligned; private memory is what the allocator gives for bytes.
        let aligned_to = if self.link.mode.has_arena() { UNIT } else { 1 };
        if align_of::<P>() as u64 > aligned_to {
            return Err(self.no_lane(crate::Lane::Arena, size_of::<P>() as u64));
        }
        Ok(ValueLoan { loan: self.loan(size_of::<P>())?, value: PhantomData })
    }

    /// Sends a loan that was [detached](Loan::detach) from this sender; waits for room in the ring.
    ///
    /// # Errors
    /// As [`Sender::send`], with the loan; it is refused too if another sender made it.
    pub fn send_loan(&mut self, loan: DetachedLoan) -> Result<(), Unsent> {
        self.send_loan_with(loan, Patience::Endless)
    }

    /// As [`Sender::send_loan`], if the ring has room now.
    ///
    /// # Errors
    /// As [`Sender::send_loan`], and [`SendError::WouldBlock`].
    pub fn try_send_loan(&mut self, loan: DetachedLoan) -> Result<(), Unsent> {
        self.send_loan_with(loan, Patience::None)
    }

    /// As [`Sender::send_loan`]; waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_loan`], and [`SendError::TimedOut`].
    pub fn send_loan_timeout(&mut self, loan: DetachedLoan, timeout: Duration) -> Result<(), Unsent> {
        self.send_loan_with(loan, Patience::Until(timeout))
    }

    fn send_loan_with(&mut self, loan: DetachedLoan, patience: Patience) -> Result<(), Unsent> {
        let unsent = |loan, error| Err(Unsent { loan, error });
        let own = self.lanes.lender().is_some_and(|lender| Arc::ptr_eq(lender.dropped(), &loan.dropped));
        if !own {
            let error = self.no_lane(crate::Lane::Arena, loan.len as u64);
            return unsent(loan, error);
        }
        if let Err(error) = self.check().and_then(|()| self.prepare_loan(patience, &mut None)) {
            return unsent(loan, error);
        }
        self.publish_loan(loan.lent, loan.len as u64);
        loan.into_sent();
        Ok(())
    }
}

/// Zeroes, of any length that there is memory for.
fn zeroed(len: usize) -> Option<Vec<u8>> {
    let layout = core::alloc::Layout::array::<u8>(len).ok()?;
    if len == 0 {
        return Some(Vec::new());
    }
    // SAFETY: a layout of at least one byte; the vector gives it back as such.
    unsafe {
        let start = std::alloc::alloc_zeroed(layout);
        (!start.is_null()).then(|| Vec::from_raw_parts(start, len, len))
    }
}

impl<'s, T: Trust> Loan<'s, T> {
    /// Shortens the message, or lengthens it again up to what was lent.
    ///
    /// # Panics
    /// If `len` is more than was lent.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} bytes were asked of a loan of {}", self.capacity);
        self.len = len;
    }

    /// The bytes, as memory that is still to be written.
    pub fn as_uninit_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: as `deref_mut`; a byte is a valid `MaybeUninit`. Nothing uninitialised can be written through it but by unsafe code.
        unsafe { core::slice::from_raw_parts_mut(self.lent.start.as_ptr().cast(), self.len) }
    }

    /// Sends the message: the receiver reads it where it was written. Wakes it only if it sleeps.
    ///
    /// # Errors
    /// For a message in the arena: [`SendError::Violation`] and [`SendError::Forked`]. For one in a file, and on a connection of mode
    /// [`Kernel`](crate::Mode::Kernel): as [`Sender::send`].
    #[inline(always)]
    pub fn send(self) -> Result<(), SendError> {
        let mut this = ManuallyDrop::new(self);
        let len = this.len;
        if let Some(beside) = this.beside.take() {
            return send_beside(this.sender, *beside, len);
        }
        let lent = this.lent;
        if let Err(error) = this.sender.check() {
            this.sender.cancel(lent);
            return Err(error);
        }
        this.sender.publish_loan(lent, len as u64);
        this.sender.prepare_next_loan(len as u64);
        Ok(())
    }

    /// Frees the sender for other messages, and other loans. Only for memory in the arena; otherwise the loan comes back.
    ///
    /// # Errors
    /// The loan, if its memory is not in the arena.
    pub fn detach(self) -> Result<DetachedLoan, Self> {
        if self.beside.is_some() {
            return Err(self);
        }
        let lent = self.lent;
        let lender = self.sender.lanes.lender_mut();
        let found = lender.and_then(|lender| Some((lender.memory(lent.place)?, lender.detach())));
        let Some((region, dropped)) = found else { return Err(self) };
        let this = ManuallyDrop::new(self);
        Ok(DetachedLoan { lent, len: this.len, capacity: this.capacity, dropped, region })
    }
}

#[cold]
fn send_beside<T: Trust>(sender: &mut Sender<T>, beside: Beside, len: usize) -> Result<(), SendError> {
    match beside {
        Beside::Draft(mut draft) => {
            draft.set_len(len as u64).map_err(|error| super::beside::no_memory(len as u64, error))?;
            sender.send_draft(draft, &[], Patience::Endless)
        }
        Beside::Private(bytes) => sender.send(&bytes[..len]),
    }
}

impl<T: Trust> Deref for Loan<'_, T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: valid for the capacity, initialised (shared memory always is), and nobody else writes there: the seals let nobody
        // map the region for writing (an untrusted sender lends loans of such regions alone), or `trust_peer` was promised.
        unsafe { core::slice::from_raw_parts(self.lent.start.as_ptr(), self.len) }
    }
}

impl<T: Trust> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `deref`; nobody reads it before it is sent.
        unsafe { core::slice::from_raw_parts_mut(self.lent.start.as_ptr(), self.len) }
    }
}

impl<T: Trust> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        // `send` and `detach` do not drop the loan.
        if self.beside.is_none() {
            self.sender.cancel(self.lent);
        }
    }
}

/// A loan of one value.
#[must_use = "a loan that is not sent is given back"]
pub struct ValueLoan<'s, P, T: Trust = Untrusted> {
    loan: Loan<'s, T>,
    value: PhantomData<P>,
}

impl<P: FromBytes + IntoBytes + Immutable + KnownLayout, T: Trust> ValueLoan<'_, P, T> {
    /// Sends the value.
    ///
    /// # Errors
    /// As [`Loan::send`].
    pub fn send(self) -> Result<(), SendError> {
        self.loan.send()
    }
}

impl<P: FromBytes + IntoBytes + Immutable + KnownLayout, T: Trust> Deref for ValueLoan<'_, P, T> {
    type Target = P;

    fn deref(&self) -> &P {
        // SAFETY: as many bytes as a value has, aligned (checked by `loan_value`), and any bytes are one.
        unsafe { &*self.loan.lent.start.as_ptr().cast::<P>() }
    }
}

impl<P: FromBytes + IntoBytes + Immutable + KnownLayout, T: Trust> DerefMut for ValueLoan<'_, P, T> {
    fn deref_mut(&mut self) -> &mut P {
        // SAFETY: as `deref`.
        unsafe { &mut *self.loan.lent.start.as_ptr().cast::<P>() }
    }
}

/// A loan that does not borrow its sender, from any thread. Dropping it gives it back.
pub struct DetachedLoan {
    lent: Lent,
    len: usize,
    capacity: usize,
    dropped: Arc<Dropped>,
    /// Keeps the bytes mapped, however long the sender lives.
    region: Arc<Region>,
}

// SAFETY: the block belongs to the loan; what is shared goes through a lock.
unsafe impl Send for DetachedLoan {}
// SAFETY: shared access reads only.
unsafe impl Sync for DetachedLoan {}

impl DetachedLoan {
    /// Shortens the message, or lengthens it again up to what was lent.
    ///
    /// # Panics
    /// If `len` is more than was lent.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} bytes were asked of a loan of {}", self.capacity);
        self.len = len;
    }

    /// Takes the loan apart once its block was sent: the rest is dropped, the block is not given back.
    fn into_sent(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: each is dropped once; the loan itself is not.
        unsafe {
            core::ptr::drop_in_place(&raw mut this.dropped);
            core::ptr::drop_in_place(&raw mut this.region);
        }
    }
}

impl Deref for DetachedLoan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as for `Loan`; the region is kept.
        unsafe { core::slice::from_raw_parts(self.lent.start.as_ptr(), self.len) }
    }
}

impl DerefMut for DetachedLoan {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `Loan`.
        unsafe { core::slice::from_raw_parts_mut(self.lent.start.as_ptr(), self.len) }
    }
}

impl Drop for DetachedLoan {
    fn drop(&mut self) {
        self.dropped.add(self.lent.place.block());
    }
}

impl core::fmt::Debug for DetachedLoan {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DetachedLoan").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A detached loan that was not sent, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unsent {
    /// The loan, to be sent again or dropped.
    pub loan: DetachedLoan,
    /// Why it was not sent.
    #[source]
    pub error: SendError,
}
