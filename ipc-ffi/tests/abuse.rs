//! Every function of the header, misused: with null, with closed handles, in forked children, after the peer died or broke the protocol.
//!
//! The calls are those of a program in C, `tests/abuse/*.c`; each case runs in a process of its own. `CC` and `IPC_TEST_CFLAGS` choose
//! another compiler and more flags, and `IPC_TEST_UNDER` a command to run it under: see `ci/sanitize.sh`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The program, built with the library that cargo built for this test.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("abuse-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("room in the target directory");
        let own = std::env::current_exe().expect("proc is mounted");
        let library = own.parent().expect("a directory").join("libipc.so");
        let soname = concat!("libipc.so.", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        std::fs::copy(library, place.join(soname)).expect("the library is built with its tests");
        let program = place.join("abuse");
        let sources = std::fs::read_dir(package.join("tests/abuse")).expect("sources");
        let sources = sources.map(|file| file.expect("a file").path());
        let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1", "-pthread", "-I"]);
        cc.arg(package.join("../include")).args(words("IPC_TEST_CFLAGS"));
        cc.args(sources.filter(|path| path.extension().is_some_and(|end| end == "c")));
        // Old tags: this path comes before `LD_LIBRARY_PATH`, by which cargo names a directory where an older library may lie.
        cc.arg(place.join(soname)).arg("-Wl,--disable-new-dtags,-rpath,$ORIGIN").arg("-o").arg(&program);
        let built = cc.output().unwrap_or_else(|error| panic!("{cc:?}: {error}; install a C compiler"));
        assert!(built.status.success(), "{cc:?}\n{}", String::from_utf8_lossy(&built.stderr));
        program
    })
}

fn words(variable: &str) -> Vec<String> {
    std::env::var(variable).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn run(case: &str) -> Output {
    let program = program();
    let under = words("IPC_TEST_UNDER");
    let mut command = match under.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    // Short, for the sockets in it.
    let scratch = std::env::temp_dir().join(format!("ipc-abuse-{}-{case}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a directory of our own");
    let output = command.arg(case).env("ABUSE_DIRECTORY", &scratch).output().expect("it starts");
    let _ = std::fs::remove_dir_all(&scratch);
    output
}

fn lines(case: &str) -> BTreeSet<String> {
    String::from_utf8(run(case).stdout).expect("text").lines().map(str::to_owned).collect()
}

macro_rules! cases {
    ($($test:ident: $case:literal,)*) => {
        $(#[test] fn $test() {
            let output = run($case);
            assert!(output.status.success(), "{}: {}\n{}", $case, output.status, String::from_utf8_lossy(&output.stderr));
        })*

        #[test]
        fn every_case_of_the_program_is_run() {
            assert_eq!(lines("cases"), BTreeSet::from([$($case.to_owned()),*]));
        }
    };
}

cases! {
    each_state_of_a_handle_has_its_result: "states",
    a_null_pointer_is_an_error: "null",
    an_address_that_no_value_can_have_is_an_error: "odd",
    structures_say_how_large_they_are: "sizes",
    options_out_of_range_are_errors_with_numbers: "options",
    calls_end_in_time: "times",
    errors_have_words_with_numbers: "words",
    what_is_open_is_in_the_way_until_it_ends: "open",
    what_does_not_fit_stays: "short",
    files_are_taken_or_closed: "files",
    held_messages_and_loans_outlive_their_connection: "outlives",
    what_was_not_delivered_is_handed_over: "undelivered",
    two_threads_use_the_two_halves: "threads",
    callbacks_are_called_as_promised: "callbacks",
    a_closed_handle_stays_closed: "again",
    more_memory_than_there_is_is_an_error: "memory",
    lanes_of_each_mode_carry_each_length: "modes",
    what_runs_without_a_call_ends_with_its_half: "windows",
}

/// Functions that have no handle; the cases `null`, `sizes`, `options` and `words` call them.
const WITHOUT_HANDLE: [&str; 12] = [
    "ipc_calibrate",
    "ipc_connect",
    "ipc_crossover",
    "ipc_get_cost",
    "ipc_last_errno",
    "ipc_last_error",
    "ipc_listen",
    "ipc_options_init",
    "ipc_set_log",
    "ipc_strerror",
    "ipc_version",
    "ipc_version_text",
];

#[test]
fn every_function_of_the_header_is_called_in_every_state() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(package.join("../include/ipc.h")).expect("include/ipc.h");
    let (mut declared, mut called) = (BTreeSet::new(), lines("names"));
    let code = header.rsplit_once("extern \"C\" {").map_or("", |(_, functions)| functions);
    let mut rest = code;
    // Outside of comments, a name of ours before a parenthesis at the start of a line is a declaration or a definition.
    while let Some((before, after)) = rest.split_once("/*") {
        declared.extend(functions(before));
        rest = after.split_once("*/").map_or("", |(_, code)| code);
    }
    declared.extend(functions(rest));
    called.extend(WITHOUT_HANDLE.map(str::to_owned));
    assert!(declared.len() > 50, "only {} functions were found in the header", declared.len());
    assert_eq!(declared, called);
    let sources = std::fs::read_dir(package.join("tests/abuse")).expect("sources");
    let text: String =
        sources.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text")).collect();
    for function in declared {
        assert!(text.contains(&format!("{function}(")), "{function} is called by no case");
    }
}

/// Names of functions that these lines declare.
fn functions(code: &str) -> impl Iterator<Item = String> {
    code.lines().filter(|line| !line.starts_with([' ', '#', '}'])).filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        name.starts_with("ipc_").then(|| name.to_owned())
    })
}
