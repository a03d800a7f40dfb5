//! Where `ipc recv` writes to: a file or standard output.
//!
//! Promise: large messages go from shared memory to the system in one copy, small ones are gathered, and nothing that was put
//! here waits once [`Output::flush`] was called. Refusal: nothing is flushed unasked, not even when it is dropped.

use super::framing::Framing;
use crate::failure::Failure;
use ipc_core::{RecvError, Untrusted, View};
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// Messages from this size on are written by themselves, in bytes: copying them would cost more than a call.
const LARGE: usize = 16 << 10;
/// Bytes that are gathered for one call.
const GATHERED: usize = 64 << 10;

/// An open file, pipe or terminal, and what is to be written to it.
pub(super) struct Output {
    file: File,
    label: String,
    gathered: Vec<u8>,
    used: usize,
}

impl Output {
    /// Creates `path`, or takes standard output for none and for `-`.
    pub(super) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let (file, label) = match path {
            Some(path) if path != Path::new("-") => {
                let label = path.display().to_string();
                let file = File::create(path).map_err(|error| Failure::os(format_args!("creating {label}"), error))?;
                (file, label)
            }
            _ => {
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(|error| Failure::os("opening standard output", error))?;
                (stdout.into(), "standard output".into())
            }
        };
        Ok(Self { file, label, gathered: vec![0; GATHERED], used: 0 })
    }

    /// Writes a message with its framing, now or at the next [`Output::flush`].
    pub(super) fn put(&mut self, framing: Framing, message: &View<'_, Untrusted>) -> Result<(), Failure> {
        let len = message.len();
        let Some(prefix) = framing.prefix(len) else {
            return Err(Failure::runtime(format!("a message of {len} bytes cannot be framed with 32 bits")));
        };
        self.put_bytes(prefix.as_ref())?;
        if len >= LARGE {
            self.flush()?;
            // SAFETY: the view keeps the range readable until it is dropped; it is not looked at here.
            unsafe { self.write_from(message.as_ptr(), len)? };
        } else {
            self.make_room(len)?;
            self.used += message.copy_to(&mut self.gathered[self.used..]).map_err(RecvError::from)?;
        }
        self.put_bytes(framing.suffix())
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.make_room(bytes.len())?;
        self.gathered[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    /// Makes room for `len` bytes, fewer than [`GATHERED`].
    fn make_room(&mut self, len: usize) -> Result<(), Failure> {
        if self.used + len > self.gathered.len() { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let used = std::mem::take(&mut self.used);
        // SAFETY: the range is the start of our own buffer.
        unsafe { self.write_from(self.gathered.as_ptr(), used) }
    }

    /// # Safety
    /// The range is valid for reads. Others may write to it at the same time: then anything may be written.
    unsafe fn write_from(&self, mut from: *const u8, mut len: usize) -> Result<(), Failure> {
        while len > 0 {
            // SAFETY: the caller's promise; the kernel does not mind other writers.
            let written = unsafe { libc::write(self.file.as_raw_fd(), from.cast(), len) };
            if let Ok(written) = usize::try_from(written) {
                // SAFETY: the kernel writes no more than `len`.
                from = unsafe { from.add(written) };
                len -= written;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None);
                }
                _ => return Err(Failure::writing(&self.label, error)),
            }
        }
        Ok(())
    }
}
