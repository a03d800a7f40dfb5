//! include/ipc.h is what ipc-ffi says it is.

use ipc::layout::{self, Structure};
use std::path::Path;

/// What the library was compiled with, said again to the compiler of whoever uses it.
fn assertions() -> String {
    let mut text = String::from(
        "
/*
 * The library was compiled with these sizes, alignments and offsets: a compiler, or a flag of it, that has others says so here.
 */
#if UINTPTR_MAX == 0xffffffffffffffff && (defined(__cplusplus) || __STDC_VERSION__ >= 201112L)
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
#define IPC_KEEP(condition) static_assert(condition, #condition)
#define IPC_ALIGNOF(type) alignof(type)
#else
#define IPC_KEEP(condition) _Static_assert(condition, #condition)
#define IPC_ALIGNOF(type) _Alignof(type)
#endif
",
    );
    let keep = |structures: &[Structure]| {
        let mut text = String::new();
        for Structure { name, size, align, fields } in structures {
            text += &format!("IPC_KEEP(sizeof(struct {name}) == {size});\n");
            text += &format!("IPC_KEEP(IPC_ALIGNOF(struct {name}) == {align});\n");
            for (field, offset) in *fields {
                text += &format!("IPC_KEEP(offsetof(struct {name}, {field}) == {offset});\n");
            }
        }
        text
    };
    text += &keep(layout::STRUCTURES);
    text += &format!("#if defined(__GNUC__)\n{}#endif\n", keep(layout::WINDOWS));
    for enumeration in layout::ENUMERATIONS {
        text += &format!("IPC_KEEP(sizeof({enumeration}) == 4);\n");
    }
    text + "#undef IPC_KEEP\n#undef IPC_ALIGNOF\n#endif\n"
}

/// `IPC_BLESS=1` writes the header instead of comparing it.
#[test]
fn the_header_is_the_one_that_the_sources_generate() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new().with_crate(package).with_config(config).generate().expect("a header");
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let generated = String::from_utf8(generated).expect("text");
    // Code that cannot be generated goes to the end, but inside what holds for the whole header.
    let (declarations, end) =
        generated.split_at(generated.rfind("#ifdef __cplusplus").expect("the end of extern \"C\""));
    let generated = format!("{declarations}{}{}\n{end}", include_str!("../src/inline.h"), assertions());
    let path = package.join("../include/ipc.h");
    if std::env::var_os("IPC_BLESS").is_some() {
        std::fs::write(&path, &generated).expect("include/ipc.h is written");
    }
    let committed = std::fs::read_to_string(&path).expect("include/ipc.h");
    let lines = committed.lines().zip(generated.lines()).position(|(old, new)| old != new);
    assert!(
        committed == generated,
        "include/ipc.h is not what the sources say, from line {} on; IPC_BLESS=1 cargo test -p ipc-ffi --test header writes it anew",
        lines.map_or(committed.lines().count().min(generated.lines().count()), |line| line) + 1
    );
}

/// Fields and arguments are numbers, so nothing but a list in cbindgen.toml brings the enumerations of their values into the header.
#[test]
fn every_name_that_the_header_speaks_of_is_declared_in_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/ipc.h");
    let header = std::fs::read_to_string(path).expect("include/ipc.h");
    let words: std::collections::BTreeSet<_> = header
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("IPC_") && !["IPC_BLESS", "IPC_H"].contains(word))
        .collect();
    assert!(words.len() > 30, "{words:?}");
    for word in words {
        let declared = [format!("#define {word} "), format!("#define {word}("), format!("    {word} = ")];
        assert!(declared.iter().any(|text| header.contains(text)), "{word} is spoken of, and not declared");
    }
    for article in ["An ipc_", "an ipc_"] {
        for (at, _) in header.match_indices(article) {
            let name: String =
                header[at + 3..].chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            let declared = [format!("enum {name}\n"), format!("typedef struct {name} ")];
            assert!(declared.iter().any(|text| header.contains(text)), "{name} is spoken of, and not declared");
        }
    }
}
