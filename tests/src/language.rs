//! The programs that can play a role: the one in Rust, and the one in C against `libipc.so`.
//!
//! Promise: the program in C is that of the sources, the header and the library as they are; it is built when the first test asks for
//! it, once for all test programs, with every warning an error. Refusal: whoever wants other compilers or flags says so with `CC` and
//! `IPC_TEST_CFLAGS`; `IPC_TEST_UNDER` is a command to run it under: see `ci/sanitize-c.sh`.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// What a role is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Against `ipc-core`.
    Rust,
    /// Against `include/ipc.h`.
    C,
}

impl fmt::Display for Language {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

/// What the two sides of a test are written in: server and client, or survivor and victim.
#[derive(Clone, Copy, Debug)]
pub struct Pair(pub Language, pub Language);

impl Pair {
    /// How many rounds of `rounds` are enough: all of them with Rust on both sides, and with `IPC_LONG`; else one in `part`.
    #[must_use]
    pub fn share(self, rounds: u64, part: u64) -> u64 {
        let all = matches!(self, Self(Language::Rust, Language::Rust)) || std::env::var_os("IPC_LONG").is_some();
        if all { rounds } else { rounds.div_ceil(part) }
    }
}

/// Makes tests of functions that take a [`Pair`], one for each pair of languages: `rust_and_c::NAME` and so on.
#[macro_export]
macro_rules! in_each_pair {
    ($($test:ident),* $(,)?) => {
        $crate::in_each_pair!(@ rust_and_rust, Rust, Rust, $($test)*);
        $crate::in_each_pair!(@ c_and_rust, C, Rust, $($test)*);
        $crate::in_each_pair!(@ rust_and_c, Rust, C, $($test)*);
        $crate::in_each_pair!(@ c_and_c, C, C, $($test)*);
    };
    (@ $pair:ident, $one:ident, $other:ident, $($test:ident)*) => {
        mod $pair {
            $(#[test] fn $test() {
                super::$test($crate::language::Pair($crate::Language::$one, $crate::Language::$other));
            })*
        }
    };
}

/// Makes tests of functions that take a [`Language`], that of the second process: `with_c::NAME` and `with_rust::NAME`.
#[macro_export]
macro_rules! in_each_language {
    ($($test:ident),* $(,)?) => {
        mod with_rust {
            $(#[test] fn $test() {
                super::$test($crate::Language::Rust);
            })*
        }
        mod with_c {
            $(#[test] fn $test() {
                super::$test($crate::Language::C);
            })*
        }
    };
}

impl Language {
    /// The program that plays roles in this language; `rust` is the one in Rust.
    ///
    /// # Panics
    /// If it cannot be built.
    #[must_use]
    pub fn program(self, rust: &Path) -> PathBuf {
        static IN_C: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Self::Rust => rust.to_owned(),
            Self::C => IN_C.get_or_init(|| build(rust)).clone(),
        }
    }

    /// How many rounds of `rounds` are enough: as [`Pair::share`].
    #[must_use]
    pub fn share(self, rounds: u64, part: u64) -> u64 {
        Pair(Self::Rust, self).share(rounds, part)
    }
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|data| data.modified()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Builds the program in C beside the one in Rust, if it is older than what it is made of.
fn build(rust: &Path) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (c, include) = (package.join("c"), package.join("../include"));
    let profile = rust.parent().expect("a program lies in a directory");
    // As a dependency of the tests it is current there, whatever was built otherwise.
    let library = profile.join("deps/libipc.so");
    let place = profile.join("c-roles");
    fs::create_dir_all(&place).expect("room in the target directory");
    // Test programs may run side by side.
    let lock = fs::File::create(place.join("lock")).expect("room in the target directory");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let mut made_of: Vec<_> = fs::read_dir(&c).expect("sources").map(|file| file.expect("a file").path()).collect();
    made_of.sort();
    let sources: Vec<_> =
        made_of.iter().filter(|path| path.extension().is_some_and(|end| end == "c")).cloned().collect();
    made_of.extend([include.join("ipc.h"), library.clone()]);
    let (program, command) = (place.join("roles"), place.join("command"));
    // The name that programs look for: libipc.so.0.1.
    let soname =
        place.join(concat!("libipc.so.", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR")));
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1", "-pthread", "-I"]).arg(&include);
    cc.args(std::env::var("IPC_TEST_CFLAGS").unwrap_or_default().split_whitespace());
    // Old tags: this path comes before `LD_LIBRARY_PATH`, by which cargo names a directory where an older library may lie.
    cc.args(sources).arg(&soname).arg("-Wl,--disable-new-dtags,-rpath,$ORIGIN").arg("-o").arg(&program);
    let said = format!("{cc:?}");
    let is_current = program.exists()
        && fs::read_to_string(&command).is_ok_and(|before| before == said)
        && made_of.iter().all(|path| changed(path) < changed(&program));
    if !is_current {
        let _ = fs::remove_file(&soname);
        fs::copy(&library, &soname).expect("the library");
        let output = cc.output().unwrap_or_else(|error| panic!("{cc:?}: {error}; install a C compiler"));
        assert!(output.status.success(), "{cc:?}\n{}", String::from_utf8_lossy(&output.stderr));
        fs::write(&command, said).expect("room in the target directory");
    }
    match std::env::var("IPC_TEST_UNDER") {
        Ok(under) if !under.is_empty() => started_by(&under, &program),
        _ => program,
    }
}

/// A script that becomes `under`, which runs the program: the process that a test starts, signals and watches is that one.
fn started_by(under: &str, program: &Path) -> PathBuf {
    let script = program.with_extension("sh");
    fs::write(&script, format!("#!/bin/sh\nexec {under} '{}' \"$@\"\n", program.display())).expect("room");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a file of our own");
    script
}
