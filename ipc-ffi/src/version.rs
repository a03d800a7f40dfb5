//! Which library this is.

use std::ffi::c_char;

/// Version of the header: the first number. Programs that were linked against a library of one first number (while it is 0: of one second
/// number) work with every later one of it.
pub const IPC_VERSION_MAJOR: u32 = 0;
/// Version of the header: the second number.
pub const IPC_VERSION_MINOR: u32 = 1;
/// Version of the header: the third number.
pub const IPC_VERSION_PATCH: u32 = 0;

/// The version of the library in use: first number * 65536 + second number * 256 + third number.
///
/// Any thread, any time. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_version() -> u32 {
    IPC_VERSION_MAJOR << 16 | IPC_VERSION_MINOR << 8 | IPC_VERSION_PATCH
}

/// The same as a text, "0.1.0", that is never freed.
///
/// Any thread, any time. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_version_text() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    TEXT.as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_text_are_those_of_the_package() {
        let numbers = format!("{IPC_VERSION_MAJOR}.{IPC_VERSION_MINOR}.{IPC_VERSION_PATCH}");
        assert_eq!(numbers, env!("CARGO_PKG_VERSION"));
        assert_eq!(ipc_version(), 0x0000_0100);
    }
}
