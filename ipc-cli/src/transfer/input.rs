//! Where `ipc send` reads from: a file or standard input.
//!
//! Promise: a read never waits while lines that were read before are still unpublished, and a wait for input ends when the
//! receiver goes. Refusal: messages are not cut here.

use super::CHUNK;
use crate::failure::{Code, Failure};
use ipc_core::{Sender, Untrusted};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// An open file, pipe, terminal or device.
pub(super) struct Input {
    file: File,
    label: String,
    /// Bytes that are left, for a regular file; another kind may pause.
    left: Option<u64>,
}

impl Input {
    /// Opens `path`, or standard input for none and for `-`.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let (file, label) = match path {
            Some(path) if path != Path::new("-") => {
                let label = path.display().to_string();
                let file = File::open(path).map_err(|error| Failure::os(format_args!("opening {label}"), error))?;
                (file, label)
            }
            _ => {
                let stdin = io::stdin().as_fd().try_clone_to_owned();
                (stdin.map_err(|error| Failure::os("opening standard input", error))?.into(), "standard input".into())
            }
        };
        let found = fstat(&file).map_err(|errno| Failure::os(format_args!("examining {label}"), errno))?;
        let left = match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {
                let at = rustix::fs::tell(&file).unwrap_or(0);
                Some((found.st_size as u64).saturating_sub(at))
            }
            FileType::Directory => return Err(Failure::runtime(format!("{label} is a directory"))),
            _ => None,
        };
        Ok(Self { file, label, left })
    }

    /// Bytes that will come, if that is known. A file that grows meanwhile has more.
    pub(super) fn size(&self) -> Option<u64> {
        self.left
    }

    /// Waits until there is something to read, or the end of it, and says how many bytes to ask for.
    ///
    /// # Errors
    /// That the receiver has gone meanwhile.
    pub(super) fn wait(&self, sender: &mut Sender<Untrusted>) -> Result<usize, Failure> {
        if self.left.is_some() {
            return Ok(CHUNK);
        }
        loop {
            if let Some(len) = self.available() {
                return Ok(len);
            }
            // Empties the sender's descriptor, so that only something new makes it readable.
            sender.arm()?;
            let mut fds =
                [PollFd::new(&self.file, PollFlags::IN), PollFd::from_borrowed_fd(sender.as_fd(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Failure::os(format_args!("waiting for {}", self.label), errno)),
            }
            if !fds[0].revents().is_empty() {
                // Ready and nothing there: the end, or a device that does not say how much it has.
                return Ok(self.available().unwrap_or(CHUNK));
            }
            if sender.is_peer_gone() {
                return Err(Failure::new(Code::PeerGone, "the receiver went away while the input paused"));
            }
        }
    }

    /// Bytes that can be read without waiting, at most [`CHUNK`]; `None` if there are none or nobody knows.
    fn available(&self) -> Option<usize> {
        let len = usize::try_from(rustix::io::ioctl_fionread(&self.file).ok()?).ok()?;
        (len > 0).then_some(len.min(CHUNK))
    }

    /// Reads what is there into `target`; 0 at the end of the input.
    pub(super) fn read(&self, target: &mut [u8]) -> Result<usize, Failure> {
        // SAFETY: the range is that of the slice, which is ours alone.
        unsafe { self.read_to(target.as_mut_ptr(), target.len()) }
    }

    /// Reads up to `len` bytes to `target`; 0 at the end of the input.
    ///
    /// # Safety
    /// The range is valid for writes. Others may write to it at the same time.
    pub(super) unsafe fn read_to(&self, target: *mut u8, len: usize) -> Result<usize, Failure> {
        loop {
            // SAFETY: the caller's promise; the kernel does not mind other writers.
            let read = unsafe { libc::read(self.file.as_raw_fd(), target.cast(), len) };
            if let Ok(read) = usize::try_from(read) {
                return Ok(read);
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], None);
                }
                _ => return Err(Failure::os(format_args!("reading {}", self.label), error)),
            }
        }
    }
}

/// Input that was read and not used yet.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What is there.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Steps over the first `len` bytes of [`Buffer::rest`].
    pub(super) fn skip(&mut self, len: usize) {
        self.start += len;
    }

    /// Reads once and appends it; 0 at the end of the input.
    pub(super) fn fill(&mut self, input: &Input) -> Result<usize, Failure> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < self.end + CHUNK {
            // Twice as much each time: a message of many chunks is copied few times.
            self.bytes.resize((self.end + CHUNK).max(2 * self.end), 0);
        }
        let read = input.read(&mut self.bytes[self.end..])?;
        self.end += read;
        Ok(read)
    }
}
