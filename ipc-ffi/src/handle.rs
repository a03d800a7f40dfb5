//! Memory of handles, which outlives them.
//!
//! Promise: a call with a handle that was closed finds that out, and touches nothing that is gone. The memory of a closed handle is
//! kept, and given to a new one only after [`KEPT`] others were closed. Refusal: closing a handle while another thread uses it is not
//! noticed.

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
