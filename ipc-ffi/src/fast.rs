//! What the inlined code of the header knows of a handle: the windows of an open batch, at the start of its memory.
//!
//! Promise: the layout of these structures, and the rules by which the header uses them, are part of the interface: programs have them
//! compiled in. A library whose ring is another leaves the limits zero, and every call comes to it. Refusal: nothing here checks the
//! header's code; it runs in the caller's process, with its rights.

use core::cell::UnsafeCell;
use ipc_core::ring::{BatchWindow, ReadWindow};
use ipc_core::{Batch, RecvBatch};

/// For `ipc_batch_add`. Used by the thread of the sending half alone.
#[repr(C, align(128))]
pub(crate) struct FastSend(UnsafeCell<SendWindow>);

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct SendWindow {
    pub(crate) base: *mut u8,
    pub(crate) end: u64,
    pub(crate) limit: u64,
    pub(crate) longest: u64,
    pub(crate) stamp: u64,
    pub(crate) records: u64,
}

/// For `ipc_recv_next`. Used by the thread of the receiving half alone.
#[repr(C, align(128))]
pub(crate) struct FastRecv(UnsafeCell<RecvWindow>);

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct RecvWindow {
    pub(crate) base: *const u8,
    pub(crate) index: u64,
    /// Where a record ends at most, and a word before the end of the ring.
    pub(crate) limit: u64,
    pub(crate) longest: u64,
    pub(crate) stamp: u64,
    /// Messages that may still be read.
    pub(crate) left: u64,
    /// Messages that were read here.
    pub(crate) read: u64,
    /// The lane of a plain record.
    pub(crate) lane: u32,
    pub(crate) reserved: u32,
}

// SAFETY: plain numbers; one thread at a time, as the halves they belong to.
unsafe impl Sync for FastSend {}
// SAFETY: as above.
unsafe impl Send for FastSend {}
// SAFETY: as above.
unsafe impl Sync for FastRecv {}
// SAFETY: as above.
unsafe impl Send for FastRecv {}

impl FastSend {
    pub(crate) const fn closed() -> Self {
        let base = core::ptr::null_mut();
        Self(UnsafeCell::new(SendWindow { base, end: 0, limit: 0, longest: 0, stamp: 0, records: 0 }))
    }

    /// Lets the header append to the batch.
    ///
    /// # Safety
    /// The thread of the sending half.
    pub(crate) unsafe fn open(&self, batch: &Batch<'_>) {
        let BatchWindow { base, end, limit, longest, stamp, records } = batch.open_window();
        // SAFETY: the caller's promise.
        unsafe { *self.0.get() = SendWindow { base, end, limit, longest, stamp, records } };
    }

    /// Tells the batch what the header appended, and ends that.
    ///
    /// # Safety
    /// The thread of the sending half; the batch is the one that was opened last, if one was.
    pub(crate) unsafe fn close(&self, batch: &mut Batch<'_>) {
        // SAFETY: the caller's promise; the header keeps to the rules.
        unsafe {
            let window = &mut *self.0.get();
            if window.limit > 0 {
                window.limit = 0;
                batch.close_window(window.end, window.records);
            }
        }
    }

    /// Forgets the batch.
    ///
    /// # Safety
    /// The thread of the sending half.
    pub(crate) unsafe fn forget(&self) {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.get()).limit = 0 };
    }
}

impl FastRecv {
    pub(crate) const fn closed() -> Self {
        let base = core::ptr::null();
        let window =
            RecvWindow { base, index: 0, limit: 0, longest: 0, stamp: 0, left: 0, read: 0, lane: 0, reserved: 0 };
        Self(UnsafeCell::new(window))
    }

    /// Lets the header read on in the batch.
    ///
    /// # Safety
    /// The thread of the receiving half.
    pub(crate) unsafe fn open(&self, batch: &RecvBatch<'_>, lane: u32) {
        let (ReadWindow { base, capacity, index, stamp, longest }, left) = batch.open_window();
        let limit = capacity - 8;
        // SAFETY: the caller's promise.
        unsafe {
            *self.0.get() = RecvWindow { base, index, limit, longest, stamp, left, read: 0, lane, reserved: 0 };
        }
    }

    /// Tells the batch what the header read, and ends that.
    ///
    /// # Safety
    /// The thread of the receiving half; the batch is the one that was opened last, if one was.
    pub(crate) unsafe fn close(&self, batch: &mut RecvBatch<'_>) {
        // SAFETY: the caller's promise; the header keeps to the rules.
        unsafe {
            let window = &mut *self.0.get();
            if window.limit > 0 {
                (window.limit, window.left) = (0, 0);
                batch.close_window(window.index, window.read);
            }
        }
    }
}
