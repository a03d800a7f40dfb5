//! Looks for segments among the descriptors of running processes.
//!
//! Promise: a process that ends while it is looked at is left out; each segment appears once, however many hold it. Refusal:
//! a descriptor that is open for reading only is some other observer's, and is no sign of life.

use super::segment::inspect;
use super::{Listing, Process, Row};
use crate::failure::Failure;
use rustix::fs::{Mode, OFlags, fstat, open};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// What the link of a segment's descriptor starts and ends with.
const PREFIX: &[u8] = b"/memfd:ipc:";
const SUFFIX: &[u8] = b" (deleted)";

/// Device and inode: what tells one segment from another of the same name.
type Identity = (u64, u64);

/// A segment and its holders; `None` for a descriptor that turned out to be something else.
type Found = BTreeMap<Identity, Option<Row>>;

/// Looks into all processes of this user, or of all users.
pub(super) fn find(all: bool) -> Result<Listing, Failure> {
    let own = rustix::process::geteuid().as_raw();
    let mut found = Found::new();
    let mut skipped_processes = 0;
    let processes = fs::read_dir("/proc").map_err(|error| Failure::os("reading /proc", error))?;
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !all && !entry.metadata().is_ok_and(|process| process.uid() == own) {
            continue;
        }
        match look_into(&entry, pid, &mut found) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => skipped_processes += 1,
            // It has ended meanwhile.
            Err(_) | Ok(()) => {}
        }
    }
    let mut segments: Vec<Row> = found.into_values().flatten().collect();
    for row in &mut segments {
        row.processes.sort();
        row.processes.dedup();
    }
    segments.sort_by(|one, other| (&one.name, &one.processes).cmp(&(&other.name, &other.processes)));
    Ok(Listing { segments, skipped_processes })
}

fn look_into(process: &DirEntry, pid: u32, found: &mut Found) -> io::Result<()> {
    let path = process.path();
    for descriptor in fs::read_dir(path.join("fd"))?.flatten() {
        let link = descriptor.path();
        let Ok(target) = fs::read_link(&link) else { continue };
        let Some(name) = segment_name(target.as_os_str()) else { continue };
        // The link's own permissions are those that the descriptor was opened with.
        if !fs::symlink_metadata(&link).is_ok_and(|link| link.mode() & 0o200 != 0) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(fd) = open(&link, flags, Mode::empty()) else { continue };
        let Ok(identity) = identity(&fd) else { continue };
        let row = found.entry(identity).or_insert_with(|| inspect(&fd, name));
        if let Some(row) = row {
            let command = fs::read(path.join("comm")).map(|name| printable(name.trim_ascii_end())).unwrap_or_default();
            row.processes.push(Process { pid, command });
        }
    }
    Ok(())
}

fn identity(fd: &OwnedFd) -> io::Result<Identity> {
    let found = fstat(fd)?;
    Ok((found.st_dev, found.st_ino))
}

/// The name in the link of a segment's descriptor; `None` for a link to something else.
fn segment_name(link: &OsStr) -> Option<String> {
    let name = link.as_bytes().strip_prefix(PREFIX)?;
    Some(printable(name.strip_suffix(SUFFIX).unwrap_or(name)))
}

/// Anyone can choose these bytes: what a terminal would obey or mistake for a line's end is escaped.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|char| if char.is_control() { char.escape_default().to_string() } else { char.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_segments_have_names() {
        let name = |link: &str| segment_name(OsStr::new(link));
        assert_eq!(name("/memfd:ipc:x (deleted)").as_deref(), Some("x"));
        assert_eq!(name("/memfd:other (deleted)"), None);
        assert_eq!(name("/tmp/memfd:ipc:x"), None);
        assert_eq!(name("/memfd:ipc:a\n\x1b[2Jb (deleted)").as_deref(), Some("a\\n\\u{1b}[2Jb"));
    }
}
