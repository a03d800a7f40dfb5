//! A received message, in place.
//!
//! Promise: the bytes stay where they are until the guard is dropped, and then the space goes back to the
//! sender. Refusal: unless the peer is trusted, no `&[u8]` is formed over them: a hostile peer can still write there.

use crate::error::TooShort;
use crate::receiver::Receiver;
use crate::ring::{OutOfBounds, Payload, Place};
use core::marker::PhantomData;
use std::vec::Vec;

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
    pub trait Sealed {}
    impl Sealed for super::Untrusted {}
    impl Sealed for super::Trusted {}
}

/// A message that is being read in place. Dropping it consumes it and gives its space back.
#[must_use = "a message that is dropped is consumed"]
pub struct Message<'r, T: Trust = Untrusted> {
    receiver: &'r mut Receiver<T>,
    payload: Payload,
}

/// A message of a batch, until the next one is asked for. Its bytes stay in place until the batch is dropped.
pub struct View<'b, T: Trust = Untrusted> {
    payload: Payload,
    batch: PhantomData<&'b ()>,
    trust: PhantomData<fn() -> T>,
}

impl<T: Trust> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Trust> Copy for View<'_, T> {}

/// What a message and a view of one have in common.
macro_rules! payload_methods {
    ($type:ident, $life:lifetime) => {
        impl<T: Trust> $type<$life, T> {
            /// Bytes in the message.
            #[inline]
            #[must_use]
            pub fn len(&self) -> usize {
                self.payload.len()
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
                let len = self.payload.len();
                let Some(target) = target.get_mut(..len) else {
                    return Err(TooShort { message: len, buffer: target.len() });
                };
                // Cannot fail: the target is as long as the message.
                let _ = self.payload.read_at(0, target);
                Ok(len)
            }

            /// Copies `target.len()` bytes from `offset` on.
            ///
            /// # Errors
            /// [`OutOfBounds`] if the message ends before.
            #[inline(always)]
            pub fn read_at(&self, offset: usize, target: &mut [u8]) -> Result<(), OutOfBounds> {
                self.payload.read_at(offset, target)
            }

            /// Copies the message.
            #[must_use]
            pub fn to_vec(&self) -> Vec<u8> {
                self.payload.to_vec()
            }

            /// First byte of the message: aligned to 8 bytes, valid for `len` bytes while the guard lives. A hostile peer
            /// may write there meanwhile, so reading through it must bear any value at any time.
            #[inline]
            #[must_use]
            pub fn as_ptr(&self) -> *const u8 {
                self.payload.as_ptr()
            }
        }

        impl core::ops::Deref for $type<$life, Trusted> {
            type Target = [u8];

            #[inline]
            fn deref(&self) -> &[u8] {
                // SAFETY: the extent lies inside the ring's data (checked by the walk), it is ours until the guard is
                // dropped, and whoever called `trust_peer` promised that the peer writes nowhere else.
                unsafe { core::slice::from_raw_parts(self.payload.as_ptr(), self.payload.len()) }
            }
        }
    };
}

payload_methods!(Message, '_);
payload_methods!(View, '_);

impl<'r, T: Trust> Message<'r, T> {
    #[inline(always)]
    pub(crate) fn new(receiver: &'r mut Receiver<T>, payload: Payload) -> Self {
        Self { receiver, payload }
    }
}

impl<T: Trust> Drop for Message<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.receiver.release(1);
    }
}

/// Messages that are received one after the other; their space is given back once, when the batch is dropped.
#[must_use = "a batch that is dropped is consumed"]
pub struct RecvBatch<'r, T: Trust = Untrusted> {
    receiver: &'r mut Receiver<T>,
    /// Where the next message is: kept here, and not in the receiver, so that a loop over the batch has it in registers.
    place: Place,
    taken: u64,
    limit: u64,
}

impl<'r, T: Trust> RecvBatch<'r, T> {
    pub(crate) fn new(receiver: &'r mut Receiver<T>, place: Place, limit: u64) -> Self {
        Self { receiver, place, taken: 0, limit }
    }

    /// The next message, or `None` when nothing more is published or the batch has as many as were asked for.
    ///
    /// # Errors
    /// [`crate::RecvError::Violation`] if the peer wrote what it must not.
    #[inline(always)]
    pub fn try_next(&mut self) -> Result<Option<View<'_, T>>, crate::RecvError> {
        if self.taken >= self.limit {
            return Ok(None);
        }
        let payload = match self.place.next() {
            Ok(payload) => payload,
            Err(violation) => return Err(self.receiver.condemn(violation)),
        };
        self.taken += u64::from(payload.is_some());
        Ok(payload.map(|payload| View { payload, batch: PhantomData, trust: PhantomData }))
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
    }
}
