//! Text on its way to C.

use std::ffi::CString;

/// Text with an end as C wants it; bytes that would end it early are left out.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

/// Writes text to C's memory, with an end; what does not fit is cut.
pub(crate) fn write(target: &mut [u8], text: &str) {
    if let Some(room) = target.len().checked_sub(1) {
        let kept = floor(text, room);
        target[..kept].copy_from_slice(&text.as_bytes()[..kept]);
        target[kept] = 0;
    }
}

/// The longest start of `text` of at most `room` bytes that ends with a character.
fn floor(text: &str, room: usize) -> usize {
    let most = room.min(text.len());
    (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_between_characters() {
        let mut target = [1; 5];
        write(&mut target, "äöü");
        assert_eq!(target, *b"\xc3\xa4\xc3\xb6\0");
        write(&mut target[..4], "äöü");
        assert_eq!(target[..3], *b"\xc3\xa4\0");
        write(&mut [], "ä");
        assert_eq!(c_string("a\0b").as_bytes(), b"ab");
    }
}
