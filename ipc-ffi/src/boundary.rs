//! The one place where C's pointers become Rust's references, and where panics end.
//!
//! Promise: every argument is checked for null here before it is used; a panic becomes `IPC_DEFECT`. Refusal: whether memory behind a
//! pointer that is not null is as large as the caller says cannot be known, and is the caller's promise.

use crate::error::{Failure, note};
use crate::result::ipc_result;
use std::any::Any;
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Runs an export.
#[inline(always)]
pub(crate) fn boundary(call: impl FnOnce() -> Result<(), Failure>) -> ipc_result {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => ipc_result::IPC_OK,
        Ok(Err(failure)) => note(failure),
        Err(panic) => defect(panic),
    }
}

#[cold]
fn defect(panic: Box<dyn Any + Send>) -> ipc_result {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    let result = note(Failure::Defect(format!("a defect of the library: {}", text.unwrap_or("a panic without words"))));
    // What a panic carries may panic when it is dropped.
    std::mem::forget(panic);
    result
}

/// How long a call waits.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    None,
    Until(Duration),
    Endless,
}

impl Patience {
    /// From nanoseconds: 0 for no wait, less for one without end.
    #[inline(always)]
    pub(crate) fn of(timeout_ns: i64) -> Self {
        match timeout_ns {
            0 => Self::None,
            1.. => Self::Until(Duration::from_nanos(timeout_ns as u64)),
            _ => Self::Endless,
        }
    }
}

/// `len` bytes at `data`, which may be null if there are none.
///
/// # Safety
/// If `data` is not null, `len` bytes can be read there as long as `'a`, and nobody writes them meanwhile.
#[inline(always)]
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize, argument: &'static str) -> Result<&'a [u8], Failure> {
    // SAFETY: as the caller's promise.
    unsafe { slice(data.cast(), len, argument) }
}

/// `count` values at `data`, which may be null if there are none.
///
/// # Safety
/// As [`bytes`], for values of `T`.
#[inline(always)]
pub(crate) unsafe fn slice<'a, T>(data: *const T, count: usize, argument: &'static str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    check(data, count, argument)?;
    // SAFETY: not null, aligned, not longer than any object; otherwise the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// Room for `count` values at `data`, which may be null if there is none.
///
/// # Safety
/// If `data` is not null, `count` values can be written there as long as `'a`, and nobody else uses them meanwhile. They are initialised
/// or the callee only writes.
#[inline(always)]
pub(crate) unsafe fn slice_mut<'a, T>(
    data: *mut T,
    count: usize,
    argument: &'static str,
) -> Result<&'a mut [T], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(data, count, argument)?;
    // SAFETY: as `slice`.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, count) })
}

/// Says what is wrong with a pointer to `count` values.
#[inline(always)]
pub(crate) fn check<T>(data: *const T, count: usize, argument: &'static str) -> Result<(), Failure> {
    if data.is_null() {
        return Err(Failure::Null(argument));
    }
    if !data.is_aligned() {
        return Err(Failure::invalid(argument, format_args!("{data:p}"), "addresses that suit its type"));
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::invalid("a count", count, "what fits the memory of a process"));
    }
    Ok(())
}

/// Where a result goes.
///
/// # Safety
/// If `target` is not null, a `T` can be written there as long as `'a`, and nobody else uses it meanwhile.
#[inline(always)]
pub(crate) unsafe fn out<'a, T>(target: *mut T, argument: &'static str) -> Result<&'a mut T, Failure> {
    // SAFETY: as the caller's promise.
    unsafe { slice_mut(target, 1, argument) }.map(|slice| &mut slice[0])
}

/// Where a result goes, if anybody wants it.
///
/// # Safety
/// As [`out`].
#[inline(always)]
pub(crate) unsafe fn out_if<T>(target: *mut T, value: T) {
    if !target.is_null() {
        // SAFETY: the caller's promise. It is too late for an error: an address that does not suit the type is written to all the same.
        unsafe { target.write_unaligned(value) };
    }
}

/// A text of C's.
///
/// # Safety
/// If `text` is not null, it ends in a NUL and stays as it is as long as `'a`.
pub(crate) unsafe fn os_text<'a>(text: *const c_char, argument: &'static str) -> Result<&'a OsStr, Failure> {
    if text.is_null() {
        return Err(Failure::Null(argument));
    }
    // SAFETY: the caller's promise.
    Ok(OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_at_the_boundary_with_its_words() {
        let said = |call: fn() -> Result<(), Failure>| {
            assert!(matches!(boundary(call), ipc_result::IPC_DEFECT));
            // SAFETY: a text that stays until the next failure of this thread.
            unsafe { CStr::from_ptr(crate::ipc_last_error()) }.to_string_lossy().into_owned()
        };
        assert_eq!(said(|| panic!("a word")), "a defect of the library: a word");
        assert_eq!(said(|| panic!("number {}", 7)), "a defect of the library: number 7");
        // What a panic carries is dropped by nobody: that could panic anew.
        struct Worse;
        impl Drop for Worse {
            fn drop(&mut self) {
                panic!("in a drop");
            }
        }
        assert_eq!(said(|| std::panic::panic_any(Worse)), "a defect of the library: a panic without words");
        assert!(matches!(boundary(|| Ok(())), ipc_result::IPC_OK));
    }
}
