//! A message that is written in place, in the ring.

use super::lanes::Lanes;
use crate::link::Link;
use crate::message::{Trust, Trusted, Untrusted};
use crate::ring;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// A message that is being written in place. Dropping it aborts: nothing was sent.
#[must_use = "a reservation that is not committed is dropped unsent"]
pub struct Reservation<'s, T: Trust = Untrusted> {
    pub(super) record: ring::Reservation<'s, 'static>,
    pub(super) lanes: &'s mut Lanes,
    pub(super) link: &'s Link,
    pub(super) trust: PhantomData<fn() -> T>,
}

impl<T: Trust> Reservation<'_, T> {
    /// Bytes in the message.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Says whether the message has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.is_empty()
    }

    /// Copies `bytes` to `offset` in the message.
    ///
    /// # Panics
    /// If they do not fit.
    #[inline]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        self.record.write_at(offset, bytes);
    }

    /// First byte of the message, for writers that fill memory themselves: aligned to 8 bytes, not zeroed, valid for `len` bytes
    /// while the reservation lives. A hostile peer may write there too.
    #[inline]
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.record.as_mut_ptr()
    }

    /// Sends the message. Wakes the peer only if it sleeps.
    #[inline]
    pub fn commit(self) {
        let Self { record, lanes, link, .. } = self;
        let (producer, wake) = record.publish();
        if wake {
            lanes.call(link, producer);
        }
    }
}

impl Reservation<'_, Trusted> {
    /// The bytes of the message. They hold whatever was there before until they are written.
    #[inline]
    pub fn as_uninit_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.len();
        // SAFETY: the claimed record is ours until the commit; the peer writes nowhere, as `trust_peer` was promised.
        unsafe { core::slice::from_raw_parts_mut(self.record.as_mut_ptr().cast(), len) }
    }
}
