//! The ways to copy bytes that the floors choose among.
//!
//! Which is fastest depends on whose cache holds the target and on the size of the piece; the C library chooses as if
//! all memory were one's own. No way here is cleverer than a plain loop or a single instruction.

use std::fmt;
use std::ptr;

use super::super::process::Fallible;

/// A way to copy bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copier {
    /// The C library's memcpy.
    Library,
    /// One `rep movsb`: the processor takes whole lines of the target over without reading them, even for small pieces.
    Microcode,
    /// Loads and stores of 32 bytes, in order.
    Wide,
}

impl Copier {
    /// The ways that this processor has.
    pub(crate) fn available() -> Vec<Self> {
        let mut copiers = vec![Self::Library];
        #[cfg(target_arch = "x86_64")]
        {
            copiers.push(Self::Microcode);
            if std::arch::is_x86_feature_detected!("avx2") {
                copiers.push(Self::Wide);
            }
        }
        copiers
    }

    /// Makes sure of what [`Copier::copy`] requires.
    ///
    /// # Errors
    ///
    /// This processor does not have this way.
    pub(crate) fn check(self) -> Fallible<()> {
        match Self::available().contains(&self) {
            true => Ok(()),
            false => Err(format!("this processor does not copy by {self}").into()),
        }
    }

    /// Copies `len` bytes.
    ///
    /// # Safety
    ///
    /// [`Copier::check`] succeeded; `len` is a multiple of 64; `source` is readable and `target` writable for `len` bytes,
    /// the two do not overlap, and nobody else writes the one or uses the other meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn copy(self, source: *const u8, target: *mut u8, len: usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise; the direction flag is clear by the calling convention.
            Self::Microcode => unsafe {
                std::arch::asm!(
                    "rep movsb",
                    inout("rcx") len => _,
                    inout("rsi") source => _,
                    inout("rdi") target => _,
                    options(nostack, preserves_flags),
                );
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the caller's promise, and `check` saw AVX2.
            Self::Wide => unsafe { copy_wide(source, target, len) },
            // SAFETY: the caller's promise.
            _ => unsafe { ptr::copy_nonoverlapping(source, target, len) },
        }
    }
}

impl fmt::Display for Copier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Library => "memcpy",
            Self::Microcode => "movsb",
            Self::Wide => "avx2",
        })
    }
}

/// Copies with the widest registers of AVX2.
///
/// # Safety
///
/// As [`Copier::copy`], and the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn copy_wide(source: *const u8, target: *mut u8, len: usize) {
    for offset in (0..len).step_by(64) {
        // SAFETY: the 64 bytes lie within `len`, a multiple of 64; neither access needs an alignment.
        unsafe {
            let line = source.add(offset).cast::<[u64; 8]>().read_unaligned();
            target.add(offset).cast::<[u64; 8]>().write_unaligned(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_copies_every_byte_and_no_other() {
        for copier in Copier::available() {
            copier.check().unwrap();
            for len in [64, 128, 448, 4096, 65536] {
                let source: Vec<u8> = (0..len).map(|index: usize| (index % 251) as u8).collect();
                let mut target = vec![0xff; len + 2];
                // SAFETY: checked above; the target has a byte more before and after.
                unsafe { copier.copy(source.as_ptr(), target.as_mut_ptr().add(1), len) };
                assert_eq!(target[1..=len], source, "{copier} {len}");
                assert_eq!((target[0], target[len + 1]), (0xff, 0xff), "{copier} {len}");
            }
        }
    }
}
