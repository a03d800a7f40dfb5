//! Text on its way to C.

use std::ffi::CString;

/// Text with an end as C wants it; bytes that would end it early are left out.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}
