//! From a user's name to the path of a socket file.
//!
//! Promises that a plain name leads to the same file in every process of a user, inside a directory that
//! only this user can enter: owner and mode are checked on the opened directory, on every use, so a
//! squatter's directory is refused. Does not judge absolute paths: who gives one chose the directory too.
//! Opens no socket.

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdir, open, stat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::borrow::ToOwned;
use std::ffi::{OsStr, OsString};
use std::format;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::string::String;

/// Longest plain name, in bytes.
pub(crate) const NAME_LIMIT: usize = 64;

/// Longest socket path, in bytes: `sun_path` has 108 and the last is a NUL.
pub(crate) const PATH_LIMIT: usize = 107;

/// Why a name does not lead to a socket path that can be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The name is empty or too long.
    #[error("the name {name:?} is {length} bytes long; allowed are 1 to {limit}")]
    NameLength {
        /// The name as given.
        name: OsString,
        /// Its length in bytes.
        length: usize,
        /// Largest length in bytes.
        limit: usize,
    },
    /// The name holds a byte that is not allowed at its place.
    #[error(
        "the name {name:?} has {:?} at byte {position}; allowed are A-Z a-z 0-9 . _ - with no dot in front, \
         or an absolute path",
        char::from(*.byte)
    )]
    NameCharacter {
        /// The name as given.
        name: OsString,
        /// The first byte that is not allowed.
        byte: u8,
        /// Its index in the name.
        position: usize,
    },
    /// The absolute path names no file.
    #[error("the path {path:?} ends in no file name; a socket path ends in the name of its file")]
    PathWithoutFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The absolute path holds a NUL byte.
    #[error("the path {path:?} has a NUL at byte {position}; allowed is every other byte")]
    PathNul {
        /// The path as given.
        path: PathBuf,
        /// Index of the first NUL in the path.
        position: usize,
    },
    /// The socket path does not fit into a socket address.
    #[error("the socket path {path:?} is {length} bytes long; allowed are at most {limit}")]
    PathLength {
        /// The path of the socket file.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// Largest length in bytes.
        limit: usize,
    },
    /// The directory of the socket does not exist.
    #[error("the socket directory {path:?} does not exist")]
    DirectoryMissing {
        /// The directory.
        path: PathBuf,
    },
    /// Something that is not a directory, perhaps a link to one, is where the directory belongs.
    #[error("the socket directory {path:?} is not a directory itself; a file or a link there is refused")]
    NotADirectory {
        /// The path that was opened.
        path: PathBuf,
    },
    /// The directory belongs to another user.
    #[error("the directory {path:?} belongs to user {found}; it must belong to user {expected}")]
    DirectoryOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// The effective user of this process.
        expected: u32,
    },
    /// Others can enter or change the directory.
    #[error(
        "the socket directory {path:?} has mode {mode:04o}; it must give no rights to group and others, as 0700 does"
    )]
    DirectoryMode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused to create, open or examine the directory.
    #[error("cannot {action} the directory {path:?}: {source}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Whose choice the directory was, which decides how it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Part of an absolute path: taken as it is.
    Given,
    /// `$XDG_RUNTIME_DIR/ipc`: created on demand, in a directory that must be ours too.
    Runtime,
    /// `/tmp/ipc-<uid>`: created on demand; the sticky bit of `/tmp` keeps it ours.
    Temporary,
}

/// What to do about a directory that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Create it with mode 0700, unless an absolute path named it: for those who bind.
    Create,
    /// Report it: for those who connect, to whom it means that nobody listens.
    Report,
}

/// A name resolved to the path of a socket file.
#[derive(Clone, Debug)]
pub(crate) struct SocketAddress {
    /// The socket file: absolute, at most [`PATH_LIMIT`] bytes, without NUL.
    path: PathBuf,
    /// The directory part of `path`.
    directory: PathBuf,
    /// The last part of `path`.
    file: OsString,
    /// The plain name, or for an absolute path its file stem in the alphabet of names.
    name: String,
    place: Place,
}

impl SocketAddress {
    /// Resolves `name`: an absolute path, or 1 to 64 of `A-Z a-z 0-9 . _ -` with no dot in front.
    ///
    /// A plain name lives in `$XDG_RUNTIME_DIR/ipc/NAME.sock` where that variable holds an absolute path,
    /// else in `/tmp/ipc-<effective uid>/NAME.sock`. Nothing is opened or created yet.
    ///
    /// # Errors
    /// The name or path is out of range; the error says which byte or length, and what is allowed.
    pub(crate) fn resolve(name: impl AsRef<OsStr>) -> Result<Self, AddressError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        Self::resolve_in(name.as_ref(), runtime.as_deref(), geteuid().as_raw())
    }

    fn resolve_in(given: &OsStr, runtime: Option<&OsStr>, user: u32) -> Result<Self, AddressError> {
        if given.as_bytes().first() == Some(&b'/') {
            return Self::from_path(Path::new(given));
        }
        let name = checked_name(given)?;
        let runtime = runtime.map(Path::new).filter(|path| path.is_absolute());
        let (directory, place) = match runtime {
            Some(base) => (base.join("ipc"), Place::Runtime),
            None => (PathBuf::from(format!("/tmp/ipc-{user}")), Place::Temporary),
        };
        let file = OsString::from(format!("{name}.sock"));
        let path = checked_path(directory.join(&file))?;
        Ok(Self { path, directory, file, name: name.to_owned(), place })
    }

    fn from_path(given: &Path) -> Result<Self, AddressError> {
        let path = checked_path(given.to_owned())?;
        let (Some(directory), Some(file)) = (given.parent(), given.file_name()) else {
            return Err(AddressError::PathWithoutFile { path });
        };
        let (directory, file) = (directory.to_owned(), file.to_owned());
        let stem = given.file_stem().unwrap_or(&file);
        let name =
            stem.as_bytes().iter().take(NAME_LIMIT).map(|&byte| if in_alphabet(byte) { char::from(byte) } else { '_' });
        Ok(Self { name: name.collect(), path, directory, file, place: Place::Given })
    }

    /// The socket file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that holds the socket file.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The socket file's name inside [`directory`](Self::directory).
    pub(crate) fn file(&self) -> &OsStr {
        &self.file
    }

    /// The plain name; for an absolute path its file stem, cut to 64 bytes, odd bytes shown as `_`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What memfds of this address are called, as seen in `/proc/*/fd`: `ipc:NAME`, at most 68 bytes.
    pub(crate) fn label(&self) -> String {
        format!("ipc:{}", self.name)
    }

    /// Whether the directory is one that only this user may enter (every plain name's is).
    pub(crate) fn is_private(&self) -> bool {
        self.place != Place::Given
    }

    /// Opens the directory of the socket, and for a plain name checks that it is ours alone.
    ///
    /// The answer is about the opened directory, not about the path, so it cannot go stale between the
    /// check and the use of the descriptor. A directory that passed stays at its path, for only we, the
    /// owner of its parent, and root can move it.
    ///
    /// # Errors
    /// `DirectoryMissing`; `NotADirectory`, `DirectoryOwner` and `DirectoryMode` for a squatter's; else
    /// `Directory` with what the system answered.
    pub(crate) fn open_directory(&self, if_missing: IfMissing) -> Result<OwnedFd, AddressError> {
        let path = &self.directory;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if !self.is_private() {
            return open(path, flags, Mode::empty()).map_err(|errno| opening(path, errno));
        }
        let flags = flags | OFlags::NOFOLLOW;
        let fd = match open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) if if_missing == IfMissing::Create => {
                self.create_directory()?;
                open(path, flags, Mode::empty())
            }
            answer => answer,
        }
        .map_err(|errno| opening(path, errno))?;

        let found = fstat(&fd).map_err(|errno| refused("examine", path, errno))?;
        check_owner(path, found.st_uid)?;
        let mode = Mode::from_raw_mode(found.st_mode).as_raw_mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(AddressError::DirectoryMode { path: path.clone(), mode });
        }
        Ok(fd)
    }

    /// Creates the directory with mode 0700; one that appears meanwhile is fine, the caller checks it.
    fn create_directory(&self) -> Result<(), AddressError> {
        // A runtime directory inherited from another user (`sudo -E`) must not get a directory that its
        // owner could then neither use nor replace.
        if let (Place::Runtime, Some(base)) = (self.place, self.directory.parent()) {
            let found = stat(base).map_err(|errno| opening(base, errno))?;
            if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
                return Err(AddressError::NotADirectory { path: base.to_owned() });
            }
            check_owner(base, found.st_uid)?;
        }
        match mkdir(&self.directory, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(refused("create", &self.directory, errno)),
        }
    }
}

fn in_alphabet(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn checked_name(given: &OsStr) -> Result<&str, AddressError> {
    let name = || given.to_owned();
    let bytes = given.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_LIMIT {
        return Err(AddressError::NameLength { name: name(), length: bytes.len(), limit: NAME_LIMIT });
    }
    for (position, &byte) in bytes.iter().enumerate() {
        if !in_alphabet(byte) || (position == 0 && byte == b'.') {
            return Err(AddressError::NameCharacter { name: name(), byte, position });
        }
    }
    match core::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let position = error.valid_up_to();
            let byte = bytes.get(position).copied().unwrap_or_default();
            Err(AddressError::NameCharacter { name: name(), byte, position })
        }
    }
}

fn checked_path(path: PathBuf) -> Result<PathBuf, AddressError> {
    let bytes = path.as_os_str().as_bytes();
    if let Some(position) = bytes.iter().position(|&byte| byte == 0) {
        return Err(AddressError::PathNul { path, position });
    }
    let length = bytes.len();
    if length > PATH_LIMIT {
        return Err(AddressError::PathLength { path, length, limit: PATH_LIMIT });
    }
    Ok(path)
}

fn check_owner(path: &Path, found: u32) -> Result<(), AddressError> {
    let expected = geteuid().as_raw();
    if found == expected {
        return Ok(());
    }
    Err(AddressError::DirectoryOwner { path: path.to_owned(), found, expected })
}

fn opening(path: &Path, errno: Errno) -> AddressError {
    match errno {
        Errno::NOENT => AddressError::DirectoryMissing { path: path.to_owned() },
        Errno::NOTDIR | Errno::LOOP => AddressError::NotADirectory { path: path.to_owned() },
        errno => refused("open", path, errno),
    }
}

fn refused(action: &'static str, path: &Path, errno: Errno) -> AddressError {
    AddressError::Directory { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(all(test, not(loom)))]
pub(crate) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::string::ToString;

    /// A directory of its own for one test, mode 0700, gone with the value.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        /// `test` is unique in this crate.
        pub(crate) fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ipc-{}-{test}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        /// The address of a file in this directory, as an absolute path.
        pub(crate) fn address(&self, file: &str) -> SocketAddress {
            SocketAddress::resolve(self.0.join(file)).unwrap()
        }

        /// The address of a plain name, with this directory as the runtime directory.
        pub(crate) fn named(&self, name: &str) -> SocketAddress {
            SocketAddress::resolve_in(OsStr::new(name), Some(self.0.as_os_str()), geteuid().as_raw()).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn resolve(name: &str, runtime: Option<&str>) -> Result<SocketAddress, AddressError> {
        SocketAddress::resolve_in(OsStr::new(name), runtime.map(OsStr::new), 1234)
    }

    #[test]
    fn a_plain_name_lives_in_the_runtime_directory() {
        let address = resolve("sensors", Some("/run/user/1234")).unwrap();
        assert_eq!(address.path(), Path::new("/run/user/1234/ipc/sensors.sock"));
        assert_eq!(address.directory(), Path::new("/run/user/1234/ipc"));
        assert_eq!(address.file(), "sensors.sock");
        assert_eq!(address.name(), "sensors");
        assert_eq!(address.label(), "ipc:sensors");
        assert!(address.is_private());
    }

    #[test]
    fn without_an_absolute_runtime_directory_a_name_lives_under_tmp() {
        for runtime in [None, Some(""), Some("run/user")] {
            let address = resolve("a", runtime).unwrap();
            assert_eq!(address.path(), Path::new("/tmp/ipc-1234/a.sock"));
            assert!(address.is_private());
        }
    }

    #[test]
    fn an_absolute_path_is_taken_as_it_is() {
        let address = resolve("/var/run/some thing.socket", Some("/run/user/1234")).unwrap();
        assert_eq!(address.path(), Path::new("/var/run/some thing.socket"));
        assert_eq!(address.label(), "ipc:some_thing");
        assert!(!address.is_private());
        let long = format!("/{}", "x".repeat(100));
        assert_eq!(resolve(&long, None).unwrap().label().len(), 4 + NAME_LIMIT);
    }

    #[test]
    fn names_out_of_range_are_refused_with_the_reason() {
        let text = |name: &str| resolve(name, None).unwrap_err().to_string();
        assert!(text("").contains("0 bytes long; allowed are 1 to 64"), "{}", text(""));
        assert!(text(&"n".repeat(65)).contains("65 bytes long"));
        assert!(text("a/b").contains("'/' at byte 1"), "{}", text("a/b"));
        assert!(text(".hidden").contains("'.' at byte 0"));
        assert!(text("naïve").contains("at byte 2"));
        assert!(text("a\0b").contains("at byte 1"));
        assert!(resolve(&"n".repeat(64), None).is_ok());
        assert!(resolve("A-z_0.9", None).is_ok());
        let odd = SocketAddress::resolve_in(OsStr::from_bytes(b"a\xff"), None, 0);
        assert!(matches!(odd, Err(AddressError::NameCharacter { byte: 0xff, position: 1, .. })));
    }

    #[test]
    fn paths_out_of_range_are_refused_with_the_reason() {
        let longest = format!("/{}", "p".repeat(PATH_LIMIT - 1));
        assert!(resolve(&longest, None).is_ok());
        let error = resolve(&format!("{longest}p"), None).unwrap_err();
        assert!(matches!(error, AddressError::PathLength { length: 108, limit: 107, .. }), "{error}");
        let error = resolve("name", Some(&longest)).unwrap_err();
        assert!(matches!(error, AddressError::PathLength { .. }), "{error}");
        assert!(matches!(resolve("/", None), Err(AddressError::PathWithoutFile { .. })));
        assert!(matches!(resolve("/tmp/..", None), Err(AddressError::PathWithoutFile { .. })));
        assert!(matches!(resolve("/a\0b", None), Err(AddressError::PathNul { position: 2, .. })));
    }

    #[test]
    fn the_directory_is_created_for_binders_only_and_private() {
        let scratch = Scratch::new("address-create");
        let address = scratch.named("a");
        let missing = address.open_directory(IfMissing::Report);
        assert!(matches!(missing, Err(AddressError::DirectoryMissing { .. })));
        address.open_directory(IfMissing::Create).unwrap();
        address.open_directory(IfMissing::Create).unwrap();
        address.open_directory(IfMissing::Report).unwrap();
        assert_eq!(fs::metadata(address.directory()).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_missing_runtime_directory_is_reported_not_created() {
        let scratch = Scratch::new("address-no-runtime");
        let runtime = scratch.path().join("gone");
        let address = SocketAddress::resolve_in(OsStr::new("a"), Some(runtime.as_os_str()), 0).unwrap();
        let answer = address.open_directory(IfMissing::Create);
        assert!(matches!(answer, Err(AddressError::DirectoryMissing { path }) if path == runtime));
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let scratch = Scratch::new("address-mode");
        let address = scratch.named("a");
        for mode in [0o755, 0o710, 0o701, 0o1777] {
            let _ = fs::remove_dir(address.directory());
            fs::create_dir(address.directory()).unwrap();
            fs::set_permissions(address.directory(), fs::Permissions::from_mode(mode)).unwrap();
            let error = address.open_directory(IfMissing::Create).unwrap_err();
            assert!(matches!(error, AddressError::DirectoryMode { mode: found, .. } if found == mode), "{error}");
        }
    }

    #[test]
    fn a_link_or_a_file_in_place_of_the_directory_is_refused() {
        let scratch = Scratch::new("address-link");
        let address = scratch.named("a");
        let target = scratch.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&target, address.directory()).unwrap();
        let error = address.open_directory(IfMissing::Create).unwrap_err();
        assert!(matches!(error, AddressError::NotADirectory { .. }), "{error}");
        fs::remove_file(address.directory()).unwrap();
        symlink(scratch.path().join("dangling"), address.directory()).unwrap();
        let error = address.open_directory(IfMissing::Create).unwrap_err();
        assert!(matches!(error, AddressError::NotADirectory { .. }), "{error}");
        fs::remove_file(address.directory()).unwrap();
        fs::write(address.directory(), "").unwrap();
        let error = address.open_directory(IfMissing::Create).unwrap_err();
        assert!(matches!(error, AddressError::NotADirectory { .. }), "{error}");
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let scratch = Scratch::new("address-owner");
        let address = scratch.named("a");
        address.open_directory(IfMissing::Create).unwrap();
        if chown(address.directory(), Some(4321), None).is_err() {
            return; // only root can make another user's directory
        }
        let error = address.open_directory(IfMissing::Create).unwrap_err();
        assert!(matches!(error, AddressError::DirectoryOwner { found: 4321, .. }), "{error}");
        assert!(error.to_string().contains("belongs to user 4321"), "{error}");
        fs::remove_dir(address.directory()).unwrap();
        chown(scratch.path(), Some(4321), None).unwrap();
        let error = address.open_directory(IfMissing::Create).unwrap_err();
        assert!(matches!(error, AddressError::DirectoryOwner { path, .. } if path == scratch.path()));
        assert!(!address.directory().exists());
    }
}
