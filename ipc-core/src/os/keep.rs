//! Small files that a user's processes keep for one another.
//!
//! Promise: what is read was written by who was asked for, and nobody else can write it; what is written appears whole or not at all, for
//! this user alone. Refusal: the directory is checked by whoever opened it; contents are not judged.

use super::segment::largest_file;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::format;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

/// Who may have written a file, and who may not be able to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// This user, and nobody else has any right to it.
    OwnAlone,
    /// This user or root, and nobody else can write it.
    OwnOrRoot,
}

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is not there.
    Missing,
    /// It is a link, a directory or a device.
    NotAFile,
    /// Its owner.
    Owner(u32),
    /// Its permission bits.
    Mode(u32),
    /// Its size in bytes.
    TooLong(u64),
    /// What the system said.
    Os(io::Error),
}

/// Reads a file of at most `longest` bytes.
pub(crate) fn read(directory: impl AsFd, name: &Path, writer: Writer, longest: u64) -> Result<Vec<u8>, Refused> {
    // Without waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = if writer == Writer::OwnAlone { flags | OFlags::NOFOLLOW } else { flags };
    let fd = openat(directory, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Refused::Missing,
        Errno::LOOP => Refused::NotAFile,
        errno => Refused::Os(errno.into()),
    })?;
    let found = fstat(&fd).map_err(|errno| Refused::Os(errno.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Refused::NotAFile);
    }
    let root = writer == Writer::OwnOrRoot && found.st_uid == 0;
    if found.st_uid != geteuid().as_raw() && !root {
        return Err(Refused::Owner(found.st_uid));
    }
    let mode = Mode::from_raw_mode(found.st_mode).as_raw_mode() & 0o7777;
    let others = if writer == Writer::OwnAlone { 0o077 } else { 0o022 };
    if mode & others != 0 {
        return Err(Refused::Mode(mode));
    }
    let mut bytes = Vec::new();
    File::from(fd).take(longest + 1).read_to_end(&mut bytes).map_err(Refused::Os)?;
    if bytes.len() as u64 > longest {
        return Err(Refused::TooLong(u64::try_from(found.st_size).unwrap_or(0)));
    }
    Ok(bytes)
}

/// Puts a file with mode 0600 in the place of one that may be there. Whoever reads sees the one or the other.
pub(crate) fn replace(directory: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if bytes.len() as u64 > largest_file() {
        return Err(Errno::FBIG.into());
    }
    let directory = directory.as_fd();
    let new = format!("{name}.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let create = || -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(directory, &new, flags, Mode::RUSR | Mode::WUSR)
    };
    let fd = match create() {
        // Left by a process of that number that was killed.
        Err(Errno::EXIST) => {
            unlinkat(directory, &new, AtFlags::empty())?;
            create()?
        }
        answer => answer?,
    };
    let done = File::from(fd).write_all(bytes).and_then(|()| Ok(renameat(directory, &new, directory, name)?));
    if done.is_err() {
        // The first failure is the one to tell.
        let _ = unlinkat(directory, &new, AtFlags::empty());
    }
    done
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ipc-keep-{}-{test}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn open(&self) -> File {
            File::open(&self.0).unwrap()
        }

        fn read(&self, writer: Writer) -> Result<Vec<u8>, Refused> {
            read(self.open(), Path::new("kept"), writer, 8)
        }

        fn set_mode(&self, mode: u32) {
            fs::set_permissions(self.0.join("kept"), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_for_its_user_alone() {
        let folder = Folder::new("replace");
        replace(folder.open(), "kept", b"first").unwrap();
        replace(folder.open(), "kept", b"then").unwrap();
        assert_eq!(folder.read(Writer::OwnAlone).unwrap(), b"then");
        assert_eq!(fs::metadata(folder.0.join("kept")).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
        let folder = Folder::new("failure");
        fs::create_dir(folder.0.join("kept")).unwrap();
        assert!(replace(folder.open(), "kept", b"first").is_err());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let folder = Folder::new("mode");
        assert!(matches!(folder.read(Writer::OwnAlone), Err(Refused::Missing)));
        replace(folder.open(), "kept", b"mine").unwrap();
        for mode in [0o620, 0o602, 0o622] {
            folder.set_mode(mode);
            assert!(matches!(folder.read(Writer::OwnAlone), Err(Refused::Mode(found)) if found == mode));
            assert!(matches!(folder.read(Writer::OwnOrRoot), Err(Refused::Mode(found)) if found == mode));
        }
        folder.set_mode(0o644);
        assert!(matches!(folder.read(Writer::OwnAlone), Err(Refused::Mode(0o644))));
        assert_eq!(folder.read(Writer::OwnOrRoot).unwrap(), b"mine");
    }

    #[test]
    fn what_is_no_file_or_too_long_is_refused() {
        let folder = Folder::new("kind");
        symlink("/etc/hostname", folder.0.join("kept")).unwrap();
        assert!(matches!(folder.read(Writer::OwnAlone), Err(Refused::NotAFile)));
        assert!(matches!(read(CWD, Path::new("/dev/null"), Writer::OwnOrRoot, 8), Err(Refused::NotAFile)));
        replace(folder.open(), "kept", b"123456789").unwrap();
        assert!(matches!(folder.read(Writer::OwnAlone), Err(Refused::TooLong(9))));
    }

    /// Only root can give a file away.
    #[test]
    fn a_file_of_another_user_is_refused() {
        let folder = Folder::new("owner");
        replace(folder.open(), "kept", b"theirs").unwrap();
        if std::os::unix::fs::chown(folder.0.join("kept"), Some(12_345), None).is_ok() {
            assert!(matches!(folder.read(Writer::OwnAlone), Err(Refused::Owner(12_345))));
            assert!(matches!(folder.read(Writer::OwnOrRoot), Err(Refused::Owner(12_345))));
        }
    }
}
