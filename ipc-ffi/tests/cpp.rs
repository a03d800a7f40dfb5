//! include/ipc.hpp compiles without a warning and does what it says, in every standard, with and without exceptions.
//!
//! Promise: the program of tests/cpp is compiled as users compile theirs, and run. Refusal: without a C++ compiler nothing is proven, and
//! the tests fail and say so. `CXX` names another one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WARNINGS: [&str; 6] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"];

/// A folder with the library under both of its names, and room for programs.
struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for programs");
        // Cargo builds it beside this test.
        let this = std::env::current_exe().expect("the path of this test");
        let built = this.parent().expect("its folder").join("libipc.so");
        assert!(built.is_file(), "{} is not there", built.display());
        std::os::unix::fs::symlink(&built, folder.join("libipc.so")).expect("a link to the library");
        let interface = concat!("libipc.so.", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        std::os::unix::fs::symlink(&built, folder.join(interface)).expect("a link by its interface");
        Self { folder }
    }

    /// Compiles and runs the program.
    fn check(&self, compiler: &str, flags: &[&str]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let program = self.folder.join("program");
        let mut compile = Command::new(compiler);
        compile.args(WARNINGS).args(flags).arg("-I").arg(root.join("include")).arg(root.join("tests/cpp/ipc_hpp.cpp"));
        compile.arg("-o").arg(&program).arg("-L").arg(&self.folder).args(["-lipc", "-pthread"]);
        // Old tags: this path comes before `LD_LIBRARY_PATH`, by which cargo names a directory where an older library may lie.
        compile.arg(format!("-Wl,--disable-new-dtags,-rpath,{}", self.folder.display()));
        finished(compiler, flags, &compile.output().unwrap_or_else(|error| panic!("{compiler}: {error}")));
        let ran = Command::new(&program).output().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        finished(compiler, flags, &ran);
        let told = String::from_utf8_lossy(&ran.stdout);
        assert!(told.contains(" tests, 0 failed"), "{compiler} {flags:?}:\n{told}");
    }
}

fn finished(compiler: &str, flags: &[&str], output: &Output) {
    let told = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (told(&output.stdout), told(&output.stderr));
    assert!(output.status.success(), "{compiler} {flags:?}: {}\n{out}\n{err}", output.status);
}

fn default_compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

#[test]
fn the_cpp_header_does_what_it_says() {
    Workshop::new("cpp").check(&default_compiler(), &["-std=c++17"]);
}

#[test]
fn the_cpp_header_needs_no_exceptions() {
    Workshop::new("cpp-bare").check(&default_compiler(), &["-std=c++20", "-O2", "-fno-exceptions", "-fno-rtti"]);
}

/// Takes minutes. Run by `cargo test -p ipc-ffi --test cpp -- --ignored`.
#[test]
#[ignore = "minutes of compilations"]
fn the_cpp_header_works_in_every_standard_with_each_compiler() {
    let workshop = Workshop::new("cpp-all");
    let is_there = |compiler: &&str| Command::new(compiler).arg("--version").output().is_ok();
    let compilers: Vec<_> = ["g++", "clang++"].into_iter().filter(is_there).collect();
    assert!(!compilers.is_empty(), "neither g++ nor clang++ is there");
    for compiler in compilers {
        for standard in ["-std=c++17", "-std=c++20", "-std=c++2b"] {
            workshop.check(compiler, &[standard]);
            workshop.check(compiler, &[standard, "-O2", "-fno-exceptions", "-fno-rtti"]);
            let sanitized = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
            workshop.check(compiler, &[&[standard], &sanitized[..]].concat());
        }
    }
}
