//! Memory of handles, which outlives them, and what a handle stands for.
//!
//! Promise: a call with a handle that was closed finds that out, and touches nothing that is gone. The memory of a closed handle is
//! kept, and given to a new one only after [`KEPT`] others were closed. Refusal: closing a handle while another thread uses it is not
//! noticed.

use crate::error::Failure;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Closed handles of a kind that are kept before the oldest is used again.
const KEPT: usize = 256;

/// The memory of closed handles of one kind.
pub(crate) struct Yard<T: 'static>(Mutex<VecDeque<&'static T>>);

impl<T: Sync> Yard<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Memory for a handle: closed, and `make`'s or that of one closed long ago.
    pub(crate) fn take(&self, make: impl FnOnce() -> T) -> &'static T {
        // Nobody waits here: a child that was forked while another thread was in here finds it locked for good.
        let old = self.0.try_lock().ok().and_then(|mut kept| if kept.len() > KEPT { kept.pop_front() } else { None });
        old.unwrap_or_else(|| Box::leak(Box::new(make())))
    }

    /// Keeps the memory of a handle that is closed. Once each time it was taken.
    pub(crate) fn bury(&self, handle: &'static T) {
        if let Ok(mut kept) = self.0.try_lock() {
            kept.push_back(handle);
        }
    }
}

/// Something that is there until it is closed, in memory that stays.
pub(crate) struct Slot<T> {
    is_open: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value goes to whichever thread calls, one at a time: that is the rule for callers, stated at each export.
unsafe impl<T: Send> Sync for Slot<T> {}

impl<T> Slot<T> {
    pub(crate) const fn closed() -> Self {
        Self { is_open: AtomicBool::new(false), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Opens a slot that nobody else knows of yet.
    pub(crate) fn open(&self, value: T) {
        // SAFETY: closed, so there is no value, and nobody else looks.
        unsafe { (*self.value.get()).write(value) };
        // Release: a thread that was given the handle without any order of its own sees the value; pairs with `get`.
        self.is_open.store(true, Ordering::Release);
    }

    /// The value, where it stays until the slot is closed.
    #[inline(always)]
    pub(crate) fn get(&self, what: &'static str) -> Result<&T, Failure> {
        // Acquire: pairs with `open`.
        if self.is_open.load(Ordering::Acquire) {
            // SAFETY: open, so there is a value; it is closed by nobody while a call of the same half runs.
            Ok(unsafe { (*self.value.get()).assume_init_ref() })
        } else {
            Err(Failure::Closed(what))
        }
    }

    /// Drops the value where it is; false if there was none.
    pub(crate) fn close(&self) -> bool {
        let was_open = self.is_open.swap(false, Ordering::AcqRel);
        if was_open {
            // SAFETY: there was a value, and from the swap on nobody finds it.
            unsafe { (*self.value.get()).assume_init_drop() };
        }
        was_open
    }

    /// Moves the value out.
    pub(crate) fn take(&self, what: &'static str) -> Result<T, Failure> {
        if self.is_open.swap(false, Ordering::AcqRel) {
            // SAFETY: as `close`; it is read once.
            Ok(unsafe { (*self.value.get()).assume_init_read() })
        } else {
            Err(Failure::Closed(what))
        }
    }
}

/// Handles that each stand for one `T`, which C knows as pointers to `H`.
pub(crate) struct Handles<H, T: 'static> {
    yard: Yard<Slot<T>>,
    /// The argument, and what it stands for, in the words of an error.
    argument: &'static str,
    what: &'static str,
    known_as: PhantomData<fn() -> *mut H>,
}

impl<H, T: Send> Handles<H, T> {
    pub(crate) const fn new(argument: &'static str, what: &'static str) -> Self {
        Self { yard: Yard::new(), argument, what, known_as: PhantomData }
    }

    /// A handle for a new value.
    pub(crate) fn hand_out(&self, value: T) -> *mut H {
        let slot = self.yard.take(Slot::closed);
        slot.open(value);
        std::ptr::from_ref(slot).cast_mut().cast()
    }

    /// # Safety
    /// `handle` is null or one of these.
    unsafe fn slot(&self, handle: *const H) -> Result<&'static Slot<T>, Failure> {
        // SAFETY: the caller's promise; the memory of handles stays.
        unsafe { handle.cast::<Slot<T>>().as_ref() }.ok_or_else(|| Failure::Null(self.argument))
    }

    /// What a handle stands for.
    ///
    /// # Safety
    /// `handle` is null or one of these, and nobody closes it meanwhile.
    pub(crate) unsafe fn get(&self, handle: *const H) -> Result<&'static T, Failure> {
        // SAFETY: the caller's promise.
        unsafe { self.slot(handle) }?.get(self.what)
    }

    /// Closes a handle.
    ///
    /// # Safety
    /// `handle` is null or one of these, and nobody uses it meanwhile.
    pub(crate) unsafe fn close(&self, handle: *const H) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let slot = unsafe { self.slot(handle) }?;
        if !slot.close() {
            return Err(Failure::Closed(self.what));
        }
        self.yard.bury(slot);
        Ok(())
    }

    /// Moves what a handle stands for out of it, and closes it unless `used` gives that back.
    ///
    /// # Safety
    /// As [`Handles::close`].
    pub(crate) unsafe fn use_up(&self, handle: *const H, used: impl FnOnce(T) -> Option<T>) -> Result<(), Failure> {
        // SAFETY: the caller's promise.
        let slot = unsafe { self.slot(handle) }?;
        match used(slot.take(self.what)?) {
            Some(value) => slot.open(value),
            None => self.yard.bury(slot),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_only_after_others_were_closed() {
        static YARD: Yard<u64> = Yard::new();
        let first = YARD.take(|| 1);
        YARD.bury(first);
        for other in 0..KEPT as u64 {
            let handle = YARD.take(|| other);
            assert!(!std::ptr::eq(handle, first));
            YARD.bury(handle);
        }
        assert!(std::ptr::eq(YARD.take(|| 0), first));
    }
}
