//! Builds the examples as their README says: the library and the Rust sides with cargo, the rest with `cc` and `c++`.
//!
//! Promise: everything is of this profile and of these sources; a program is compiled once for each way to compile it,
//! without a warning. Refusal: it installs nothing; a compiler that is missing is a failure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// How programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// As the README says.
    Plain,
    /// With AddressSanitizer and UndefinedBehaviorSanitizer, leaks included.
    Sanitized,
}

/// The root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package has a folder above it")
}

/// The examples' folder.
pub fn examples() -> PathBuf {
    root().join("c-examples")
}

/// Where cargo puts what it builds in the profile of this test.
pub fn artifacts() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().expect("this program has a path");
        let artifacts = own.ancestors().nth(2).expect("it is in the folder `deps` of a profile").to_owned();
        let profile = match artifacts.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            other => other.expect("a profile has a name"),
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "-p",
            "ipc-ffi",
            "-p",
            "ipc-core",
            "--lib",
            "--examples",
            "--profile",
            profile,
        ]);
        run(cargo.arg("--target-dir").arg(artifacts.parent().expect("the target folder")).current_dir(root()));
        // Programs look for the library under its soname.
        let soname = artifacts.join("libipc.so.0.1");
        let _ = std::fs::remove_file(&soname);
        std::os::unix::fs::symlink("libipc.so", &soname).expect("the target folder can be written");
        artifacts
    })
}

/// A Rust side.
pub fn rust(name: &str) -> PathBuf {
    artifacts().join("examples").join(name)
}

/// A program from a source of the examples' folder.
pub fn compiled(source: &str, way: Way) -> PathBuf {
    type Compiled = Mutex<HashMap<(String, Way), PathBuf>>;
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    let mut compiled = COMPILED.get_or_init(Compiled::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(program) = compiled.get(&(source.to_owned(), way)) {
        return program.clone();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("c_examples-{way:?}"));
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let program = folder.join(source.replace('.', "_"));
    // Another run of this test may be running what is there: it is replaced, not written.
    let fresh = folder.join(format!("{}-{}", source, std::process::id()));
    let (compiler, standard) = if source.ends_with(".cpp") { ("c++", "-std=c++17") } else { ("cc", "-std=c11") };
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"]);
    command.args(match way {
        Way::Plain => &["-O2"][..],
        Way::Sanitized => &["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    });
    command.arg("-I").arg(root().join("include")).arg(examples().join(source)).arg("-L").arg(artifacts());
    run(command.arg("-lipc").arg(format!("-Wl,-rpath,{}", artifacts().display())).arg("-o").arg(&fresh));
    std::fs::rename(&fresh, &program).expect("the target folder can be written");
    compiled.insert((source.to_owned(), way), program.clone());
    program
}

/// Runs a command that must succeed.
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
