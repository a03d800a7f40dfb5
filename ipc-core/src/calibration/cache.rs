//! The calibration file: where it lies, and whether it counts.
//!
//! Promise: a calibration that is loaded was written by this user (or, where the user named the file, by root), whole, in this version of
//! the format, and belongs to this library on this boot of this machine. Refusal: a file that does not count is left where it is, and
//! nothing is measured here.

use super::format::{Content, FormatError};
use super::{Calibration, Machine, Origin};
use crate::layout::LAYOUT_HASH;
use crate::os::address::{AddressError, IfMissing, SocketAddress};
use crate::os::keep::{self, Refused, Writer};
use rustix::fs::CWD;
use std::format;
use std::io;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};

/// Name of the file, in the directory of the sockets.
const NAME: &str = "calibration";
/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 << 10;

/// Why a calibration file is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The directory cannot be trusted, or there is none yet.
    #[error(transparent)]
    Directory(#[from] AddressError),
    /// There is no such file.
    #[error("there is no calibration file {path:?}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a link, a directory or a device.
    #[error("the calibration file {path:?} is not a regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to somebody whose numbers are not taken.
    #[error("the calibration file {path:?} belongs to user {found}; it must belong to user {expected}")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// The effective user of this process.
        expected: u32,
    },
    /// Others could have written it.
    #[error("the calibration file {path:?} has mode {mode:04o}; others must not be able to write it, as with 0600")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No calibration is so long.
    #[error("the calibration file {path:?} has {size} bytes; at most {limit} are read")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// It is damaged, or of another version.
    #[error("the calibration file {path:?}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
    /// It belongs to another boot, machine or build.
    #[error("the calibration file {path:?} is of another {field}: {found}; now it is {expected}")]
    Stale {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// What the file says.
        found: String,
        /// What is so now.
        expected: String,
    },
    /// The system does not give it out.
    #[error("reading the calibration file {path:?} failed: {source}")]
    Os {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a calibration file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory cannot be made or trusted.
    #[error(transparent)]
    Directory(#[from] AddressError),
    /// These are the costs that are compiled in.
    #[error("costs that nobody measured are not stored")]
    NotMeasured,
    /// The system refused.
    #[error("writing the calibration file {path:?} failed: {source}")]
    Os {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Calibration {
    /// The cache file: `calibration` in `$XDG_RUNTIME_DIR/ipc`, or in `/tmp/ipc-UID`, where the sockets are.
    ///
    /// # Errors
    /// [`AddressError`] if the path is too long for the directory of sockets.
    pub fn path() -> Result<PathBuf, AddressError> {
        Ok(path(&SocketAddress::resolve(NAME)?))
    }

    /// Takes what is in the cache file, if it is whole and belongs to this library on this boot of this machine.
    ///
    /// # Errors
    /// [`LoadError`], with the reason why the file is not used.
    pub fn load() -> Result<Self, LoadError> {
        let address = SocketAddress::resolve(NAME)?;
        let path = path(&address);
        let directory = address.open_directory(IfMissing::Report)?;
        let bytes = keep::read(directory, Path::new(NAME), Writer::OwnAlone, LONGEST);
        let content = decode(&path, bytes)?;
        check(&path, &content, &Machine::this())?;
        Ok(content.calibration)
    }

    /// Takes what is in this file, of whatever boot and machine. It has to belong to this user or to root, others must not be able
    /// to write it, and its layout hash has to be that of this library.
    ///
    /// # Errors
    /// [`LoadError`], with the reason why the file is not used.
    pub fn load_from(path: &Path) -> Result<Self, LoadError> {
        let content = decode(path, keep::read(CWD, path, Writer::OwnOrRoot, LONGEST))?;
        check_layout(path, &content)?;
        Ok(content.calibration)
    }

    /// Writes the cache file, with mode 0600, in one step; its directory is made if there is none. Returns its path. Connections that are made
    /// from here on use it, in processes that have made none before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn store(&self) -> Result<PathBuf, StoreError> {
        if self.origin() == Origin::Defaults {
            return Err(StoreError::NotMeasured);
        }
        let address = SocketAddress::resolve(NAME)?;
        let path = path(&address);
        let directory = address.open_directory(IfMissing::Create)?;
        let content = Content { calibration: *self, machine: Machine::this(), layout: LAYOUT_HASH };
        match keep::replace(directory, NAME, content.encode().as_bytes()) {
            Ok(()) => Ok(path),
            Err(source) => Err(StoreError::Os { path, source }),
        }
    }
}

fn path(address: &SocketAddress) -> PathBuf {
    address.directory().join(NAME)
}

fn decode(path: &Path, bytes: Result<std::vec::Vec<u8>, Refused>) -> Result<Content, LoadError> {
    let path = || path.to_path_buf();
    let bytes = bytes.map_err(|refused| match refused {
        Refused::Missing => LoadError::Missing { path: path() },
        Refused::NotAFile => LoadError::NotAFile { path: path() },
        Refused::Owner(found) => {
            LoadError::Owner { path: path(), found, expected: rustix::process::geteuid().as_raw() }
        }
        Refused::Mode(mode) => LoadError::Mode { path: path(), mode },
        Refused::TooLong(size) => LoadError::TooLong { path: path(), size, limit: LONGEST },
        Refused::Os(source) => LoadError::Os { path: path(), source },
    })?;
    Content::decode(&bytes).map_err(|source| LoadError::Format { path: path(), source })
}

fn check(path: &Path, content: &Content, now: &Machine) -> Result<(), LoadError> {
    check_layout(path, content)?;
    let then = &content.machine;
    let differs = |field, found: &str, expected: &str| match found == expected {
        true => Ok(()),
        false => Err(stale(path, field, found.into(), expected.into())),
    };
    differs("boot", &then.boot, &now.boot)?;
    differs("kernel", &then.kernel, &now.kernel)?;
    differs("processor", &then.cpu, &now.cpu)?;
    differs("number of processors", &then.cpus.to_string(), &now.cpus.to_string())
}

fn check_layout(path: &Path, content: &Content) -> Result<(), LoadError> {
    if content.layout == LAYOUT_HASH {
        return Ok(());
    }
    Err(stale(path, "memory layout", format!("{:#x}", content.layout), format!("{LAYOUT_HASH:#x}")))
}

fn stale(path: &Path, field: &'static str, found: String, expected: String) -> LoadError {
    LoadError::Stale { path: path.to_path_buf(), field, found, expected }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::format::tests::{content, machine};
    use super::*;

    #[test]
    fn costs_of_another_boot_machine_or_build_are_not_used() {
        let fits = || Content { layout: LAYOUT_HASH, ..content() };
        let judge =
            |content: &Content| check(Path::new("/kept"), content, &machine()).map_err(|error| error.to_string());
        assert_eq!(judge(&fits()), Ok(()));
        let other = |change: fn(&mut Content)| {
            let mut content = fits();
            change(&mut content);
            judge(&content).expect_err("stale")
        };
        let told = other(|content| content.machine.boot = "before".into());
        assert_eq!(told, "the calibration file \"/kept\" is of another boot: before; now it is 3f0c1e5e");
        assert!(other(|content| content.machine.kernel = "5.4".into()).contains("another kernel: 5.4"));
        assert!(other(|content| content.machine.cpu = "Z80".into()).contains("another processor: Z80"));
        assert!(other(|content| content.machine.cpus = 3).contains("another number of processors: 3; now it is 2"));
        assert!(other(|content| content.layout = 1).contains("another memory layout: 0x1;"));
    }

    #[test]
    fn a_file_that_the_user_names_may_be_of_any_machine() {
        let path = std::env::temp_dir().join(format!("ipc-calibration-{}", std::process::id()));
        let content = Content { layout: LAYOUT_HASH, ..content() };
        keep::replace(CWD, path.to_str().unwrap(), content.encode().as_bytes()).unwrap();
        assert_eq!(Calibration::load_from(&path).unwrap(), content.calibration);
        keep::replace(CWD, path.to_str().unwrap(), b"nonsense").unwrap();
        let error = Calibration::load_from(&path).unwrap_err();
        assert!(matches!(error, LoadError::Format { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Calibration::load_from(&path), Err(LoadError::Missing { .. })));
    }
}
