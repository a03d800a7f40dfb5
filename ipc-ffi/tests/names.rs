//! Nothing that the sources give C a name for is missing from include/ipc.h.

use std::collections::BTreeSet;
use std::path::Path;

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|end: char| !end.is_alphanumeric() && end != '_').collect()
}

/// What the sources declare: numbers, results, types and functions.
fn declared(source: &str) -> impl Iterator<Item = &str> {
    const KINDS: [&str; 5] = ["pub const ", "pub enum ", "pub struct ", "pub type ", "extern \"C\" fn "];
    source.lines().filter_map(|line| {
        let line = line.trim_start();
        let variant = line.starts_with("IPC_") && line.ends_with(',') && line.contains(" = ");
        let rest = if variant {
            Some(line)
        } else {
            KINDS.iter().find_map(|kind| line.split_once(kind)).map(|(_, rest)| rest)
        };
        rest?.split(|end: char| !end.is_alphanumeric() && end != '_').next()
    })
}

#[test]
fn every_name_that_the_sources_give_is_in_the_header() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(package.join("../include/ipc.h")).expect("include/ipc.h");
    let known = words(&header);
    let mut count = 0;
    for file in std::fs::read_dir(package.join("src")).expect("sources") {
        let source = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        for name in declared(&source).filter(|name| name.to_lowercase().starts_with("ipc_")) {
            assert!(known.contains(name), "{name} is not in include/ipc.h: see [export] in cbindgen.toml");
            count += 1;
        }
    }
    assert!(count > 120, "only {count} names were found in the sources");
}
