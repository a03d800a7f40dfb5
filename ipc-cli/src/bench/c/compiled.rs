//! C that is compiled now, and called.
//!
//! Promise: what was compiled is removed again; a function that is missing is an error. Refusal: what the C functions do is in `loops.c`,
//! and the types here are theirs by hand.

use crate::bench::process::{Fallible, Side};
use ipc_core::WaitStrategy;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;

const SOURCE: &str = include_str!("loops.c");
const HEADER: &str = include_str!("../../../../include/ipc.h");

/// How the C code reaches the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linkage {
    /// `libipc.so`, through the table of functions of the caller.
    Shared,
    /// `libipc.a`, by direct calls.
    Static,
}

impl Linkage {
    pub(super) fn name(self, shared: &'static str, fixed: &'static str) -> &'static str {
        match self {
            Self::Shared => shared,
            Self::Static => fixed,
        }
    }
}

/// A connection of the C library's.
type Handle = *mut c_void;
type Meet = unsafe extern "C" fn(*mut c_void) -> c_int;

/// The functions of `loops.c`, loaded.
pub(super) struct Compiled {
    linkage: Linkage,
    open: Symbol<unsafe extern "C" fn(*const c_char, c_int, u32) -> Handle>,
    close: Symbol<unsafe extern "C" fn(Handle)>,
    error: Symbol<unsafe extern "C" fn() -> *const c_char>,
    ask: Symbol<unsafe extern "C" fn(Handle, usize, u64, u64, Meet, *mut c_void) -> f64>,
    answer: Symbol<unsafe extern "C" fn(Handle, usize, u64, Meet, *mut c_void) -> c_int>,
    produce: Symbol<unsafe extern "C" fn(Handle, usize, u64, u64, Meet, *mut c_void) -> c_int>,
    consume: Symbol<unsafe extern "C" fn(Handle, usize, u64, u64, u64, Meet, *mut c_void) -> f64>,
    /// Loaded as long as the functions are.
    _loops: Library,
    _library: Option<Library>,
}

impl Compiled {
    /// Compiles the loops against the library in this folder.
    ///
    /// # Errors
    /// There is no C compiler, or no library, or they do not fit.
    pub(super) fn new(folder: &Path, linkage: Linkage) -> Fallible<Self> {
        let file = folder.join(linkage.name("libipc.so", "libipc.a"));
        if !file.exists() {
            return Err(format!("there is no {}; cargo build --release -p ipc-ffi makes it", file.display()).into());
        }
        let place = std::env::temp_dir().join(format!("ipc-bench-c-{}-{linkage:?}", std::process::id()));
        std::fs::create_dir_all(&place)?;
        let loaded = compile(&place, &file, linkage).and_then(|loops| Self::load(&file, &loops, linkage));
        // What is loaded stays loaded without its file.
        std::fs::remove_dir_all(&place)?;
        loaded
    }

    fn load(file: &Path, loops: &Path, linkage: Linkage) -> Fallible<Self> {
        // SAFETY: this library's initialisers do nothing.
        let load = |path: &Path, flags| unsafe { Library::open(Some(path), flags) };
        // In sight of the loops, which leave its functions open.
        let library = (linkage == Linkage::Shared).then(|| load(file, RTLD_NOW | RTLD_GLOBAL)).transpose()?;
        let loops = load(loops, RTLD_NOW)?;
        // SAFETY: the types are those of `loops.c`.
        unsafe {
            Ok(Self {
                linkage,
                open: loops.get(b"bench_open")?,
                close: loops.get(b"bench_close")?,
                error: loops.get(b"bench_error")?,
                ask: loops.get(b"bench_ask")?,
                answer: loops.get(b"bench_answer")?,
                produce: loops.get(b"bench_produce")?,
                consume: loops.get(b"bench_consume")?,
                _loops: loops,
                _library: library,
            })
        }
    }

    pub(super) fn linkage(&self) -> Linkage {
        self.linkage
    }

    /// Connects the two processes of a run; each calls this once.
    ///
    /// # Errors
    /// What the C library says.
    pub(super) fn open(&self, name: &str, listens: bool, wait: WaitStrategy) -> Fallible<Connection<'_>> {
        let name = CString::new(name)?;
        let wait = match wait {
            WaitStrategy::Sleep => 2,
            WaitStrategy::Busy => 3,
            _ => 0,
        };
        // SAFETY: a text with an end.
        let handle = unsafe { (self.open)(name.as_ptr(), listens.into(), wait) };
        if handle.is_null() {
            return Err(self.failure());
        }
        Ok(Connection { compiled: self, handle })
    }

    fn failure(&self) -> Box<dyn std::error::Error> {
        // SAFETY: a text with an end, which lives as long as the library.
        let text = unsafe { CStr::from_ptr((self.error)()) };
        format!("in C: {}", text.to_string_lossy()).into()
    }
}

fn compile(place: &Path, library: &Path, linkage: Linkage) -> Fallible<std::path::PathBuf> {
    std::fs::write(place.join("ipc.h"), HEADER)?;
    std::fs::write(place.join("loops.c"), SOURCE)?;
    let target = place.join("loops.so");
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I"]).arg(place);
    command.arg(place.join("loops.c")).arg("-o").arg(&target);
    if linkage == Linkage::Static {
        // Nothing of it is to be found by, or in, the program that loads this.
        command.arg(library).args(["-Wl,-Bsymbolic", "-Wl,--exclude-libs,ALL", "-lgcc_s", "-lc"]);
    }
    let told = |why: &str| format!("{} did not compile the C side: {why}", OsStr::new(&compiler).display());
    let output = command.output().map_err(|error| told(&error.to_string()))?;
    if !output.status.success() {
        return Err(told(&String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(target)
}

/// One side of a connection in C.
pub(super) struct Connection<'c> {
    compiled: &'c Compiled,
    handle: Handle,
}

/// Meets the other process for C.
///
/// # Safety
/// `side` is a [`Side`].
unsafe extern "C" fn meet(side: *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    let side = unsafe { &*side.cast::<Side<'_>>() };
    side.meet().map_or(-1, |()| 0)
}

fn as_c(side: &Side<'_>) -> *mut c_void {
    std::ptr::from_ref(side).cast_mut().cast()
}

impl Connection<'_> {
    fn time(&self, ns: f64) -> Fallible<f64> {
        if ns < 0.0 { Err(self.compiled.failure()) } else { Ok(ns) }
    }

    fn done(&self, result: c_int) -> Fallible<()> {
        if result == 0 { Ok(()) } else { Err(self.compiled.failure()) }
    }

    pub(super) fn ask(&self, size: usize, warm_up: u64, rounds: u64, side: &Side<'_>) -> Fallible<f64> {
        // SAFETY: an open handle, and the side that `meet` wants.
        self.time(unsafe { (self.compiled.ask)(self.handle, size, warm_up, rounds, meet, as_c(side)) })
    }

    pub(super) fn answer(&self, size: usize, rounds: u64, side: &Side<'_>) -> Fallible<()> {
        // SAFETY: as `ask`.
        self.done(unsafe { (self.compiled.answer)(self.handle, size, rounds, meet, as_c(side)) })
    }

    pub(super) fn produce(&self, size: usize, batch: u64, total: u64, side: &Side<'_>) -> Fallible<()> {
        // SAFETY: as `ask`.
        self.done(unsafe { (self.compiled.produce)(self.handle, size, batch, total, meet, as_c(side)) })
    }

    pub(super) fn consume(&self, size: usize, batch: u64, warm_up: u64, count: u64, side: &Side<'_>) -> Fallible<f64> {
        // SAFETY: as `ask`.
        self.time(unsafe { (self.compiled.consume)(self.handle, size, batch, warm_up, count, meet, as_c(side)) })
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // SAFETY: open, and closed once.
        unsafe { (self.compiled.close)(self.handle) };
    }
}
